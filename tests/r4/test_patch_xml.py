"""XML Patch: HL7's cases, those of RFC 5261 that HL7 left out, white space and namespaces, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from fhir_server.outcomes import BadSyntax
from fhir_server.r4.patch import PatchFailed
from fhir_server.r4.patch.xml_patch import apply_xml_patch

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "fhir-r4" / "patch" / "xml-patch-tests.xml"
ABSENT = [pytest.param(None, marks=pytest.mark.skip(reason="HL7's patch tests are not at hand"), id="absent")]
CASES = (
    [pytest.param(case, id=case.get("name")) for case in etree.parse(OFFICIAL).getroot().iter("case")]
    if OFFICIAL.exists()
    else ABSENT
)


def patched(doc: str, *operations: str, namespaces: str = "") -> str:
    return apply_xml_patch(doc.encode(), f"<diff {namespaces}>{''.join(operations)}</diff>".encode()).decode()


def canonical(xml: bytes) -> bytes:
    """The document without the white space at the ends of its texts, by which HL7's cases differ."""
    root = etree.fromstring(xml)
    for node in root.iter():
        node.tail = (node.tail or "").strip()
        if isinstance(node.tag, str):
            node.text = (node.text or "").strip()
    return etree.tostring(root, method="c14n")


@pytest.mark.parametrize("case", CASES)
def test_an_official_case_ends_as_hl7_says(case: Any) -> None:
    """Each of HL7's cases gives its document, or is refused."""
    target, patch = list(case.find("target")), etree.tostring(case.find("{*}patch"))
    doc = etree.tostring(target[0], with_tail=False) if target else b""
    if case.find("error") is not None:
        with pytest.raises((PatchFailed, BadSyntax)):
            apply_xml_patch(doc, patch)
    else:
        expected = etree.tostring(case.find("patched")[0], with_tail=False)
        assert canonical(apply_xml_patch(doc, patch)) == canonical(expected)


