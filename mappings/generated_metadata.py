"""DocumentReference of a structured document, made of what the document says of itself: Generate Metadata [ITI-106].

https://profiles.ihe.net/ITI/MHD/ITI-106.html, by PCC TF-2 4.1.1 (https://profiles.ihe.net/ITI/sIPS/pcc.html) and the
XDS mapping of MHD: creationTime is `attachment.creation`, title `attachment.title`, classCode `category`. The readers
of the two kinds of document are `fhir_document` and `clinical_document`; what neither says comes from
`tables/generated_metadata.toml`.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from mappings.elements import Element, coding, concept, identifier, instant, present, reference
from mappings.nomenclature import kinds
from mappings.scanned_document import SOURCE_PATIENT, format_of
from terminology import systems

_CODE_SYSTEMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "LOINC": systems.LOINC,
        "TRE_A05": systems.TRE_A05,
        "TRE_A06": systems.TRE_A06,
        "TRE_A11": systems.TRE_A11,
        "CONFIDENTIALITY": systems.CONFIDENTIALITY,
        "NULL_FLAVOR": systems.NULL_FLAVOR,
    }
)


class NotDerivable(ValueError):
    """The document does not say what its metadata need; `place` is where it would, in the terms of the document.

    `code` is an issue type of R4. The text holds nothing of the document.
    """

    def __init__(self, text: str, place: str, code: str = "required") -> None:
        super().__init__(text)
        self.place = place
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What a document says of itself, as parts of a DocumentReference; None or nothing where it does not say.

    `unique_id` is an Identifier with system and value. `patient` is the Patient as the document knows it, under the id
    `SOURCE_PATIENT`; references into `contained` and to it begin with `#`. `creation` is a dateTime, `labels` Codings.
    """

    unique_id: Element
    patient: Element
    type: Element
    creation: str
    title: str | None = None
    language: str | None = None
    identifiers: Sequence[Element] = ()
    category: Element | None = None
    contained: Sequence[Element] = ()
    authors: Sequence[Element] = ()
    authenticator: Element | None = None
    custodian: Element | None = None
    relations: Sequence[Element] = ()
    labels: Sequence[Element] = ()
    format: Element | None = None
    events: Sequence[Element] = ()
    period: Element | None = None
    encounter: Element | None = None
    facility_type: Element | None = None
    practice_setting: Element | None = None

    @property
    def patient_identifiers(self) -> list[tuple[str, str]]:
        """(system, value) of every identifier that says who the patient is."""
        return [
            (one["system"], one["value"])
            for one in self.patient.get("identifier", ())
            if one.get("system") and one.get("value")
        ]


class Contained:
    """The resources that a DocumentReference will contain, each once, by what they are called in the document."""

    def __init__(self) -> None:
        self.resources: list[Element] = []
        self._ids: dict[str, str] = {}
        self._numbers = Counter[str]()

    def refer(self, key: str) -> Element | None:
        """The reference to what was put under this key, None where nothing was."""
        return reference(f"#{self._ids[key]}") if key in self._ids else None

    def name(self, key: str, contained_id: str) -> Element:
        """What is called `key` has this id, and stands elsewhere."""
        self._ids[key] = contained_id
        return reference(f"#{contained_id}")

    def put(self, key: str, resource_type: str, parts: Mapping[str, Any]) -> Element:
        """The reference to a new resource of these parts; those that are empty are left out."""
        self._numbers[resource_type] += 1
        link = self.name(key, f"{resource_type.lower()}-{self._numbers[resource_type]}")
        self.resources.append(present(resourceType=resource_type, id=link["reference"][1:], **parts))
        return link


def document_reference(metadata: Metadata, *, subject: str, attachment: Mapping[str, Any], now: datetime) -> Element:
    """The DocumentReference, MHD comprehensive as far as the document allows.

    `subject` is `Patient/id`; `attachment` says url, contentType, size and hash of the bytes; `now` becomes its date,
    since that is when the reference is made.
    """
    table = _table()
    labels = metadata.labels or [_coded(table["confidentiality"])]
    unknown = {"coding": [_coded(table["unknown"])]}
    return present(
        resourceType="DocumentReference",
        meta={"profile": [systems.MHD_COMPREHENSIVE_DOCUMENT]},
        contained=[*metadata.contained, metadata.patient],
        masterIdentifier=unique_identifier(metadata.unique_id),
        identifier=[*metadata.identifiers],
        status="current",
        type=metadata.type,
        category=[metadata.category or class_of(metadata.type)],
        subject=reference(subject),
        date=instant(now),
        author=[*metadata.authors],
        authenticator=metadata.authenticator,
        custodian=metadata.custodian,
        relatesTo=[*metadata.relations],
        securityLabel=[{"coding": [label]} for label in _once(labels)],
        content=[
            {
                "attachment": present(
                    **attachment,
                    language=metadata.language or table["language"],
                    title=metadata.title,
                    creation=metadata.creation,
                ),
                "format": metadata.format or format_of(""),
            }
        ],
        context=present(
            encounter=[metadata.encounter] if metadata.encounter else None,
            event=[*metadata.events],
            period=metadata.period,
            facilityType=metadata.facility_type or unknown,
            practiceSetting=metadata.practice_setting or unknown,
            sourcePatientInfo=reference(f"#{SOURCE_PATIENT}"),
        ),
    )


def unique_identifier(known: Mapping[str, Any]) -> Element:
    """A uniqueId of MHD: https://profiles.ihe.net/ITI/MHD/StructureDefinition-IHE.MHD.UniqueIdIdentifier.html"""
    return identifier(
        known["system"], known["value"], use="usual", type_=concept(systems.MHD_IDENTIFIER_TYPE, "uniqueId")
    )


def class_of(document_type: Element) -> Element:
    """The class (category) of a type: that of TRE_A03 where the CI-SIS has one, else the type itself, as IHE shows it.

    https://profiles.ihe.net/ITI/sIPS/DocumentReference-ex-DocumentReference-Bundle-01-json.html
    """
    codings = document_type.get("coding", ())
    found = next(
        (_classes()[key] for one in codings if (key := (one.get("system"), one.get("code"))) in _classes()), None
    )
    return {"coding": [found]} if found else document_type


def format_of_templates(roots: Iterable[str]) -> Element | None:
    """The format code of a structured CDA by its templateIds (ASS_A11 of the CI-SIS), None where none has one."""
    return next((_formats()[root] for root in roots if root in _formats()), None)


def _once(codings: Iterable[Element]) -> list[Element]:
    return list({(one.get("system"), one.get("code")): one for one in codings}.values())


def _coded(row: Mapping[str, str]) -> Element:
    return coding(_CODE_SYSTEMS[row["system"]], row["code"], row.get("display"))


@cache
def _classes() -> Mapping[tuple[Any, Any], Element]:
    """(system, code) of a type -> Coding of its class: those of the DMST nomenclature, and more."""
    found = {
        (kind.type_system, kind.type_code): coding(systems.TRE_A03, kind.class_code, kind.class_display)
        for kind in kinds().values()
        if kind.type_code and kind.class_code
    }
    for name, rows in _table()["class"].items():
        for code, row in rows.items():
            found[_CODE_SYSTEMS[name], code] = coding(systems.TRE_A03, row["code"], row["display"])
    return MappingProxyType(found)


@cache
def _formats() -> Mapping[str, Element]:
    """templateId -> format code."""
    rows = _table()["format"]
    return MappingProxyType(
        {root: coding(_CODE_SYSTEMS[name], code) for name, of in rows.items() for root, code in of.items()}
    )


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("mappings").joinpath("tables/generated_metadata.toml").read_text("utf-8"))
