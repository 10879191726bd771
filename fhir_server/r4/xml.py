"""The XML form of R4 resources: from the JSON that is stored to XML and back, with nothing lost.

https://hl7.org/fhir/R4/xml.html and https://hl7.org/fhir/R4/json.html

Both ways walk by the tables of definitions, compiled per type at first use: they alone know that `given` is an array,
that `valueDecimal` is a number, and what comes before what. Numbers stay text on the way, so that 1.00 stays 1.00.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Any, Final, NamedTuple

import orjson
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - lxml tells no types

from fhir_server.outcomes import BadSyntax, Issue, NotAcceptable
from fhir_server.r4.definitions import PRIMITIVES, Element, ElementType, elements_of
from fhir_server.r4.narrative import DIV, ENTITY, XHTML, character
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.structure import DEEPEST, check

FHIR: Final = "http://hl7.org/fhir"
MOST_FAULTS: Final = 100
"""Faults that are told of one document; finding the place of each takes time."""

_Node = Any
_Json = dict[str, Any]

_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_SCHEMA_LOCATION: Final = "{http://www.w3.org/2001/XMLSchema-instance}schemaLocation"
_BLANK: Final = " \t\r\n"
_PROLOG: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s+|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)
_DOCTYPE: Final = b"<!DOCTYPE"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9]{0,63}")

_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
_ESCAPED: Final = re.compile('[&<>"\x00-\x1f\ud800-\udfff\ufffe\uffff]')

_ATTRIBUTE, _OBJECT, _RESOURCE, _XHTML, _TEXT, _DECIMAL, _INTEGER, _BOOLEAN, _TYPE, _NOWHERE = range(10)
_FORMS: Final = {
    "decimal": _DECIMAL,
    "integer": _INTEGER,
    "positiveInt": _INTEGER,
    "unsignedInt": _INTEGER,
    "boolean": _BOOLEAN,
    "xhtml": _XHTML,
}

_NUMBERS: Final = {
    _DECIMAL: (re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"), "must be a decimal number"),
    _INTEGER: (re.compile(r"-?(?:0|[1-9][0-9]*)"), "must be a whole number"),
}

_Fault = tuple[str, str]
_EMPTY: Final = ("value", "must not be empty: a value or children")
_TEXT_BETWEEN: Final = ("structure", "must hold no text between its elements: values are attributes")
_NO_ATTRIBUTE: Final = ("structure", "R4 has no such attribute here")
_NO_ELEMENT: Final = ("structure", "R4 has no such element here")
_NO_RESOURCE: Final = ("structure", f"must be one resource type of R4, in the namespace {FHIR}")
_TWICE: Final = ("structure", "must not be repeated")
_INTERLEAVED: Final = ("structure", "must follow the others of its name without another element between them")
_NO_BOOLEAN: Final = ("value", "must be true or false")
_TOO_DEEP: Final = ("too-costly", f"nested deeper than {DEEPEST} levels")


class _Integer(str):
    """A JSON number without fraction or exponent, as it was written."""

    __slots__ = ()


class _Decimal(str):
    """Any other JSON number, as it was written."""

    __slots__ = ()


class _NotR4(Exception):
    """The JSON has something that `structure.check` names better than we can."""


class _Enough(Exception):
    """As many faults were found as are told."""


class _Faults(list[tuple[_Node, _Fault]]):
    """What is wrong with a document, and at which elements."""

    def tell(self, node: _Node, fault: _Fault) -> None:
        self.append((node, fault))
        if len(self) >= MOST_FAULTS:
            raise _Enough


class _Field(NamedTuple):
    """One element, as both forms have it."""

    rank: int
    """Its place in the order of XML."""
    name: str
    """In both forms, so `valueString` and not `value`."""
    beside: str
    """Of a primitive: the JSON property of its id and extensions."""
    label: str
    """In FHIRPath, so `value`."""
    form: int
    repeats: bool
    path: str
    """The type of what is in it, for `_kind`."""


class _Fields(dict[str, _Field]):
    """By JSON property."""

    def __missing__(self, name: str) -> _Field:
        raise _NotR4


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is in a type or backbone element."""

    fields: _Fields
    tags: dict[str, _Field]
    """By the name that lxml gives to the element."""
    attributes: tuple[str, ...]


