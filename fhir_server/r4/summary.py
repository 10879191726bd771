"""A part of a resource: `_summary` and `_elements`, over its bytes; what is kept stays byte for byte.

https://hl7.org/fhir/R4/search.html#summary, #elements - a part keeps what is mandatory and what changes the meaning
of the rest (`implicitRules`, `modifierExtension`), and is tagged SUBSETTED, so that nobody takes it for the whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import msgspec
import orjson

from fhir_server.outcomes import BadParameter, Issue
from fhir_server.r4.definitions import PRIMITIVES, Element, elements_of
from fhir_server.r4.resource_types import TYPE_NUMBER

Mode = Literal["true", "text", "data", "elements"]
Pairs = Sequence[tuple[str, str]]

TAG: Final = b'{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}'
ALWAYS: Final = frozenset({"id", "meta", "implicitRules", "modifierExtension"})
INSIDE: Final = frozenset({"id", "extension", "modifierExtension"})
RESOURCES: Final = frozenset({"Resource", *TYPE_NUMBER})

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Subset:
    """The part that is wished for. `elements` holds (type, element), the type None where it is any."""

    mode: Mode
    elements: frozenset[tuple[str | None, str]] = frozenset()


class Wish(NamedTuple):
    """What the parameters of a request ask for: a part or (None) the whole; `own` say so, `others` do not."""

    subset: Subset | None
    own: tuple[tuple[str, str], ...]
    others: list[tuple[str, str]]


def wish(pairs: Iterable[tuple[str, str]], resource_type: str | None) -> Wish:
    """Reads `_summary` (but `count`, which is about the Bundle) and `_elements`; `resource_type` None is any type.

    Raises BadParameter for an element that there is not, and for both parameters at once.
    """
    mode: Mode | None = None
    elements: set[tuple[str | None, str]] = set()
    own: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for name, value in pairs:
        if name == "_elements" and value:
            elements |= _elements(value, resource_type)
            own.append((name, value))
        elif name == "_summary" and value in ("true", "text", "data", "false"):
            mode = None if value == "false" else value
            own.append((name, value))
        else:
            others.append((name, value))
    if mode and elements:
        raise BadParameter("_summary and _elements are not asked for together", expression="_elements")
    subset = Subset(mode) if mode else Subset("elements", frozenset(elements)) if elements else None
    return Wish(subset, tuple(own), others)


def subset(doc: bytes, resource_type: str, wanted: Subset) -> bytes:
    """The part of a document that is wanted; all of it, untagged, where the elements are those of other types."""
    members = _members(doc)
    match wanted.mode:
        case "true":
            kept = _summarised(members, resource_type)
        case "data":
            kept = {name: raw for name, raw in members.items() if name != "text"}
        case _:
            if wanted.mode == "elements" and not any(on in (None, resource_type) for on, _ in wanted.elements):
                return doc
            names = _top_names(resource_type, wanted)
            kept = {name: raw for name, raw in members.items() if name in names}
    if "contained" not in kept and (inside := members.get("contained")):
        kept = _with_contained(kept, bytes(inside))
    return _object({**kept, "meta": msgspec.Raw(_tagged(bytes(members.get("meta", b"{}"))))})


def _with_contained(kept: Mapping[str, msgspec.Raw], inside: bytes) -> dict[str, msgspec.Raw]:
    """Only the contained resources that what is kept points to, directly or by another of them (dom-3, ref-1)."""
    left = {orjson.dumps("#" + str(orjson.loads(one).get("id"))): bytes(one) for one in map(bytes, _items(inside))}
    pending = [bytes(raw) for raw in kept.values()]
    found: list[bytes] = []
    while pending:
        text = pending.pop()
        for name in [name for name in left if name in text]:
            found.append(left.pop(name))
            pending.append(found[-1])
    return {**kept, **({"contained": msgspec.Raw(b"[" + b",".join(found) + b"]")} if found else {})}


def _elements(value: str, resource_type: str | None) -> set[tuple[str | None, str]]:
    """`Patient.name,birthDate` as pairs. Raises BadParameter."""
    found: set[tuple[str | None, str]] = set()
    faults: list[Issue] = []
    for text in value.split(","):
        on, dot, name = text.strip().rpartition(".")
        owner = on or resource_type
        known = owner is None or (owner in TYPE_NUMBER and name in _labels(owner))
        if not known or not name or (dot and not on):
            faults.append(Issue("error", "invalid", f"{text[:100]} is not an element of a resource", "_elements"))
        found.add((on or None, name))
    if faults:
        raise BadParameter(issues=faults)
    return found


@cache
def _labels(resource_type: str) -> frozenset[str]:
    """The names by which the elements of a type may be asked for: `value` and `valueQuantity` for `value[x]`."""
    labels = {name for element in elements_of(resource_type).values() for name in element.json_names()}
    return frozenset(labels | {element.name.removesuffix("[x]") for element in elements_of(resource_type).values()})


@cache
def _top_names(resource_type: str, wanted: Subset) -> frozenset[str]:
    """The JSON names that `text` and `_elements` keep."""
    asked = {name for on, name in wanted.elements if on in (None, resource_type)} if wanted.elements else {"text"}
    names = {"resourceType"}
    for element in elements_of(resource_type).values():
        own = element.json_names()
        stays = element.required or element.name in ALWAYS or element.name.removesuffix("[x]") in asked
        names.update(name for name in own if stays or name in asked)
    return frozenset(names | {f"_{name}" for name in names})


def _summarised(members: Mapping[str, msgspec.Raw], path: str) -> dict[str, msgspec.Raw]:
    """The members of a resource or element that are in its summary, each cut likewise."""
    plan = _plan(path)
    kept: dict[str, msgspec.Raw] = {}
    for name, raw in members.items():
        step = plan.get(name)
        if step is None:
            continue
        cut = raw if step.path is None else msgspec.Raw(_cut(bytes(raw), step.path))
        if bytes(cut):
            kept[name] = cut
        elif step.required:
            kept[name] = raw  # nothing of it is in the summary, and without it the rest would not be valid
    return kept


class _Step(NamedTuple):
    """How one member is kept: whole (`path` None), or cut as this type says."""

    path: str | None
    required: bool


@cache
def _plan(path: str) -> dict[str, _Step]:
    """The members of a type that its summary keeps."""
    stays = ALWAYS if path in TYPE_NUMBER else INSIDE
    plan: dict[str, _Step] = {"resourceType": _Step(None, required=True)}
    for element in elements_of(path).values():
        if not (element.in_summary or element.required or element.name in stays):
            continue
        for name, kind in element.json_names().items():
            whole = element.name in stays or kind.name in PRIMITIVES or _is_complete(kind.name)
            plan[name] = _Step(None if whole else kind.name, element.required)
            if kind.name in PRIMITIVES:
                plan[f"_{name}"] = _Step(None, required=False)
    return plan


@cache
def _is_complete(path: str) -> bool:
    """Whether the summary of a type is all of it, so that it need not be taken apart."""
    seen: set[str] = set()
    pending = [path]
    while pending:
        one = pending.pop()
        if one in seen or one in RESOURCES:
            continue
        seen.add(one)
        for element in elements_of(one).values():
            if element.name in INSIDE:
                continue
            if not _is_kept(element):
                return False
            pending += [kind.name for kind in element.types if kind.name not in PRIMITIVES]
    return True


def _is_kept(element: Element) -> bool:
    return element.in_summary or element.required


def _cut(raw: bytes, path: str) -> bytes:
    """One element, or each of a list of them; empty where nothing of it is in the summary."""
    if raw[:1] == b"[":
        parts = [part for item in _items(raw) if (part := _cut(bytes(item), path))]
        return b"[" + b",".join(parts) + b"]" if parts else b""
    kept = _summarised(_members(raw), path)
    return _object(kept) if kept else b""


def _tagged(meta: bytes) -> bytes:
    members: dict[str, Any] = _members(meta)
    tags = bytes(members.get("tag", b"[]"))
    if any(orjson.loads(tag).get("code") == "SUBSETTED" for tag in map(bytes, _items(tags))):
        return meta
    inner = tags.strip()[1:-1].strip()
    return _object({**members, "tag": msgspec.Raw(b"[" + (inner + b"," if inner else b"") + TAG + b"]")})


def _object(members: Mapping[str, msgspec.Raw]) -> bytes:
    return b"{" + b",".join(orjson.dumps(name) + b":" + bytes(raw) for name, raw in members.items()) + b"}"
