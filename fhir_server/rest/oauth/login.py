"""A person logs in: OpenID Connect, authorization code with PKCE, at the provider of the service.

https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth, RFC 7636, RFC 9700. What the browser must bring
back (state) and what only this server knows (nonce, verifier) are sealed into a cookie, so nothing is kept for those
who never come back.
"""

import base64
import binascii
import hashlib
import html
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import urlencode

import orjson
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from fhir_server.caller import MACHINE_ROLES
from fhir_server.outcomes import BadParameter, Failure, Forbidden, Unauthenticated, Unavailable
from fhir_server.rest.oauth import back_channel, roles
from fhir_server.rest.oauth.errors import NO_STORE
from fhir_server.rest.oauth.login_trail import BACK_CHANNEL, Logins
from fhir_server.rest.oauth.outbound import Outbound
from fhir_server.rest.oauth.provider import Provider
from fhir_server.rest.oauth.roles import RoleTable
from fhir_server.rest.oauth.sessions import COOKIE, Session, Sessions, cookie, set_cookie
from fhir_server.rest.oauth.signed import NotGood, audiences, check_times, look, verified
from fhir_server.settings import Settings, secret

log = structlog.get_logger(__name__)

LOGIN_COOKIE: Final = "__Host-dmst-login"
LOGIN_SECONDS: Final = 600
SOURCE: Final = "person"
NONCE: Final = 12
PAGE: Final = """<!doctype html><html lang="fr"><meta charset="utf-8"><title>Connexion</title>
<h1>Connexion refusée</h1><p>{reason}</p><p><a href="/login">Recommencer</a></p></html>"""
SAFE_PAGE: Final = {**NO_STORE, "Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One login that was begun."""

    state: str
    nonce: str
    verifier: str
    back: str
    ends: float

    @property
    def challenge(self) -> str:
        """RFC 7636 section 4.2."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Login:
    """Logs in at one provider. `root`: where browsers see this server; `seal` closes the cookie of an attempt."""

    provider: Provider
    outbound: Outbound
    sessions: Sessions
    table: RoleTable
    seal: AESGCM
    root: str
    client_id: str
    client_secret: str
    scope: str
    acr_values: str | None

    @property
    def redirect_uri(self) -> str:
        return f"{self.root}/login/callback"

    async def begin(self, back: str) -> tuple[str, str]:
        """Where the browser goes, and the cookie that it keeps. Raises Unavailable."""
        attempt = Attempt(*(secrets.token_urlsafe(32) for _ in range(3)), back=back, ends=time.time() + LOGIN_SECONDS)
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": self.scope,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
            "max_age": str(int(self.sessions.longest_seconds)),
            **({"acr_values": self.acr_values} if self.acr_values else {}),
        }
        url = await self.provider.endpoint("authorization_endpoint")
        return f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}", self._sealed(attempt)

    async def finish(self, given: Mapping[str, str], kept: str | None) -> tuple[str, Session, str]:
        """The value of the session's cookie, the session, and the page to which the person wanted.

        `given` are the parameters with which the provider sent the browser back, `kept` is the cookie of the attempt.
        Raises Unauthenticated, Forbidden, Unavailable.
        """
        attempt = self._opened(kept)
        if not secrets.compare_digest(given.get("state", "").encode(), attempt.state.encode()):
            _refuse("the answer belongs to another login (state)")
        once = hashlib.sha256(attempt.state.encode()).hexdigest()
        if not await self.sessions.transient.first_time(f"login:{once}", LOGIN_SECONDS):
            _refuse("this login was finished before")
        await self._check_issuer(given)
        if given.get("error"):
            _refuse("the provider did not let you in")
        answer = await self._exchange(given.get("code", ""), attempt)
        try:
            claims = await self._identity(answer, attempt.nonce)
        except NotGood as fault:
            _refuse(str(fault))
        said = {**await self._userinfo(answer, claims), **claims}
        caller = self.table.caller(said, source=SOURCE, asked=None)
        if caller.role in MACHINE_ROLES:
            raise Forbidden("A person has no role of a machine")
        since = claims.get("auth_time", time.time())
        value, session = await self.sessions.begin(
            caller,
            since=min(since, time.time()),
            id_token=answer["id_token"],
            claims=self.table.claimed(said),
            known_as=back_channel.names_of(claims),
        )
        log.info("login", role=caller.role)
        return value, session, attempt.back

    async def leaving(self, session: Session) -> str:
        """Where a browser goes after its logout: RP-Initiated Logout 1.0 where the provider has it."""
        try:
            url = await self.provider.optional("end_session_endpoint")
        except Unavailable:
            url = None
        if url is None:
            return f"{self.root}/"
        asked = {
            "id_token_hint": session.id_token,
            "client_id": self.client_id,
            "post_logout_redirect_uri": f"{self.root}/",
        }
        return f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"

    async def _check_issuer(self, given: Mapping[str, str]) -> None:
        """RFC 9207: an answer of another provider is none."""
        described = await self.provider.described()
        required = described.get("authorization_response_iss_parameter_supported") is True
        if ("iss" in given or required) and given.get("iss") != self.provider.issuer:
            _refuse("the answer comes from another provider (iss)")

    async def _exchange(self, code: str, attempt: Attempt) -> dict[str, Any]:
        """What the provider gives for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        described = await self.provider.described()
        methods = described.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        auth = (self.client_id, self.client_secret) if "client_secret_basic" in methods else None
        if auth is None:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        status, answer = await self.outbound.post_form(await self.provider.endpoint("token_endpoint"), form, auth=auth)
        if (
            status != 200
            or not isinstance(answer.get("id_token"), str)
            or not isinstance(answer.get("access_token"), str)
        ):
            _refuse("the provider gave no identity for the code")
        return answer

    async def _identity(self, answer: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of the ID token: OpenID Connect Core section 3.1.3.7. Raises NotGood."""
        token = answer["id_token"]
        seen = look(token)
        key = await self.provider.key(seen.kid, seen.algorithm)
        if key is None:
            raise NotGood("the provider has no key of this name")
        claims = verified(token, key, seen.algorithm)
        to = audiences(claims)
        if claims.get("iss") != self.provider.issuer or claims.get("typ", "ID") != "ID":
            raise NotGood("it is no ID token of the provider")
        if self.client_id not in to or claims.get("azp", self.client_id if len(to) == 1 else None) != self.client_id:
            raise NotGood("the ID token is for somebody else (aud, azp)")
        check_times(claims, time.time())
        if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise NotGood("the ID token belongs to another login (nonce)")
        if "at_hash" in claims and claims["at_hash"] != _half(answer["access_token"], seen.algorithm):
            raise NotGood("the ID token belongs to another access token (at_hash)")
        if not isinstance(claims.get("auth_time", 0), int | float):
            raise NotGood("auth_time is no number of seconds")
        return claims

    async def _userinfo(self, answer: Mapping[str, Any], claims: Mapping[str, Any]) -> dict[str, Any]:
        """What the provider says beside the ID token, of the same person (Core section 5.3.2)."""
        url = await self.provider.optional("userinfo_endpoint")
        if url is None:
            return {}
        told = await self.outbound.get_json(url, bearer=answer["access_token"])
        if not claims.get("sub") or told.get("sub") != claims["sub"]:
            _refuse("the provider speaks of somebody else (sub)")
        return told

    def _sealed(self, attempt: Attempt) -> str:
        nonce = secrets.token_bytes(NONCE)
        sealed = nonce + self.seal.encrypt(nonce, orjson.dumps(asdict(attempt)), LOGIN_COOKIE.encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def _opened(self, kept: str | None) -> Attempt:
        try:
            sealed = base64.b64decode((kept or "") + "=" * (-len(kept or "") % 4), altchars=b"-_", validate=True)
            opened = self.seal.decrypt(sealed[:NONCE], sealed[NONCE:], LOGIN_COOKIE.encode())
            attempt = Attempt(**orjson.loads(opened))
        except (binascii.Error, InvalidTag, ValueError):
            _refuse("this browser began no login here")
        if attempt.ends < time.time():
            _refuse("the login took too long")
        return attempt


def login_routes(login: Login, logins: Logins) -> APIRouter:
    """`/login`, `/login/callback`, `/logout`, and `/session` for pages that want to know who is there."""
    router = APIRouter()

    @router.get("/login")
    async def begin(back: str = "/") -> Response:
        url, kept = await login.begin(_local(back))
        return RedirectResponse(url, 302, {**NO_STORE, "Set-Cookie": set_cookie(LOGIN_COOKIE, kept, LOGIN_SECONDS)})

    @router.get("/login/callback")
    async def finish(request: Request) -> Response:
        given = dict(request.query_params)
        try:
            value, session, back = await login.finish(given, cookie(request.scope, LOGIN_COOKIE))
            await logins.succeeded(session.caller)
        except (Unauthenticated, Forbidden, Unavailable) as failure:
            log.warning("login refused", reason=failure.diagnostics)
            await logins.failed(failure)
            refused: Response = _page(failure)
        else:
            await _end_former(login.sessions, request)
            refused = RedirectResponse(back, 303, NO_STORE)
            refused.headers.append("Set-Cookie", set_cookie(COOKIE, value, int(session.ends - time.time())))
        refused.headers.append("Set-Cookie", set_cookie(LOGIN_COOKIE, "", 0))
        return refused

    @router.get("/session")
    async def who(request: Request) -> Response:
        """Raises Unauthenticated without a session."""
        session = await login.sessions.of_request(request.scope)
        told = {
            "role": session.caller.role,
            "professional": session.caller.professional,
            "structure": session.caller.structure,
            "csrf": session.csrf,
            "seconds": int(session.ends - time.time()),
            "idle_seconds": login.sessions.idle_seconds,
        }
        return JSONResponse(told, headers=NO_STORE)

    @router.post("/logout")
    async def leave(request: Request) -> Response:
        """Raises Unauthenticated without a session, Forbidden without its token (header, or `csrf` of a form)."""
        value = cookie(request.scope, COOKIE)
        session = await login.sessions.find(value) if value else None
        if value is None or session is None:
            raise Unauthenticated("You are not logged in, or your session has ended")
        given = request.headers.get("x-csrf-token") or (await request.form()).get("csrf")
        session.must_repeat(given if isinstance(given, str) else None)
        await login.sessions.end(value)
        await logins.ended(session.caller)
        url = await login.leaving(session)
        return RedirectResponse(url, 303, {**NO_STORE, "Set-Cookie": set_cookie(COOKIE, "", 0)})

    @router.post("/login/backchannel")
    async def ended_elsewhere(logout_token: Annotated[str, Form()] = "") -> Response:
        """The provider says that a session, or every session of somebody, is over: Back-Channel Logout 1.0."""
        try:
            transient = login.sessions.transient
            logout = await back_channel.read(login.provider, login.client_id, transient, logout_token)
        except NotGood as fault:
            answer = {"error": "invalid_request", "error_description": str(fault)}
            return JSONResponse(answer, 400, headers=NO_STORE)
        for caller in await login.sessions.end_all(logout.whom):
            await logins.ended(caller, BACK_CHANNEL)
        await back_channel.remember(transient, logout)
        return Response(status_code=200, headers=NO_STORE)

    return router


async def _end_former(sessions: Sessions, request: Request) -> None:
    """Who logs in again has one session."""
    if former := cookie(request.scope, COOKIE):
        await sessions.end(former)


def _page(failure: Failure) -> Response:
    return HTMLResponse(PAGE.format(reason=html.escape(failure.diagnostics)), failure.status, SAFE_PAGE)


def _local(back: str) -> str:
    """A page of this server, never another one: an open redirect is how people are led astray."""
    ok = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable() and "\\" not in back
    return back if ok and len(back) <= 1024 else "/"


def _half(access_token: str, algorithm: str) -> str:
    """Core section 3.1.3.6: the left half of the hash of an access token."""
    digest = hashlib.new(f"sha{algorithm[2:]}", access_token.encode("ascii", "replace")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _refuse(reason: str) -> NoReturn:
    raise Unauthenticated(f"You are not logged in: {reason}")


def login_of(settings: Settings, outbound: Outbound, sessions: Sessions, key: bytes) -> Login | None:
    """The login of the settings. Raises BadParameter where they are incomplete."""
    if settings.login_issuer is None:
        return None
    client_secret = secret(settings.login_client_secret)
    if settings.login_client_id is None or client_secret is None or settings.login_roles is None:
        raise BadParameter(
            "DMST_FHIR_LOGIN_ISSUER needs DMST_FHIR_LOGIN_CLIENT_ID, its secret and DMST_FHIR_LOGIN_ROLES"
        )
    trusting = outbound.trusting(settings.login_issuer, settings.login_discovery)
    for url in (settings.login_issuer, settings.login_discovery):
        try:
            _ = url and trusting.check(url)
        except ValueError as error:
            raise BadParameter(f"The address of the provider: {error}") from None
    return Login(
        provider=Provider(trusting, settings.login_issuer, discovery=settings.login_discovery),
        outbound=trusting,
        sessions=sessions,
        table=roles.load(settings.login_roles),
        seal=AESGCM(key),
        root=settings.public_root,
        client_id=settings.login_client_id,
        client_secret=client_secret,
        scope=settings.login_scope,
        acr_values=settings.login_acr_values,
    )
