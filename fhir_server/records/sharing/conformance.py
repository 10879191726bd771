"""Does a DocumentReference or List follow a profile of document sharing? Every fault at once, each with its place.

Pure. The resource is valid R4 already; `where` is what its places begin with, such as `Bundle.entry[2].resource`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from fhir_server.outcomes import Issue
from fhir_server.r4.references import is_local
from fhir_server.records.sharing.profiles import Cardinality, Profile, Rule, extension_urls
from terminology import systems

ENTRY_UUID: Final = "entryUUID"
UNIQUE_ID: Final = "uniqueId"


class Found(NamedTuple):
    """A value, and its FHIRPath."""

    place: str
    value: Any


def faults(resource: Mapping[str, Any], profile: Profile, where: str) -> Iterator[Issue]:
    """What of `profile` does not hold."""
    for cardinality in profile.cardinalities:
        yield from _counted(resource, cardinality, profile.name, where)
    for path, codes in profile.codes.items():
        for found in values(resource, path, where):
            if found.value not in codes:
                yield _fault("code-invalid", profile.name, f"{path} is {' or '.join(codes)}", found.place)
    for path in profile.contained:
        for found in values(resource, path, where):
            if not str(found.value.get("reference", "#")).startswith("#"):
                text = f"{path} leads to a resource that is contained here"
                yield _fault("structure", profile.name, text, f"{found.place}.reference")
    for path, types in profile.targets.items():
        for found in values(resource, path, where):
            kind = target_type(resource, found.value)
            if kind is not None and kind not in types:
                yield _fault("value", profile.name, f"{path} leads to {' or '.join(types)}", found.place)
    for rule in profile.rules:
        yield from _coded(resource, rule, where)
    yield from _identified(resource, profile, where)


def values(resource: Mapping[str, Any], path: str, where: str) -> list[Found]:
    """What stands at a path of the table, with its places."""
    found = [Found(where, resource)]
    for step in path.split("."):
        found = [child for parent in found for child in _children(parent, step)]
    return found


def target_type(resource: Mapping[str, Any], reference: Mapping[str, Any]) -> str | None:
    """The type that a Reference leads to, as far as it tells: of an entry of the Bundle it does not."""
    text = str(reference.get("reference", ""))
    if text.startswith("#"):
        return next((one["resourceType"] for one in resource.get("contained", ()) if one.get("id") == text[1:]), None)
    if target := is_local(text):
        return target[0]
    stated = reference.get("type")
    return str(stated).rpartition("/")[2] if stated else None


def identifiers(resource: Mapping[str, Any], kind: str, where: str) -> list[Found]:
    """The identifiers of a type of MHD: `entryUUID` or `uniqueId`."""
    return [found for found in values(resource, "identifier", where) if _is_of(found.value, kind)]


def _children(parent: Found, step: str) -> Iterable[Found]:
    name, bracket, slice_name = step.partition("[")
    url = extension_urls()[slice_name.rstrip("]")] if bracket else None
    item = parent.value.get(name)
    if item is None:
        return []
    if not isinstance(item, list):
        return [Found(f"{parent.place}.{name}", item)]
    places = (Found(f"{parent.place}.{name}[{n}]", one) for n, one in enumerate(item))
    return [one for one in places if one.value is not None and (url is None or one.value.get("url") == url)]


def _counted(resource: Mapping[str, Any], cardinality: Cardinality, name: str, where: str) -> Iterator[Issue]:
    above, _, last = cardinality.path.rpartition(".")
    for parent in values(resource, above, where) if above else [Found(where, resource)]:
        found = list(_children(parent, last))
        if len(found) < cardinality.least:
            text = f"{cardinality.path} occurs at least {cardinality.least} time"
            yield _fault("required", name, text, f"{parent.place}.{last.partition('[')[0]}")
        elif len(found) > cardinality.most:
            text = f"{cardinality.path} occurs at most {cardinality.most} times"
            yield _fault("structure", name, text, found[cardinality.most].place)


def _coded(resource: Mapping[str, Any], rule: Rule, where: str) -> Iterator[Issue]:
    for found in values(resource, rule.path, where):
        codings = found.value.get("coding", [found.value])  # a CodeableConcept, or a Coding
        if not any(str(one.get("system", "")).startswith(rule.systems) for one in codings):
            text = f"{rule.path} has a coding of {' or '.join(rule.names)}"
            yield _fault("code-invalid", rule.key, text, found.place)


def _identified(resource: Mapping[str, Any], profile: Profile, where: str) -> Iterator[Issue]:
    """The identifiers of MHD: one entryUUID that is a UUID, and of a lot de soumission a uniqueId that is an OID."""
    uuids = identifiers(resource, ENTRY_UUID, where)
    if profile.no_entry_uuid:
        yield from (_fault("structure", profile.name, "the recipient gives the entryUUID", one.place) for one in uuids)
        return
    yield from (_fault("structure", profile.name, "there is one entryUUID", one.place) for one in uuids[1:])
    yield from _urns(uuids, "urn:uuid:", "mhd-startswithuuid")
    if profile.unique_id_is_oid:
        yield from _urns(identifiers(resource, UNIQUE_ID, where), "urn:oid:", "mhd-startswithoid")


def _urns(found: Iterable[Found], prefix: str, key: str) -> Iterator[Issue]:
    for one in found:
        if one.value.get("system") != systems.URI or not str(one.value.get("value", "")).startswith(prefix):
            yield _fault("value", key, f"its system is {systems.URI} and its value begins with {prefix}", one.place)


def _is_of(identifier: Mapping[str, Any], kind: str) -> bool:
    codings = identifier.get("type", {}).get("coding", ())
    return any(one.get("system") == systems.MHD_IDENTIFIER_TYPE and one.get("code") == kind for one in codings)


def _fault(code: str, key: str, text: str, place: str) -> Issue:
    return Issue("error", code, f"{key}: {text}", place)
