"""The token endpoint: OAuth 2.0 client credentials (RFC 6749 section 4.4).

A client proves who it is by its secret, in the Authorization header or in the form, never in the URL; or it signs
(SMART Backend Services). Failed attempts with secrets are counted per client and limited; a signature cannot be
guessed. A secret that was right before is not stopped by the wrong ones of somebody else.
"""

import asyncio
import base64
import binascii
import hashlib
import re
from collections import OrderedDict
from typing import Annotated, Final
from urllib.parse import unquote

from fastapi import APIRouter, Form, Header, Request
from fastapi.responses import JSONResponse

from fhir_server.caller import check_scopes
from fhir_server.records.failures import Failures
from fhir_server.rest.oauth.assertion import TYPE, Assertions
from fhir_server.rest.oauth.certificates import Certificates
from fhir_server.rest.oauth.errors import NO_STORE, OAuthError
from fhir_server.rest.oauth.login_trail import tell_failure
from fhir_server.scopes import covers
from fhir_server.settings import Settings
from fhir_server.store.clients import Client, Clients, secret_matches
from fhir_server.store.transient import Transient

_CLIENT_ID = re.compile(r"[0-9a-f]{16}")
# Compared against when the client is unknown, so that a wrong name takes as long as a wrong secret.
NOBODY = f"scrypt${bytes(16).hex()}${bytes(64).hex()}"
MOST_PROVED: Final = 10_000


class Proved:
    """Secrets that were right, as hashes, in this process: without them whoever knows the name of a client could keep
    it from tokens by guessing, and each of its requests would cost a scrypt. A new secret is another one.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, None] = OrderedDict()

    def has(self, kept: str, secret: str) -> bool:
        return _digest(kept, secret) in self._kept

    def add(self, kept: str, secret: str) -> None:
        self._kept[_digest(kept, secret)] = None
        if len(self._kept) > MOST_PROVED:
            self._kept.popitem(last=False)


def _digest(kept: str, secret: str) -> bytes:
    """`kept` has a random salt, so a digest is of one client alone."""
    return hashlib.sha256(f"{kept} {secret}".encode()).digest()


def token_route(
    clients: Clients,
    transient: Transient,
    settings: Settings,
    assertions: Assertions,
    certificates: Certificates,
    failures: Failures,
) -> APIRouter:
    router = APIRouter()
    known = Proved()

    async def proved(client_id: str, secret: str, kind: str, assertion: str, authorization: str | None) -> Client:
        """The client of a request, by the one proof that it gives. Raises OAuthError."""
        if sum(map(bool, (authorization, secret, kind or assertion))) > 1:
            raise OAuthError(400, "invalid_request", "a client proves who it is in one way")
        if assertion or kind:
            if kind != TYPE:
                raise OAuthError(400, "invalid_request", f"client_assertion_type is {TYPE}")
            return await assertions.client(assertion, client_id)
        given = _basic(authorization) if authorization else (client_id, secret)
        if given is None:
            raise OAuthError(401, "invalid_client")
        return await _by_secret(clients, transient, known, *given, attempts=settings.token_attempts_per_minute)

    @router.post("/oauth2/token")
    async def give_token(
        request: Request,
        grant_type: Annotated[str, Form()] = "",
        scope: Annotated[str, Form()] = "",
        client_id: Annotated[str, Form()] = "",
        client_secret: Annotated[str, Form()] = "",
        client_assertion_type: Annotated[str, Form()] = "",
        client_assertion: Annotated[str, Form()] = "",
        authorization: Annotated[str | None, Header()] = None,
    ) -> JSONResponse:
        try:
            if grant_type != "client_credentials":
                raise OAuthError(400, "unsupported_grant_type")
            client = await proved(client_id, client_secret, client_assertion_type, client_assertion, authorization)
            scopes = _granted(client, scope)
            certificate = certificates.thumbprint(request.scope) if client.certificate_bound else None
            if client.certificate_bound and certificate is None:
                raise OAuthError(401, "invalid_client", "this client asks over mutual TLS, and no certificate came")
            token, seconds = await clients.give_token(
                client.client_id, scopes, settings.token_minutes, certificate=certificate
            )
        except OAuthError as error:
            await tell_failure(failures, error.code, _ours(client_id or (_basic(authorization or "") or ("",))[0]))
            return error.answer()
        return JSONResponse(
            {"access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": " ".join(scopes)},
            headers=NO_STORE,
        )

    return router


def _ours(client_id: str) -> str | None:
    """Whom somebody said to be, where it could be one of our clients: anything else may be a secret gone astray."""
    return client_id if _CLIENT_ID.fullmatch(client_id) else None


def _granted(client: Client, asked: str) -> list[str]:
    """What was asked for, where the client has it; everything that it has, where nothing was. Raises OAuthError."""
    try:
        scopes = check_scopes(asked.split()) or tuple(client.scopes)
    except ValueError as error:
        raise OAuthError(400, "invalid_scope") from error
    if not covers(client.scopes, scopes):
        raise OAuthError(400, "invalid_scope")
    return list(scopes)


async def _by_secret(
    clients: Clients, transient: Transient, known: Proved, client_id: str, client_secret: str, *, attempts: int
) -> Client:
    """Raises OAuthError (invalid_client, slow_down)."""
    what = f"token:{client_id[:64]}"
    client = await clients.find(client_id)
    kept = client.secret_hash if client else None
    if client and kept and known.has(kept, client_secret):
        return client
    if await transient.count(what) >= attempts:
        raise OAuthError(429, "slow_down", headers={"Retry-After": "60"})
    matches = await asyncio.to_thread(secret_matches, client_secret, kept or NOBODY)
    if client is None or kept is None or not matches:
        await transient.count(what, add=1)
        raise OAuthError(401, "invalid_client", headers={"WWW-Authenticate": "Basic"})
    known.add(kept, client_secret)
    return client


def _basic(authorization: str) -> tuple[str, str] | None:
    """RFC 6749 section 2.3.1: both parts are form-encoded inside HTTP Basic."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (unquote(name), unquote(password)) if colon else None