CHANGED: list[tuple[str, str, str, str]] = [
    # The cases of RFC 5261, appendix A, that HL7's file has as comments
    (
        "A.8",
        '<d xmlns:p="urn:test"><foo/></d>',
        '<replace sel="d/namespace::p">urn:x</replace>',
        '<d xmlns:p="urn:x"><foo/></d>',
    ),
    (
        "A.10",
        "<d><a/><?test a?></d>",
        "<replace sel='d/processing-instruction(\"test\")'><?test b?></replace>",
        "<d><a/><?test b?></d>",
    ),
    ("A.14", '<d><a n="1" xmlns:p="urn:t">x</a></d>', '<remove sel="d/a/namespace::p"/>', '<d><a n="1">x</a></d>'),
    ("A.16", "<d>\n <?test?>\n</d>", "<remove sel='d/processing-instruction(\"test\")'/>", "<d>\n \n</d>"),
    # where an addition goes
    ("append", "<d>\n <a/>\n</d>", '<add sel="d"> <b/>\n</add>', "<d>\n <a/>\n <b/>\n</d>"),
    ("prepend", "<d>x<a/>y</d>", '<add sel="d" pos="prepend">1<b/>2</add>', "<d>1<b/>2x<a/>y</d>"),
    ("prepend text", "<d>x<a/></d>", '<add sel="d" pos="prepend">1</add>', "<d>1x<a/></d>"),
    ("before", "<d>x<a/>y</d>", '<add sel="d/a" pos="before">1<b/>2<!--c-->3</add>', "<d>x1<b/>2<!--c-->3<a/>y</d>"),
    ("after", "<d>x<a/>y<c/></d>", '<add sel="d/a" pos="after">1<b/>2</add>', "<d>x<a/>1<b/>2y<c/></d>"),
    ("text after", "<d>x<a/>y</d>", '<add sel="d/a" pos="after">1</add>', "<d>x<a/>1y</d>"),
    ("before a text", "<d>x<a/>y</d>", '<add sel="d/text()[2]" pos="before"><b/></add>', "<d>x<a/><b/>y</d>"),
    ("after a text", "<d>x<a/>y</d>", '<add sel="d/text()[1]" pos="after"><b/></add>', "<d>x<b/><a/>y</d>"),
    ("before a comment", "<d><!--c--></d>", '<add sel="d/comment()" pos="before"><b/></add>', "<d><b/><!--c--></d>"),
    # white space that goes with what is removed
    ("remove", "<d>1<a/>2<b/></d>", '<remove sel="d/a"/>', "<d>12<b/></d>"),
    ("ws before", "<d>\n <a/>\n <b/></d>", '<remove sel="d/b" ws="before"/>', "<d>\n <a/></d>"),
    ("ws after", "<d>\n <a/>\n <b/></d>", '<remove sel="d/a" ws="after"/>', "<d>\n <b/></d>"),
    ("ws both", "<d> <a/> <b/></d>", '<remove sel="d/a" ws="both"/>', "<d><b/></d>"),
    ("tail text", "<d>x<a/>y</d>", '<remove sel="d/text()[2]"/>', "<d>x<a/></d>"),
    ("empty text", "<d>x<a/></d>", '<replace sel="d/text()"/>', "<d><a/></d>"),
    # replacing
    ("element", "<d>x<a/>y</d>", '<replace sel="d/a"> <b><c/></b>\n</replace>', "<d>x<b><c/></b>y</d>"),
    ("tail", "<d>x<a/>y</d>", '<replace sel="d/text()[last()]">z</replace>', "<d>x<a/>z</d>"),
    (
        "root",
        "<!--1--><?p 2?><d/><!--3--><?q 4?>",
        '<replace sel="d"><e/></replace>',
        "<!--1--><?p 2?><e/><!--3--><?q 4?>",
    ),
    # selectors
    ("absolute", "<d><a/></d>", '<remove sel="/d/a"/>', "<d/>"),
    ("any", "<d><a/></d>", '<remove sel="*/*"/>', "<d/>"),
    (
        "child value",
        "<d><a><b v='1'/></a><a><b v='2'/></a></d>",
        "<remove sel=\"d/a[b/@v='2']\"/>",
        '<d><a><b v="1"/></a></d>',
    ),
    ("element value", "<d><a>1</a><a>2</a></d>", "<remove sel=\"d/a[.='2']\"/>", "<d><a>1</a></d>"),
    (
        "and",
        "<d><a v='1' w='1'/><a v='1'/></d>",
        "<remove sel=\"d/a[@v='1' and not(@w)]\"/>",
        '<d><a v="1" w="1"/></d>',
    ),
    ("axes", "<d><a v='1'/></d>", '<remove sel="child::d/child::a/attribute::v"/>', "<d><a/></d>"),
    ("position", "<d><a/><b/><a/></d>", '<remove sel="d/a[position()=2]"/>', "<d><a/><b/></d>"),
    ("contains", "<d><a>xy</a><a>x</a></d>", "<remove sel=\"d/a[contains(text(), 'y')]\"/>", "<d><a>x</a></d>"),
    ("count", "<d><a/><a><b/></a></d>", '<remove sel="d/a[count(b) = 1]"/>', "<d><a/></d>"),
    ("named and", "<d><and><or/></and></d>", '<remove sel="d/and[or and or]/or"/>', "<d><and/></d>"),
]


@pytest.mark.parametrize(("doc", "operation", "expected"), [pytest.param(*case[1:], id=case[0]) for case in CHANGED])
def test_an_operation_does_what_rfc_5261_says(doc: str, operation: str, expected: str) -> None:
    """To the last character of white space."""
    assert patched(doc, operation).replace("?>\n", "?>") == expected.replace("?>\n", "?>")


FHIR = 'xmlns="http://hl7.org/fhir"'
PATIENT = f"""<Patient {FHIR}>
  <active value="true"/><!-- kept -->
  <text><div xmlns="http://www.w3.org/1999/xhtml"><p>A &amp; B</p></div></text>
</Patient>"""


