"""The token endpoint: OAuth 2.0 client credentials (RFC 6749 section 4.4).

The secret comes in the Authorization header or in the form, never in the URL. Failed attempts are counted per
client and limited.
"""

import asyncio
import base64
import binascii
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Form, Header
from fastapi.responses import JSONResponse

from fhir_server.settings import Settings
from fhir_server.store.clients import Client, Clients, hash_secret, secret_matches
from fhir_server.store.transient import Transient

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
# Compared against when the client is unknown, so that a wrong name takes as long as a wrong secret.
NOBODY = hash_secret("nobody")


def token_route(clients: Clients, transient: Transient, settings: Settings) -> APIRouter:
    router = APIRouter()

    @router.post("/oauth2/token")
    async def give_token(
        grant_type: Annotated[str, Form()] = "",
        scope: Annotated[str, Form()] = "",
        client_id: Annotated[str, Form()] = "",
        client_secret: Annotated[str, Form()] = "",
        authorization: Annotated[str | None, Header()] = None,
    ) -> JSONResponse:
        if grant_type != "client_credentials":
            return _error(400, "unsupported_grant_type")
        given = _basic(authorization) if authorization else (client_id, client_secret)
        if given is None:
            return _error(401, "invalid_client")
        if await transient.count(f"token:{given[0][:64]}") >= settings.token_attempts_per_minute:
            return _error(429, "slow_down", {"Retry-After": "60"})
        client = await _authenticated(clients, *given)
        if client is None:
            await transient.count(f"token:{given[0][:64]}", add=1)
            return _error(401, "invalid_client", {"WWW-Authenticate": "Basic"})
        scopes = scope.split() or client.scopes
        if not set(scopes) <= set(client.scopes):
            return _error(400, "invalid_scope")
        token, seconds = await clients.give_token(client.client_id, scopes, settings.token_minutes)
        return JSONResponse(
            {"access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": " ".join(scopes)},
            headers=NO_STORE,
        )

    return router


async def _authenticated(clients: Clients, client_id: str, client_secret: str) -> Client | None:
    client = await clients.find(client_id)
    kept = client.secret_hash if client else NOBODY
    matches = await asyncio.to_thread(secret_matches, client_secret, kept)
    return client if client and matches else None


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


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": code}, status_code=status, headers=NO_STORE | (headers or {}))
