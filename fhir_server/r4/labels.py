"""Labels put on a resource or taken off: its profiles, tags and security labels are sets.

https://hl7.org/fhir/R4/resource-operation-meta-add.html - a tag or label is known by system and code, a profile by its
url. Pure: documents in, documents out; what is not touched keeps its text.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final

from fhir_server.r4.patch import json_text

Meta = Mapping[str, Any]


def _coding(value: Any) -> Hashable:
    return (value.get("system"), value.get("code")) if isinstance(value, dict) else None


def _url(value: Any) -> Hashable:
    return value if isinstance(value, str) else None


SETS: Final[Mapping[str, Callable[[Any], Hashable]]] = {"profile": _url, "security": _coding, "tag": _coding}
"""The elements of Meta that are sets, and by what two of their members are the same."""


def with_labels(doc: bytes, added: Meta) -> bytes:
    """The document with these labels besides its own; none comes twice."""

    def put(name: str, values: list[Any], companions: list[Any]) -> None:
        there = set(map(SETS[name], values))
        for value in added.get(name) or ():
            if SETS[name](value) not in there:
                there.add(SETS[name](value))
                values.append(value)
                companions.append(None)

    return _changed(doc, put)


def without_labels(doc: bytes, removed: Meta) -> bytes:
    """The document without these labels; those that it does not have are no error."""

    def take(name: str, values: list[Any], companions: list[Any]) -> None:
        gone = set(map(SETS[name], removed.get(name) or ()))
        kept = [n for n, value in enumerate(values) if value is None or SETS[name](value) not in gone]
        values[:], companions[:] = [values[n] for n in kept], [companions[n] for n in kept]

    return _changed(doc, take)


def _changed(doc: bytes, change: Callable[[str, list[Any], list[Any]], None]) -> bytes:
    resource: dict[str, Any] = json_text.read(doc, "the document")
    meta: dict[str, Any] = resource.setdefault("meta", {})
    for name in SETS:
        values, companions = [*meta.get(name, ())], [*meta.get("_" + name, ())]
        length = max(len(values), len(companions))
        values += [None] * (length - len(values))
        companions += [None] * (length - len(companions))
        change(name, values, companions)
        _set(meta, name, values)
        _set(meta, "_" + name, companions)
    if not meta:
        del resource["meta"]
    return json_text.write(resource)


def _set(meta: dict[str, Any], name: str, entries: Sequence[Any]) -> None:
    """An array of nulls is no array: https://hl7.org/fhir/R4/json.html#primitive"""
    if any(entry is not None for entry in entries):
        meta[name] = list(entries)
    else:
        meta.pop(name, None)
