"""A folder of another machine over SFTP (draft-ietf-secsh-filexfer-02, as OpenSSH speaks it).

The one module that knows which SSH library we use. The host must be in `known_hosts`, under the very key that is
written there; neither the agent nor the configuration of the account that runs us is asked.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import asyncssh

from adapters.depot.place import NotTaken, partial_name, short
from fhir_server.ports import Refused, TryLater

T = TypeVar("T")

asyncssh.set_log_level("ERROR")  # it would log the names of files and accounts

_NO_ROOM = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)
_NO_PERMISSION = (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect)
_ABSENT = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory)
_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.SFTPBadMessage)
FAILURES = (asyncssh.Error, OSError, asyncssh.KeyImportError)


def answer_to(error: Exception) -> Refused | TryLater:
    """What a failure means. The words of the other side are not kept."""
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return Refused("host-key", "The server showed a host key that is not in known_hosts")
        case asyncssh.PermissionDenied():
            return Refused("login", "The server refused the key or the password")
        case TimeoutError():
            return TryLater("timeout", "The server did not answer in time")
        case asyncssh.SFTPError() if isinstance(error, _NO_ROOM):
            return TryLater("no-space", "The drop folder has no room")
        case asyncssh.SFTPError() if isinstance(error, _NO_PERMISSION):
            return TryLater("no-permission", "The drop folder may not be written to")
        case asyncssh.SFTPError() if isinstance(error, _ABSENT):
            return TryLater("folder-absent", "The drop folder is not there")
        case asyncssh.SFTPError() if not isinstance(error, _LOST):
            # version 3 of the protocol has one code for a full disk and for everything else
            return TryLater("sftp-failure", f"The server failed to do it ({type(error).__name__})")
        case _:
            return TryLater("network", f"The connection failed ({type(error).__name__})")


@dataclass(frozen=True, slots=True)
class Login:
    """Where and as whom, by a key or a password. `known_hosts` is read at each login."""

    host: str
    port: int
    username: str
    known_hosts: Path
    key: Any = None
    password: str | None = None


class SftpFolder:
    """Writes into `folder` of the server. One connection, kept; `timeout` bounds each single step."""

    def __init__(self, login: Login, folder: str, *, timeout: float) -> None:
        self._login = login
        self._folder = PurePosixPath(folder)
        self._timeout = timeout
        self._opening = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    async def holds(self, name: str) -> bool:
        client = await self._connected()
        await self._step(client.stat(str(self._folder)))
        return await self._step(client.lexists(self._path(name)))

    async def put(self, name: str, chunks: AsyncIterator[bytes], size: int) -> None:
        client = await self._connected()
        partial = self._path(partial_name(name))
        file = await self._step(client.open(partial, "wb"))
        try:
            try:
                async for chunk in chunks:
                    await self._step(file.write(chunk))
                with suppress(asyncssh.SFTPOpUnsupported):
                    await self._step(file.fsync(), passing=asyncssh.SFTPOpUnsupported)
            finally:
                with suppress(NotTaken):
                    await self._step(file.close())
            held = (await self._step(client.stat(partial))).size
            if held != size:
                raise short(size, held)
            await self._publish(client, partial, self._path(name))
        except Exception:
            with suppress(NotTaken):  # its room is given back; otherwise the next attempt overwrites it
                await self._step(client.remove(partial))
            raise

    async def close(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection:
            connection.close()
            with suppress(*FAILURES):
                async with asyncio.timeout(self._timeout):
                    await connection.wait_closed()

    async def _publish(self, client: asyncssh.SFTPClient, partial: str, final: str) -> None:
        """In one step where the server can (posix-rename@openssh.com); else what an earlier attempt left goes first."""
        try:
            await self._step(client.posix_rename(partial, final), passing=asyncssh.SFTPOpUnsupported)
        except asyncssh.SFTPOpUnsupported:
            if await self._step(client.lexists(final)):
                await self._step(client.remove(final))
            await self._step(client.rename(partial, final))

    def _path(self, name: str) -> str:
        return str(self._folder / name)

    async def _connected(self) -> asyncssh.SFTPClient:
        async with self._opening:
            if self._client and self._connection and not self._connection.is_closed():
                return self._client
            await self.close()
            self._client = await self._step(self._open())
            return self._client

    async def _open(self) -> asyncssh.SFTPClient:
        login = self._login
        self._connection = await asyncssh.connect(
            login.host,
            login.port,
            username=login.username,
            known_hosts=str(login.known_hosts),
            client_keys=[login.key] if login.key else None,
            password=login.password,
            agent_path=None,
            config=None,
            gss_host=None,
            keepalive_interval=self._timeout,
        )
        return await self._connection.start_sftp_client()

    async def _step(self, work: Awaitable[T], *, passing: type[Exception] | tuple[()] = ()) -> T:
        """One exchange with the server. A connection that failed, or is silent, is not used again."""
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except passing:
            raise
        except FAILURES as error:
            if not isinstance(error, asyncssh.SFTPError) or isinstance(error, _LOST):
                self._drop()
            raise NotTaken(answer_to(error)) from None

    def _drop(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection:
            connection.abort()


def read_key(path: Path) -> Any:
    """A private key without passphrase. Raises OSError, ValueError."""
    return asyncssh.read_private_key(path)