@pytest.mark.parametrize(
    ("namespaces", "selector"),
    [
        ("", "f:Patient/f:active/@value"),
        ("", "/f:Patient/f:active[@value='true']/@value"),
        (FHIR, "Patient/active/@value"),
        (FHIR, "Patient/active/attribute::value"),
        ('xmlns:fhir="http://hl7.org/fhir"', "fhir:Patient/fhir:active/@value"),
        ('xmlns:fhir="http://hl7.org/fhir" xmlns="urn:other"', "fhir:Patient/fhir:*[@value='true']/@value"),
        (
            'xmlns:f="http://hl7.org/fhir" xmlns:g="http://www.w3.org/1999/xhtml"',
            "f:Patient[f:text/g:div]/f:active/@value",
        ),
    ],
)
def test_names_in_selectors_are_in_the_namespaces_of_the_patch(namespaces: str, selector: str) -> None:
    """RFC 5261 section 4.2.2: unprefixed ones in its default namespace; `f` is FHIR where it is not declared."""
    operation = f'<replace sel="{selector}">false</replace>'
    assert patched(PATIENT, operation, namespaces=namespaces) == PATIENT.replace("true", "false")


def test_a_prefix_declared_by_the_patch_wins_over_ours() -> None:
    """`f` is only a convention."""
    with pytest.raises(PatchFailed, match="the selector matches no node"):
        patched(PATIENT, '<remove sel="f:Patient/f:active"/>', namespaces='xmlns:f="urn:other"')


def test_unprefixed_names_are_in_no_namespace_without_a_default_one() -> None:
    """As in XPath 1.0."""
    with pytest.raises(PatchFailed, match="the selector matches no node"):
        patched(PATIENT, '<remove sel="Patient/active"/>')


@pytest.mark.parametrize("prefix", ["", "f", "x"])
def test_what_is_added_takes_the_prefixes_of_the_document(prefix: str) -> None:
    """RFC 5261 section 4.2.3: the same element, however the patch wrote its namespace."""
    name, declared = (f"{prefix}:gender", f"xmlns:{prefix}") if prefix else ("gender", "xmlns")
    operation = f'<add sel="f:Patient" xmlns:f="http://hl7.org/fhir"><{name} value="male"/></add>'
    result = patched(PATIENT, operation, namespaces=f'{declared}="http://hl7.org/fhir"')
    assert result == PATIENT.replace("</Patient>", '<gender value="male"/></Patient>')


def test_an_attribute_may_be_in_a_namespace() -> None:
    """Its prefix is that of the patch."""
    add = '<add sel="d" type="@p:a">1</add>'
    assert patched('<d xmlns:q="urn:p"/>', add, namespaces='xmlns:p="urn:p"') == '<d xmlns:q="urn:p" q:a="1"/>'
    with pytest.raises(PatchFailed, match="the prefix of the attribute is not declared"):
        patched("<d/>", add)


@pytest.mark.parametrize("operation", ['<add sel="f:d"><a/></add>', '<replace sel="f:d/f:b"><a/></replace>'])
def test_an_element_of_no_namespace_is_no_element_of_the_default_one(operation: str) -> None:
    """A patch that forgot to say that its elements are FHIR is refused; `xmlns=""` says that they are not."""
    doc = f"<d {FHIR}><b/></d>"
    with pytest.raises(PatchFailed, match="declare it in the patch"):
        patched(doc, operation)
    operation = operation.replace("<a/>", '<a xmlns=""><c/></a>')
    assert '<a xmlns=""><c/></a>' in patched(doc, operation)


def test_a_prefix_can_be_declared_in_an_element_of_no_namespace() -> None:
    """Also where the default one does not hold."""
    assert patched("<d><a/>x</d>", '<add sel="d/a" type="namespace::p">urn:p</add>') == '<d><a xmlns:p="urn:p"/>x</d>'
    bare = f'<d {FHIR}><a xmlns=""/></d>'
    declared = patched(bare, '<add sel="f:d/a" type="namespace::p">urn:p</add>')
    assert etree.fromstring(declared)[0].nsmap == {None: "", "p": "urn:p"}


