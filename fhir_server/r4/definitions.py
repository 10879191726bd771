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
    row = _table("codes.json")[value_set]
    return ValueSet(row["system"], frozenset(row["codes"]))


@cache
def _table(name: str) -> Any:
    return orjson.loads((TABLES / name).read_bytes())


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
