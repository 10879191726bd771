"""The XML form of R4: nothing is lost on the way there or back, and what is not R4 is refused with its place."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - lxml tells no types

from fhir_server.outcomes import BadSyntax, NotAcceptable
from fhir_server.r4.narrative import DIV
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.r4.structure import DEEPEST, check
from fhir_server.r4.xml import FHIR, MOST_FAULTS, to_json, to_xml

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "fhir-r4" / "examples"
XML_FILES = sorted(OFFICIAL.glob("*.xml"))
HEAD = b'<?xml version="1.0" encoding="UTF-8"?>'
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'

Json = dict[str, Any]


class Digits(str):
    """A JSON number as it was written, equal to nothing else."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return type(other) is Digits and str.__eq__(self, other)


def members(doc: bytes, number: Callable[[str], Any] = Digits) -> Any:
    """What a JSON document says: the text of its numbers or their value, the canonical form of its narratives."""

    def canonical(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: canonical(item) for name, item in value.items()}
        if isinstance(value, list):
            return [canonical(item) for item in value]
        if type(value) is str and value.startswith("<div"):
            return etree.canonicalize(value)
        return value

    return canonical(json.loads(doc, parse_float=number, parse_int=number))


def canonical_xml(xml: bytes) -> bytes:
    """What an XML document says: without comments, and without what stands between its elements."""
    root = etree.fromstring(xml, etree.XMLParser(remove_comments=True))
    for node in root.iter():
        if node.tag.startswith(f"{{{FHIR}}}"):
            node.text = None
            node.tail = None
        elif node.tag == DIV and node.getparent().tag == f"{{{FHIR}}}text":
            node.tail = None
    return etree.tostring(root, method="c14n")


def body(resource: Json) -> str:
    """The XML of a resource without what is the same for all."""
    xml = to_xml(json.dumps(resource).encode())
    assert xml.startswith(HEAD)
    return xml.removeprefix(HEAD).decode().replace(f' xmlns="{FHIR}"', "")


def patient(content: str) -> bytes:
    """A Patient in XML."""
    return f'<Patient xmlns="{FHIR}">{content}</Patient>'.encode()


def read(content: str) -> Json:
    """The JSON of a Patient in XML, but for its type."""
    resource = json.loads(to_json(patient(content)))
    assert resource.pop("resourceType") == "Patient"
    return resource


# The examples of HL7


def test_every_json_example_comes_back_as_it_was(example_file: Path) -> None:
    """With the text of its numbers."""
    doc = example_file.read_bytes()
    assert members(to_json(to_xml(doc))) == members(doc)


@pytest.mark.skipif(not XML_FILES, reason="the R4 examples are not at hand")
@pytest.mark.parametrize("file", XML_FILES, ids=lambda file: file.name)
def test_every_xml_example_comes_back_as_it_was(file: Path) -> None:
    """Its JSON is R4, and the XML of that is canonically its own."""
    xml = file.read_bytes()
    doc = to_json(xml)
    assert check(json.loads(doc)) == []
    assert canonical_xml(to_xml(doc)) == canonical_xml(xml)


@pytest.mark.skipif(not XML_FILES, reason="the R4 examples are not at hand")
@pytest.mark.parametrize(
    "file", [file for file in XML_FILES if file.with_suffix(".json").exists()], ids=lambda file: file.name
)
def test_the_two_forms_that_hl7_publishes_are_each_made_of_the_other(file: Path) -> None:
    """Neither is ours, so this is a second opinion; HL7 itself writes 1E-22 for 0.0000000000000000000001."""
    ours = members(to_json(file.read_bytes()), Decimal)
    if file.stem == "observation-example":
        del ours["extension"]  # which only the XML has
    assert ours == members(file.with_suffix(".json").read_bytes(), Decimal)