def to_xml(doc: bytes) -> bytes:
    """The XML document of a resource.

    Takes JSON in UTF-8, of a resource in which `structure.check` finds no error; gives UTF-8 with an XML declaration,
    nothing indented, the digits of numbers unchanged and the narrative as it stands, but with characters in the place
    of HTML's named entities. Raises `BadSyntax`, with the issues of `structure.check`, for what is not such a
    resource, and `NotAcceptable` for what XML has no form of: a control character, an extension on an element's id.
    """
    try:
        resource = _JSON.decode(doc.decode())
    except (ValueError, RecursionError):
        raise BadSyntax("must be JSON in UTF-8") from None
    out = [_HEAD]
    try:
        _write_resource(resource, f' xmlns="{FHIR}"', out, 0)
    except _NotR4:
        raise BadSyntax("must be a resource of R4", issues=_issues(doc)) from None
    return "".join(out).encode()


def indented(xml: bytes) -> bytes:
    """The same document for human eyes, one element per line; what is too large for that stays as it is."""
    try:
        root = etree.fromstring(xml, _parser())
    except etree.XMLSyntaxError:
        return xml
    return etree.tostring(root, pretty_print=True, xml_declaration=True, encoding="UTF-8")


def to_json(xml: bytes) -> bytes:
    """The JSON of a resource that came as an XML document.

    Takes XML in UTF-8, whatever its declaration says; gives compact JSON in UTF-8, `resourceType` first and the rest in
    the order of the document. Comments and processing instructions outside a narrative are dropped, and so is
    `xsi:schemaLocation`; elements may come in another order than the definition's as long as those of one name stand
    together. Raises `BadSyntax` for what is not well-formed, with line and column, and else with an issue and a
    FHIRPath for each way in which it is not the XML form of a resource, up to `MOST_FAULTS`. What JSON can also say
    wrongly (a missing element, a date that is none, two types of one choice) is left to `structure.check`. A DOCTYPE
    is refused unread, so no entity is ever declared. One value may have ten million bytes, the limit of libxml2.
    """
    root = parsed(xml)
    root.attrib.pop(_SCHEMA_LOCATION, None)
    faults = _Faults()
    resource: _Json = {}
    with suppress(_Enough):
        resource = _read_resource(root, faults, 0)
    if faults:
        raise BadSyntax(issues=[Issue("error", code, text, _place(node)) for node, (code, text) in faults])
    return orjson.dumps(resource)


@cache
def _kind(path: str) -> _Kind:
    """The compiled table of a type; `_VALUED` is that of all primitives."""
    is_resource = path in TYPE_NUMBER
    fields = _Fields()
    tags: dict[str, _Field] = {}
    attributes: list[str] = []
    for element in elements_of("Element" if path == _VALUED else path).values():
        for name, kind in element.json_names().items():
            form = _form(path, element, kind, is_resource)
            label = element.name.removesuffix("[x]")
            beside = "_" + name
            held = _VALUED if kind.name in PRIMITIVES else kind.name
            field = _Field(len(fields), name, beside, label, form, element.repeats, held)
            fields[name] = field
            if held == _VALUED:
                has_no_beside = form in {_ATTRIBUTE, _XHTML}
                fields[beside] = field._replace(rank=-1, form=_NOWHERE) if has_no_beside else field
            if form == _ATTRIBUTE:
                attributes.append(name)
            else:
                tags[DIV if form == _XHTML else f"{{{FHIR}}}{name}"] = field
    if is_resource:
        fields["resourceType"] = _Field(-1, "resourceType", "", "", _TYPE, repeats=False, path="")
    if path == _VALUED:
        attributes.append("value")
    return _Kind(fields, tags, tuple(attributes))


_VALUED: Final = "primitive"


