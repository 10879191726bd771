"""What R4 says of each type: its elements, their types and cardinality, and the codes of required bindings.

https://hl7.org/fhir/R4/structuredefinition.html - read from `tables/`, which `generate.py` writes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

TABLES: Final = Path(__file__).parent / "tables"
R4: Final = "4.0.1"
R4_SYSTEMS: Final = "http://hl7.org/fhir/"
VALUE_SETS: Final = "http://hl7.org/fhir/ValueSet/"

PRIMITIVES: Final = frozenset({
    "base64Binary", "boolean", "canonical", "code", "date", "dateTime", "decimal", "id", "instant", "integer",
    "markdown", "oid", "positiveInt", "string", "time", "unsignedInt", "uri", "url", "uuid", "xhtml",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ElementType:
    """One type that an element may have: `name` is a key of `elements_of`, or one of `PRIMITIVES`."""

    name: str
    targets: frozenset[str] = frozenset()
    """Of a Reference: the resource types that it may point to; empty when any may be."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type, for example `content` of DocumentReference."""

    name: str
    """As in the definition, so `value[x]` for a choice."""
    types: tuple[ElementType, ...]
    required: bool
    repeats: bool
    value_set: str | None
    """Of a code with a required binding: its value set, a key of `codes_of`."""
    in_summary: bool

    def json_names(self) -> Mapping[str, ElementType]:
        """The property names that it has in JSON, and the type that each implies: `valueString` -> string."""
        if not self.name.endswith("[x]"):
            return {self.name: self.types[0]}
        stem = self.name.removesuffix("[x]")
        return {stem + one.name[0].upper() + one.name[1:]: one for one in self.types}


@dataclass(frozen=True, slots=True)
class ValueSet:
    """The codes that a required binding allows; `system` is None when they are of several systems."""

    system: str | None
    codes: frozenset[str]


@cache
def elements_of(path: str) -> Mapping[str, Element]:
    """The elements of a type (`Patient`, `Period`) or backbone (`Patient.contact`), inherited ones first.

    They come in the order of the definition, which is the order of XML. Raises KeyError for what is not R4.
    """
    row = _table("elements.json")[path]
    inherited = elements_of(row["base"]) if row["base"] else {}
    return {**inherited, **{name: _element(path, name, line) for name, line in row["elements"].items()}}


def paths() -> Iterable[str]:
    """Every type and backbone that `elements_of` knows."""
    return _table("elements.json")


@cache
def base_of(path: str) -> str | None:
    """The type that a type or backbone specialises: `Quantity` of Age, `BackboneElement` of `Patient.contact`."""
    row = _table("elements.json").get(path)
    return (row["base"] or None) if row else None


@cache
def codes_of(value_set: str) -> ValueSet:
    """The codes of a value set named by `Element.value_set`; KeyError for the two that are not lists."""
    systems = _table("codes.json")[value_set]["systems"]
    codes = frozenset(code for of_system in systems.values() for code in of_system)
    return ValueSet(next(iter(systems)) if len(systems) == 1 else None, codes)


@cache
def value_set_of(url: str) -> Mapping[str, Any] | None:
    """The ValueSet resource of a required binding by its URL, with its codes listed; None for every other URL."""
    name = url.rpartition("/")[2]
    row = _table("codes.json").get(name)
    if row is None or url != row.get("url", VALUE_SETS + name):
        return None
    include = [_listed(system, codes) for system, codes in row["systems"].items()]
    return {
        "resourceType": "ValueSet",
        "language": "en",
        "url": url,
        "version": R4,
        "name": name,
        "status": "active",
        "compose": {"include": include},
    }


def is_of_several_systems(url: str) -> bool:
    """Whether a value set of a required binding has codes of several systems: its elements are indexed without one."""
    value_set = value_set_of(url)
    return value_set is not None and len(value_set["compose"]["include"]) > 1


@cache
def _table(name: str) -> Any:
    return orjson.loads((TABLES / name).read_bytes())


def _listed(system: str, codes: Mapping[str, str | None]) -> dict[str, Any]:
    """An include of a ValueSet; systems that are not R4's own have versions of their own."""
    version = {"version": R4} if system.startswith(R4_SYSTEMS) else {}
    return {
        "system": system,
        **version,
        "concept": [{"code": code, "display": display or code} for code, display in codes.items()],
    }


def _element(path: str, name: str, line: str) -> Element:
    """Read a line of the table, `min..max types [= value set] [Σ]`."""
    definition, _, value_set = line.removesuffix(" Σ").partition(" = ")
    cardinality, _, types = definition.partition(" ")
    least, _, most = cardinality.partition("..")
    return Element(
        name,
        tuple(_element_type(f"{path}.{name}", one) for one in types.split("|")),
        required=least != "0",
        repeats=most != "1",
        value_set=value_set or None,
        in_summary=line.endswith(" Σ"),
    )


def _element_type(path: str, text: str) -> ElementType:
    if text.startswith("@"):
        return ElementType(text[1:])
    if text in {"BackboneElement", "Element"}:
        return ElementType(path)
    name, _, targets = text.removesuffix(")").partition("(")
    return ElementType(name, frozenset(targets.split(",")) if targets else frozenset())