@pytest.mark.parametrize(
    "name",
    [
        "condition-example", "documentreference-example", "list-example", "observation-example", "parameters-example",
        "patient-example", "questionnaireresponse-example-bluebook",
    ],
)  # fmt: skip
def test_a_foreign_library_reads_our_xml_and_we_read_its(example: Callable[[str], Json], name: str) -> None:
    """fhir.resources finds the same resource in the XML as in the JSON; it writes 185.0 for 185."""
    resource = example(name)
    kind = resource["resourceType"]
    model = getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
    theirs = model.model_validate(resource)
    ours = model.model_validate_xml(to_xml(json.dumps(resource).encode()))
    assert members(ours.model_dump_json().encode()) == members(theirs.model_dump_json().encode())
    assert members(to_json(theirs.model_dump_xml()), Decimal) == members(theirs.model_dump_json().encode(), Decimal)


# How things are written


@pytest.mark.parametrize(
    ("element", "xml"),
    [
        ({"active": True}, '<active value="true"/>'),
        ({"birthDate": "1980-02-29"}, '<birthDate value="1980-02-29"/>'),
        ({"multipleBirthInteger": 2}, '<multipleBirthInteger value="2"/>'),
        ({"id": "p1"}, '<id value="p1"/>'),
        (
            {"id": "p1", "_id": {"extension": [{"url": "u", "valueCode": "c"}]}},
            '<id value="p1"><extension url="u"><valueCode value="c"/></extension></id>',
        ),
        ({"name": [{"id": "n", "text": "É <&\"'>"}]}, '<name id="n"><text value="É &lt;&amp;&quot;\'&gt;"/></name>'),
        ({"name": [{"text": "a\tb\r\nc"}]}, '<name><text value="a&#9;b&#13;&#10;c"/></name>'),
        ({"name": [{"text": " 🩺 "}]}, '<name><text value=" 🩺 "/></name>'),
        (
            {"extension": [{"id": "e", "url": "u", "valueDecimal": 5}]},
            '<extension id="e" url="u"><valueDecimal value="5"/></extension>',
        ),
        (
            {"birthDate": "1980", "_birthDate": {"id": "b"}},
            '<birthDate id="b" value="1980"></birthDate>',
        ),
        (
            {"_birthDate": {"extension": [{"url": "u", "valueString": "s"}]}},
            '<birthDate><extension url="u"><valueString value="s"/></extension></birthDate>',
        ),
        (
            {"name": [{"given": ["A", None, "C"], "_given": [{"id": "a"}, {"extension": [{"url": "u"}]}, None]}]},
            '<name><given id="a" value="A"></given><given><extension url="u"></extension></given>'
            '<given value="C"/></name>',
        ),
        (
            {"name": [{"_given": [{"extension": [{"url": "u"}]}]}]},
            '<name><given><extension url="u"></extension></given></name>',
        ),
        (
            {"contained": [{"resourceType": "Organization", "id": "o"}, {"resourceType": "Device", "id": "d"}]},
            '<contained><Organization><id value="o"/></Organization></contained>'
            '<contained><Device><id value="d"/></Device></contained>',
        ),
        (
            {"text": {"status": "generated", "div": f"<div {XHTML}><p>1 &lt; 2<br/></p></div>"}},
            f'<text><status value="generated"/><div {XHTML}><p>1 &lt; 2<br/></p></div></text>',
        ),
    ],
)  # fmt: skip
def test_each_thing_has_its_form(element: Json, xml: str) -> None:
    """https://hl7.org/fhir/R4/xml.html - and JSON is found again in it."""
    assert body({"resourceType": "Patient", **element}) == f"<Patient>{xml}</Patient>"
    assert read(xml) == element


@pytest.mark.parametrize("number", ["1.00", "0.010", "-0.0", "1e3", "1.0E-24", "-0", "12345678901234567890.10", "100"])
def test_the_digits_of_a_number_stay(number: str) -> None:
    """Precision is a part of a decimal: https://hl7.org/fhir/R4/datatypes.html#decimal."""
    doc = f'{{"resourceType":"Observation","valueQuantity":{{"value":{number}}}}}'.encode()
    xml = to_xml(doc)
    assert f'<value value="{number}"/>'.encode() in xml
    assert to_json(xml) == doc


