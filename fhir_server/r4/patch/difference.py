"""What changed between two versions of a resource, as a FHIRPath Patch that makes the second of the first.

https://hl7.org/fhir/R4/fhirpatch.html - the inverse of `fhirpath_patch`, and proved by it. No operation leaves an
element empty on the way: what is added comes before what is deleted beside it.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import Any, Final

from fhir_server.outcomes import BadSyntax
from fhir_server.r4.definitions import Element, elements_of
from fhir_server.r4.fhirpath.nodes import Json, Misshapen, Node, all_children, children, definitions_in, root
from fhir_server.r4.patch import json_text

OURS: Final = ("versionId", "lastUpdated")
"""The members of meta that each version has of its own: they are no change."""
MOST_COMPARED: Final = 1_000_000
"""Pairs of entries of two lists that are compared to find what was moved; beyond it entries are compared by place."""

Part = Json


def difference(old: bytes, new: bytes) -> bytes:
    """The Parameters that patch `old` into `new`, both JSON documents of one resource; without operations where nothing
    changed. Numbers keep their text. Raises BadSyntax for what is no resource of R4, or two of two types."""
    before, after = json_text.read(old, "the first version"), json_text.read(new, "the second version")
    if before.get("resourceType") != after.get("resourceType"):
        raise BadSyntax("the versions are of two resource types")
    after["meta"] = {name: one for name, one in after.get("meta", {}).items() if name not in OURS}
    after["meta"] |= {name: one for name, one in before.get("meta", {}).items() if name in OURS}
    if not after["meta"]:
        del after["meta"]
    try:
        operations = _object(before["resourceType"], root(before), root(after))
    except Misshapen as misshapen:
        raise BadSyntax(f"a version is not R4: {misshapen}") from None
    parameters = {"parameter": [{"name": "operation", "part": one} for one in operations]} if operations else {}
    return json_text.write({"resourceType": "Parameters", **parameters})


def _object(path: str, old: Node, new: Node) -> list[list[Part]]:
    """The operations on the children of an element."""
    changes: list[list[Part]] = []
    deletions: list[list[Part]] = []
    for name, element in definitions_in(old).items():
        before, after = children(old, element), children(new, element)
        place = f"{path}.{name}"
        if not after:
            deletions += _deleted(place, len(before), element)
        elif element.repeats:
            changes += _list(place, before, after)
        elif not before:
            changes.append(_operation("add", path, {"name": "name", "valueString": name}, _part("value", after[0])))
        else:
            changes += _changed(place, before[0], after[0])
    return [*changes, *deletions]


def _changed(place: str, old: Node, new: Node) -> list[list[Part]]:
    if _same(old, new):
        return []
    if old.type == new.type and not old.is_primitive:
        return _object(place, old, new)
    return [_operation("replace", place, _part("value", new))]


def _list(place: str, old: Sequence[Node], new: Sequence[Node]) -> list[list[Part]]:
    """The operations on a list that stays: from its end to its start, so that places before stand where they stood."""
    operations: list[list[Part]] = []
    for start, end, new_start, new_end in reversed(_unlike(old, new)):
        paired = min(end - start, new_end - new_start)
        for n in range(new_end - new_start - 1, paired - 1, -1):
            index = {"name": "index", "valueInteger": start + paired}
            operations.append(_operation("insert", place, index, _part("value", new[new_start + n])))
        for n in range(end - 1, start + paired - 1, -1):
            operations.append(_operation("delete", f"{place}[{n}]"))
        for n in range(paired - 1, -1, -1):
            operations += _changed(f"{place}[{start + n}]", old[start + n], new[new_start + n])
    return operations


def _unlike(old: Sequence[Node], new: Sequence[Node]) -> list[tuple[int, int, int, int]]:
    """The runs of two lists that are not the same: from and to in the one, from and to in the other."""
    left, right = [_key(node) for node in old], [_key(node) for node in new]
    start = next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    left, right = left[start:], right[start:]
    if len(left) * len(right) > MOST_COMPARED:
        return [(start, start + len(left), start, start + len(right))]
    codes = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    return [(start + a, start + b, start + c, start + d) for tag, a, b, c, d in codes if tag != "equal"]


def _deleted(place: str, number: int, element: Element) -> list[list[Part]]:
    if not element.repeats:
        return [_operation("delete", place)] * number
    return [_operation("delete", f"{place}[{n}]") for n in range(number - 1, -1, -1)]


def _same(old: Node, new: Node) -> bool:
    return old.type == new.type and _key(old) == _key(new)


def _key(node: Node) -> bytes:
    """Equal for what is written alike, but for the order of members."""
    return json_text.write(_sorted([node.type, node.value, node.companion]))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def _operation(kind: str, path: str, *parts: Part) -> list[Part]:
    return [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}, *parts]


def _part(name: str, node: Node) -> Part:
    """An element as a parameter: as a value where Parameters have its type, as a resource, or as parts."""
    part: Part = {"name": name}
    if node.is_primitive:
        form = "value" + ("String" if node.type == "xhtml" else node.type[0].upper() + node.type[1:])
        part |= {form: node.value} if node.value is not None else {}
        return part | ({"_" + form: node.companion} if node.companion is not None else {})
    if node.is_resource:
        return part | {"resource": node.value}
    if "value" + node.type in _forms():
        return part | {"value" + node.type: node.value}
    inside = (child for child in all_children(node) if child.element is not None)
    return part | {"part": [_part(child.element.name.removesuffix("[x]"), child) for child in inside if child.element]}


@cache
def _forms() -> frozenset[str]:
    """The properties that a parameter may have its value in."""
    return frozenset(elements_of("Parameters.parameter")["value[x]"].json_names())
