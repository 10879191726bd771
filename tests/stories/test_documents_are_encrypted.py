"""Documents are encrypted at rest: over HTTP and by the command line, on processes of their own where it matters."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from fhir_server import app as application
from fhir_server.__main__ import app as command
from fhir_server.app import Parts
from fhir_server.evidence import report
from fhir_server.outcomes import Unavailable
from fhir_server.settings import Settings
from fhir_server.store.sealing import BLOCK
from fhir_server.store.shredding import LATELY
from tests.store.test_sealing import CHANGES
from tests.stories.support import Provider, asking, dmst_fhir, process, running_service, until
from tests.support import EVERYTHING, FHIR_JSON, Server, codes, free_port, serving

PDF = {"content-type": "application/pdf"}
DOCUMENT = b"%PDF-1.4 " + os.urandom(2 * BLOCK)


async def said(settings: Settings, *words: str) -> str:
    ran = await asyncio.to_thread(dmst_fhir, settings, *words)
    assert ran.exit_code == 0, ran.output
    return ran.output


def files(settings: Settings) -> list[Path]:
    return sorted(path for path in settings.blob_folder.rglob("*") if path.is_file())


async def test_no_document_of_a_lot_is_on_the_disk_in_the_clear(service: Parts, provider: Provider) -> None:
    """Scans, renditions, manifest, seal: a lot is received, and the evidence reads through the encryption."""
    lot = provider.lot("100000101", "100000103")
    await service.lots.receive(lot)
    given = {path.read_bytes()[:64] for path in lot.rglob("*") if path.is_file() and path.stat().st_size > 64}
    kept = [path.read_bytes() for path in files(service.settings)]
    assert len(kept) >= 5
    assert not any(beginning in text for beginning in given for text in kept)
    assert {hashlib.sha256(text).hexdigest() for text in kept} == {path.name for path in files(service.settings)}
    async with asking(service) as client:
        found = (await client.get("/fhir/DocumentReference?_count=50")).json()["entry"]
        for one in found:
            assert (await report(service, f"DocumentReference/{one['resource']['id']}")).passed
    manifest = service.settings.data / "manifest.json"
    await said(service.settings, "lot", "manifest", lot.name, str(manifest))
    assert hashlib.sha256(manifest.read_bytes()).digest() in [
        row[0] for row in await _rows(service, "select manifest_sha256 from scan_lot")
    ]


async def _rows(service: Parts, statement: str) -> list[tuple]:
    async with service.database.connection() as connection:
        return await (await connection.execute(statement.encode())).fetchall()


@pytest.mark.parametrize("change", CHANGES)
async def test_a_damaged_document_is_never_a_whole_one(server: Server, change: str) -> None:
    """500 before anything was sent; else the answer ends before its length, which every client notices."""
    client = (await server.client(EVERYTHING)).http
    whole = b"%PDF-1.4 " + bytes(3 * BLOCK - 9)
    assert (await client.put("/fhir/Binary/d", content=whole, headers=PDF)).status_code == 201
    (file,) = files(server.settings)
    file.write_bytes(CHANGES[change](file.read_bytes()))
    for headers in ({}, {"accept": "application/fhir+json"}, {"accept": "application/fhir+xml"}):
        try:
            answer = await client.get("/fhir/Binary/d", headers={"accept": "*/*"} | headers)
        except (RuntimeError, AssertionError):  # the transport of this test says so of an answer that was cut off
            continue
        assert answer.status_code == 500
        if "xml" in answer.headers["content-type"]:
            assert '<code value="exception"/>' in answer.text
        else:
            assert codes(answer) == ["exception"]


async def test_an_answer_that_fails_in_the_middle_is_cut_off(world: Settings) -> None:
    """Over a real connection: fewer bytes than announced. A part that lies before the damage is given."""
    settings = world.model_copy(update={"port": free_port()})
    async with running_service(settings) as service:
        client_id, _ = await service.clients.add("reader", EVERYTHING, "external-system")
        token, _ = await service.clients.give_token(client_id, EVERYTHING, 15)
        headers = {"authorization": f"Bearer {token}", "accept": "*/*"}
        with process(settings, "serve"):

            def ask(method: str, path: str, more: dict[str, str], body: bytes | None = None) -> tuple[int, bytes]:
                connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=30)
                with contextlib.closing(connection):
                    connection.request(method, path, body, headers | more)
                    with connection.getresponse() as answer:
                        return answer.status, answer.read()

            async def is_ready() -> bool:
                try:
                    return (await asyncio.to_thread(ask, "GET", "/readyz", {}))[0] == 200
                except OSError:
                    return False

            await until(is_ready, "the server is ready")
            assert (await asyncio.to_thread(ask, "PUT", "/fhir/Binary/d", PDF, DOCUMENT))[0] == 201
            (file,) = files(settings)
            file.write_bytes(CHANGES["block in the middle"](file.read_bytes()))
            with pytest.raises(http.client.IncompleteRead) as cut:
                await asyncio.to_thread(ask, "GET", "/fhir/Binary/d", {})
            assert DOCUMENT.startswith(cut.value.partial)
            part = await asyncio.to_thread(ask, "GET", "/fhir/Binary/d", {"range": "bytes=10-99"})
            assert part == (206, DOCUMENT[10:100])
            status, _ = await asyncio.to_thread(
                ask, "GET", "/fhir/Binary/d", {"range": f"bytes={BLOCK + 5}-{BLOCK + 9}"}
            )
            assert status == 500


async def test_without_its_key_the_server_does_not_start(settings: Settings) -> None:
    """Neither does any command; nothing is made in its place, and with the key everything is there again."""
    async with serving(settings) as server:
        client = (await server.client(EVERYTHING)).http
        await client.put("/fhir/Binary/d", content=DOCUMENT, headers=PDF)
    elsewhere = settings.key_file.rename(settings.data / "elsewhere")
    with pytest.raises(Unavailable, match="is not here: bring it back from its backup"):
        async with serving(settings):
            pass
    ran = await asyncio.to_thread(dmst_fhir, settings, "keys", "status")
    status, text = ran.exit_code, ran.output
    assert (status, "is not here" in text) == (1, True)
    assert not settings.key_file.exists()
    elsewhere.rename(settings.key_file)
    async with serving(settings) as server:
        client = (await server.client(EVERYTHING)).http
        assert (await client.get("/fhir/Binary/d", headers={"accept": "*/*"})).content == DOCUMENT


async def test_master_keys_change_while_the_server_runs(server: Server) -> None:
    """make, rotate, retire, by the commands an operator has; the running server reads and writes all the time."""
    settings, client = server.settings, (await server.client(EVERYTHING)).http

    async def reads() -> None:
        assert (await client.get("/fhir/Binary/d", headers={"accept": "*/*"})).content == DOCUMENT

    await client.put("/fhir/Binary/d", content=DOCUMENT, headers=PDF)
    (old,) = [one["id"] for one in json.loads(settings.key_file.read_text())["keys"]]
    secret = json.loads(settings.key_file.read_text())["keys"][0]["key"]
    texts = [await said(settings, "keys", "make"), await said(settings, "keys", "status")]
    assert "not used yet" in texts[-1]
    texts.append(await said(settings, "keys", "rotate"))
    assert "1 keys of documents were wrapped anew" in texts[-1]
    await reads()
    await client.put("/fhir/Binary/new", content=b"%PDF-1.4 new", headers=PDF)
    assert await server.rows("select count(*) from blob_key where master = %s", old) == [(0,)]
    ran = await asyncio.to_thread(dmst_fhir, settings, "keys", "retire", "nothing")
    status, text = ran.exit_code, ran.output
    assert status == 1
    texts += [text, await said(settings, "keys", "retire", old), await said(settings, "keys", "status")]
    assert old not in settings.key_file.read_text()
    await reads()
    new = json.loads(settings.key_file.read_text())["keys"][0]["key"]
    assert not any(key in text for text in texts for key in (secret, new)), "keys are not printed"


async def test_documents_of_before_are_encrypted_beside_a_running_server(make_settings) -> None:
    """DMST_FHIR_ENCRYPT_BLOBS=false, then true: what is there stays readable, and `keys encrypt` ends it."""
    plain, settings = make_settings(encrypt_blobs=False), make_settings()
    async with serving(plain) as server:
        client = (await server.client(EVERYTHING)).http
        await client.put("/fhir/Binary/d", content=DOCUMENT, headers=PDF)
    assert not settings.key_file.exists()
    assert [path.read_bytes() for path in files(settings)] == [DOCUMENT]
    async with serving(settings) as server:
        client = (await server.client(EVERYTHING)).http
        assert "1 documents in the clear" in await said(settings, "keys", "status")
        assert (await client.get("/fhir/Binary/d", headers={"accept": "*/*"})).content == DOCUMENT
        assert "1 encrypted, 0 were already" in await said(settings, "keys", "encrypt")
        assert (await client.get("/fhir/Binary/d", headers={"accept": "*/*"})).content == DOCUMENT
        assert "0 documents in the clear" in await said(settings, "keys", "status")
    assert [path.read_bytes()[:9] for path in files(settings)] == [b"dmst-fhir"]
    async with serving(plain) as server:  # switched off again: what is encrypted is read all the same
        client = (await server.client(EVERYTHING)).http
        assert (await client.get("/fhir/Binary/d", headers={"accept": "*/*"})).content == DOCUMENT
        await client.put("/fhir/Binary/e", content=b"%PDF-1.4 plain", headers=PDF)
    assert any(path.read_bytes() == b"%PDF-1.4 plain" for path in files(settings))


async def test_what_is_expunged_is_shredded(server: Server) -> None:
    """Of two Binaries with one content, only when both are gone; then the key, the bytes, and who asked is kept."""
    reader = (await server.client(EVERYTHING)).http
    operator = await server.client(EVERYTHING, role="operator")
    for name in ("one", "two"):
        assert (await reader.put(f"/fhir/Binary/{name}", content=DOCUMENT, headers=PDF)).status_code == 201
    await server.rows(f"update blob_key set kept = kept - interval '{LATELY + 1} seconds'")

    async def expunge(name: str) -> None:
        wish = {"resourceType": "Parameters", "parameter": [{"name": "expungeEverything", "valueBoolean": True}]}
        answer = await operator.http.post(f"/fhir/Binary/{name}/$expunge", json=wish, headers=FHIR_JSON)
        assert answer.status_code == 200, answer.text

    await expunge("one")
    assert (await reader.get("/fhir/Binary/two", headers={"accept": "*/*"})).content == DOCUMENT
    (file,) = files(server.settings)
    backup = file.read_bytes()
    await expunge("two")
    assert files(server.settings) == []
    assert await server.rows("select count(*) from blob_key") == [(0,)]
    outcomes = await server.rows("select outcome, asked_by, reason, sha256 from blob_release order by number")
    digest = hashlib.sha256(DOCUMENT).digest()
    assert outcomes == [
        ("still-named", operator.client_id, "$expunge", digest),
        ("shredded", operator.client_id, "$expunge", digest),
    ]
    proof = server.settings.data / "proof.ndjson"
    await said(server.settings, "keys", "shredded", "--json", str(proof))
    told = [json.loads(line) for line in proof.read_text().splitlines()]
    assert [one["outcome"] for one in told] == ["shredded", "still-named"]
    file.write_bytes(backup)  # a backup of the blobs comes back: nobody can open it
    assert (await reader.get("/fhir/Binary/two", headers={"accept": "*/*"})).status_code == 404
    assert "1 sealed files have no key here" in await said(server.settings, "keys", "encrypt")


def test_keys_are_made_before_the_first_start(tmp_path: Path) -> None:
    """Without database or server; the first start takes that one and makes none."""
    answer = CliRunner().invoke(command, ["keys", "make", "--data", str(tmp_path)])
    assert answer.exit_code == 0
    (kept,) = json.loads((tmp_path / "keys" / "master-keys.json").read_text())["keys"]
    assert kept["id"] in answer.output.replace("\n", "")
    assert kept["key"] not in answer.output.replace("\n", "")


async def test_a_device_holds_the_master_keys(make_settings, softhsm: Path, tmp_path: Path) -> None:
    """Settings alone: a document in, out, and after a restart; nothing of a key is in a file of ours."""
    settings = make_settings(pkcs11_module=softhsm, pkcs11_token="dmst", pkcs11_pin="1234", tenant=0)
    for _ in range(2):
        async with serving(settings) as server:
            client = (await server.client(EVERYTHING)).http
            assert (await client.put("/fhir/Binary/d", content=DOCUMENT, headers=PDF)).status_code in (200, 201)
            assert (await client.get("/fhir/Binary/d", headers={"accept": "*/*"})).content == DOCUMENT
            assert (await client.get("/readyz")).json()["blobs"] == "ok"
    assert not settings.key_file.exists()
    assert "1234" not in repr(settings)
    keys = application.make_master_keys(settings)
    for key_id in await keys.ids():
        await keys.forget(key_id)
    keys.close()


async def test_large_documents_go_in_and_out_in_pieces(server: Server) -> None:
    """Any part of a document of several blocks, several parts at once, and its base64."""
    client: httpx.AsyncClient = (await server.client(EVERYTHING)).http
    whole = os.urandom(5 * BLOCK + 12_345)
    await client.put("/fhir/Binary/d", content=whole, headers=PDF)
    for start in (0, 1, BLOCK - 100, 2 * BLOCK, 5 * BLOCK + 12_000):
        for end in (start, start + 99, start + BLOCK, len(whole) - 1):
            answer = await client.get("/fhir/Binary/d", headers={"accept": "*/*", "range": f"bytes={start}-{end}"})
            assert answer.content == whole[start : end + 1]