def test_elements_are_written_in_the_order_of_the_definition() -> None:
    """Whatever their order in JSON."""
    doc = {
        "birthDate": "1980",
        "name": [{"given": ["A"], "family": "B"}],
        "_gender": {"id": "g"},
        "resourceType": "Patient",
        "gender": "female",
        "id": "p",
        "meta": {"tag": [{"code": "t"}], "versionId": "1"},
    }
    names = re.findall(r"<(\w+)", body(doc))
    assert names == [
        "Patient", "id", "meta", "versionId", "tag", "code", "name", "family", "given", "gender", "birthDate",
    ]  # fmt: skip


def test_a_bundle_and_parameters_hold_whole_resources() -> None:
    """In a bare wrapper, at any depth."""
    inner = {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": {"resourceType": "Patient", "id": "p"}}]}
    doc = {"resourceType": "Parameters", "parameter": [{"name": "a", "part": [{"name": "b", "resource": inner}]}]}
    assert body(doc) == (
        '<Parameters><parameter><name value="a"/><part><name value="b"/><resource><Bundle><type value="batch"/>'
        '<entry><resource><Patient><id value="p"/></Patient></resource></entry></Bundle></resource></part></parameter>'
        "</Parameters>"
    )
    assert json.loads(to_json(to_xml(json.dumps(doc).encode()))) == doc


def test_the_named_characters_of_html_become_characters() -> None:
    """XML knows five of them without a DOCTYPE, and a DOCTYPE is not allowed."""
    div = f"<div {XHTML}>&eacute;&nbsp;&lt;&amp;&#233;</div>"
    assert "é\u00a0&lt;&amp;&#233;" in body({"resourceType": "Patient", "text": {"status": "generated", "div": div}})


# How things are read


@pytest.mark.parametrize(
    "xml",
    [
        f'<f:Patient xmlns:f="{FHIR}"><f:active value="true"/></f:Patient>',
        f'\ufeff<?xml version="1.0"?><!-- <!DOCTYPE a> --><?a b?>\n'
        f'<Patient xmlns="{FHIR}"><active value="true"/></Patient>',
        f'<Patient xmlns="{FHIR}">\n <!-- c --> <?a b?><active value="true"> <!-- c --> </active>\n</Patient><?a b?>',
        f'<Patient xmlns="{FHIR}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{FHIR} ../patient.xsd"><active value="true"/></Patient>',
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        f'<Patient xmlns="{FHIR}"><active value="&#116;rue"></active></Patient>',
    ],
)  # fmt: skip
def test_what_says_nothing_is_passed_over(xml: str) -> None:
    """Prefixes, comments, processing instructions, white space, the place of a schema."""
    assert json.loads(to_json(xml.encode())) == {"resourceType": "Patient", "active": True}


def test_elements_may_come_in_another_order() -> None:
    """R4's schemas have one, and JSON has none."""
    content = (
        '<birthDate value="1980"/><name><given value="A"/><given value="B"/><family value="C"/></name><id value="p"/>'
    )
    assert read(content) == {"birthDate": "1980", "name": [{"given": ["A", "B"], "family": "C"}], "id": "p"}


@pytest.mark.parametrize(
    ("div", "text"),
    [
        (f"<h:div {XHTML.replace('=', ':h=')} class='c'>a<h:b>c</h:b>d</h:div>", ' class="c">a<b>c</b>d</div>'),
        (f"<div {XHTML} xml:lang='fr'><p>a<!-- c --></p>\n b </div>", ' xml:lang="fr"><p>a<!-- c --></p>\n b </div>'),
        (f"<div {XHTML}><![CDATA[<b>]]>&#233;</div>\n", ">&lt;b&gt;é</div>"),
    ],
)  # fmt: skip
def test_a_narrative_becomes_a_text_that_stands_for_itself(div: str, text: str) -> None:
    """With the namespace of XHTML as its own, and no prefix from around it."""
    found = read(f'<text xmlns:o="urn:o"><status value="empty"/>{div}</text>')["text"]["div"]
    assert found == f"<div {XHTML}{text}"


def test_a_whole_number_may_have_a_plus() -> None:
    """R4 allows it, JSON does not."""
    assert read('<multipleBirthInteger value="+2"/>') == {"multipleBirthInteger": 2}


def test_resource_type_comes_first_and_the_rest_as_in_the_document() -> None:
    """So that a reader of JSON knows at once what it has."""
    xml = patient('<contained><Device><id value="d"/></Device></contained><id value="p"/>')
    assert to_json(xml) == b'{"resourceType":"Patient","contained":[{"resourceType":"Device","id":"d"}],"id":"p"}'


# Refused XML

EXTENDED = "Patient.extension[0].value"


@pytest.mark.parametrize(
    ("content", "code", "expression", "why"),
    [
        ('<colour value="red"/>', "structure", "Patient.colour", "no such element"),
        ('<name><given value="a"/><colour/></name>', "structure", "Patient.name[0].colour", "no such element"),
        ('<active xmlns="urn:other" value="true"/>', "structure", "Patient.active", "no such element"),
        ('<active xmlns="" value="true"/>', "structure", "Patient.active", "no such element"),
        ('<text><status value="empty"/><div>a</div></text>', "structure", "Patient.text.div", "no such element"),
        ('<active value="true" colour="red"/>', "structure", "Patient.active", "no such attribute"),
        ('<active value="true" xml:lang="fr"/>', "structure", "Patient.active", "no such attribute"),
        ('<name value="a"><text value="b"/></name>', "structure", "Patient.name[0]", "no such attribute"),
        ('<name url="a"><text value="b"/></name>', "structure", "Patient.name[0]", "no such attribute"),
        ('<extension><url value="a"/></extension>', "structure", "Patient.extension[0].url", "no such element"),
        ('<name><id value="a"/></name>', "structure", "Patient.name[0].id", "no such element"),
        ('a<active value="true"/>', "structure", "Patient", "no text"),
        ('<active value="true"/>a', "structure", "Patient", "no text"),
        ("<active>true</active>", "structure", "Patient.active", "no text"),
        ('<name><!-- c -->b<text value="a"/></name>', "structure", "Patient.name[0]", "no text"),
        ('<active value="true"/><active value="true"/>', "structure", "Patient.active", "repeated"),
        ('<active id="a"/><active value="true"/>', "structure", "Patient.active", "repeated"),
        (
            '<name><text value="a"/></name><active value="true"/><name><text value="a"/></name>',
            "structure", "Patient.name[1]", "follow",
        ),
        ("<active/>", "value", "Patient.active", "empty"),
        ('<active value=""/>', "value", "Patient.active", "empty"),
        ('<name id=""><text value="a"/></name>', "value", "Patient.name[0]", "empty"),
        ("<name><!-- c --></name>", "value", "Patient.name[0]", "empty"),
        ('<active value="1"/>', "value", "Patient.active", "true or false"),
        ('<deceasedBoolean value="True"/>', "value", "Patient.deceased", "true or false"),
        ('<multipleBirthInteger value="1.0"/>', "value", "Patient.multipleBirth", "whole number"),
        ('<multipleBirthInteger value="01"/>', "value", "Patient.multipleBirth", "whole number"),
        ('<multipleBirthInteger value="١"/>', "value", "Patient.multipleBirth", "whole number"),
        ('<extension url="u"><valueDecimal value="+1.0"/></extension>', "value", EXTENDED, "decimal"),
        ('<extension url="u"><valueDecimal value="1,&quot;a&quot;"/></extension>', "value", EXTENDED, "decimal"),
        ('<extension url="u"><valueDecimal value="NaN"/></extension>', "value", EXTENDED, "decimal"),
        ("<contained/>", "structure", "Patient.contained[0]", "one resource type"),
        ("<contained><Device/><Device/></contained>", "structure", "Patient.contained[0]", "one resource type"),
        ("<contained><Dragon/></contained>", "structure", "Patient.contained[0]", "one resource type"),
        ('<contained id="a"><Device/></contained>', "structure", "Patient.contained[0]", "no such attribute"),
        ("<contained>a<Device/></contained>", "structure", "Patient.contained[0]", "no text"),
        ('<contained><Device id="d"/></contained>', "structure", "Patient.contained[0]", "no such attribute"),
        ("<contained><Device><a/></Device></contained>", "structure", "Patient.contained[0].a", "no such element"),
    ],
)  # fmt: skip
def test_what_is_not_the_xml_of_r4_is_refused(content: str, code: str, expression: str, why: str) -> None:
    """With one issue that says what and where, in FHIRPath."""
    with pytest.raises(BadSyntax) as refusal:
        to_json(patient(content))
    (issue,) = refusal.value.issues
    assert (issue.severity, issue.code, issue.expression) == ("error", code, expression)
    assert why in issue.diagnostics


def test_every_fault_is_told_at_once() -> None:
    """So that a sender need not come back for each."""
    with pytest.raises(BadSyntax) as refusal:
        to_json(patient('<colour/><active value="1"/><name>a</name><name use="x"/><contact><gender/></contact>'))
    assert [issue.expression for issue in refusal.value.issues] == [
        "Patient.colour", "Patient.active", "Patient.name[0]", "Patient.name[1]", "Patient.contact[0].gender",
    ]  # fmt: skip


def test_a_document_full_of_faults_is_not_read_to_its_end() -> None:
    """Places cost time."""
    before = perf_counter()
    with pytest.raises(BadSyntax) as refusal:
        to_json(patient("<name/>" * 100_000))
    assert len(refusal.value.issues) == MOST_FAULTS
    assert perf_counter() - before < 1


@pytest.mark.parametrize(
    "root", ["<Patient/>", '<Patient xmlns="urn:hl7-org:v3"/>', f'<Dragon xmlns="{FHIR}"/>', "<a/>"]
)
def test_the_root_is_a_resource_in_the_namespace_of_fhir(root: str) -> None:
    """And not a document of HL7 v3, for one."""
    with pytest.raises(BadSyntax) as refusal:
        to_json(root.encode())
    assert refusal.value.issues[0].code == "structure"


@pytest.mark.parametrize(
    ("xml", "line", "column"),
    [
        (b"", 1, 1),
        (b'{"resourceType":"Patient"}', 1, 1),
        (b"<Patient>\n <name></nam>\n</Patient>", 2, 14),
        (b"<Patient>\n <name>\n", 3, 1),
        (b"<a/><b/>", 1, 5),
        (b'<a b="\xe9"/>', 1, 7),
        ('<?xml version="1.0" encoding="utf-16"?><a/>'.encode("utf-16"), 1, 1),
        (b"<a>&nbsp;</a>", 1, 10),
        (b"<a>&#0;</a>", 1, 8),
    ],
)
def test_what_is_not_well_formed_is_refused_with_line_and_column(xml: bytes, line: int, column: int) -> None:
    """And without a word of the document."""
    with pytest.raises(BadSyntax) as refusal:
        to_json(xml)
    assert f"at line {line}, column {column}" in refusal.value.diagnostics
    assert "nbsp" not in refusal.value.diagnostics


ENTITIES = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    "xml",
    [
        f'<!DOCTYPE a [<!ENTITY a0 "lol">{ENTITIES}]>'.encode() + patient('<language value="&a11;"/>'),
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + patient('<language value="&x;"/>'),
        b'\xef\xbb\xbf<?xml version="1.0"?><!-- > --><?a > ?>\n<!DOCTYPE a SYSTEM "http://localhost/a">' + patient(""),
        b"<!DOCTYPE Patient>" + patient(""),
        patient("<a>" * 10_000 + "</a>" * 10_000),
        patient('<extension url="u">' * 10_000),
        patient('<extension url="u">' * 200 + "</extension>" * 200),
        b"<!-- " * 100_000,
        b"<?a " * 100_000,
        b"<?a?> " * 100_000,
    ],
    ids=["laughs", "external", "dtd", "doctype", "deep", "unclosed", "nested", "comments", "instruction", "prolog"],
)  # fmt: skip
def test_a_document_that_would_harm_is_refused_at_once(xml: bytes) -> None:
    """Entities are not declared, files are not opened, depth is not descended."""
    before = perf_counter()
    with pytest.raises(BadSyntax):
        to_json(xml)
    assert perf_counter() - before < 0.5


