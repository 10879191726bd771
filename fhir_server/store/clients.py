"""Clients, their access tokens and the keys of this service. Secrets and tokens are kept as hashes only."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fhir_server.store import queries
from fhir_server.store.database import Database

SQL = queries.load("clients")
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}


class Client(NamedTuple):
    client_id: str
    name: str
    secret_hash: str | None
    scopes: list[str]
    role: str
    jwks: str | None = None
    jwks_uri: str | None = None
    certificate_bound: bool = False
    """Are its tokens good only over connections with the TLS certificate with which it asked for them?"""


class ListedClient(NamedTuple):
    client_id: str
    name: str
    scopes: list[str]
    role: str
    created: datetime
    disabled: datetime | None
    proof: str


class Holder(NamedTuple):
    """Who holds a token."""

    client_id: str
    name: str
    role: str
    scopes: list[str]
    expires: datetime
    certificate: bytes | None
    """SHA-256 of the TLS certificate that must come with the token (RFC 8705)."""
    purpose: str | None
    worker: str | None
    delegated: bool


class Clients:
    """Clients over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        name: str,
        scopes: Sequence[str],
        role: str,
        *,
        certificate_bound: bool = False,
        purpose: str | None = None,
        worker: str | None = None,
    ) -> tuple[str, str]:
        """A new client; returns its id and its secret, which is shown this once and never kept.

        `purpose` is what it sees records for, `worker` the id of the Patient who looks at his own record by it.
        """
        secret, bound = secrets.token_urlsafe(32), certificate_bound
        client_id = await self._add(name, scopes, role, hash_secret(secret), None, None, bound, purpose, worker)
        return client_id, secret

    async def add_with_keys(
        self,
        name: str,
        scopes: Sequence[str],
        role: str,
        *,
        jwks: str | None = None,
        jwks_uri: str | None = None,
        certificate_bound: bool = False,
    ) -> str:
        """A new client that signs, with its public keys or the address where it publishes them; returns its id."""
        return await self._add(name, scopes, role, None, jwks, jwks_uri, certificate_bound)

    async def _add(
        self,
        name: str,
        scopes: Sequence[str],
        role: str,
        secret_hash: str | None,
        jwks: str | None,
        jwks_uri: str | None,
        certificate_bound: bool,
        purpose: str | None = None,
        worker: str | None = None,
    ) -> str:
        client_id = secrets.token_hex(8)
        values = (client_id, name, secret_hash, list(scopes), role, jwks, jwks_uri, certificate_bound, purpose, worker)
        async with self._database.connection() as connection:
            await connection.execute(SQL["add"], values)
        return client_id

    async def replace_keys(self, client_id: str, *, jwks: str | None = None, jwks_uri: str | None = None) -> bool:
        """Other public keys; False when there is no such client or it has a secret. Tokens that it holds stay good."""
        async with self._database.connection() as connection:
            return (await connection.execute(SQL["replace_keys"], (jwks, jwks_uri, client_id))).rowcount == 1

    async def find(self, client_id: str) -> Client | None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["find"], (client_id,))).fetchone()
            return Client(*row) if row else None

    async def everybody(self) -> list[ListedClient]:
        async with self._database.connection() as connection:
            return [ListedClient(*row) for row in await (await connection.execute(SQL["list"])).fetchall()]

    async def disable(self, client_id: str) -> bool:
        """Shut a client out; False when there is no such client or it was out already."""
        async with self._database.transaction() as connection:
            disabled = (await connection.execute(SQL["disable"], (client_id,))).rowcount == 1
            await connection.execute(SQL["drop_tokens"], (client_id,))
            return disabled

    async def give_token(
        self, client_id: str, scopes: Sequence[str], minutes: int, *, certificate: bytes | None = None
    ) -> tuple[str, int]:
        """A new access token and its life in seconds. `certificate`: SHA-256 of the one that it is bound to."""
        token = secrets.token_urlsafe(32)
        life = timedelta(minutes=minutes)
        async with self._database.transaction() as connection:
            await connection.execute(SQL["drop_expired"])
            await connection.execute(
                SQL["add_token"], (hash_token(token), client_id, list(scopes), datetime.now(UTC) + life, certificate)
            )
        return token, int(life.total_seconds())

    async def holder(self, token: str) -> Holder | None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(SQL["find_token"], (hash_token(token),))).fetchone()
            return Holder(*row) if row else None

    async def key(self, purpose: str) -> bytes:
        """A 256-bit key of this service, made at its first use."""
        async with self._database.connection() as connection:
            await connection.execute(SQL["make_key"], (purpose, secrets.token_bytes(32)))
            row = await (await connection.execute(SQL["read_key"], (purpose,))).fetchone()
            assert row
            return row[0]


def hash_token(token: str) -> bytes:
    """Tokens are 256 random bits: one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode()).digest()


def hash_secret(secret: str) -> str:
    """`scrypt$salt$hash`, both hexadecimal."""
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${hashlib.scrypt(secret.encode(), salt=salt, **_SCRYPT).hex()}"


def secret_matches(secret: str, kept: str) -> bool:
    """In constant time."""
    _, salt, digest = kept.split("$")
    computed = hashlib.scrypt(secret.encode(), salt=bytes.fromhex(salt), **_SCRYPT)
    return secrets.compare_digest(computed, bytes.fromhex(digest))
