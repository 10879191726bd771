"""XML Patch: add, replace and remove, each at the one node that an XPath selects.

https://hl7.org/fhir/R4/http.html#patch and RFC 5261.

Selectors are the XPath 1.0 of location paths that go down from the document, with predicates: every selector of RFC
5261 but `id()`, and more. Other axes, `//`, `..` and arithmetic are refused, which bounds what a selector can cost.
"""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - lxml tells no types

from fhir_server.outcomes import BadSyntax
from fhir_server.r4.patch import Refusal, operation

PREFIXES: Final = {"f": "http://hl7.org/fhir", "h": "http://www.w3.org/1999/xhtml"}
"""Bound in every selector unless the patch says otherwise: HL7's tests use `f` without declaring it."""

FUNCTIONS: Final = frozenset({
    "text", "comment", "processing-instruction", "node", "position", "last", "count", "not", "contains", "starts-with",
})  # fmt: skip

LONGEST: Final = 2000
"""Characters of a selector."""

_NCNAME: Final = r"[^\W\d][\w.-]*"
_TOKEN: Final = re.compile(
    rf"""\s*(?:
        (?P<text>"[^"]*"|'[^']*')
      | (?P<number>[0-9]+)
      | (?P<name>{_NCNAME}(?::(?!:)(?:{_NCNAME}|\*))?)
      | (?P<symbol>::|!=|[/()\[\]@=,.*])
    )""",
    re.VERBOSE,
)
_ADDED: Final = re.compile(rf"@(?:(?P<prefix>{_NCNAME}):)?(?P<name>{_NCNAME})|namespace::(?P<declared>{_NCNAME})")
_NAMESPACE_STEP: Final = re.compile(rf"(.+)/\s*namespace\s*::\s*({_NCNAME})\s*")


_BEFORE_OPERAND: Final = frozenset({"@", "::", "(", "[", ",", "/", "=", "!=", "and", "or"})


@dataclass(frozen=True, slots=True)
class _Operation:
    kind: str
    select: Any
    """A compiled XPath."""
    shown: str
    """The selector without its literals, for error texts."""
    declaration: str | None
    """The prefix whose declaration is meant, where the selector ends with `namespace::`."""
    element: Any
    """The operation as it stands in the patch: its content and its namespaces."""


@dataclass(frozen=True, slots=True)
class _Gap:
    """A place between the children of an element: before the child of this index, and within the text there."""

    parent: Any
    index: int
    left: str
    right: str


def apply_xml_patch(xml: bytes, patch: bytes) -> bytes:
    """The XML document `xml` after the patch, as UTF-8; every operation is applied, or none.

    White space, comments and the order of everything stay; an XML declaration stays where there was one. Raises
    BadSyntax (400) for what is not XML, has a document type (and so entities) or is not XML Patch, and PatchFailed
    (422) naming the operation, counted from 0, that cannot be applied; a selector must select one node.
    """
    tree = _parsed(xml, "the document")
    for number, one in enumerate(_read(_parsed(patch, "the patch").getroot())):
        with operation(number, one.kind, one.shown):
            _apply(tree, one)
    return etree.tostring(tree, encoding="UTF-8", xml_declaration=xml.lstrip().startswith(b"<?xml "))


def _parsed(text: bytes, what: str) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        tree = etree.fromstring(text, parser).getroottree()
    except etree.XMLSyntaxError as error:
        raise BadSyntax(f"{what} is not XML: line {error.lineno}") from None
    if tree.docinfo.doctype or tree.docinfo.internalDTD is not None:
        raise BadSyntax(f"{what} has a document type declaration")
    return tree


def _read(patch: Any) -> Sequence[_Operation]:
    elements = list(patch.iterchildren(etree.Element))
    if not elements:
        raise BadSyntax("the patch has no operation")
    return [_read_operation(number, one) for number, one in enumerate(elements)]