def test_depth_ends_where_that_of_json_ends() -> None:
    """What `structure.check` accepts has an XML form, and no more than that is read."""

    def nested(levels: int) -> Json:
        resource: Json = {"url": "http://example.org/u", "valueString": "s"}
        for _ in range(levels - 2):
            resource = {"url": "http://example.org/u", "extension": [resource]}
        return {"resourceType": "Patient", "extension": [resource]}

    deep, deeper = nested(DEEPEST), nested(DEEPEST + 1)
    assert check(deep) == []
    assert json.loads(to_json(to_xml(json.dumps(deep).encode()))) == deep
    assert [issue.code for issue in check(deeper)] == ["too-costly"]
    with pytest.raises(BadSyntax):
        to_xml(json.dumps(deeper).encode())
    xml = body(deep).replace("<valueString", '<extension url="u"/><valueString')
    with pytest.raises(BadSyntax) as refusal:
        to_json(xml.replace("<Patient>", f'<Patient xmlns="{FHIR}">').encode())
    assert [issue.code for issue in refusal.value.issues] == ["too-costly"]


# Refused JSON


@pytest.mark.parametrize(
    "doc",
    [
        b"", b"[]", b"{}", b'"Patient"', b"\xff", b"[" * 100_000, b'{"resourceType":"Dragon"}', b'{"resourceType":1}',
        b'{"resourceType":"Patient","colour":"red"}', b'{"resourceType":"Patient","active":"true"}',
        b'{"resourceType":"Patient","active":1}', b'{"resourceType":"Patient","active":null}',
        b'{"resourceType":"Patient","multipleBirthInteger":1.0}', b'{"resourceType":"Patient","birthDate":1980}',
        b'{"resourceType":"Patient","name":null}', b'{"resourceType":"Patient","name":[{"given":null}]}',
        b'{"resourceType":"Patient","name":{"text":"a"}}', b'{"resourceType":"Patient","name":[]}',
        b'{"resourceType":"Patient","name":[{}]}', b'{"resourceType":"Patient","name":[{"id":1,"text":"a"}]}',
        b'{"resourceType":"Patient","name":[{"given":[null]}]}', b'{"resourceType":"Patient","contained":["a"]}',
        b'{"resourceType":"Patient","multipleBirthInteger":NaN}', b'{"resourceType":"Patient","text":{"div":1}}',
        b'{"resourceType":"Patient","text":{"div":"<div/>"}}', b'{"resourceType":"Patient","text":{"div":"<p/>"}}',
        b'{"resourceType":"Patient","text":{"div":"<div xmlns=\'http://www.w3.org/1999/xhtml\'/><evil/>"}}',
        b'{"resourceType":"Patient","text":{"div":"<div xmlns=\'http://www.w3.org/1999/xhtml\'>&a;</div>"}}',
    ],
)  # fmt: skip
def test_json_that_is_no_resource_has_no_xml(doc: bytes) -> None:
    """So that nothing is lost in silence."""
    with pytest.raises(BadSyntax):
        to_xml(doc)


