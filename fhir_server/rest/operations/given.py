"""The arguments of a call as the definition of its operation types them; every operation has a table of its own.

https://hl7.org/fhir/R4/operations.html - GET carries what is written as text, POST anything.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4.dates import period_of
from fhir_server.rest.http import Exchange
from fhir_server.rest.operations.operation import Arguments, arguments, only
from fhir_server.rest.service import Service

_LANGUAGE: Final = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an operation: its type in R4, and whether it may come several times.

    `refused` says that R4 has it and this server does not.
    """

    type: str
    several: bool = False
    refused: bool = False


Parameters = Mapping[str, Parameter]


class Given:
    """The arguments of one call, read by a table."""

    def __init__(self, table: Parameters, found: Arguments) -> None:
        self._values: dict[str, list[Any]] = {}
        for name, values in found.items():
            parameter = table[name]
            if parameter.refused:
                raise not_supported(f"This server does not know {name}", name)
            if not parameter.several:
                only(found, name)
            self._values[name] = [_read(parameter.type, name, value) for value in values]

    def get(self, name: str) -> Any:
        """The value of a parameter that comes once, None where it is not given."""
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[Any]:
        return self._values.get(name, [])

    def must(self, name: str) -> Any:
        """The same of one that is needed. Raises BadParameter."""
        if name not in self._values:
            raise required(f"{name} is needed", name)
        return self.get(name)

    def one_of(self, *names: str) -> str:
        """Which one of these is given. Raises BadParameter where none is, or several are."""
        found = [name for name in names if name in self._values]
        if not found:
            raise required(f"One of {', '.join(names)} is needed", names[0])
        if len(found) > 1:
            raise BadParameter(f"Only one of {', '.join(names)} may be given", expression=found[1])
        return found[0]

    def none_of(self, names: Iterable[str], why: str) -> None:
        """Raises BadParameter where one of these is given."""
        for name in names:
            if name in self._values:
                raise BadParameter(f"{name} {why}", expression=name)

    def items(self) -> Iterable[tuple[str, Any]]:
        """Name and value of each, in the order of the call."""
        return ((name, value) for name, values in self._values.items() for value in values)


async def given(
    exchange: Exchange, service: Service, table: Parameters, *, bare: tuple[str, str] | None = None
) -> Given:
    """The arguments of a call; `bare` as in `arguments`. Raises BadSyntax, InvalidResource, BadParameter."""
    return Given(table, await arguments(exchange, service, *table, bare=bare))


def required(text: str, name: str) -> BadParameter:
    return BadParameter(issues=[Issue("error", "required", text, name)])


def not_supported(text: str, name: str) -> BadParameter:
    return BadParameter(issues=[Issue("error", "not-supported", text, name)])


def _read(kind: str, name: str, value: Any) -> Any:
    """Raises BadParameter where the value is not of the type."""
    read = _READERS.get(kind, _resource(kind))
    found = read(value)
    if found is None:
        raise BadParameter(_FORMS.get(kind, "{name} is sent by POST, as a " + kind).format(name=name), expression=name)
    if kind == "dateTime" and not _is_now(value):
        raise not_supported("This server answers by what it keeps now, not by what it kept at another time", name)
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _language(value: Any) -> str | None:
    return value if isinstance(value, str) and _LANGUAGE.fullmatch(value) else None


def _flag(value: Any) -> bool | None:
    return {"true": True, "false": False, True: True, False: False}.get(value) if type(value) in (str, bool) else None


def _count(value: Any) -> int | None:
    text = str(value)
    return int(text) if type(value) in (str, int) and text.isdecimal() and len(text) < 10 else None


def _moment(value: Any) -> str | None:
    try:
        return value if isinstance(value, str) and period_of(value) else None
    except ValueError:
        return None


def _is_now(value: str) -> bool:
    low, high = period_of(value)
    return low <= time.time_ns() // 1000 < high


def _of(parts: Mapping[str, type]) -> Callable[[Any], Any]:
    """A data type, known by its parts: in JSON the value does not say its own type, and others have a `code` too."""

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return None
        fits = (isinstance(one, parts.get(name, ())) for name, one in value.items() if name not in _OF_ANY)
        return value if all(fits) else None

    return read


def _parts(value: Any) -> Any:
    return value if isinstance(value, list) else None


def _resource(resource_type: str) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, Mapping) and value.get("resourceType") == resource_type else None


_CODING: Final[Mapping[str, type]] = {
    **dict.fromkeys(("system", "version", "code", "display"), str),
    "userSelected": bool,
}
_CONCEPT: Final[Mapping[str, type]] = {"coding": list, "text": str}
_OF_ANY: Final = frozenset({"id", "extension", *(f"_{name}" for name in (*_CODING, *_CONCEPT))})
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "string": _text,
    "uri": _text,
    "code": _text,
    "canonical": _text,
    "language": _language,
    "boolean": _flag,
    "integer": _count,
    "dateTime": _moment,
    "Coding": _of(_CODING),
    "CodeableConcept": _of(_CONCEPT),
    "part": _parts,
}
_FORMS: Final = {
    **dict.fromkeys(["string", "uri", "code", "canonical"], "{name} is a text"),
    "language": "{name} is the code of a language, as fr or fr-CA",
    "boolean": "{name} is true or false",
    "integer": "{name} is a whole number, 0 or more",
    "dateTime": "{name} is a date or a moment",
    "part": "{name} is sent by POST, with its parts",
}