def _read_operation(number: int, element: Any) -> _Operation:
    kind = etree.QName(element).localname
    if kind not in {"add", "replace", "remove"}:
        raise BadSyntax(f"operation {number}: must be `add`, `replace` or `remove`")
    where = f"operation {number} ({kind})"
    selector = element.get("sel", "")
    if not selector.strip() or len(selector) > LONGEST:
        raise BadSyntax(f"{where}: `sel` must be a selector of at most {LONGEST} characters")
    for name, known in (("pos", ("before", "after", "prepend")), ("ws", ("before", "after", "both"))):
        if element.get(name, known[0]) not in known:
            raise BadSyntax(f"{where}: `{name}` must be one of {', '.join(known)}")
    if "type" in element.attrib and ("pos" in element.attrib or not _ADDED.fullmatch(element.get("type"))):
        raise BadSyntax(f"{where}: `type` must be `@name` or `namespace::prefix`, without `pos`")
    declaration = None
    if match := _NAMESPACE_STEP.fullmatch(selector):
        selector, declaration = match[1], match[2]
    namespaces = PREFIXES | {prefix: uri for prefix, uri in element.nsmap.items() if prefix}
    default = ""
    if None in element.nsmap:
        default = "_" + max(namespaces, key=len)  # longer than every other, so none of them
        namespaces[default] = element.nsmap[None]
    try:
        xpath, shown = _translated(selector, namespaces, default)
        select = etree.XPath(xpath, namespaces=namespaces)
    except _UnknownSelector as unknown:
        raise BadSyntax(f"{where}: `sel` is not understood: {unknown}") from None
    except etree.XPathError:
        raise BadSyntax(f"{where}: `sel` is not XPath 1.0") from None
    return _Operation(kind, select, shown + (f"/namespace::{declaration}" if declaration else ""), declaration, element)


class _UnknownSelector(ValueError):
    """The selector cannot be read, or uses more of XPath than is known here."""


def _translated(selector: str, namespaces: Mapping[str, str], default: str) -> tuple[str, str]:
    """The selector as XPath 1.0 from the document node, and the same without its literals.

    A name without prefix is in the default namespace of the patch, which XPath 1.0 alone would not say (RFC 5261
    section 4.2.2); `default` is the prefix bound to it.
    """
    tokens = _tokens(selector)
    texts = [text for _, text in tokens]
    kinds = [kind for kind, _ in tokens]
    for n, text in enumerate(texts):
        if text in {"/", "."} and texts[n + 1 : n + 2] == [text]:
            raise _UnknownSelector(f"`{text}{text}` is not allowed here")
        if text == "/" and n and texts[n - 1] in _BEFORE_OPERAND:
            raise _UnknownSelector("a path within a predicate must not start at the document")
        if text in {"=", "!="} and not {"text", "number"} & {*kinds[max(n - 1, 0) : n], *kinds[n + 1 : n + 2]}:
            raise _UnknownSelector("one side of a comparison must be a literal")
    names = [
        _name(texts, n, namespaces, default) if kinds[n] == "name" or text == "*" else text
        for n, text in enumerate(texts)
    ]
    shown = "".join(_shown(kind, text) for kind, text in tokens)
    return ("" if texts[:1] == ["/"] else "/ ") + " ".join(names), shown


def _name(texts: Sequence[str], n: int, namespaces: Mapping[str, str], default: str) -> str:
    """A name as XPath is to read it, if it is one that we let pass."""
    name = texts[n]
    before = texts[n - 1] if n else "/"
    after = texts[n + 1] if n + 1 < len(texts) else ""
    # https://www.w3.org/TR/1999/REC-xpath-19991116/#exprlex - after an operand, a name or `*` is an operator
    if before not in _BEFORE_OPERAND:
        if name not in {"and", "or"}:
            raise _UnknownSelector("it has an operator that is not known here")
    elif after == "::":
        if name not in {"child", "self", "attribute"}:
            raise _UnknownSelector("it uses an axis that does not go down")
    elif after == "(":
        if name not in FUNCTIONS:
            raise _UnknownSelector("it uses a function that is not known here")
    elif ":" in name:
        if name.partition(":")[0] not in namespaces:
            raise _UnknownSelector("a prefix is not declared in the patch")
    elif default and name != "*" and before != "@" and texts[max(n - 2, 0) : n] != ["attribute", "::"]:
        return f"{default}:{name}"
    return name


