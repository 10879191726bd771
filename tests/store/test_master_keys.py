"""Master keys: a file that its owner alone may read, and a PKCS#11 device; both promise the same."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server.outcomes import Damaged, Unavailable
from fhir_server.ports import MasterKeys
from fhir_server.store.master_keys import KeyFile
from tests.support import PIN


@pytest.fixture(params=["file", "device"])
def masters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MasterKeys]:
    """Each of the two, empty."""
    if request.param == "file":
        yield KeyFile(tmp_path / "keys" / "master-keys.json")
        return
    module = request.getfixturevalue("softhsm")
    from fhir_server.store.master_keys_pkcs11 import DeviceKeys

    keys = DeviceKeys(module, "dmst", PIN, tenant=os.getpid() % 1000)
    yield keys
    for key_id in asyncio.run(keys.ids()):
        asyncio.run(keys.forget(key_id))
    keys.close()


async def test_a_secret_is_wrapped_and_unwrapped(masters: MasterKeys) -> None:
    """Under the key that was named, never twice alike."""
    assert list(await masters.ids()) == []
    first, second = await masters.make(), await masters.make()
    assert list(await masters.ids()) == [first, second], "the newest is the last"
    secret = os.urandom(39)
    wrapped = [await masters.wrap(key_id, secret, b"of this") for key_id in (first, first, second)]
    assert len(set(wrapped)) == 3
    assert all(secret not in one for one in wrapped)
    for key_id, one in zip((first, first, second), wrapped, strict=True):
        assert await masters.unwrap(key_id, one, b"of this") == secret


async def test_a_wrapping_opens_under_its_key_and_context_only(masters: MasterKeys) -> None:
    """Changed anywhere, cut, of something else or under another key it is Damaged."""
    first, second = await masters.make(), await masters.make()
    wrapped = await masters.wrap(first, b"secret", b"of this")
    for key_id, text, context in [
        (second, wrapped, b"of this"),
        (first, wrapped, b"of that"),
        *((first, wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], b"of this") for at in (0, 12, 20, 33)),
        (first, wrapped[:-1], b"of this"),
    ]:
        with pytest.raises(Damaged):
            await masters.unwrap(key_id, text, context)


async def test_a_key_that_is_gone_is_said_so(masters: MasterKeys) -> None:
    """By its name; nothing is made in its place."""
    key_id = await masters.make()
    wrapped = await masters.wrap(key_id, b"secret", b"")
    await masters.forget(key_id)
    assert list(await masters.ids()) == []
    for attempt in (masters.unwrap(key_id, wrapped, b""), masters.wrap(key_id, b"secret", b"")):
        with pytest.raises(Unavailable, match=key_id):
            await attempt


async def test_keys_are_not_printed(masters: MasterKeys) -> None:
    """Neither the keys nor the PIN."""
    await masters.make()
    assert repr(masters).startswith(("KeyFile('", "DeviceKeys('dmst')"))
    assert PIN not in repr(masters)


async def test_a_device_that_is_not_there_is_unavailable(softhsm: Path) -> None:
    """The wrong PIN, another token, no library: Unavailable, and the PIN is in no message."""
    from fhir_server.store.master_keys_pkcs11 import DeviceKeys

    for module, token, pin in [
        (softhsm, "dmst", "0000"),
        (softhsm, "nothing", PIN),
        (Path("/nowhere.so"), "dmst", PIN),
    ]:
        keys = DeviceKeys(module, token, pin, tenant=0)
        with pytest.raises(Unavailable) as failed:
            await keys.ids()
        assert pin not in str(failed.value)
        keys.close()


async def test_the_file_is_for_its_owner_alone(key_file: KeyFile) -> None:
    """Made 0600 in a folder 0700; refused when others may read it; nothing is left beside it."""
    await key_file.make()
    assert stat.S_IMODE(key_file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file.path.parent.stat().st_mode) == 0o700
    assert [one.name for one in key_file.path.parent.iterdir()] == ["master-keys.json"]
    key_file.path.chmod(0o640)
    with pytest.raises(Unavailable, match="chmod 600"):
        await KeyFile(key_file.path).ids()


@pytest.mark.parametrize("content", ["", "{}", '{"format":"x","keys":[]}', '{"keys":[{"id":"a","key":"AAAA"}]}', "é"])
async def test_a_file_that_is_none_is_refused(key_file: KeyFile, content: str) -> None:
    """It is not taken for an empty one, and nothing is added to it."""
    await key_file.make()
    key_file.path.write_text(content, encoding="utf-8")
    for attempt in (KeyFile(key_file.path).ids(), KeyFile(key_file.path).make()):
        with pytest.raises(Unavailable, match="key file"):
            await attempt
    assert key_file.path.read_text(encoding="utf-8") == content


async def test_a_key_that_another_process_adds_is_seen(key_file: KeyFile) -> None:
    """A process that runs reads the file again; and two who add at once lose none."""
    first = await key_file.make()
    assert list(await key_file.ids()) == [first]
    others = [KeyFile(key_file.path) for _ in range(8)]
    made = await asyncio.gather(*(other.make() for other in others))
    assert set(await key_file.ids()) == {first, *made}
    assert await key_file.unwrap(made[3], await others[3].wrap(made[3], b"secret", b""), b"") == b"secret"
