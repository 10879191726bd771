"""A structured document as it was sent, read into plain objects: a FHIR document as its Bundle, a CDA as its header.

Pure. XML is read as `r4/xml` reads it: UTF-8, no DOCTYPE, hence no entities, and libxml2's own limits. The body of
a CDA is checked for being XML, and kept out: nothing of it is metadata but the media type of a file that it carries.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from fhir_server.outcomes import BadSyntax, InvalidResource, Issue
from fhir_server.r4.xml import FHIR, parsed, to_json
from fhir_server.records.validation import parse_json, validate

CDA: Final = "urn:hl7-org:v3"
DATA: Final = "Binary.data"

Node = dict[str, Any]


class StructuredDocument(NamedTuple):
    """One of the two."""

    bundle: Mapping[str, Any] | None
    header: Mapping[str, Any] | None


def read_document(content: bytes, content_type: str) -> StructuredDocument:
    """What the bytes of a Binary are, a FHIR document in JSON or XML or a CDA. Raises InvalidResource.

    The header of a CDA: of each element a dict, its children in lists by their name, its attributes under `@name`, its
    text under `$`.
    """
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind.endswith(("/json", "+json")):
            return _fhir(content)
        if kind.endswith(("/xml", "+xml")):
            root = parsed(content)
            if root.tag == f"{{{CDA}}}ClinicalDocument":
                return StructuredDocument(None, _plain(root))
            if root.tag == f"{{{FHIR}}}Bundle":
                return _fhir(to_json(content))
    except BadSyntax as fault:
        issues = [replace(one, diagnostics=f"The document {one.diagnostics}", expression=DATA) for one in fault.issues]
        raise InvalidResource(issues=issues) from None
    text = "FHIRDocumentNotSupported: the document is a Bundle in application/fhir+json or +xml, or a CDA in text/xml"
    raise InvalidResource(issues=[Issue("error", "not-supported", text, DATA)])


def _fhir(body: bytes) -> StructuredDocument:
    try:
        bundle = parse_json(body)
    except BadSyntax:
        raise BadSyntax("is not the JSON of a FHIR resource") from None
    if bundle["resourceType"] != "Bundle":
        raise BadSyntax("is a FHIR resource other than a Bundle")
    validate(bundle)
    return StructuredDocument(bundle, None)


def _plain(node: Any) -> Node:
    """An element of the header, without comments and without what other namespaces add."""
    found: Node = {f"@{name}": value for name, value in node.items() if not name.startswith("{")}
    texts = [node.text or ""]
    for child in node:
        texts.append(child.tail or "")
        if isinstance(child.tag, str) and child.tag.startswith(f"{{{CDA}}}"):
            name = child.tag.rpartition("}")[2]
            found.setdefault(name, []).append(_media_type_alone(child) if name == "component" else _plain(child))
    if text := " ".join("".join(texts).split()):
        found["$"] = text
    return found


def _media_type_alone(component: Any) -> Node:
    """The body: of a file inside its media type, of sections nothing."""
    files = component.findall(f"{{{CDA}}}nonXMLBody/{{{CDA}}}text")
    return {"nonXMLBody": [{"text": [{"@mediaType": one.get("mediaType", "")} for one in files]}]} if files else {}
