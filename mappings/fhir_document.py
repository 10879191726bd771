"""What a FHIR document says of itself: Composition -> metadata of Generate Metadata [ITI-106].

https://hl7.org/fhir/R4/documents.html, column "FHIR Document" of PCC TF-2 4.1.1, and R4's mapping of Composition to
DocumentReference (https://hl7.org/fhir/R4/documentreference-mappings.html#fhircomposition) where that says nothing.
References are followed inside the document only: outside, what they name is not ours.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from mappings.elements import Element, coding, identifier, present, reference
from mappings.generated_metadata import Contained, Metadata, NotDerivable
from mappings.scanned_document import SOURCE_PATIENT, source_patient_info
from terminology import systems

COMPOSITION: Final = "Bundle.entry[0].resource"

# What is told of those who made a document, and which of their references are followed; never addresses or telephones.
_KEPT: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Practitioner": ("identifier", "name"),
        "PractitionerRole": ("identifier", "code", "specialty"),
        "Organization": ("identifier", "type", "name"),
        "Device": ("identifier", "manufacturer", "modelNumber", "deviceName", "type"),
        "Patient": ("identifier", "name", "gender", "birthDate"),
        "RelatedPerson": ("identifier", "relationship", "name"),
    }
)
# Each with the one type that R4 lets it lead to: whatever else a document makes of it, it ends there.
_FOLLOWED: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "PractitionerRole": {"practitioner": "Practitioner", "organization": "Organization"},
        "RelatedPerson": {"patient": "Patient"},
    }
)
_AUTHENTICATORS: Final = frozenset({"Practitioner", "PractitionerRole", "Organization"})
# XDS knows one legalAuthenticator; a Composition may have several attesters. Somebody who attests for himself is none.
_ATTESTING: Final = ("legal", "official", "professional")
_RESTFUL: Final = re.compile(r"(.+/)[A-Za-z]+/[A-Za-z0-9\-.]{1,64}(?:/_history/[^/]+)?")


def metadata(bundle: Mapping[str, Any]) -> Metadata:
    """The metadata of a Bundle that is valid R4: its Composition has type and date. Raises NotDerivable."""
    document = _Document(bundle)
    composition = document.composition
    if composition.get("status") == "entered-in-error":
        text = "A Composition that was entered in error is not published"
        raise NotDerivable(text, f"{COMPOSITION}.status", "business-rule")
    unique_id = _unique_id(bundle, composition)
    patient = document.patient()
    authors = [link for one in composition.get("author", ()) if (link := document.contained(one, _KEPT.keys()))]
    return Metadata(
        unique_id=unique_id,
        identifiers=_others(bundle, unique_id),
        patient=patient,
        type=composition["type"],
        category=next(iter(composition.get("category", ())), None),
        creation=composition["date"],
        title=composition.get("title"),
        language=composition.get("language") or bundle.get("language"),
        authors=authors,
        authenticator=_authenticator(document),
        custodian=document.named(composition.get("custodian"), "Organization"),
        relations=list(_relations(document)),
        labels=_labels(bundle, composition),
        format=_format(bundle, composition),
        events=[code for event in composition.get("event", ()) for code in event.get("code", ())],
        period=next((event["period"] for event in composition.get("event", ()) if "period" in event), None),
        encounter=document.named(composition.get("encounter"), "Encounter"),
        facility_type=_facility_type(document),
        contained=document.kept.resources,
    )


class _Document:
    """A document Bundle, whose references are followed as R4 says: https://hl7.org/fhir/R4/bundle.html#references"""

    def __init__(self, bundle: Mapping[str, Any]) -> None:
        entries = [one for one in bundle.get("entry", ()) if "resource" in one]
        if bundle.get("type") != "document":
            raise NotDerivable("The Bundle is a document: its type is `document`", "Bundle.type", "value")
        if not entries or entries[0]["resource"].get("resourceType") != "Composition":
            raise NotDerivable("The first entry of a document is its Composition", "Bundle.entry[0].resource")
        self.composition: Mapping[str, Any] = entries[0]["resource"]
        self.url: str = entries[0].get("fullUrl", "")
        self.kept = Contained()
        self._entries: dict[str, Mapping[str, Any]] = {
            one["fullUrl"]: one["resource"] for one in entries if "fullUrl" in one
        }

    def follow(self, link: Mapping[str, Any] | None, source: str | None = None) -> tuple[str, Mapping[str, Any]] | None:
        """The key and the resource that a Reference of the resource at `source` (the Composition) leads to."""
        text = str((link or {}).get("reference", ""))
        source = self.url if source is None else source
        if text.startswith("#"):
            inside = self._at(source).get("contained", ())
            found = next((one for one in inside if one.get("id") == text[1:]), None)
            return (source + text, found) if found else None
        url = text.partition("/_history/")[0]
        if ":" not in url and (base := _RESTFUL.fullmatch(source)):
            url = base[1] + url
        return (url, self._entries[url]) if url in self._entries else None

    def _at(self, url: str) -> Mapping[str, Any]:
        return self.composition if url == self.url else self._entries.get(url, {})

    def patient(self) -> Element:
        """The Patient of the document, for containment. Raises NotDerivable."""
        subject = self.composition.get("subject", {})
        found = self.follow(subject)
        if found and found[1]["resourceType"] != "Patient":
            raise NotDerivable("The document is about a Patient", f"{COMPOSITION}.subject", "value")
        known = dict(found[1]) if found else {}
        if "identifier" in subject:
            known["identifier"] = [*known.get("identifier", ()), subject["identifier"]]
        if not known:
            raise NotDerivable(
                "The subject is a Patient of the document, or has an identifier", f"{COMPOSITION}.subject"
            )
        if found:
            self.kept.name(found[0], SOURCE_PATIENT)
        return source_patient_info(known)

    def contained(self, link: Mapping[str, Any], types: Any, source: str | None = None) -> Element | None:
        """A Reference to a copy of what this one leads to; where that is not in the document, what it says itself."""
        found = self.follow(link, source)
        if found is None or found[1]["resourceType"] not in types:
            return _logical(link)
        key, resource = found
        if known := self.kept.refer(key):
            return known
        kind = resource["resourceType"]
        parts = {name: resource[name] for name in _KEPT[kind] if name in resource}
        inside = key.partition("#")[0]  # the references of what is contained are those of its container
        for name, target_kind in _FOLLOWED.get(kind, {}).items():
            if name in resource and (target := self.contained(resource[name], {target_kind}, inside)):
                parts[name] = target
        if kind == "RelatedPerson":
            parts.setdefault("patient", reference(f"#{SOURCE_PATIENT}"))
        return self.kept.put(key, kind, parts)

    def named(self, link: Mapping[str, Any] | None, kind: str) -> Element | None:
        """A logical Reference to what this one leads to: its type, an identifier, its name."""
        if link is None:
            return None
        found = self.follow(link)
        resource = found[1] if found and found[1]["resourceType"] == kind else {}
        numbers = [one for one in resource.get("identifier", ()) if "value" in one]
        known = present(
            identifier=numbers[0] if numbers else link.get("identifier"),
            display=resource.get("name") if kind == "Organization" and resource else link.get("display"),
        )
        return {"type": kind, **known} if known else None

    def organizations(self) -> Iterator[Mapping[str, Any]]:
        """The organizations of the authors, direct or by their role."""
        for link in self.composition.get("author", ()):
            found = self.follow(link)
            if found and found[1]["resourceType"] == "PractitionerRole":
                found = self.follow(found[1].get("organization"), found[0].partition("#")[0])
            if found and found[1]["resourceType"] == "Organization":
                yield found[1]


