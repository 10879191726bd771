"""Sessions of persons: in Redis, behind a cookie that no script and no other site can read.

Rules: at most 30 minutes without a request and 4 hours in all (dmst.md 1.3, project v2 of the CSP frameworks). The
cookie is a random number of which Redis holds the hash, so who reads Redis has no session. Whoever changes something
by a cookie repeats the session's own token in a header, which other sites cannot know.
"""

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from fhir_server.caller import UNTOLD, Caller
from fhir_server.outcomes import Forbidden, Unauthenticated
from fhir_server.rest.standings import NOTHING_CLAIMED, Claims
from fhir_server.store.transient import Transient

COOKIE: Final = "__Host-dmst-session"
CSRF_HEADER: Final = b"x-csrf-token"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Session:
    """`csrf` is what forms repeat, `ends` when it ends in any case, `id_token` what the provider wants at logout."""

    caller: Caller
    csrf: str
    ends: float
    id_token: str
    claims: Claims = NOTHING_CLAIMED

    def must_repeat(self, csrf: str | None) -> None:
        """Raises Forbidden where a request that changes something does not repeat the token of its session."""
        if not csrf or not secrets.compare_digest(csrf.encode(), self.csrf.encode()):
            raise Forbidden("A session changes something only with its own X-CSRF-Token")


@dataclass(frozen=True, slots=True)
class Sessions:
    transient: Transient
    idle_seconds: int
    longest_seconds: float

    async def begin(
        self,
        caller: Caller,
        *,
        since: float,
        id_token: str,
        claims: Claims = NOTHING_CLAIMED,
        known_as: Sequence[str] = (),
    ) -> tuple[str, Session]:
        """The value of its cookie, and a session. `since`: when the person proved who he is; `known_as`: the names
        under which the provider may end it.

        Raises Unauthenticated where that is too long ago, Unavailable.
        """
        session = Session(caller, secrets.token_urlsafe(32), since + self.longest_seconds, id_token, claims)
        if session.ends <= time.time():
            raise Unauthenticated("You proved who you are too long ago: log in again")
        value = secrets.token_urlsafe(32)
        await self.transient.keep(_name(value), _written(session), self._idle(session))
        for name in known_as:
            await self.transient.gather(name, _name(value), int(session.ends - time.time()) + 1)
        return value, session

    async def end_all(self, known_as: str) -> list[Caller]:
        """End the sessions that are known under a name; whose they were. Interrupted, it can be done again.

        Raises Unavailable.
        """
        kept = [await self.transient.take(name) for name in await self.transient.gathered(known_as)]
        return [_read(one).caller for one in kept if one]

    async def find(self, value: str) -> Session | None:
        """The session of a cookie, which is idle no more. Raises Unavailable."""
        kept = await self.transient.kept(_name(value), prolong=self.idle_seconds)
        session = _read(kept) if kept else None
        return session if session and session.ends > time.time() else None

    async def end(self, value: str) -> None:
        """Raises Unavailable."""
        await self.transient.take(_name(value))

    async def of_request(self, scope: Mapping[str, Any]) -> Session:
        """Whose session this request of HTTP (as ASGI scope) is in.

        Raises Unauthenticated without one, Forbidden where it would change something without the session's token.
        """
        value = cookie(scope, COOKIE)
        session = await self.find(value) if value else None
        if session is None:
            raise Unauthenticated("You are not logged in, or your session has ended")
        if scope["method"] not in SAFE:
            session.must_repeat(_header(scope, CSRF_HEADER))
        return session

    def _idle(self, session: Session) -> int:
        return min(self.idle_seconds, int(session.ends - time.time()) + 1)


def cookie(scope: Mapping[str, Any], name: str) -> str | None:
    """The value of a cookie of a request; None where it has none, or several."""
    found: list[str] = []
    for header, value in scope.get("headers", ()):
        if header == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, text = part.strip().partition("=")
                if key == name:
                    found.append(text)
    return found[0] if len(found) == 1 and len(found[0]) <= 4096 else None


def has_session(scope: Mapping[str, Any]) -> bool:
    """Whether a request says that it is in a session."""
    return cookie(scope, COOKIE) is not None


def set_cookie(name: str, value: str, seconds: int | None = None) -> str:
    """The Set-Cookie header: for this host alone, over TLS alone, not for scripts. 0 seconds forget it."""
    age = "" if seconds is None else f"; Max-Age={seconds}"
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}"


def _header(scope: Mapping[str, Any], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope.get("headers", ()) if key == name), None)


def _name(value: str) -> str:
    return f"session:{hashlib.sha256(value.encode()).hexdigest()}"


def _written(session: Session) -> bytes:
    return orjson.dumps({**asdict(session), "claims": list(session.claims)})


def _read(kept: bytes) -> Session:
    told = orjson.loads(kept)
    caller: dict[str, Any] = {**told["caller"], "scopes": tuple(told["caller"]["scopes"]), "standing": UNTOLD}
    worker, centres = told["claims"]
    claims = Claims(tuple(worker) if worker else None, tuple(centres))
    return Session(Caller(**caller), told["csrf"], told["ends"], told["id_token"], claims)
