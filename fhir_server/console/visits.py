"""Who visits the console: the session of a person, as the login of this server keeps it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from fhir_server.caller import Caller


class Visit(Protocol):
    """A session that is alive."""

    @property
    def caller(self) -> Caller: ...

    @property
    def csrf(self) -> str:
        """What every form repeats."""
        ...

    @property
    def ends(self) -> float:
        """When it ends in any case, in seconds since 1970."""
        ...

    def must_repeat(self, csrf: str | None) -> None:
        """Raises Forbidden where a form does not repeat the token of the session."""
        ...


Visiting = Callable[[Mapping[str, Any]], Awaitable[Visit | None]]
"""The session of a request (its ASGI scope); None where there is none."""