def _logical(link: Mapping[str, Any]) -> Element | None:
    """What a Reference says without its literal part, which means something else here; None where that is nothing."""
    if "identifier" not in link and "display" not in link:
        return None
    return {name: link[name] for name in ("type", "identifier", "display") if name in link}


def _unique_id(bundle: Mapping[str, Any], composition: Mapping[str, Any]) -> Element:
    """Composition.identifier, or where it has none the URI of the Composition (PCC TF-2 4.1.1, uniqueId)."""
    own = composition.get("identifier", {})
    if own.get("system") and own.get("value"):
        return identifier(own["system"], own["value"])
    url = bundle["entry"][0].get("fullUrl")
    if not url:
        text = "The document has a Composition.identifier with system and value, or its Composition a fullUrl"
        raise NotDerivable(text, f"{COMPOSITION}.identifier")
    return identifier(systems.URI, url)


def _others(bundle: Mapping[str, Any], unique_id: Element) -> list[Element]:
    """Bundle.identifier, that of this one instance of the document, stays findable."""
    own = bundle.get("identifier", {})
    if not own.get("value") or {"system": own.get("system"), "value": own["value"]} == unique_id:
        return []
    return [present(system=own.get("system"), value=own["value"])]


def _authenticator(document: _Document) -> Element | None:
    attesters = document.composition.get("attester", ())
    for mode in _ATTESTING:
        for one in attesters:
            if one.get("mode") != mode or "party" not in one:
                continue
            found = document.follow(one["party"])
            if found is None or found[1]["resourceType"] in _AUTHENTICATORS:
                return document.contained(one["party"], _AUTHENTICATORS)
    return None


def _relations(document: _Document) -> Iterator[Element]:
    """relatesTo, by the identifier of the other document. Raises NotDerivable for a replaced one that has none."""
    for number, one in enumerate(document.composition.get("relatesTo", ())):
        link = one.get("targetReference", {})
        found = document.follow(link)
        known = one.get("targetIdentifier") or link.get("identifier") or (found and found[1].get("identifier"))
        if known and known.get("value"):
            yield {"code": one["code"], "target": {"identifier": known}}
        elif one["code"] == "replaces":
            text = "The document that is replaced is named by its identifier"
            raise NotDerivable(text, f"{COMPOSITION}.relatesTo[{number}]")


def _labels(bundle: Mapping[str, Any], composition: Mapping[str, Any]) -> list[Element]:
    """confidentiality and the security labels, of the Composition and of the Bundle around it."""
    stated = composition.get("confidentiality")
    labels = [coding(systems.CONFIDENTIALITY, stated)] if stated else []
    return labels + [one for resource in (composition, bundle) for one in resource.get("meta", {}).get("security", ())]


def _format(bundle: Mapping[str, Any], composition: Mapping[str, Any]) -> Element | None:
    """The profile that the document follows: https://profiles.ihe.net/ITI/sIPS/content.html, FormatCode."""
    named: Sequence[str] = [*bundle.get("meta", {}).get("profile", ()), *composition.get("meta", {}).get("profile", ())]
    return coding(systems.URI, named[0].partition("|")[0]) if named else None


def _facility_type(document: _Document) -> Element | None:
    return next((one["type"][0] for one in document.organizations() if one.get("type")), None)