@pytest.mark.parametrize(
    "doc",
    [
        PATIENT,
        '<?xml version="1.0" encoding="UTF-8"?>\n<d/>'.replace('"', "'"),
        "<!--before--><?pi x?><d/><!--after-->",
        f'<d {FHIR} xmlns:unused="urn:u" b="2" a="1">\n\t<c v="1.50 &#10;&amp; é"/> <!-- - --> </d>',
    ],
)
def test_what_no_operation_touches_stays_as_it_was(doc: str) -> None:
    """White space, comments, order, unused prefixes; an operation and its opposite leave the same text."""
    operations = '<add sel="*" type="@new">x</add>', '<remove sel="*/@new"/>'
    assert patched(doc, *operations).replace("?>\n", "?>") == doc.replace("?>\n", "?>")


REFUSED: list[tuple[str, str]] = [
    ('<remove sel="d/x"/>', "operation 0 (remove d/x): the selector matches no node, and must match one"),
    ('<remove sel="d/a"/>', "operation 0 (remove d/a): the selector matches 2 nodes, and must match one"),
    ("<remove sel=\"d/a[@v='DUPONT']\"/>", "operation 0 (remove d/a[@v='…']): the selector matches no node"),
    ("<remove sel='d/a[@v=\"DUPONT\"]'/>", "operation 0 (remove d/a[@v='…']): the selector matches no node"),
    ('<remove sel="d/a[@v=185027512345678]"/>', "operation 0 (remove d/a[@v=…]): the selector matches no node"),
    ('<remove sel="d"/>', "neither the root element nor what stands outside it is removed"),
    ('<remove sel="/comment()"/>', "neither the root element nor what stands outside it is removed"),
    ('<replace sel="/comment()"><!--x--></replace>', "what stands outside the root element is not changed"),
    ('<add sel="d" pos="before"><x/></add>', "nothing can be added beside the root element"),
    ('<add sel="d" pos="after"><x/></add>', "nothing can be added beside the root element"),
    ('<add sel="d/b/@v">x</add>', "what has no children takes none"),
    ('<add sel="d/b/text()">x</add>', "what has no children takes none"),
    ('<add sel="d/comment()"><x/></add>', "what has no children takes none"),
    ('<add sel="d/b/@v" pos="after"><x/></add>', "nothing stands before or after an attribute"),
    ('<add sel="d/b" type="@v">x</add>', "the attribute is there already"),
    ('<add sel="d/b" type="@w"><x/></add>', "the operation must hold text only"),
    ('<add sel="d/b/@v" type="@w">x</add>', "the selector must match an element"),
    ('<add sel="d" type="namespace::p">urn:x</add>', "the prefix is declared there already"),
    ('<add sel="d" type="namespace::q"/>', "a prefix must be declared for some namespace"),
    ('<add sel="d/namespace::p">urn:x</add>', "a declaration is added with `type`"),
    ('<remove sel="d/namespace::q"/>', "operation 0 (remove d/namespace::q): the prefix is not declared there"),
    ('<remove sel="d/b/namespace::p"/>', "the prefix is not declared there"),
    ('<remove sel="d/b/@v/namespace::p"/>', "the prefix is not declared there"),
    ('<remove sel="d/namespace::p"/>', "names in the document use the declaration"),
    ('<replace sel="d/namespace::p">urn:x</replace>', "names in the document use the declaration"),
    ('<replace sel="d/b">x</replace>', "the replacement must be one node of the same kind"),
    ('<replace sel="d/b"><x/><y/></replace>', "the replacement must be one node of the same kind"),
    ('<replace sel="d/b"><!--x--></replace>', "the replacement must be one node of the same kind"),
    ('<replace sel="d/comment()"><x/></replace>', "the replacement must be one node of the same kind"),
    ('<replace sel="d/b">x<x/></replace>', "there is text beside the replacement"),
    ('<replace sel="d/b/@v"><x/></replace>', "the operation must hold text only"),
    ('<remove sel="d/b" ws="after"/>', "white space that is not there or not alone"),
    ('<remove sel="d/b" ws="before"/>', "white space that is not there or not alone"),
    ('<remove sel="d/b/@v" ws="after"/>', "`ws` goes with the removal of an element"),
    ('<remove sel="d/b/text()" ws="after"/>', "`ws` goes with the removal of an element"),
    ('<remove sel="d[contains(b)]"/>', "the selector cannot be evaluated"),
    ("<remove sel=\"d='x'\"/>", "the selector is no path"),
]


