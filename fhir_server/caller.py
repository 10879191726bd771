"""Who asks: a client with its role, its purpose and the scopes of its token.

Scopes are SMART on FHIR v2 system scopes, `system/<Type or *>.<c r u d s>`:
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from fhir_server.outcomes import Forbidden
from fhir_server.scopes import Permission, constraints_of, grantable

_SCOPE = re.compile(r"system/(\*|[A-Za-z]+)\.(c?r?u?d?s?)")

ROLES = {
    # role of a machine: what it is for
    "external-system": "External system that queries FHIR",
    "device-gateway": "Gateway of connected medical devices",
    "operator": "Operator of this service",
    # role of a person, in the words of art. R4624-45-4 and -5 C. trav.
    "medecin-travail": "Médecin du travail",
    "medecin-collaborateur": "Collaborateur médecin",
    "interne": "Interne en médecine du travail",
    "infirmier": "Infirmier de santé au travail",
    "medecin-praticien-correspondant": "Médecin praticien correspondant",
    "iprp": "Intervenant en prévention des risques professionnels",
    "assistant": "Assistant de service de prévention et de santé au travail",
    "medecin-inspecteur": "Médecin inspecteur du travail",
    "travailleur": "Travailleur",
    "direction": "Direction et administration du service",
    "dpo": "Délégué à la protection des données",
    "technique": "Personnel technique",
}
MACHINE_ROLES = frozenset({"external-system", "device-gateway", "operator"})


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated client, a person, or this service itself at work (`client_id` then starts with `self:`).

    `client_id` tells apart whoever must not share pages, jobs and uploads. `professional` is the national identifier of
    the person who acts (RPPS), `structure` the organisation for which; both where they are known.
    """

    client_id: str
    name: str
    role: str
    scopes: tuple[str, ...]
    purpose: str | None = None
    professional: str | None = None
    structure: str | None = None

    def may(self, permission: Permission, resource_type: str) -> bool:
        """Does a scope allow it?"""
        return permission in _allowed(self.scopes, resource_type)

    def must(self, permission: Permission, resource_type: str) -> None:
        """Raises Forbidden unless a scope allows `permission` on `resource_type`."""
        if not self.may(permission, resource_type):
            raise Forbidden(f"No scope of this client allows '{permission}' on {resource_type}")

    def constraints(self, permission: Permission, resource_type: str) -> tuple[str, ...] | None:
        """The searches (`category=...`) of which a resource must match one; None for any resource, () for none.

        No scope with a constraint is granted yet (`check_scopes`), so this is None exactly where `may` is true.
        """
        return constraints_of(self.scopes, permission, resource_type)

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
    """The scopes, sorted and once each. Raises ValueError on one that this server does not grant."""
    return tuple(sorted({grantable(scope) for scope in scopes}))


def service(name: str) -> Caller:
    """This service itself: intake, dispatch, an operator at the command line."""
    return Caller(f"self:{name}", name, "operator", ("system/*.cruds",), "TREAT")
