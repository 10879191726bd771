"""Which role somebody has by the claims of his provider: a file of the operator, read at start, asked in its order.

A provider proves who somebody is, not that he may open a record here (dmst.md 1.3): without a rule that fits there is
no role, and a person whose claims show no second factor has none either.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fhir_server.caller import MACHINE_ROLES, ROLES, Caller, check_scopes
from fhir_server.outcomes import BadParameter, Forbidden, Issue
from fhir_server.rest.standings import Claims
from fhir_server.scopes import common, is_scope

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._/@-]{1,128}")
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
Values = Annotated[list[str], Field(min_length=1)]


def _a_role(role: str) -> str:
    if role not in ROLES:
        raise ValueError(f"a role is one of {', '.join(ROLES)}")
    return role


def _granted(scopes: list[str]) -> list[str]:
    return list(check_scopes(scopes))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ClaimNames(_Strict):
    """The claims, the first that is there counts; a dot leads into objects and lists."""

    client: Values = ["azp", "client_id"]
    professional: Values = ["SubjectNameID"]
    structure: Values = ["SubjectOrganizationID"]
    centre: list[str] = []
    """Codes of the centres of the service whose professional he is: all that are there."""


class WorkerClaim(_Strict):
    """What says whose record a worker (role `travailleur`) sees: an identifier that his Patient bears to the letter.

    Its system is `system`, or what the claim in `system_claim` says (an OID, as an INS has it, or a URI).
    """

    value: Values
    system: str | None = None
    system_claim: Values | None = None

    @model_validator(mode="after")
    def _has_one_system(self) -> "WorkerClaim":
        if (self.system is None) == (self.system_claim is None):
            raise ValueError("a worker is known by a value with its system, or with the claim that names it")
        return self


class Rule(_Strict):
    """Who has, of each claim in `when`, one of the values, has the role with these scopes at most."""

    role: Annotated[str, AfterValidator(_a_role)]
    when: Annotated[dict[str, Values], Field(min_length=1)]
    scopes: Annotated[list[str], AfterValidator(_granted)]
    purpose: str | None = None
    without_scope: bool = False
    """Has a token without any SMART scope, as Pro Santé Connect gives them, all the scopes of the role?"""

    @property
    def is_of_a_person(self) -> bool:
        return self.role not in MACHINE_ROLES


class RoleTable(_Strict):
    claims: ClaimNames = ClaimNames()
    second_factor: dict[str, Values] = {}
    """Claims (acr, amr) and the values of which one proves that the person used two factors."""
    worker: list[WorkerClaim] = []
    role: Annotated[list[Rule], Field(min_length=1)]

    @model_validator(mode="after")
    def _asks_for_two_factors(self) -> "RoleTable":
        if any(rule.is_of_a_person for rule in self.role) and not self.second_factor:
            raise ValueError("roles of persons need second_factor: a password alone does not suffice")
        return self

    def caller(self, claims: Mapping[str, Any], *, source: str, asked: Sequence[str] | None) -> Caller:
        """Whoever has these claims, which are verified. `source` says who vouches for them, and begins the client_id.

        `asked` are the scopes of a token, None where there is no token: then the role has all that it may have. Raises
        Forbidden without a role, a second factor, or an identifier for the trail.
        """
        rule = self._rule(claims)
        professional = self._identifier(claims, self.claims.professional) if rule.is_of_a_person else None
        client = self._identifier(claims, self.claims.client) if source else None
        if rule.is_of_a_person and not self._has_two_factors(claims):
            raise Forbidden("The provider did not say that two factors were used")
        if (rule.is_of_a_person and not professional) or (not rule.is_of_a_person and not client):
            raise Forbidden("The provider did not say who is asking")
        client_id = ":".join(part for part in (source, client, professional) if part)
        structure = self._identifier(claims, self.claims.structure)
        return Caller(
            client_id,
            ROLES[rule.role],
            rule.role,
            _scopes(rule, asked),
            rule.purpose,
            professional=professional,
            structure=structure,
        )

    def claimed(self, claims: Mapping[str, Any]) -> Claims:
        """What the provider says beside the role: of the rules for workers the first whose value is there counts."""
        centres = [code for path in self.claims.centre for code in values_at(claims, path)]
        return Claims(self._worker(claims), tuple(sorted({code for code in centres if _IDENTIFIER.fullmatch(code)})))

    def _worker(self, claims: Mapping[str, Any]) -> tuple[str, str] | None:
        for one in self.worker:
            if any(values_at(claims, path) for path in one.value):
                value = self._identifier(claims, one.value)
                system = one.system or self._system(claims, one.system_claim or ())
                return (system, value) if system and value else ("", "")  # said, and of nobody
        return None

    def _system(self, claims: Mapping[str, Any], paths: Sequence[str]) -> str | None:
        """As a Patient has it: an OID is a URN there."""
        said = next((values for path in paths if (values := values_at(claims, path))), [])
        if len(said) != 1:
            return None
        return f"urn:oid:{said[0]}" if _OID.fullmatch(said[0]) else said[0]

    def _rule(self, claims: Mapping[str, Any]) -> Rule:
        for rule in self.role:
            if all(set(values_at(claims, path)).intersection(values) for path, values in rule.when.items()):
                return rule
        raise Forbidden("Nobody gave you a role in this service")

    def _has_two_factors(self, claims: Mapping[str, Any]) -> bool:
        return any(set(values_at(claims, name)).intersection(values) for name, values in self.second_factor.items())

    def _identifier(self, claims: Mapping[str, Any], paths: Sequence[str]) -> str | None:
        """The first that is there, where it is one: it goes to the trail and into links."""
        for path in paths:
            values = values_at(claims, path)
            if values:
                return values[0] if len(values) == 1 and _IDENTIFIER.fullmatch(values[0]) else None
        return None


def _scopes(rule: Rule, asked: Sequence[str] | None) -> tuple[str, ...]:
    """What the token and the role both allow; what this server does not grant is left out, never widened."""
    if asked is None or (rule.without_scope and not any(is_scope(one) for one in asked)):
        return tuple(rule.scopes)
    return common(asked, rule.scopes, of_user=rule.is_of_a_person)


def values_at(claims: Mapping[str, Any], path: str) -> list[str]:
    """The texts and numbers at a path. A claim whose own name has dots (a URL) is found by that name."""
    if path in claims:
        return list(_texts(claims[path]))
    found: list[Any] = [claims]
    for name in path.split("."):
        found = [value for one in found for value in _member(one, name)]
    return [text for one in found for text in _texts(one)]


def _member(value: Any, name: str) -> Iterator[Any]:
    if isinstance(value, Mapping) and name in value:
        yield value[name]
    elif isinstance(value, list):
        for one in value:
            yield from _member(one, name)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def load(path: Path) -> RoleTable:
    """The table of a file. Raises BadParameter that says what is wrong with it."""
    try:
        return RoleTable.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadParameter(f"The roles in {path.name} cannot be read: {type(error).__name__}") from error
    except ValidationError as error:
        faults = error.errors(include_input=False, include_context=False, include_url=False)
        raise BadParameter(
            issues=[
                Issue("error", "invalid", one["msg"], f"{path.name}: {'.'.join(map(str, one['loc']))}")
                for one in faults
            ]
        ) from None
