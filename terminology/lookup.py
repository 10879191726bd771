"""What a code system says of one of its codes.

https://hl7.org/fhir/R4/codesystem-operation-lookup.html - the result parameters are those of R4; the definition, which
has none there, is a property.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from terminology.code_system import CodeSystem, Concept
from terminology.library import Library
from terminology.selection import member_of
from terminology.wording import Name, Wording, distance

Json = Mapping[str, Any]

ALL: Final = "*"
LANGUAGE: Final = "lang."


def lookup(
    system: CodeSystem, concept: Concept, library: Library, properties: Collection[str], language: str | None
) -> list[dict[str, Any]]:
    """The result parameters. `properties` are those that are wanted; empty, all that there are."""
    wording = Wording(library, language)
    names = wording.names(member_of(system, concept))
    shown = wording.display(names)
    everything = not properties or ALL in properties
    found: list[dict[str, Any]] = [{"name": "name", "valueString": system.name}]
    if system.version:
        found.append({"name": "version", "valueString": system.version})
    found.append({"name": "display", "valueString": shown.text if shown else concept.code})
    for one in names:
        if one is not shown and (everything or _is_wanted(one, properties)):
            found.append({"name": "designation", "part": list(_designation(one))})
    for code, parts in _properties(system, concept, wording):
        if everything or code in properties:
            found.append({"name": "property", "part": [{"name": "code", "valueCode": code}, *parts]})
    return found


def _is_wanted(name: Name, properties: Collection[str]) -> bool:
    languages = [one.removeprefix(LANGUAGE) for one in properties if one.startswith(LANGUAGE)]
    return "designation" in properties or any(distance(one, name.language) <= 1 for one in languages)


def _designation(name: Name) -> Iterator[dict[str, Any]]:
    if name.language:
        yield {"name": "language", "valueCode": name.language}
    if name.use:
        yield {"name": "use", "valueCoding": name.use}
    yield {"name": "value", "valueString": name.text}


def _properties(system: CodeSystem, concept: Concept, wording: Wording) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Code and parts of each: what R4 defines for all code systems, then what this one and its supplements state."""
    if system.url:
        yield "url", [{"name": "value", "valueUri": system.url}]
    if concept.definition:
        yield "definition", [{"name": "value", "valueString": concept.definition}]
    yield "inactive", [{"name": "value", "valueBoolean": concept.inactive}]
    for name, codes in (("parent", system.parents), ("child", system.children)):
        for code in codes.get(concept.code, ()):
            yield name, [{"name": "value", "valueCode": code}, *_described(system, code, wording)]
    stated = list(concept.properties)
    for supplement in wording.supplements(system.url, system.version):
        if other := supplement.find(concept.code):
            stated += other.properties
    for one in stated:
        if one["code"] not in ("parent", "child", "inactive"):
            yield one["code"], [*_value(one), *_described(system, _own_code(system, one), wording)]


def _value(stated: Json) -> Iterator[dict[str, Any]]:
    return ({"name": "value", key: value} for key, value in stated.items() if key.startswith("value"))


def _own_code(system: CodeSystem, stated: Json) -> str | None:
    """The code of the same system that is the value of a property."""
    coding = stated.get("valueCoding", {})
    return coding.get("code") if coding.get("system") == system.url else stated.get("valueCode")


def _described(system: CodeSystem, code: str | None, wording: Wording) -> list[dict[str, Any]]:
    """What a code of the same system is called."""
    other = system.find(code) if code else None
    shown = wording.display(wording.names(member_of(system, other))) if other else None
    return [{"name": "description", "valueString": shown.text}] if shown else []