def _tokens(selector: str) -> Sequence[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(selector.rstrip()):
        match = _TOKEN.match(selector, at)
        if match is None or match.lastgroup is None:
            raise _UnknownSelector(f"it cannot be read at character {at}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


def _shown(kind: str, text: str) -> str:
    if kind == "text":
        return "'…'"
    if kind == "number" and len(text) > 4:
        return "…"
    return f" {text} " if text in {"and", "or"} else text


def _apply(tree: Any, one: _Operation) -> None:
    try:
        found = one.select(tree)
    except etree.XPathError:
        raise Refusal("the selector cannot be evaluated") from None
    if not isinstance(found, list):
        raise Refusal("the selector is no path")
    if len(found) != 1:
        raise Refusal(f"the selector matches {len(found) or 'no'} node{'s' if found else ''}, and must match one")
    node = found[0]
    if one.declaration is not None:
        _change_declaration(tree, node, one.declaration, one)
    elif one.kind == "add":
        _add(tree, node, one.element)
    elif one.kind == "replace":
        _replace(tree, node, one.element)
    else:
        _remove(node, one.element.get("ws"))


def _add(tree: Any, node: Any, content: Any) -> None:
    kind = content.get("type")
    if kind is not None:
        _add_named(tree, node, _ADDED.fullmatch(kind), content)
        return
    position = content.get("pos")
    if position in {"before", "after"}:
        _add_beside(node, position == "before", content)
    elif not _is_element(node):
        raise Refusal("what has no children takes none: the selector must match an element")
    elif position == "prepend":
        _fill(_Gap(node, 0, "", _text_at(node, 0)), content)
    else:
        _fill(_Gap(node, len(node), _text_at(node, len(node)), ""), content)


def _add_beside(node: Any, before: bool, content: Any) -> None:
    if isinstance(node, str):
        parent, index = _place_of_text(node)
        text = _text_at(parent, index)
        _fill(_Gap(parent, index, "", text) if before else _Gap(parent, index, text, ""), content)
        return
    parent = node.getparent()
    if parent is None:
        # https://www.rfc-editor.org/rfc/rfc5261 section 5.1, invalid-root-element-operation
        raise Refusal("nothing can be added beside the root element")
    index = parent.index(node)
    if before:
        _fill(_Gap(parent, index, _text_at(parent, index), ""), content)
    else:
        _fill(_Gap(parent, index + 1, "", _text_at(parent, index + 1)), content)


def _add_named(tree: Any, node: Any, name: Any, content: Any) -> None:
    """An attribute, or the declaration of a prefix."""
    if not _is_element(node):
        raise Refusal("the selector must match an element")
    if name["declared"]:
        namespaces = _own_namespaces(node)
        if name["declared"] in namespaces:
            raise Refusal("the prefix is declared there already")
        _redeclare(tree, node, namespaces | {name["declared"]: _namespace(content)})
        return
    attribute = name["name"]
    if name["prefix"]:
        namespace = content.nsmap.get(name["prefix"])
        if namespace is None:
            raise Refusal("the prefix of the attribute is not declared in the patch")
        attribute = f"{{{namespace}}}{attribute}"
    if attribute in node.attrib:
        raise Refusal("the attribute is there already")
    node.set(attribute, _text_of(content))


def _replace(tree: Any, node: Any, content: Any) -> None:
    if isinstance(node, str):
        _set_text(node, _text_of(content))
        return
    children = list(content)
    texts = [content.text, *(child.tail for child in children)]
    if len(children) != 1 or _kind(children[0]) is not _kind(node):
        raise Refusal("the replacement must be one node of the same kind")
    if any(text and text.strip() for text in texts):
        raise Refusal("there is text beside the replacement")
    _exchange(tree, node, deepcopy(children[0]))


def _remove(node: Any, white_space: str | None) -> None:
    if isinstance(node, str):
        if white_space:
            raise Refusal("`ws` goes with the removal of an element, a comment or a processing instruction")
        _set_text(node, None)
        return
    parent = node.getparent()
    if parent is None:
        raise Refusal("neither the root element nor what stands outside it is removed by a patch")
    index = parent.index(node)
    before, after = _text_at(parent, index), _text_at(parent, index + 1)
    if white_space in {"before", "both"}:
        before = _without_white_space(before)
    if white_space in {"after", "both"}:
        after = _without_white_space(after)
    node.tail = None
    parent.remove(node)
    _set_text_at(parent, index, before + after)


def _without_white_space(text: str) -> str:
    """https://www.rfc-editor.org/rfc/rfc5261 section 5.1, invalid-whitespace-directive"""
    if not text or text.strip(" \t\r\n"):
        raise Refusal("`ws` asks for the removal of white space that is not there or not alone")
    return ""


def _fill(gap: _Gap, content: Any) -> None:
    """Put copies of all that an operation holds, texts and nodes, between the children of an element."""
    nodes = [deepcopy(child) for child in content]
    tails = [node.tail or "" for node in nodes]
    for offset, node in enumerate(nodes):
        node.tail = None
        gap.parent.insert(gap.index + offset, node)
        _check_namespace(node)
    texts = [content.text or "", *tails]
    texts[0] = gap.left + texts[0]
    texts[-1] += gap.right
    for offset, text in enumerate(texts):
        _set_text_at(gap.parent, gap.index + offset, text)


def _change_declaration(tree: Any, node: Any, prefix: str, one: _Operation) -> None:
    """Replace or remove what an element itself declares of a prefix, where nothing in it is named by that."""
    if one.kind == "add":
        raise Refusal("a declaration is added with `type`")
    namespace = _own_namespaces(node).get(prefix) if _is_element(node) else None
    if namespace is None:
        raise Refusal("the prefix is not declared there")
    for element in node.iter(etree.Element):
        named = element.prefix == prefix and element.nsmap[prefix] == namespace
        if named or any(name.startswith(f"{{{namespace}}}") for name in element.attrib):
            raise Refusal("names in the document use the declaration")
    namespaces = {name: uri for name, uri in _own_namespaces(node).items() if name != prefix}
    if one.kind == "replace":
        namespaces[prefix] = _namespace(one.element)
    _redeclare(tree, node, namespaces)


def _own_namespaces(node: Any) -> dict[str | None, str]:
    """The prefixes that an element declares, as far as its parent does not declare the same."""
    inherited = {} if node.getparent() is None else node.getparent().nsmap
    return {prefix: uri for prefix, uri in node.nsmap.items() if inherited.get(prefix) != uri}


def _redeclare(tree: Any, node: Any, namespaces: Mapping[str | None, str]) -> None:
    """Declare these in an element: what lxml lets one say only of a new one."""
    new = etree.Element(node.tag, node.attrib, nsmap=namespaces)
    new.text = node.text
    new.extend(list(node))
    _exchange(tree, node, new)


def _exchange(tree: Any, old: Any, new: Any) -> None:
    """Put a node that stands nowhere in the place of one that stands in the document."""
    parent = old.getparent()
    if parent is not None:
        new.tail = old.tail
        parent.replace(old, new)
        _check_namespace(new)
        return
    if tree.getroot() is not old:
        raise Refusal("what stands outside the root element is not changed by a patch")
    new.tail = None
    for beside in list(old.itersiblings(preceding=True))[::-1]:
        new.addprevious(beside)
    for beside in list(old.itersiblings())[::-1]:
        new.addnext(beside)
    tree._setroot(new)


def _check_namespace(new: Any) -> None:
    """libxml2 writes an element of no namespace as one of the default one, unless it was read with `xmlns=""`."""
    for element in new.iter(etree.Element):
        if not etree.QName(element).namespace and element.nsmap.get(None):
            raise Refusal(
                "it puts an element without a namespace where there is a default one: declare it in the patch"
            )


def _text_at(parent: Any, index: int) -> str:
    """The text before the child of this index, or after the last child."""
    return (parent[index - 1].tail if index else parent.text) or ""


def _set_text_at(parent: Any, index: int, text: str) -> None:
    if index:
        parent[index - 1].tail = text or None
    else:
        parent.text = text or None


def _place_of_text(node: Any) -> tuple[Any, int]:
    """The element that holds a text, and the index of the child after it."""
    if node.is_attribute:
        raise Refusal("nothing stands before or after an attribute")
    holder = node.getparent()
    if node.is_text:
        return holder, 0
    return holder.getparent(), holder.getparent().index(holder) + 1


def _set_text(node: Any, text: str | None) -> None:
    """Change a text or the value of an attribute; None removes either, and an empty text is none."""
    if not node.is_attribute:
        _set_text_at(*_place_of_text(node), text or "")
    elif text is None:
        del node.getparent().attrib[node.attrname]
    else:
        node.getparent().set(node.attrname, text)


def _text_of(content: Any) -> str:
    if len(content):
        raise Refusal("the operation must hold text only")
    return content.text or ""


def _namespace(content: Any) -> str:
    uri = _text_of(content)
    if not uri:
        raise Refusal("a prefix must be declared for some namespace")
    return uri


def _is_element(node: Any) -> bool:
    return not isinstance(node, str) and _kind(node) is etree.Element


def _kind(node: Any) -> Any:
    """lxml gives comments and processing instructions the function that makes them for a tag."""
    return etree.Element if isinstance(node.tag, str) else node.tag