def _form(path: str, element: Element, kind: ElementType, is_resource: bool) -> int:
    """An element's id and an Extension's url are attributes: https://hl7.org/fhir/R4/xml.html."""
    if (element.name == "id" and not is_resource) or (path == "Extension" and element.name == "url"):
        return _ATTRIBUTE
    if kind.name == "Resource":
        return _RESOURCE
    return _FORMS.get(kind.name, _TEXT) if kind.name in PRIMITIVES else _OBJECT


def _refuse_constant(_text: str) -> None:
    raise ValueError  # NaN and Infinity, which Python's parser knows and JSON does not


_JSON: Final = json.JSONDecoder(parse_int=_Integer, parse_float=_Decimal, parse_constant=_refuse_constant)


def _issues(doc: bytes) -> list[Issue]:
    try:
        return check(json.loads(doc))
    except (ValueError, RecursionError):
        return []


def _write_resource(resource: Any, namespace: str, out: list[str], depth: int) -> None:
    name = resource.get("resourceType") if type(resource) is dict else None
    if type(name) is not str or name not in TYPE_NUMBER:
        raise _NotR4
    out.append(f"<{name}{namespace}>")
    _write_children(resource, _kind(name), out, depth)
    out.append(f"</{name}>")


def _write_object(name: str, item: Any, kind: _Kind, out: list[str], depth: int, value: str = "") -> None:
    if type(item) is not dict or not item:
        raise _NotR4
    attributes = "".join([f' {one}="{_escape(item[one])}"' for one in kind.attributes if one in item])
    out.append(f"<{name}{attributes}{value}>")
    _write_children(item, kind, out, depth)
    out.append(f"</{name}>")


def _write_children(item: _Json, kind: _Kind, out: list[str], depth: int) -> None:
    if depth >= DEEPEST:
        raise _NotR4
    fields = kind.fields
    before: int | None = None
    for rank, name, beside, _, form, repeats, path in sorted([fields[name] for name in item]):
        if rank == before:  # `birthDate` and `_birthDate` are one
            continue
        before = rank
        if form >= _TEXT:
            if form == _TYPE:
                continue
            if form == _NOWHERE:
                raise NotAcceptable("XML has no place for what stands beside an id, a url or a narrative")
            if not repeats:
                _write_primitive(name, form, item.get(name), item.get(beside), out, depth)
            else:
                values = _array(item[name]) if name in item else ()
                siblings = _array(item[beside]) if beside in item else ()
                for value, sibling in zip_longest(values, siblings):
                    _write_primitive(name, form, value, sibling, out, depth)
        elif form == _OBJECT:
            for one in _array(item[name]) if repeats else (item[name],):
                _write_object(name, one, _kind(path), out, depth + 1)
        elif form == _RESOURCE:
            for one in _array(item[name]) if repeats else (item[name],):
                out.append(f"<{name}>")
                _write_resource(one, "", out, depth + 1)
                out.append(f"</{name}>")
        elif form == _XHTML:
            out.append(_narrative(item[name]))


def _array(items: Any) -> list[Any]:
    if type(items) is not list or not items:
        raise _NotR4
    return items


def _write_primitive(name: str, form: int, value: Any, sibling: Any, out: list[str], depth: int) -> None:
    if value is None:
        if sibling is None:
            raise _NotR4
        _write_object(name, sibling, _kind(_VALUED), out, depth + 1)
        return
    if form == _TEXT:
        text = _escape(value)
    elif form == _BOOLEAN:
        if type(value) is not bool:
            raise _NotR4
        text = "true" if value else "false"
    elif type(value) is _Integer or (type(value) is _Decimal and form == _DECIMAL):
        text = value
    else:
        raise _NotR4
    if sibling is None:
        out.append(f'<{name} value="{text}"/>')
    else:
        _write_object(name, sibling, _kind(_VALUED), out, depth + 1, f' value="{text}"')


