"""FHIRPath Patch: add, insert, delete, replace and move, written as a Parameters resource.

https://hl7.org/fhir/R4/fhirpatch.html

The tables of R4 say which elements are lists and what type stands where; a value that does not fit is refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.outcomes import BadSyntax
from fhir_server.r4.definitions import PRIMITIVES, Element, elements_of
from fhir_server.r4.fhirpath.nodes import Json, Node, definitions_of, resource_type_of
from fhir_server.r4.patch import Refusal, json_text, operation
from fhir_server.r4.patch.fhirpath import Path, UnknownPath, element_of, read
from fhir_server.r4.patch.json_text import Number

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "add": ("name", "value"),
    "insert": ("index", "value"),
    "delete": (),
    "replace": ("value",),
    "move": ("source", "destination"),
}
"""The parts that an operation must have besides `type` and `path`."""

PARTS: Final = frozenset({"type", "path", "name", "value", "index", "source", "destination"})

FAMILIES: Final = (
    frozenset({"string", "code", "id", "markdown", "xhtml"}),
    frozenset({"uri", "url", "canonical", "oid", "uuid"}),
    frozenset({"integer", "positiveInt", "unsignedInt"}),
    frozenset({"Quantity", "Age", "Count", "Distance", "Duration"}),
)
"""Types of one descent (https://hl7.org/fhir/R4/datatypes.html) stand for each other: there is no valueXhtml, and
HL7's own tests replace a narrative with a valueString. What the narrower type forbids, the validation finds."""

WIDER: Final = frozenset({("date", "dateTime"), *((name, "decimal") for name in FAMILIES[2])})
"""(type of the value, type of the element) where the first is written as the second is."""

DEEPEST: Final = 50
"""Parts within parts; as many objects within objects as `structure` accepts."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")


@dataclass(frozen=True, slots=True)
class _Operation:
    type: str
    path: Path
    name: str
    value: Json
    index: int
    """Where to insert, or where to move from."""
    destination: int


@dataclass(frozen=True, slots=True)
class _Content:
    """What is to be put: its property name, its JSON, and of a primitive the object with its id and extensions."""

    key: str
    value: Any
    companion: Any = None


def apply_fhirpath_patch(doc: bytes, parameters: Json) -> bytes:
    """The resource `doc` (JSON, UTF-8) after the operations of `parameters`, all of them or none.

    `parameters` is the Parameters resource as parsed JSON; it is not changed. The numbers of `doc` keep their text, and
    so do those of `parameters` where `json_text.read` parsed it; members keep their order, new ones come last; white
    space goes. An element that loses its last child goes with it. Raises BadSyntax (400) for what is no resource, no
    Parameters of this kind or no known FHIRPath, and PatchFailed (422) naming the operation, counted from 0, that
    cannot be applied. A path must select one element, of `insert` and `move` one list; `delete` may find nothing.
    """
    resource = json_text.read(doc, "the document")
    resource_type = resource_type_of(resource)
    if resource_type is None:
        raise BadSyntax("the document is not a resource of R4")
    # Written and read again: the values become part of the document, which later operations change.
    patch = json_text.read(json_text.write(parameters), "the patch")
    for number, one in enumerate(_read(patch, resource_type)):
        with operation(number, one.type, one.path.shown):
            _apply(resource, one)
    return json_text.write(resource)


def _read(patch: Any, resource_type: str) -> Sequence[_Operation]:
    if not isinstance(patch, dict) or patch.get("resourceType") != "Parameters":
        raise BadSyntax("a FHIRPath Patch is a Parameters resource")
    parameters = patch.get("parameter", [])
    if not isinstance(parameters, list):
        raise BadSyntax("Parameters.parameter must be an array")
    return [_read_operation(number, one, resource_type) for number, one in enumerate(parameters)]


def _read_operation(number: int, parameter: Any, resource_type: str) -> _Operation:
    where = f"operation {number}"
    if not isinstance(parameter, dict) or parameter.get("name") != "operation":
        raise BadSyntax(f"{where}: a parameter of a FHIRPath Patch is named `operation`")
    parts: dict[str, Json] = {}
    for part in _parts(parameter, where):
        if part["name"] not in PARTS or part["name"] in parts:
            raise BadSyntax(f"{where}: each part is one of {', '.join(sorted(PARTS))}, and none comes twice")
        parts[part["name"]] = part
    kind = _text(parts, "type", "valueCode", where)
    if kind not in NEEDS:
        raise BadSyntax(f"{where}: `type` must be one of {', '.join(NEEDS)}")
    where += f" ({kind})"
    needs = NEEDS[kind]
    expression = _text(parts, "path", "valueString", where)
    try:
        path = read(expression, resource_type)
    except UnknownPath as unknown:
        raise BadSyntax(f"{where}: the path is not understood: {unknown}") from None
    name = _text(parts, "name", "valueString", where) if "name" in needs else ""
    if name and not _NAME.fullmatch(name):
        raise BadSyntax(f"{where}: `name` must be the name of an element")
    if "value" in needs and "value" not in parts:
        raise BadSyntax(f"{where}: the part `value` is missing")
    places = {need: _whole_number(parts, need, where) for need in needs if need not in {"name", "value"}}
    index = places.get("index", places.get("source", 0))
    return _Operation(kind, path, name, parts.get("value", {}), index, places.get("destination", 0))


def _parts(of: Json, where: str) -> Sequence[Json]:
    parts = of.get("part")
    if not isinstance(parts, list) or not all(
        isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts
    ):
        raise BadSyntax(f"{where}: `part` must be an array of parts with a name")
    return parts


def _text(parts: Mapping[str, Json], name: str, form: str, where: str) -> str:
    """Clients write valueString for a code and the other way round; the text is the same."""
    part = parts.get(name, {})
    value = part.get("valueString", part.get("valueCode"))
    if not isinstance(value, str) or not value:
        raise BadSyntax(f"{where}: the part `{name}` must have a {form}")
    return value


def _whole_number(parts: Mapping[str, Json], name: str, where: str) -> int:
    value = parts.get(name, {}).get("valueInteger")
    if not isinstance(value, Number) or not re.fullmatch("[0-9]{1,9}", value.text):
        raise BadSyntax(f"{where}: the part `{name}` must have a valueInteger from 0")
    return int(value.text)


def _apply(resource: Json, one: _Operation) -> None:
    match one.type:
        case "add":
            node = one.path.only(resource)
            element = element_of(node, one.name)
            _put(_body(node), element, _content(element, one.value))
        case "insert":
            node, element = one.path.list_in(resource)
            _insert(_body(node), _content(element, one.value), one.index)
        case "delete":
            node = one.path.one_or_none(resource)
            if node is not None:
                _delete(node)
        case "replace":
            _replace(one.path.only(resource), one.value)
        case _:
            node, element = one.path.list_in(resource)
            _move(node.body, element.name, one.index, one.destination)


def _put(body: Json, element: Element, content: _Content) -> None:
    """Add a child: at the end of its list, or where there is none yet."""
    if element.repeats:
        _insert(body, content, len(_lists(body, content.key)[0]))
        return
    if any(key in body or "_" + key in body for key in element.json_names()):
        raise Refusal(f"`{element.name}` is there already and does not repeat")
    _set(body, content)


def _insert(body: Json, content: _Content, index: int) -> None:
    values, companions = _lists(body, content.key)
    if index > len(values):
        raise Refusal(f"the index is {index}, and the list has {len(values)} entries")
    values.insert(index, content.value)
    companions.insert(index, content.companion)
    _set_lists(body, content.key, values, companions)


def _move(body: Json, key: str, source: int, destination: int) -> None:
    values, companions = _lists(body, key)
    if max(source, destination) >= len(values):
        raise Refusal(f"from {source} to {destination} in a list of {len(values)} entries")
    for entries in (values, companions):
        entries.insert(destination, entries.pop(source))
    _set_lists(body, key, values, companions)


def _delete(node: Node) -> None:
    if node.parent is None:
        raise Refusal("the resource itself is not deleted by a patch")
    if node.index is None:
        node.holder.pop(node.key, None)
        node.holder.pop("_" + node.key, None)
    else:
        values, companions = _lists(node.holder, node.key)
        del values[node.index], companions[node.index]
        _set_lists(node.holder, node.key, values, companions)
    _drop_empty(node.parent)


def _drop_empty(node: Node) -> None:
    """An element has a value or children (ele-1): what lost the last of them goes too."""
    if node.parent is None or node.body:
        return
    if node.value is None or not node.is_primitive:
        _delete(node)
    else:
        _set_place(node, _Content(node.key, node.value))


def _replace(node: Node, part: Json) -> None:
    if node.element is None:
        raise Refusal("the resource itself is replaced by an update, not by a patch")
    _set_place(node, _content(node.element, part))


def _set_place(node: Node, content: _Content) -> None:
    if node.index is not None:
        values, companions = _lists(node.holder, node.key)
        values[node.index], companions[node.index] = content.value, content.companion
        _set_lists(node.holder, node.key, values, companions)
        return
    if content.key != node.key:  # another type of a choice takes the place of this one among the members
        members = list(node.holder.items())
        node.holder.clear()
        node.holder.update(
            (content.key if key == node.key else "_" + content.key if key == "_" + node.key else key, value)
            for key, value in members
        )
    _set(node.holder, content)


def _set(holder: Json, content: _Content) -> None:
    for key, value in ((content.key, content.value), ("_" + content.key, content.companion)):
        if value is None:
            holder.pop(key, None)
        else:
            holder[key] = value


def _lists(holder: Json, key: str) -> tuple[list[Any], list[Any]]:
    """The entries of a list, and their companions: https://hl7.org/fhir/R4/json.html#primitive. Both are copies."""
    values, companions = holder.get(key) or [], holder.get("_" + key) or []
    if not isinstance(values, list) or not isinstance(companions, list):
        raise Refusal(f"`{key}` is not a JSON array")
    length = max(len(values), len(companions))
    return [*values, *[None] * (length - len(values))], [*companions, *[None] * (length - len(companions))]


def _set_lists(holder: Json, key: str, values: list[Any], companions: list[Any]) -> None:
    something = [entries if any(entry is not None for entry in entries) else None for entries in (values, companions)]
    _set(holder, _Content(key, *something))


def _body(node: Node) -> Json:
    """The object that holds its children, made where a primitive has none yet."""
    body = node.body
    if node.is_primitive and node.companion is None:
        _set_place(node, _Content(node.key, node.value, body))
    return body


def _content(element: Element, part: Json) -> _Content:
    """What a part says, if it fits the element."""
    return _content_at(element, part, 0)


def _content_at(element: Element, part: Json, depth: int) -> _Content:
    forms = [name.removeprefix("_") for name in part if name not in {"name", "id", "extension", "modifierExtension"}]
    if len(set(forms)) != 1:
        raise Refusal("a value is one of value[x], part and resource")
    form = forms[0]
    if form == "part":
        return _assembled(element, part, depth)
    if form == "resource":
        return _Content(element.name, _resource(element, part))
    given = elements_of("Parameters.parameter")["value[x]"].json_names().get(form)
    if given is None:
        raise Refusal("the value is of no type that R4 has")
    key = _key(element, given.name)
    value, companion = part.get(form), part.get("_" + form)
    if (value is None and companion is None) or (companion is not None and given.name not in PRIMITIVES):
        raise Refusal("the value is empty")
    return _Content(key, value, companion)


def _key(element: Element, given: str) -> str:
    """The property name under which a value of this type stands."""
    names = element.json_names()
    for key, one in names.items():
        if one.name == given or (not element.name.endswith("[x]") and _stands_for(given, one.name)):
            return key
    raise Refusal(f"`{element.name}` takes no {given}, but {' or '.join(one.name for one in names.values())}")


def _stands_for(given: str, expected: str) -> bool:
    return (given, expected) in WIDER or any({given, expected} <= family for family in FAMILIES)


def _resource(element: Element, part: Json) -> Json:
    resource = part["resource"]
    if element.types[0].name != "Resource":
        raise Refusal(f"`{element.name}` takes no resource")
    if resource_type_of(resource) is None:
        raise Refusal("the value is not a resource of R4")
    return resource


def _assembled(element: Element, part: Json, depth: int) -> _Content:
    """An element whose children come as parts, for want of a name of its type."""
    type_name = element.types[0].name
    if element.name.endswith("[x]") or type_name in PRIMITIVES or type_name == "Resource":
        raise Refusal(f"`{element.name}` is not made of parts")
    if depth >= DEEPEST:
        raise Refusal(f"there are more than {DEEPEST} parts within parts")
    children = definitions_of(type_name)
    body: Json = {}
    for child in _parts(part, "a value"):
        definition = children.get(child["name"])
        if definition is None:
            raise Refusal(f"a part of the value is named as no element of {type_name}")
        _put(body, definition, _content_at(definition, child, depth + 1))
    return _Content(element.name, body)
