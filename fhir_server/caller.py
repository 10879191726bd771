"""Who asks: a client with its role, its purpose and the scopes of its token.

Scopes are SMART on FHIR v2 system scopes, `system/<Type or *>.<c r u d s>`:
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from fhir_server import roles
from fhir_server.outcomes import Forbidden
from fhir_server.scopes import Permission, bounds_of, constraints_of, grantable
from fhir_server.sight import EVERYTHING, Bound, Sight, own_hash

ROLES = {code: role.label for code, role in roles.of_the_law().items()}
"""Roles of persons and of machines, and what they are called."""
_ITSELF = "self:"
MACHINE_ROLES = frozenset({"external-system", "device-gateway", "operator"})
"""Those that a client with a secret or a key may have: persons log in."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a person stands in the service at this moment (docs/access.md).

    `centres` are his (`Organization/id`), `kept_to_them` says whether the service keeps him to them. `declared` are the
    workers (ids of Patients) for whom he declared a reason that is in force, with its kind (`break-glass`,
    `reason-given`), `lifted` their own hashes.
    """

    centres: tuple[str, ...] = ()
    kept_to_them: bool = False
    declared: tuple[tuple[str, str], ...] = ()
    lifted: tuple[int, ...] = ()


UNTOLD: Final = Standing()
"""Of whom nothing is recorded."""


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
    worker: str | None = None
    """Of a worker who looks at his own record: the id of his Patient."""
    delegated: bool = False
    """Whether a delegation of R4624-45-5 to this caller is in force."""
    professional: str | None = None
    """The person behind the client, as the trail names him (RPPS, or a user name); None where nobody is known."""
    structure: str | None = None
    """Where he works, as the issuer of his token says it."""
    standing: Standing = UNTOLD

    @property
    def person(self) -> str:
        """By what the service knows him: links, centres, delegations and declared reasons are recorded under it."""
        return self.professional or self.client_id

    def sight(self, *permissions: Permission) -> Sight:
        """What of the store the role lets him see, and of that what his scopes allow all these permissions on.

        Types on which they allow a permission not at all have to be refused besides (`may`).
        """
        if self.client_id.startswith(_ITSELF):
            return EVERYTHING
        only = own_hash(f"Patient/{self.worker}") if self.worker else None
        stands = self.standing
        sight = roles.sight_of(
            self.role,
            self.purpose,
            only,
            delegated=self.delegated,
            team=stands.centres if stands.kept_to_them else None,
            lifted=stands.lifted,
        )
        bounds = bounds_of(self.scopes, permissions)
        return replace(sight, bounds=bounds) if bounds else sight

    @property
    def closed(self) -> int:
        """The bits of what the role may not write (`mappings.access_facts`)."""
        return 0 if self.client_id.startswith(_ITSELF) else roles.closed_to(self.role, delegated=self.delegated)

    @property
    def recalls(self) -> bool:
        """Whether the role may make what is non-transmissible transmissible again."""
        return self.client_id.startswith(_ITSELF) or roles.may_recall(self.role)

    @property
    def review(self) -> roles.Review:
        """How much of the folders that wait for their worker he sees and decides on."""
        return "whole" if self.client_id.startswith(_ITSELF) else roles.may_review(self.role, delegated=self.delegated)

    def may(self, permission: Permission, resource_type: str) -> bool:
        """Does a scope allow it, at least of some? Of which, `sight` says, and for writes `bound`.

        The trail tells of everybody's record: there the role must allow it too, and a scope without a search, since
        its rows are no resources that could be asked.
        """
        constraints = constraints_of(self.scopes, permission, resource_type)
        if resource_type == "AuditEvent":
            return constraints is None and roles.may_read_trail(self.role)
        return constraints != ()

    def must(self, permission: Permission, resource_type: str) -> None:
        """Raises Forbidden unless a scope allows `permission` on `resource_type`."""
        if not self.may(permission, resource_type):
            raise Forbidden(f"No scope of this client allows '{permission}' on {resource_type}")

    def may_wholly(self, permission: Permission, resource_type: str) -> bool:
        """Does a scope allow it of every resource of the type? Asked where nothing looks at each."""
        return self.may(permission, resource_type) and self.constraints(permission, resource_type) is None

    def must_wholly(self, permission: Permission, resource_type: str) -> None:
        """Raises Forbidden unless a scope allows `permission` on every resource of the type."""
        if not self.may_wholly(permission, resource_type):
            raise Forbidden(f"No scope of this client allows '{permission}' on every {resource_type}")

    def constraints(self, permission: Permission, resource_type: str) -> tuple[str, ...] | None:
        """The searches (`category=...`) of which a resource must match one; None for any resource, () for none."""
        return constraints_of(self.scopes, permission, resource_type)

    def bound(self, permission: Permission, resource_type: str) -> Bound:
        """What a resource of the type must meet for the permission, which a scope gives; () for any resource."""
        return bounds_of(self.scopes, (permission,)).get(resource_type, ())

    def must_search(self, resource_types: Iterable[str]) -> None:
        """Raises Forbidden unless a scope allows searching on each: a chain asks of the type that it leads to."""
        for resource_type in sorted(resource_types):
            self.must("s", resource_type)


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes, sorted and once each. Raises ValueError on one that this server does not grant."""
    return tuple(sorted({grantable(scope) for scope in scopes}))


def service(name: str) -> Caller:
    """This service itself: intake, dispatch, an operator at the command line."""
    return Caller(f"{_ITSELF}{name}", name, "operator", ("system/*.cruds",), "TREAT")