@pytest.mark.parametrize(("operation", "said"), REFUSED)
def test_an_operation_that_does_not_fit_is_refused(operation: str, said: str) -> None:
    """422, with the operation, its selector without literals, and what is wrong."""
    doc = '<!--c--><d xmlns:p="urn:p"><a/><a v="MARTIN"/>x<b v="1">y</b><!--c--><p:e/></d>'
    with pytest.raises(PatchFailed) as refused:
        patched(doc, operation)
    assert said in refused.value.diagnostics
    assert not any(word in refused.value.diagnostics for word in ("DUPONT", "MARTIN", "1850"))
    assert (refused.value.status, refused.value.code) == (422, "processing")


def test_the_operation_that_failed_is_named() -> None:
    """They are counted from 0, and the first ones were applied to the document that the last one met."""
    operations = '<add sel="d"><a/></add>', '<remove sel="d/a"/>', '<remove sel="d/a"/>'
    with pytest.raises(PatchFailed, match=r"^operation 2 \(remove d/a\): the selector matches no node"):
        patched("<d/>", *operations)


MALFORMED: list[tuple[str, str]] = [
    ("", "the patch has no operation"),
    ("<!-- nothing -->", "the patch has no operation"),
    ('<move sel="d"/>', "operation 0: must be `add`, `replace` or `remove`"),
    ('<remove sel="d"/><Add sel="d"/>', "operation 1: must be `add`, `replace` or `remove`"),
    ("<remove/>", "operation 0 (remove): `sel` must be a selector"),
    ('<remove sel=" "/>', "operation 0 (remove): `sel` must be a selector"),
    (f'<remove sel="{"a/" * 2000}a"/>', "operation 0 (remove): `sel` must be a selector of at most 2000 characters"),
    ('<add sel="d" pos="first"/>', "operation 0 (add): `pos` must be one of before, after, prepend"),
    ('<remove sel="d" ws="all"/>', "operation 0 (remove): `ws` must be one of before, after, both"),
    ('<add sel="d" type="v"/>', "operation 0 (add): `type` must be `@name` or `namespace::prefix`"),
    (
        '<add sel="d" type="@v" pos="after"/>',
        "operation 0 (add): `type` must be `@name` or `namespace::prefix`, without `pos`",
    ),
    ('<remove sel="d["/>', "operation 0 (remove): `sel` is not XPath 1.0"),
    ('<remove sel="d/"/>', "operation 0 (remove): `sel` is not XPath 1.0"),
    ('<remove sel="/namespace::p"/>', "operation 0 (remove): `sel` is not understood"),
    ('<remove sel="d[@a=\'DUPONT]"/>', "`sel` is not understood: it cannot be read at character 5"),
    ('<remove sel="d - e"/>', "it cannot be read at character 1"),
    ('<remove sel="d|e"/>', "it cannot be read at character 1"),
    ('<remove sel="$x"/>', "it cannot be read at character 0"),
    ('<remove sel="//d"/>', "`//` is not allowed here"),
    ('<remove sel="d/ /e"/>', "`//` is not allowed here"),
    ('<remove sel="d/../d"/>', "`..` is not allowed here"),
    ('<remove sel="d/ancestor::d"/>', "it uses an axis that does not go down"),
    ('<remove sel="descendant::d"/>', "it uses an axis that does not go down"),
    ('<remove sel="d[/d]"/>', "a path within a predicate must not start at the document"),
    ('<remove sel="d[not(/d)]"/>', "a path within a predicate must not start at the document"),
    ('<remove sel="d[a = b]"/>', "one side of a comparison must be a literal"),
    ("<remove sel=\"id('x')\"/>", "it uses a function that is not known here"),
    ("<remove sel=\"d[document('x')]\"/>", "it uses a function that is not known here"),
    ('<remove sel="d[a * 2]"/>', "it has an operator that is not known here"),
    ('<remove sel="d[a mod 2]"/>', "it has an operator that is not known here"),
    ('<remove sel="q:d"/>', "a prefix is not declared in the patch"),
]