def test_the_faults_of_the_json_are_those_of_the_structure() -> None:
    """All of them, with their places."""
    resource = {"resourceType": "Patient", "name": {"text": 1}, "colour": "red", "active": "true"}
    with pytest.raises(BadSyntax) as refusal:
        to_xml(json.dumps(resource).encode())
    assert list(refusal.value.issues) == check(resource)


@pytest.mark.parametrize(
    "element",
    [
        {"family": "\ufffe"},
        {"family": "\ud800"},
        {"family": "\x00"},
        {"id": "n", "_id": {"extension": [{"url": "u", "valueString": "s"}]}, "family": "a"},
        {"_id": {"extension": [{"url": "u", "valueString": "s"}]}, "family": "a"},
    ],
)
def test_what_xml_has_no_form_of_is_not_acceptable(element: Json) -> None:
    """The resource is R4 or near it, and can be had as JSON."""
    with pytest.raises(NotAcceptable):
        to_xml(json.dumps({"resourceType": "Patient", "name": [element]}).encode())


# Generated resources

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, range(32))) + "\ufffe\uffff")
    | st.sampled_from("\t\n\r&<>\"' "),
    min_size=1,
)
NUMBER = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
INTEGER = st.from_regex(r"-?(0|[1-9][0-9]{0,8})", fullmatch=True)
VALUE = st.one_of(
    TEXT.map(lambda text: ("valueString", json.dumps(text))),
    NUMBER.map(lambda number: ("valueDecimal", number)),
    INTEGER.map(lambda number: ("valueInteger", number)),
    st.booleans().map(lambda flag: ("valueBoolean", json.dumps(flag))),
    NUMBER.map(lambda number: ("valueQuantity", f'{{"value":{number}}}')),
)


