"""How tests call the operations of terminology, by GET and by POST, and what they read in the answers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import orjson
import pytest

from fhir_server.r4 import structure
from tests.support import FHIR_JSON

Resource = dict[str, Any]
DATA = Path(__file__).parents[4] / "shared" / "data"


def parameters(named: Mapping[str, Any]) -> Resource:
    """A Parameters resource; a list is a parameter that comes several times."""
    return {"resourceType": "Parameters", **({"parameter": list(_each(named))} if named else {})}


def _each(named: Mapping[str, Any]) -> Iterator[Resource]:
    for name, values in named.items():
        for value in values if isinstance(values, list) else [values]:
            yield {"name": name, _kind(value): value}


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        if "resourceType" in value:
            return "resource"
        return "valueCodeableConcept" if "coding" in value else "valueCoding"
    return {bool: "valueBoolean", int: "valueInteger"}.get(type(value), "valueString")


async def posted(client: httpx.AsyncClient, path: str, named: Mapping[str, Any]) -> httpx.Response:
    """The answer to a POST."""
    return await client.post(f"/fhir/{path}", content=orjson.dumps(parameters(named)), headers=FHIR_JSON)


async def answered(client: httpx.AsyncClient, path: str, named: Mapping[str, Any]) -> Resource:
    """The resource that is answered, which is valid R4; the same by GET, where that can carry the arguments."""
    answer = await posted(client, path, named)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert structure.check(found) == []
    if not any(isinstance(value, dict) for value in named.values()):
        texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in named.items()}
        again = await client.get(f"/fhir/{path}", params=texts)
        assert again.status_code == 200, again.text
        assert _lasting(again.json()) == _lasting(found)
    return found


def _lasting(found: Resource) -> Resource:
    """Without what is another each time."""
    if "expansion" not in found:
        return found
    expansion = {name: value for name, value in found["expansion"].items() if name not in ("identifier", "timestamp")}
    return found | {"expansion": expansion}


def told(found: Resource) -> Resource:
    """The parameters of an answer that come once: name -> value."""
    return {one["name"]: value for one in found["parameter"] for key, value in one.items() if key.startswith("value")}


def listed(found: Resource) -> list[str]:
    """The codes of an expansion."""
    return [one["code"] for one in found["expansion"].get("contains", ())]


def official(name: str) -> Resource:
    """An example of HL7."""
    file = DATA / "fhir-r4" / "examples" / f"{name}.json"
    if not file.exists():
        pytest.skip("the R4 examples are not at hand")
    return orjson.loads(file.read_bytes())


def jeu_de_valeurs(name: str) -> Resource:
    """A jeu de valeurs of the CI-SIS (IHE SVS) as a ValueSet in French."""
    file = DATA / "cda" / "jdv" / f"{name}.xml"
    if not file.exists():
        pytest.skip("the jeux de valeurs of the CI-SIS are not at hand")
    (found,) = ElementTree.parse(file).getroot().iter("{urn:ihe:iti:svs:2008}ValueSet")
    include: dict[str, list[Resource]] = {}
    for one in found.iter("{urn:ihe:iti:svs:2008}Concept"):
        listed = {"code": one.attrib["code"], "display": one.attrib["displayName"]}
        include.setdefault(f"urn:oid:{one.attrib['codeSystem']}", []).append(listed)
    return {
        "resourceType": "ValueSet",
        "id": name.lower().replace("_", "-"),
        "language": "fr",
        "url": f"urn:oid:{found.attrib['id']}",
        "status": "active",
        "compose": {"include": [{"system": system, "concept": concepts} for system, concepts in include.items()]},
    }