@pytest.mark.parametrize(("operation", "said"), MALFORMED)
def test_what_is_no_xml_patch_is_refused_as_such(operation: str, said: str) -> None:
    """400, before anything is applied; what could cost without end is not understood."""
    with pytest.raises(BadSyntax) as refused:
        patched("<d/>", operation)
    assert said in refused.value.diagnostics
    assert "DUPONT" not in refused.value.diagnostics


ENTITIES = '<!DOCTYPE d [<!ENTITY e "expanded">]>'
PATCH = '<diff><add sel="d">x</add></diff>'


@pytest.mark.parametrize(
    ("doc", "patch", "said"),
    [
        ("", PATCH, "the document is not XML"),
        ("<d>", PATCH, "the document is not XML: line 1"),
        ("<d/>", "<diff>", "the patch is not XML: line 1"),
        ("<d/>", "[]", "the patch is not XML: line 1"),
        ("<d>&e;</d>", PATCH, "the document is not XML: line 1"),
        (ENTITIES + "<d>&e;</d>", PATCH, "the document has a document type declaration"),
        (ENTITIES + "<d a='&e;'/>", PATCH, "the document has a document type declaration"),
        ("<!DOCTYPE d SYSTEM 'file:///etc/hostname'><d/>", PATCH, "the document has a document type declaration"),
        ("<d/>", ENTITIES + '<diff><add sel="d">&e;</add></diff>', "the patch has a document type declaration"),
        ("<d/>", "<!DOCTYPE diff>" + PATCH, "the patch has a document type declaration"),
        ("<d>" * 300 + "</d>" * 300, PATCH, "the document is not XML"),
    ],
)
def test_entities_and_what_is_no_xml_are_refused(doc: str, patch: str, said: str) -> None:
    """400; nothing is expanded and nothing is fetched."""
    with pytest.raises(BadSyntax) as refused:
        apply_xml_patch(doc.encode(), patch.encode())
    assert said in refused.value.diagnostics
    assert "expanded" not in refused.value.diagnostics


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Elements, texts and comments in any order."""
    texts = st.sampled_from(["", "x", " \n ", "y&amp;"])
    leaves = texts | st.sampled_from(["<!--c-->", "<?p i?>", "<a/>", '<b v="1"/>'])
    inside = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4).map(lambda some: f"<a>{''.join(some)}</a>"))
    return f"<d>{''.join(draw(st.lists(inside, max_size=5)))}</d>"


@given(documents(), st.data())
def test_what_was_added_anywhere_can_be_removed_again(doc: str, data: st.DataObject) -> None:
    """And the document is then what it was, to the byte."""
    doc = etree.tostring(etree.fromstring(doc)).decode()
    tree = etree.fromstring(doc).getroottree()
    elements = [tree.getpath(element).removeprefix("/") for element in tree.iter(etree.Element)]
    place = data.draw(st.sampled_from(elements))
    position = data.draw(st.sampled_from(["", 'pos="prepend"'] + ['pos="before"', 'pos="after"'] * (place != "d")))
    added = patched(doc, f'<add sel="{place}" {position}><new/></add>')
    new = etree.fromstring(added).getroottree()
    there = new.getpath(new.find(".//new")).removeprefix("/")
    assert patched(added, f'<remove sel="{there}"/>') == doc


TOKENS = [
    "d",
    "a",
    "f:a",
    "*",
    "/",
    "[",
    "]",
    "@",
    "=",
    "'x'",
    "1",
    "and",
    "not(",
    ")",
    "text()",
    "last()",
    ".",
    "namespace::p",
]


@given(st.lists(st.sampled_from(TOKENS), max_size=8).map("".join), st.sampled_from(["add", "replace", "remove"]))
def test_any_selector_is_followed_or_refused(selector: str, kind: str) -> None:
    """No text makes it raise anything but BadSyntax or PatchFailed."""
    try:
        result = patched('<d xmlns:p="urn:p"><a x="1">x</a><!--c--></d>', f'<{kind} sel="{selector}"><b/></{kind}>')
    except (BadSyntax, PatchFailed) as refusal:
        assert refusal.diagnostics
    else:
        assert result.startswith(("<d ", "<b/>"))  # the whole document may be replaced