def _escape(text: Any) -> str:
    """A text as it stands between quotes, line ends included: XML would make spaces of them."""
    if type(text) is not str:
        raise _NotR4
    if text.isprintable() and "&" not in text and "<" not in text and '"' not in text:
        return text
    return _ESCAPED.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    escape = _ESCAPES.get(match.group())
    if escape is None:
        raise NotAcceptable("a text holds a character that XML 1.0 cannot")
    return escape


def _narrative(div: Any) -> str:
    """The text of a narrative, as an element of the document: one div and nothing beside it."""
    if type(div) is not str:
        raise _NotR4
    text = div.strip()
    if not text.startswith("<div"):  # so no DOCTYPE
        raise _NotR4
    if "&" in text:
        text = ENTITY.sub(character, text)
    try:
        root = etree.fromstring(text.encode(), _parser())
    except (etree.XMLSyntaxError, ValueError):
        raise _NotR4 from None
    if root.tag != DIV:
        raise _NotR4
    return text


def _parser() -> Any:
    """One per document: a shared one would be a lock."""
    return etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


def parsed(xml: bytes) -> Any:
    """The root of a document in UTF-8, read with no DOCTYPE, no entities and nothing fetched. Raises BadSyntax."""
    prolog = _PROLOG.match(xml)
    if prolog and xml.startswith(_DOCTYPE, prolog.end()):
        raise BadSyntax("must not have a DOCTYPE")
    try:
        return etree.fromstring(xml, _parser())
    except etree.XMLSyntaxError as error:
        line, column = error.position
        last = error.error_log.last_error
        what = last.type_name.removeprefix("ERR_").replace("_", " ").lower() if last else "syntax"
        code = "too-costly" if last and last.type_name == "ERR_RESOURCE_LIMIT" else "structure"
        text = f"is not well-formed XML: {what}, at line {line}, column {column}"
        raise BadSyntax(text, issues=[Issue("error", code, text)]) from None


def _read_resource(node: _Node, faults: _Faults, depth: int) -> _Json:
    namespace, _, name = node.tag[1:].rpartition("}")
    if namespace != FHIR or name not in TYPE_NUMBER:
        faults.tell(node, _NO_RESOURCE)
        return {}
    return {"resourceType": name, **_read_object(node, _kind(name), faults, depth)}


def _read_object(node: _Node, kind: _Kind, faults: _Faults, depth: int) -> _Json:
    """The JSON of one element; what is wrong with it goes to `faults`, and what is returned then is of no use."""
    members: _Json = {}
    for name, text in node.items():
        if name not in kind.attributes:
            faults.tell(node, _NO_ATTRIBUTE)
        elif not text:
            faults.tell(node, _EMPTY)
        members[name] = text
    if depth >= DEEPEST:
        faults.tell(node, _TOO_DEEP)
        return members
    if (text := node.text) and text.strip(_BLANK):
        faults.tell(node, _TEXT_BETWEEN)
    tags = kind.tags
    before = ""
    uneven: set[str] = set()
    for child in node:
        if (text := child.tail) and text.strip(_BLANK):
            faults.tell(node, _TEXT_BETWEEN)
        field = tags.get(tag := child.tag)
        if field is None:
            if isinstance(tag, str):  # and no comment
                faults.tell(child, _NO_ELEMENT)
            continue
        _, name, beside, _, _, repeats, _ = field
        item, sibling = _read_child(child, field, faults, depth + 1)
        if repeats:
            items = members.setdefault(name, [])
            if items and before != name:
                faults.tell(child, _INTERLEAVED)
            if sibling is not None:
                uneven.add(name)
                _put(members.setdefault(beside, []), len(items), sibling)
            items.append(item)
        else:
            if name in members or beside in members:
                faults.tell(child, _TWICE)
            if item is not None:
                members[name] = item
            if sibling is not None:
                members[beside] = sibling
        before = name
    for name in uneven:
        _even_out(members, name)
    return members


def _put(siblings: list[_Json | None], place: int, sibling: _Json) -> None:
    """Beside the value that has this place in its array, with null beside those that have nothing."""
    siblings += [None] * (place - len(siblings))
    siblings.append(sibling)


