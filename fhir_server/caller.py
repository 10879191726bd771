"""Who asks: a client with its role, its purpose and the scopes of its token.

Scopes are SMART on FHIR v2 system scopes, `system/<Type or *>.<c r u d s>`:
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from fhir_server import roles
from fhir_server.outcomes import Forbidden
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.sight import EVERYTHING, Sight, own_hash

Permission = Literal["c", "r", "u", "d", "s"]
_SCOPE = re.compile(r"system/(\*|[A-Za-z]+)\.(c?r?u?d?s?)")

ROLES = {code: role.label for code, role in roles.of_the_law().items()}
"""Roles of persons and of machines, and what they are called."""
_ITSELF = "self:"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated client, or this service itself at work (`client_id` then starts with `self:`)."""

    client_id: str
    name: str
    role: str
    scopes: tuple[str, ...]
    purpose: str | None = None
    worker: str | None = None
    """Of a worker who looks at his own record: the id of his Patient."""
    delegated: bool = False
    """Whether a delegation of R4624-45-5 to this caller is in force."""
    professional: str | None = None
    """The person behind the client, as the trail names him (RPPS, or a user name); None where nobody is known."""

    @property
    def sight(self) -> Sight:
        """What of the store the role lets him see, whatever the scopes."""
        if self.client_id.startswith(_ITSELF):
            return EVERYTHING
        only = own_hash(f"Patient/{self.worker}") if self.worker else None
        return roles.sight_of(self.role, self.purpose, only, delegated=self.delegated)

    @property
    def closed(self) -> int:
        """The bits of what the role may not write (`mappings.access_facts`)."""
        return 0 if self.client_id.startswith(_ITSELF) else roles.closed_to(self.role, delegated=self.delegated)

    @property
    def recalls(self) -> bool:
        """Whether the role may make what is non-transmissible transmissible again."""
        return self.client_id.startswith(_ITSELF) or roles.may_recall(self.role)

    def may(self, permission: Permission, resource_type: str) -> bool:
        """Does a scope allow it?"""
        return permission in _allowed(self.scopes, resource_type)

    def must(self, permission: Permission, resource_type: str) -> None:
        """Raises Forbidden unless a scope allows `permission` on `resource_type`."""
        if not self.may(permission, resource_type):
            raise Forbidden(f"No scope of this client allows '{permission}' on {resource_type}")

    def must_search(self, resource_types: Iterable[str]) -> None:
        """Raises Forbidden unless a scope allows searching on each: a chain asks of the type that it leads to."""
        for resource_type in sorted(resource_types):
            self.must("s", resource_type)


@lru_cache(maxsize=4096)
def _allowed(scopes: tuple[str, ...], resource_type: str) -> frozenset[str]:
    letters: set[str] = set()
    for scope in scopes:
        if match := _SCOPE.fullmatch(scope):
            on, what = match.groups()
            if on in ("*", resource_type):
                letters.update(what)
    return frozenset(letters)


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes, sorted and once each. Raises ValueError on one that this server does not understand."""
    checked = sorted(set(scopes))
    for scope in checked:
        match = _SCOPE.fullmatch(scope)
        if not match or not match[2] or (match[1] != "*" and match[1] not in TYPE_NUMBER):
            raise ValueError(f"not a scope of this server: {scope}")
    return tuple(checked)


def service(name: str) -> Caller:
    """This service itself: intake, dispatch, an operator at the command line."""
    return Caller(f"{_ITSELF}{name}", name, "operator", ("system/*.cruds",), "TREAT")
