"""Definitions that the tests of terminology share: exposures at work, in English and in French."""

from collections.abc import Iterable, Sequence
from typing import Any

from terminology import code_system
from terminology.library import Library

Resource = dict[str, Any]

EXPOSURES = "http://test/CodeSystem/expositions"
SUPPLEMENT = "http://test/CodeSystem/expositions-fr"
AT_WORK = "http://test/ValueSet/expositions"
ICD = "http://test/CodeSystem/cim"


def concept(code: str, display: str, fr: str | None = None, *below: Resource, **properties: Any) -> Resource:
    """A concept with its French name, what stands below it, and properties of type code, boolean or string."""
    found: Resource = {"code": code, "display": display}
    if fr:
        found["designation"] = [{"language": "fr", "value": fr}]
    if properties:
        found["property"] = [_property(name, value) for name, value in properties.items()]
    if below:
        found["concept"] = list(below)
    return found


def _property(name: str, value: Any) -> Resource:
    kind = {bool: "valueBoolean", int: "valueInteger", dict: "valueCoding"}.get(type(value), "valueCode")
    return {"code": name, kind: value}


EXPOSURES_SYSTEM: Resource = {
    "resourceType": "CodeSystem",
    "id": "expositions",
    "language": "en",
    "url": EXPOSURES,
    "version": "2",
    "name": "Expositions",
    "status": "active",
    "content": "complete",
    "hierarchyMeaning": "is-a",
    "property": [
        {"code": "tableau", "type": "code", "description": "Tableau des maladies professionnelles"},
        {"code": "hors-usage", "uri": "http://hl7.org/fhir/concept-properties#inactive", "type": "boolean"},
    ],
    "concept": [
        concept(
            "physical",
            "Physical agent",
            "Agent physique",
            concept(
                "noise",
                "Noise",
                "Bruit",
                concept("impulse-noise", "Impulse noise", "Bruit impulsionnel", tableau="RG42"),
                tableau="RG42",
            ),
            concept("vibration", "Hand-arm vibration", "Vibrations main-bras", tableau="RG69"),
            notSelectable=True,
        ),
        concept(
            "chemical",
            "Chemical agent",
            None,
            concept("asbestos", "Asbestos", "Amiante", tableau="RG30"),
            concept("lead", "Lead", "Plomb", tableau="RG1"),
            concept("benzol", "Benzol", None, **{"hors-usage": True}),
            notSelectable=True,
        ),
    ],
}
"""`concept` says what stands below what; `benzol` is inactive, the two groups are abstract."""

SUPPLEMENT_SYSTEM: Resource = {
    "resourceType": "CodeSystem",
    "id": "expositions-fr",
    "language": "fr-FR",
    "url": SUPPLEMENT,
    "version": "1",
    "status": "active",
    "content": "supplement",
    "supplements": EXPOSURES,
    "concept": [
        {"code": "chemical", "designation": [{"language": "fr-FR", "value": "Agent chimique"}]},
        {"code": "benzol", "designation": [{"language": "fr-FR", "value": "Benzène"}]},
        {"code": "lead", "property": [{"code": "cas", "valueString": "7439-92-1"}]},
    ],
}


def value_set(url: str, *include: Resource, exclude: Sequence[Resource] = (), **more: Any) -> Resource:
    """A ValueSet by its includes and excludes; `inactive` and `lockedDate` belong to the composition."""
    compose: Resource = {"include": list(include)}
    if exclude:
        compose["exclude"] = list(exclude)
    compose |= {name: more.pop(name) for name in ("inactive", "lockedDate") if name in more}
    return {"resourceType": "ValueSet", "url": url, "status": "active", "compose": compose, **more}


def codes(*listed: str, system: str = EXPOSURES, **more: Any) -> Resource:
    """An include of listed codes; without any, of the whole code system."""
    concepts = {"concept": [{"code": code} for code in listed]} if listed else {}
    return {"system": system, **concepts, **more}


def where(property_name: str, operator: str, value: str, *others: tuple[str, str, str]) -> Resource:
    """An include by filters."""
    rows = [(property_name, operator, value), *others]
    return {"system": EXPOSURES, "filter": [{"property": p, "op": o, "value": v} for p, o, v in rows]}


def library(*resources: Resource) -> Library:
    """What is at hand: these, beside the exposures."""
    systems: dict[str, list[code_system.CodeSystem]] = {}
    value_sets: dict[str, list[Resource]] = {}
    for one in (EXPOSURES_SYSTEM, *resources):
        if one["resourceType"] == "CodeSystem":
            systems.setdefault(one["url"], []).append(code_system.parse(one))
        else:
            value_sets.setdefault(one["url"], []).append(one)
    return Library(systems, value_sets)


def only_codes(members: Iterable[tuple[str, str]]) -> list[str]:
    return [code for _, code in members]
