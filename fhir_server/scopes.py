"""Scopes of SMART on FHIR v2: read, written in one way, compared by what they allow.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html - `system/Observation.rs?category=x` is
`<context>/<type or *>.<c r u d s>?<search>`. A search is granted where all of it can be enforced (`r4.granular`).
Scopes of context `user` and `patient` are understood here and granted to no client, since nothing would hold its bearer
to them; a token of an outside issuer may say `user` of a person.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, get_args
from urllib.parse import parse_qsl, urlencode

from fhir_server.outcomes import Failure
from fhir_server.r4 import granular
from fhir_server.r4.resource_types import RESOURCE_TYPES, TYPE_NUMBER
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.sight import NO_BOUNDS, Bound, Bounds

Permission = Literal["c", "r", "u", "d", "s"]
Context = Literal["system", "user", "patient"]

LETTERS: tuple[Permission, ...] = get_args(Permission)
_SCOPE = re.compile(
    r"(?P<context>system|user|patient)/(?P<type>\*|[A-Za-z]+)\.(?P<letters>c?r?u?d?s?)(\?(?P<search>.+))?"
)
MOST_CRITERIA = 20


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope. `search` is "" where any resource of the type is meant."""

    context: Context
    type: str
    letters: str
    search: str = ""

    def __str__(self) -> str:
        return f"{self.context}/{self.type}.{self.letters}{'?' if self.search else ''}{self.search}"

    def is_about(self, resource_type: str) -> bool:
        return self.type in ("*", resource_type)


@lru_cache(maxsize=4096)
def parse(text: str) -> Scope:
    """A scope as it is written in a request. Raises ValueError on what is no scope of SMART v2 on R4."""
    found = _SCOPE.fullmatch(text)
    if not found or not found["letters"] or (found["type"] != "*" and found["type"] not in TYPE_NUMBER):
        raise ValueError(f"not a scope of this server: {text}")
    context: Context = found["context"]  # pyright: ignore[reportAssignmentType]
    return Scope(context, found["type"], found["letters"], _search(text, found["type"], found["search"]))


def _search(text: str, resource_type: str, search: str | None) -> str:
    """The criteria in one order and one encoding, so that two ways to write a scope are one scope."""
    if search is None:
        return ""
    try:
        pairs = parse_qsl(
            search, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MOST_CRITERIA
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"not a scope of this server: {text}") from error
    for name, value in pairs:
        if not value or not _is_criterion(resource_type, name.partition(":")[0]):
            raise ValueError(f"not a scope of this server: {text}")
    return _written(pairs)


def _is_criterion(resource_type: str, code: str) -> bool:
    """A parameter that says something of the resource itself; of all types, one that all of them have."""
    if resource_type == "*":
        return code in ("_tag", "_security", "_profile")
    return code in parameters_of(resource_type) and code not in ("_id", "_lastUpdated", "_text", "_content")


def grantable(text: str) -> str:
    """The scope in its one form. Raises ValueError where this server does not grant it."""
    scope = parse(text)
    if scope.context != "system":
        raise ValueError(f"not a scope of this server: {text} (only system scopes are granted)")
    if scope.search:
        if scope.type == "AuditEvent":
            raise ValueError(f"not a scope of this server: {text} (the trail is read whole or not at all)")
        try:
            for resource_type in RESOURCE_TYPES if scope.type == "*" else (scope.type,):
                granular.criteria_of(resource_type, scope.search)
        except Failure as fault:
            raise ValueError(f"not a scope of this server: {text} ({fault.diagnostics})") from None
    return str(scope)


def constraints_of(scopes: Sequence[str], permission: Permission, resource_type: str) -> tuple[str, ...] | None:
    """The searches of which a resource must match one; None where any resource is meant, () where none is.

    A scope that is no scope allows nothing.
    """
    return _constraints(tuple(scopes), permission, resource_type)


@lru_cache(maxsize=4096)
def _constraints(scopes: tuple[str, ...], permission: Permission, resource_type: str) -> tuple[str, ...] | None:
    searches: set[str] = set()
    for scope in _known(scopes):
        if scope.context == "system" and scope.is_about(resource_type) and permission in scope.letters:
            searches.add(scope.search)
    return None if "" in searches else tuple(sorted(searches))


def bounds_of(scopes: Sequence[str], permissions: Iterable[Permission]) -> Bounds:
    """The types of which the scopes allow these permissions only on what meets their searches, and which searches.

    A permission that they do not give on a type at all is no bound of it: whoever asks has to refuse that before.
    """
    return _bounds(tuple(scopes), "".join(permissions)) if any("?" in scope for scope in scopes) else NO_BOUNDS


@lru_cache(maxsize=1024)
def _bounds(scopes: tuple[str, ...], permissions: str) -> Bounds:
    found: dict[str, Bound] = {}
    for resource_type in RESOURCE_TYPES:
        clauses = {_constraints(scopes, letter, resource_type) for letter in LETTERS if letter in permissions}
        if bound := tuple(sorted(clause for clause in clauses if clause)):
            found[resource_type] = bound
    return MappingProxyType(found)


def covers(allowed: Iterable[str], asked: Iterable[str]) -> bool:
    """Whether everything that is `asked` is in what is `allowed`; both are scopes that this server grants.

    A search is in another where it says all of it, and perhaps more.
    """
    has = [scope for scope in _known(allowed) if scope.context == "system"]
    for scope in map(parse, asked):
        wider = [one for one in has if one.type in ("*", scope.type) and _pairs(one) <= _pairs(scope)]
        letters = {letter for one in wider for letter in one.letters}
        if scope.context != "system" or not letters.issuperset(scope.letters):
            return False
    return True


def common(asked: Iterable[str], allowed: Iterable[str], *, of_user: bool = False) -> tuple[str, ...]:
    """What is both in `asked` and in `allowed`. What this server does not grant is left out, never widened.

    What both constrain meets the searches of both. `of_user` says that a person acts: then `user/...` is asked for as
    `system/...` is, since what is allowed is what this person may.
    """
    letters: dict[tuple[str, str], set[str]] = {}
    granted = [scope for scope in _known(allowed) if _is_granted(scope)]
    for wanted in _known(asked):
        scope = replace(wanted, context="system") if of_user and wanted.context == "user" else wanted
        if not _is_granted(scope):
            continue
        for other in granted:
            if "*" in (scope.type, other.type) or scope.type == other.type:
                narrower = other.type if scope.type == "*" else scope.type
                search = _written(_pairs(scope) | _pairs(other))
                letters.setdefault((narrower, search), set()).update(set(scope.letters) & set(other.letters))
    return tuple(
        str(Scope("system", name, "".join(letter for letter in LETTERS if letter in which), search))
        for (name, search), which in sorted(letters.items())
        if which
    )


def _pairs(scope: Scope) -> frozenset[tuple[str, str]]:
    return frozenset(parse_qsl(scope.search, keep_blank_values=True))


def _written(pairs: Iterable[tuple[str, str]]) -> str:
    return urlencode(sorted(set(pairs)), safe=":/|,$")


def _is_granted(scope: Scope) -> bool:
    try:
        grantable(str(scope))
    except ValueError:
        return False
    return True


def _known(scopes: Iterable[str]) -> Iterable[Scope]:
    for text in scopes:
        try:
            yield parse(text)
        except ValueError:
            continue


def is_scope(text: str) -> bool:
    """Whether it is one of SMART, understood here or not: who names some, wants no more than these."""
    return text.partition("/")[0] in get_args(Context) and "/" in text
