"""Encrypted blobs in a folder: what lies there, what was changed, keys that are missing, changed and retired."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fhir_server.outcomes import Conflict, Damaged, NotFound, Unavailable
from fhir_server.store.blob_keys import BlobKeys
from fhir_server.store.blobs import Blobs
from fhir_server.store.blobs_sealed import SealedBlobs
from fhir_server.store.database import Database
from fhir_server.store.master_keys import KeyFile
from fhir_server.store.plain_blobs import seal_all
from fhir_server.store.sealing import BLOCK, sealed_size
from fhir_server.store.shredding import LATELY, Shredder, release
from tests.store.test_blobs import MB, content, in_pieces
from tests.store.test_sealing import CHANGES, WHOLE

TEXT = b"%PDF-1.4 a document that nobody else should read"


async def rows(database: Database, statement: str, *values: object) -> list[tuple[object, ...]]:
    async with database.connection() as connection:
        cursor = await connection.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []


def files(blobs: Blobs) -> list[Path]:
    return [path for path in blobs.path(bytes(32)).parents[2].rglob("*") if path.is_file()]


async def test_nothing_of_the_content_is_on_the_disk(sealed: SealedBlobs, folder_blobs: Blobs) -> None:
    """Not its bytes, not its hash; the file is named by its own hash, as a copy of it can be checked without a key."""
    blob = await sealed.put_bytes(TEXT)
    (file,) = files(folder_blobs)
    assert TEXT[:10] not in file.read_bytes()
    assert file.name == hashlib.sha256(file.read_bytes()).hexdigest() != blob.sha256.hex()
    assert len(file.read_bytes()) == sealed_size(len(TEXT))


async def test_the_same_content_is_one_file(sealed: SealedBlobs, folder_blobs: Blobs, tmp_path: Path) -> None:
    """However it comes, and at the same moment too."""
    whole = os.urandom(2 * MB)
    source = tmp_path / "page"
    source.write_bytes(whole)
    kept = {
        await sealed.put_bytes(whole),
        await sealed.put(in_pieces(whole), largest=3 * MB),
        await asyncio.to_thread(sealed.put_file, source, largest=3 * MB),
        *await asyncio.gather(*(sealed.put(in_pieces(whole), largest=3 * MB) for _ in range(5))),
    }
    assert len(kept) == 1
    assert len(files(folder_blobs)) == 1


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_was_changed_is_damaged(sealed: SealedBlobs, folder_blobs: Blobs, change: str) -> None:
    """Whole or in part: an error, never other bytes; what came before it was right, and the end does not come."""
    blob = await sealed.put_bytes(WHOLE)
    (file,) = files(folder_blobs)
    kept = file.read_bytes()
    file.write_bytes(CHANGES[change](kept))
    given: list[bytes] = []

    async def read() -> None:
        async for chunk in sealed.chunks(blob.sha256):
            given.append(chunk)

    with pytest.raises(Damaged):
        await read()
    assert WHOLE.startswith(b"".join(given))
    assert len(b"".join(given)) < len(WHOLE)
    for start, length in [(0, 10), (BLOCK - 5, 100), (BLOCK + 2000, 10), (len(WHOLE) - 10, 10), (0, len(WHOLE))]:
        try:
            assert await content(sealed, blob.sha256, start, length) == WHOLE[start : start + length]
        except Damaged:
            continue
    file.write_bytes(kept)
    assert await content(sealed, blob.sha256) == WHOLE


async def test_a_blob_in_the_place_of_another_is_damaged(sealed: SealedBlobs, folder_blobs: Blobs) -> None:
    """Its file, its row or its wrapped key."""
    first, second = await sealed.put_bytes(b"a" * 100), await sealed.put_bytes(b"b" * 100)
    one, two = [await sealed.keys.find(blob.sha256) for blob in (first, second)]
    assert one is not None
    assert two is not None
    paths = folder_blobs.path(one.address), folder_blobs.path(two.address)
    texts = [path.read_bytes() for path in paths]
    paths[0].write_bytes(texts[1])
    with pytest.raises(Damaged):
        await content(sealed, first.sha256)
    paths[0].write_bytes(texts[0])
    paths[1].unlink()
    for changes in ("wrapped = %s, address = %s", "wrapped = %s, address = %s, size = size + 1"):
        await rows(sealed.keys._database, "delete from blob_key where sha256 = %s", second.sha256)
        await rows(
            sealed.keys._database, f"update blob_key set {changes} where sha256 = %s",
            two.wrapped, two.address, first.sha256,
        )  # fmt: skip
        with pytest.raises(Damaged):
            await content(sealed, first.sha256)


async def test_plain_bytes_in_the_place_of_sealed_ones_are_refused(sealed: SealedBlobs, folder_blobs: Blobs) -> None:
    """Who may write to the disk cannot turn the encryption off: the database says what is sealed."""
    blob = await sealed.put_bytes(TEXT)
    (file,) = files(folder_blobs)
    file.write_bytes(TEXT)
    plain = folder_blobs.path(blob.sha256)
    plain.parent.mkdir(parents=True, exist_ok=True)
    plain.write_bytes(b"%PDF-1.4 something else")
    with pytest.raises(Damaged):
        await content(sealed, blob.sha256)


async def test_sealed_bytes_that_were_lost_come_again(sealed: SealedBlobs, folder_blobs: Blobs) -> None:
    """A document handed in once more mends what the disk lost, or what was received after the backup."""
    for _ in range(2):
        blob = await sealed.put_bytes(TEXT)
        (file,) = files(folder_blobs)
        file.unlink()
        with pytest.raises(NotFound):
            await content(sealed, blob.sha256)
    await sealed.put(in_pieces(TEXT), largest=1000)
    assert await content(sealed, blob.sha256) == TEXT
    await rows(sealed.keys._database, "delete from blob_key")  # the database of before, the blobs of after
    await sealed.put_bytes(TEXT)
    assert await content(sealed, blob.sha256) == TEXT


async def test_a_second_start_makes_no_second_key(
    blob_keys: BlobKeys, key_file: KeyFile, keys_database: Database
) -> None:
    """And those that start at the same moment agree on one."""
    await asyncio.gather(*(BlobKeys(keys_database, KeyFile(key_file.path)).start(make=True) for _ in range(3)))
    assert len(await key_file.ids()) == len(await blob_keys.listed()) == 1


async def test_no_key_is_made_over_a_store_that_has_one(sealed: SealedBlobs, key_file: KeyFile) -> None:
    """Missing, of another store under the same name, or damaged: the start refuses, and changes nothing."""
    blob = await sealed.put_bytes(TEXT)
    database, (key_id,) = sealed.keys._database, await key_file.ids()
    kept = key_file.path.read_text()
    key_file.path.unlink()
    with pytest.raises(Unavailable, match=f"{key_id} is not here"):
        await BlobKeys(database, KeyFile(key_file.path)).start(make=True)
    assert not key_file.path.exists()
    other = await key_file.make()
    key_file.path.write_text(key_file.path.read_text().replace(other, key_id))
    with pytest.raises(Damaged, match="another key"):
        await BlobKeys(database, KeyFile(key_file.path)).start(make=True)
    key_file.path.write_text(kept)
    assert await BlobKeys(database, KeyFile(key_file.path)).start(make=True)
    assert await content(sealed, blob.sha256) == TEXT


async def test_keys_are_wrapped_anew_and_the_old_master_key_goes(
    sealed: SealedBlobs, folder_blobs: Blobs, key_file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps that may be interrupted; every blob is readable meanwhile and afterwards, and none is touched."""
    monkeypatch.setattr("fhir_server.store.blob_keys.REWRAPPED_AT_ONCE", 4)
    blobs = [await sealed.put_bytes(TEXT + bytes([number])) for number in range(10)]
    before = {path: path.stat().st_mtime_ns for path in files(folder_blobs)}
    (old,) = await key_file.ids()
    with pytest.raises(Conflict, match="current"):
        await sealed.keys.retire(old)
    new = await key_file.make()
    assert await sealed.keys.make_current() == new
    assert await sealed.keys.rewrap_some() == (4, 6)
    # a process that dies here has done four; another goes on, and what comes in meanwhile is under the new one
    again = SealedBlobs(folder_blobs, BlobKeys(sealed.keys._database, KeyFile(key_file.path)))
    await again.put_bytes(b"new")
    with pytest.raises(Conflict, match="rotate"):
        await again.keys.retire(old)
    assert [(one.key_id, one.uses, one.current) for one in await again.keys.listed()] == [
        (old, 6, False),
        (new, 5, True),
    ]
    for blob in blobs:
        assert (await content(sealed, blob.sha256))[:-1] == TEXT
    both = await asyncio.gather(again.keys.rewrap_some(), sealed.keys.rewrap_some())
    assert sum(some for some, _ in both) == 6
    assert await again.keys.rewrap_some() == (0, 0)
    await again.keys.retire(old)
    assert list(await key_file.ids()) == [new]
    for blob in blobs:
        assert (await content(again, blob.sha256))[:-1] == TEXT
    assert {path: path.stat().st_mtime_ns for path in files(folder_blobs) if path in before} == before
    with pytest.raises(NotFound):
        await again.keys.retire("nothing")