def _even_out(members: _Json, name: str) -> None:
    """`_given` is as long as `given`, which is not there when none has a value."""
    items, siblings = members[name], members["_" + name]
    siblings += [None] * (len(items) - len(siblings))
    if all(item is None for item in items):
        del members[name]


def _read_child(child: _Node, field: _Field, faults: _Faults, depth: int) -> tuple[Any, _Json | None]:
    """What an element has in JSON, and what stands beside that."""
    form = field.form
    if form >= _TEXT:
        return _read_primitive(child, form, faults, depth)
    if form == _RESOURCE:
        return _read_held(child, faults, depth), None
    if form == _XHTML:
        return _read_narrative(child), None
    told = len(faults)
    item = _read_object(child, _kind(field.path), faults, depth)
    if not item and len(faults) == told:
        faults.tell(child, _EMPTY)
    return item, None


def _read_primitive(node: _Node, form: int, faults: _Faults, depth: int) -> tuple[Any, _Json | None]:
    """The value of an element, and what stands beside it: its id and extensions."""
    attributes = node.items()
    if len(attributes) == 1 and attributes[0][0] == "value" and attributes[0][1] and not len(node) and not node.text:
        text, sibling = attributes[0][1], None
    else:
        told = len(faults)
        sibling = _read_object(node, _kind(_VALUED), faults, depth)
        text = sibling.pop("value", None)
        if not text:
            if not sibling and len(faults) == told:
                faults.tell(node, _EMPTY)
            return None, sibling
    value: Any = text
    if form == _BOOLEAN:
        if text not in {"true", "false"}:
            faults.tell(node, _NO_BOOLEAN)
        value = text == "true"
    elif form != _TEXT:
        pattern, wrong = _NUMBERS[form]
        if form == _INTEGER:
            text = text.removeprefix("+")  # R4 allows it, JSON does not
        if not pattern.fullmatch(text):
            faults.tell(node, ("value", wrong))
        value = orjson.Fragment(text)
    return value, sibling or None


def _read_held(node: _Node, faults: _Faults, depth: int) -> _Json:
    """The resource in a `contained` or `resource`: a bare wrapper of one element."""
    inside = [one for one in node if isinstance(one.tag, str)]
    if node.attrib:
        faults.tell(node, _NO_ATTRIBUTE)
    if any(text and text.strip(_BLANK) for text in (node.text, *(one.tail for one in node))):
        faults.tell(node, _TEXT_BETWEEN)
    if len(inside) != 1:
        faults.tell(node, _NO_RESOURCE)
        return {}
    return _read_resource(inside[0], faults, depth)


def _read_narrative(div: _Node) -> str:
    """A div as a text that stands for itself: with its own namespace and none that is around it."""
    if div.nsmap != {None: XHTML}:
        alone = etree.Element(DIV, div.attrib, nsmap={None: XHTML})
        alone.text = div.text
        alone.extend(div)
        div = alone
    return etree.tostring(div, encoding="unicode", with_tail=False)


def _place(node: _Node) -> str:
    """The FHIRPath of an element, as far as R4 knows it."""
    root, *line = [*reversed(list(node.iterancestors())), node]
    name = etree.QName(root).localname
    if name not in TYPE_NUMBER:
        return "Resource"
    kind: _Kind | None = _kind(name)
    place = name
    for one in line:
        name = etree.QName(one).localname
        if kind is None:  # what a contained has in it is not on the path
            if name not in TYPE_NUMBER:
                return place
            kind = _kind(name)
            continue
        field = kind.tags.get(one.tag)
        if field is None:  # the name may be content, so it is told only when it looks like a name
            return f"{place}.{name}" if _NAME.fullmatch(name) else place
        index = f"[{sum(1 for _ in one.itersiblings(one.tag, preceding=True))}]" if field.repeats else ""
        place += f".{field.label}{index}"
        kind = None if field.form == _RESOURCE else _kind(field.path)
    return place
