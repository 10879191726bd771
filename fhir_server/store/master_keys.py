"""Master keys in a file, which its owner alone may read (`fhir_server.ports.MasterKeys`).

The file is written beside itself and renamed, so that it is whole or not there; it is read again when it has changed,
so that a key which was added reaches processes that run. NIST SP 800-38D for the wrapping.
"""

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.outcomes import Damaged, Unavailable

FORMAT = "dmst-fhir master keys 1"
NONCE = 12


def new_id() -> str:
    """The name of a new key: later ones sort behind earlier ones."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(2)}"


def missing(key_id: str) -> Unavailable:
    return Unavailable(f"The master key {key_id} is not here: bring it back from its backup (docs/operator.md)")


def not_opened(key_id: str) -> Damaged:
    return Damaged(
        f"What was wrapped under the master key {key_id} does not open: it was changed, or this is another key"
    )


class KeyFile:
    """Some keys in one file. Nothing of them is printed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r})"

    async def ids(self) -> Sequence[str]:
        """Raises Unavailable for a file that others may read, or that is none."""
        return await asyncio.to_thread(lambda: sorted(self._known()))

    async def make(self) -> str:
        """Raises Unavailable where the file cannot be written."""
        return await asyncio.to_thread(self._make)

    async def forget(self, key_id: str) -> None:
        """The file without this key takes its place; what the disk keeps of the old one is for its owner to see to."""
        await asyncio.to_thread(self._forget, key_id)

    async def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE)
        return nonce + AESGCM(self._key(key_id)).encrypt(nonce, secret, context)

    async def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        try:
            return AESGCM(self._key(key_id)).decrypt(wrapped[:NONCE], wrapped[NONCE:], context)
        except (InvalidTag, ValueError):
            raise not_opened(key_id) from None

    def close(self) -> None:
        """Nothing is held."""

    def _key(self, key_id: str) -> bytes:
        if key_id not in self._keys and key_id not in self._known():
            raise missing(key_id)
        return self._keys[key_id]

    def _known(self) -> dict[str, bytes]:
        """The keys of the file as it is now."""
        with _told(self.path):
            try:
                found = self.path.stat()
            except FileNotFoundError:
                self._seen, self._keys = None, {}
                return self._keys
            if self._seen != (found.st_ino, found.st_mtime_ns):
                if found.st_mode & 0o077:
                    raise Unavailable(
                        f"Others may read the key file {self.path}: chmod 600 it, and think about who did"
                    )
                self._keys = _read(self.path)
                self._seen = (found.st_ino, found.st_mtime_ns)
        return self._keys

    def _make(self) -> str:
        with _told(self.path), self._alone():
            key_id = new_id()
            self._write({**self._known(), key_id: secrets.token_bytes(32)})
        return key_id

    def _forget(self, key_id: str) -> None:
        with _told(self.path), self._alone():
            self._write({name: key for name, key in self._known().items() if name != key_id})

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """Two who change the file at once do it one after the other."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, keys: dict[str, bytes]) -> None:
        lines = [{"id": name, "key": base64.b64encode(key).decode()} for name, key in sorted(keys.items())]
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump({"format": FORMAT, "keys": lines}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        finally:
            beside.unlink(missing_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._seen = None


def _read(path: Path) -> dict[str, bytes]:
    """Raises Unavailable for anything but a key file; never says what is in it."""
    try:
        told = json.loads(path.read_text(encoding="ascii"))
        keys = {str(one["id"]): base64.b64decode(one["key"], validate=True) for one in told["keys"]}
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"{path} is not a key file, or is damaged: bring it back from its backup") from None
    if told.get("format") != FORMAT or any(len(key) != 32 for key in keys.values()):
        raise Unavailable(f"{path} is not a key file of this version")
    return keys


@contextlib.contextmanager
def _told(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"The key file {path} cannot be read or written: {error.strerror}") from None