async def test_a_process_that_knows_only_the_old_master_key_does_not_use_a_retired_one(
    sealed: SealedBlobs, key_file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL refuses the row, and the key is wrapped again under the current one."""
    (old,) = await key_file.ids()
    wrap, wrapped_under = key_file.wrap, []

    async def slow(key_id: str, secret: bytes, context: bytes) -> bytes:
        wrapped = await wrap(key_id, secret, context)
        wrapped_under.append(key_id)
        if len(wrapped_under) == 1:
            other = BlobKeys(sealed.keys._database, KeyFile(key_file.path))
            await other.masters.make()
            await other.make_current()
            await other.retire(old)
        return wrapped

    monkeypatch.setattr(key_file, "wrap", slow)
    blob = await sealed.put_bytes(TEXT)
    assert (wrapped_under[0], len(set(wrapped_under))) == (old, 2)
    assert await content(sealed, blob.sha256) == TEXT


async def test_plain_blobs_stay_readable_and_are_encrypted(folder_blobs: Blobs, blob_keys: BlobKeys) -> None:
    """One after the other, and a second run finds nothing; a plain one that was damaged is told and left alone."""
    texts = [TEXT, b"", os.urandom(2 * MB)]
    plain = [await folder_blobs.put_bytes(text) for text in texts]
    lost = await folder_blobs.put_bytes(b"damaged since")
    folder_blobs.path(lost.sha256).write_bytes(b"damaged Since")
    sealed = SealedBlobs(folder_blobs, blob_keys)
    for blob, text in zip(plain, texts, strict=True):
        assert await content(sealed, blob.sha256) == text
        assert await sealed.size(blob.sha256) == len(text)
    found = await seal_all(sealed)
    assert (found.encrypted, found.already, found.damaged) == (3, 0, [lost.sha256.hex()])
    for blob, text in zip(plain, texts, strict=True):
        assert not folder_blobs.path(blob.sha256).exists()
        assert await content(sealed, blob.sha256) == text
    assert folder_blobs.path(lost.sha256).read_bytes() == b"damaged Since"
    found = await seal_all(sealed)
    assert (found.encrypted, found.already, len(found.damaged)) == (0, 3, 1)


@pytest.mark.parametrize("step", ["before its key is kept", "before the plain bytes go"])
async def test_encrypting_may_be_killed_anywhere(
    folder_blobs: Blobs, blob_keys: BlobKeys, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The document is readable at every moment, and the next run ends what was begun."""
    blob = await folder_blobs.put_bytes(TEXT)
    sealed = SealedBlobs(folder_blobs, blob_keys)

    async def killed(*_given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*((blob_keys, "keep") if "key" in step else (folder_blobs, "delete")), killed)
        with pytest.raises(KeyboardInterrupt):
            await seal_all(sealed)
    assert await content(sealed, blob.sha256) == TEXT
    found = await seal_all(sealed)
    assert (found.encrypted, found.without_key) == (1, 1 if "key" in step else 0)
    assert not folder_blobs.path(blob.sha256).exists()
    assert await content(sealed, blob.sha256) == TEXT


async def test_who_reads_while_it_is_encrypted_gets_it(folder_blobs: Blobs, blob_keys: BlobKeys) -> None:
    """Between the look for its key and the look for its bytes it may have moved."""
    blob = await folder_blobs.put_bytes(TEXT)
    sealed = SealedBlobs(folder_blobs, blob_keys)
    find = blob_keys.find
    looked: list[object] = []

    async def first_before(sha256: bytes) -> object:
        found = await find(sha256)
        if not looked:
            looked.append(found)
            await seal_all(SealedBlobs(folder_blobs, BlobKeys(blob_keys._database, blob_keys.masters)))
        return found

    blob_keys.find = first_before  # pyright: ignore[reportAttributeAccessIssue]
    assert await content(sealed, blob.sha256) == TEXT
    assert looked == [None]


@pytest.fixture
def old(keys_database: Database) -> Callable[[], object]:
    """Time passes: whoever handed something in would have named it by now."""

    async def pass_by() -> None:
        await rows(keys_database, f"update blob_key set kept = kept - interval '{LATELY + 1} seconds'")

    return pass_by


async def let_go(database: Database, *contents: bytes) -> None:
    async with database.transaction() as connection:
        await release(connection, contents, by="operator-1", reason="the worker asked")


async def test_a_content_that_is_let_go_is_shredded(
    sealed: SealedBlobs, folder_blobs: Blobs, keys_database: Database, old: Callable[[], object]
) -> None:
    """Key, then bytes; who, when and why stay. A backup of the blobs brings nothing back; it may come again."""
    blob = await sealed.put_bytes(TEXT)
    (file,) = files(folder_blobs)
    backup = file.read_bytes()
    shredder = Shredder(keys_database, folder_blobs)
    await let_go(keys_database, blob.sha256)
    assert await shredder.settle() == 0, "somebody may be about to name it"
    assert await shredder.waiting() == (1, 0)
    await old()
    assert await shredder.settle() == 1
    assert files(folder_blobs) == []
    (proof,) = await shredder.releases()
    assert (proof.sha256, proof.size, proof.asked_by, proof.reason, proof.outcome) == (
        blob.sha256, len(TEXT), "operator-1", "the worker asked", "shredded",
    )  # fmt: skip
    assert proof.settled is not None
    assert proof.removed is not None
    file.write_bytes(backup)
    with pytest.raises(NotFound):
        await content(sealed, blob.sha256)
    assert await shredder.settle() == 0
    await sealed.put_bytes(TEXT)
    assert await content(sealed, blob.sha256) == TEXT


async def test_a_shredding_that_is_killed_is_ended(
    sealed: SealedBlobs, folder_blobs: Blobs, keys_database: Database, old: Callable[[], object], monkeypatch
) -> None:
    """Its key is gone; the next one removes the bytes too."""
    blob = await sealed.put_bytes(TEXT)
    await old()
    await let_go(keys_database, blob.sha256)

    async def killed(*_given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folder_blobs, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            await Shredder(keys_database, folder_blobs).settle()
    assert len(files(folder_blobs)) == 1
    with pytest.raises(NotFound):
        await content(sealed, blob.sha256)
    await Shredder(keys_database, folder_blobs).settle()
    assert files(folder_blobs) == []


async def test_a_content_that_is_still_named_stays(
    sealed: SealedBlobs, folder_blobs: Blobs, keys_database: Database, old: Callable[[], object]
) -> None:
    """By a resource, an earlier version, the manifest, seal or token of a lot, or a folder that waits for a person."""
    names = {
        "resource": "insert into resource (rid, type, id, version, updated, deleted, blob_sha256, own_hash)"
        " values (1, 1, 'a', 1, now(), false, %s, 0)",
        "manifest": "insert into scan_lot (lot, manifest_sha256, provider, centre, state, seal, list_id, received)"
        " values ('L1', %s, 'p', 'c', 'received', '{}', 'l', now())",
        "seal": "insert into scan_lot (lot, manifest_sha256, provider, centre, state, seal, list_id, received)"
        " values ('L2', '', 'p', 'c', 'received', jsonb_build_object('signature', encode(%s, 'hex')), 'l', now())",
        "token": "insert into scan_lot (lot, manifest_sha256, provider, centre, state, seal, list_id, received)"
        " values ('L3', '', 'p', 'c', 'received', jsonb_build_object('token', encode(%s, 'hex')), 'l', now())",
    }
    names |= {
        "history": "insert into resource_history (rid, type, version, updated, deleted, blob_sha256)"
        " values (2, 1, 1, now(), false, %s)",
        "waits": "with f as (insert into scan_folder (lot, barcode, position, state, list_id, updated)"
        " values ('L1', 'b', 1, 'to-review', 'l', now()) returning lot, barcode)"
        " insert into scan_document (lot, barcode, document_id, path, sha256, size, pages, media_type, state)"
        " select lot, barcode, 'd', 'p', %s, 1, 1, 'a/b', 'to-review' from f",
    }
    blobs = [await sealed.put_bytes(name.encode()) for name in names]
    for blob, statement in zip(blobs, names.values(), strict=True):
        await rows(keys_database, statement, blob.sha256)
    await old()
    await let_go(keys_database, *(blob.sha256 for blob in blobs))
    shredder = Shredder(keys_database, folder_blobs)
    assert await shredder.settle() == 0
    assert {one.outcome for one in await shredder.releases()} == {"still-named"}
    assert await shredder.waiting() == (0, 0)
    for blob, name in zip(blobs, names, strict=True):
        assert await content(sealed, blob.sha256) == name.encode()


async def test_a_plain_content_that_is_let_go_is_removed(folder_blobs: Blobs, keys_database: Database) -> None:
    """And not called shredded: a backup has it in the clear. One that is not there is told so."""
    blob = await folder_blobs.put_bytes(TEXT)
    await let_go(keys_database, blob.sha256, bytes(32))
    shredder = Shredder(keys_database, folder_blobs)
    assert await shredder.settle() == 0
    assert {one.sha256: one.outcome for one in await shredder.releases()} == {
        blob.sha256: "removed",
        bytes(32): "absent",
    }
    assert files(folder_blobs) == []