def array(items: list[str]) -> str:
    """JSON of an array of JSON texts."""
    return f"[{','.join(items)}]"


def extension_with(value: tuple[str, str]) -> str:
    """JSON of an extension that has this value."""
    return f'{{"url":"http://example.org/e","{value[0]}":{value[1]}}}'


def extension_around(inner: list[str]) -> str:
    """JSON of an extension that has these inside."""
    return f'{{"url":"http://example.org/e","extension":{array(inner)}}}'


EXTENSION = st.recursive(
    VALUE.map(extension_with), lambda inner: st.lists(inner, min_size=1, max_size=3).map(extension_around), max_leaves=6
)
BESIDE = st.lists(EXTENSION, min_size=1, max_size=2).map(lambda items: f'{{"extension":{array(items)}}}') | st.builds(
    lambda key, one: f'{{"id":{json.dumps(key)},"extension":[{one}]}}', TEXT, EXTENSION
)
ENTRY = st.tuples(TEXT.map(json.dumps), st.none() | BESIDE) | st.tuples(st.just("null"), BESIDE)


@st.composite
def patients(draw: st.DrawFn) -> str:
    """JSON of a Patient: names with holes, extensions on anything, numbers of every spelling."""
    entries = draw(st.lists(ENTRY, min_size=1, max_size=4))
    parts = ['"resourceType":"Patient"']
    name: list[str] = []
    if any(value != "null" for value, _ in entries):
        name.append(f'"given":{array([value for value, _ in entries])}')
    if any(beside for _, beside in entries):
        name.append(f'"_given":{array([beside or "null" for _, beside in entries])}')
    parts.append(f'"name":[{{{",".join(draw(st.permutations(name)))}}}]')
    if extensions := draw(st.lists(EXTENSION, max_size=3)):
        parts.append(f'"extension":{array(extensions)}')
    if beside := draw(st.none() | BESIDE):
        parts.append(f'"_birthDate":{beside}')
    if draw(st.booleans()):
        parts.append('"birthDate":"1980"')
    if held := draw(st.lists(VALUE, max_size=2)):
        observations = [f'{{"resourceType":"Basic","extension":[{extension_with(value)}]}}' for value in held]
        parts.append(f'"contained":{array(observations)}')
    return f"{{{','.join(draw(st.permutations(parts)))}}}"


@given(patients())
def test_any_resource_comes_back_as_it_was(doc: str) -> None:
    """Every character and every digit."""
    assert members(to_json(to_xml(doc.encode()))) == members(doc.encode())


@given(st.sampled_from(RESOURCE_TYPES), st.text(max_size=20), st.binary(max_size=20))
def test_anything_else_is_refused_as_bad_syntax(name: str, content: str, noise: bytes) -> None:
    """No other exception leaves."""
    inside = "".join(one for one in content if one.isprintable()).replace("&", "").replace("<", "")
    for xml in (f'<{name} xmlns="{FHIR}"><a>{inside}</a></{name}>'.encode(), noise):
        with pytest.raises(BadSyntax):
            to_json(xml)
    with pytest.raises(BadSyntax):
        to_xml(noise)


def test_every_resource_type_has_both_forms() -> None:
    """The tables are whole."""
    for name in RESOURCE_TYPES:
        doc = f'{{"resourceType":"{name}","id":"a","meta":{{"versionId":"1"}}}}'.encode()
        assert to_json(to_xml(doc)) == doc
