"""Every kind of search parameter, modifier, chain and order of R4: https://hl7.org/fhir/R4/search.html"""

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from fhir_server.settings import Settings
from tests.conftest import migrated_database
from tests.support import (
    EVERYTHING,
    FOLDERS,
    Resource,
    Server,
    codes,
    document_reference,
    found,
    ids_of,
    in_folder,
    in_order,
    keep,
    link,
    observation,
    pages,
    patient,
    run_aside,
    serving,
    settings_of,
)

LOINC, UCUM, V2 = "http://loinc.org", "http://unitsofmeasure.org", "http://terminology.hl7.org/CodeSystem/v2-0203"
COLOURS, CHROMOSOMES = "http://test/colours", "urn:chromosomes"
DIV = '<div xmlns="http://www.w3.org/1999/xhtml"><b>Apte</b> avec r&eacute;serve</div>'.replace("&eacute;", "é")


def coded(code: str, system: str = COLOURS, **more: str) -> Resource:
    return {"coding": [{"system": system, "code": code, **more}]}


def measured(number: str, value: float, unit: str, **more: object) -> Resource:
    return observation(
        "anne", "29463-7", id=number, valueQuantity={"value": value, "system": UCUM, "code": unit, "unit": unit}, **more
    )


def pressure(number: str, systolic: int, diastolic: int) -> Resource:
    parts = [
        {"code": coded(code, LOINC), "valueQuantity": {"value": value, "system": UCUM, "code": "mm[Hg]"}}
        for code, value in (("8480-6", systolic), ("8462-4", diastolic))
    ]
    return observation("bruno", "85354-9", id=number, component=parts)


def sequence(name: str, chromosome: str, *variants: tuple[int, int]) -> Resource:
    """Of Anne, with a window from 0 to 1000 around its variants (start, end)."""
    return {
        "resourceType": "MolecularSequence",
        "id": name,
        "coordinateSystem": 0,
        "patient": {"reference": "Patient/anne"},
        "referenceSeq": {
            "chromosome": coded(chromosome, CHROMOSOMES),
            "referenceSeqId": coded(f"NC_{chromosome}", CHROMOSOMES),
            "windowStart": 0,
            "windowEnd": 1000,
        },
        "variant": [{"start": start, "end": end} for start, end in variants],
    }


KEPT = [
    {"resourceType": "Organization", "id": "works", "name": "Forges", "partOf": {"display": "Groupe"}},
    {"resourceType": "Organization", "id": "office", "name": "Bureaux"},
    {"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Vasseur"}]},
    in_folder(
        "1",
        id="anne",
        name=[{"family": "Morel", "given": ["Anne"]}],
        gender="female",
        birthDate="1980",
        managingOrganization={"reference": "Organization/works"},
        generalPractitioner=[{"reference": "Practitioner/doctor"}],
        text={"status": "generated", "div": DIV},
    ),
    patient(
        "bruno",
        identifier=[
            {"system": FOLDERS, "value": "2"},
            {"system": "urn:test:paper", "value": "1", "type": coded("MR", V2)},
        ],
        name=[{"family": "Abel", "given": ["Bruno"]}],
        managingOrganization={"reference": "Organization/office"},
        birthDate="1970",
    ),
    patient("carla", "MOREL", gender="other"),
    measured("light", 72.5, "kg", effectiveDateTime="2024-01-01"),
    measured("grams", 72500, "g", effectiveDateTime="2024-01-02"),
    measured("heavy", 90, "kg", effectiveDateTime="2024-01-03", interpretation=[coded("H", display="Trop élevé")]),
    observation("anne", "29463-7", id="below", valueQuantity={"value": 5, "comparator": "<", "unit": "stone"}),
    observation("bruno", "29463-7", id="coded", valueCodeableConcept=coded("red", display="Rouge vif")),
    pressure("high", 150, 95),
    pressure("low", 95, 60),
    observation("bruno", "29463-7", id="named", valueString="Néant", hasMember=[{"reference": "Observation/high"}]),
    {"resourceType": "ChargeItem", "id": "half", "status": "planned", "code": {"text": "x"}, "factorOverride": 0.5}
    | {"subject": {"reference": "Patient/anne"}},
    {"resourceType": "ChargeItem", "id": "hundred", "status": "planned", "code": {"text": "x"}, "factorOverride": 100}
    | {"subject": {"reference": "Patient/anne"}},
    sequence("two", "1", (100, 110), (500, 520)),
    sequence("one", "2", (100, 520)),
    {"resourceType": "Location", "id": "paris", "position": {"latitude": 48.8566, "longitude": 2.3522}},
    {"resourceType": "Location", "id": "lyon", "position": {"latitude": 45.764, "longitude": 4.8357}},
    document_reference("anne", id="old", date="2001-01-01T00:00:00Z", author=[{"reference": "Practitioner/doctor"}]),
    document_reference(
        "bruno",
        id="new",
        date="2020-01-01T00:00:00Z",
        relatesTo=[{"code": "replaces", "target": {"reference": "DocumentReference/old"}}],
    ),
    {"resourceType": "List", "id": "chosen", "status": "current", "mode": "working"}
    | {"entry": [{"item": {"reference": "Patient/bruno"}}, {"item": {"reference": "Observation/low"}}]},
    {"resourceType": "CodeSystem", "id": "colours", "url": COLOURS, "status": "active", "content": "complete"}
    | {"concept": [{"code": "warm", "concept": [{"code": "red"}, {"code": "orange"}]}, {"code": "cold"}]},
    {"resourceType": "ValueSet", "id": "warm", "url": "http://test/warm", "status": "active"}
    | {"compose": {"include": [{"system": COLOURS, "concept": [{"code": "red"}, {"code": "orange"}]}]}},
    {"resourceType": "ValueSet", "id": "all", "url": "http://test/all", "version": "2", "status": "active"}
    | {"compose": {"include": [{"system": COLOURS}], "exclude": [{"valueSet": ["http://test/warm"]}]}},
]


@pytest.fixture(scope="module")
def dsn(
    embedded_cluster: str, redis_url: str, prepared: set[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """One database for all searches of this module, filled once over HTTP: they only look."""

    async def fill(settings: Settings) -> None:
        async with serving(settings) as server:
            await keep((await server.client(EVERYTHING)).http, *KEPT)

    with migrated_database(embedded_cluster, prepared) as dsn:
        run_aside(fill(settings_of(dsn, redis_url, tmp_path_factory.mktemp("data"))))
        yield dsn


NUMBERS = [
    ("ChargeItem?factor-override=0.5", "half"),
    ("ChargeItem?factor-override=0.50", "half"),
    ("ChargeItem?factor-override=0.54", ""),
    ("ChargeItem?factor-override=100", "hundred"),
    ("ChargeItem?factor-override=1e2", "hundred"),
    ("ChargeItem?factor-override=99.6", ""),
    ("ChargeItem?factor-override=ne100", "half"),
    ("ChargeItem?factor-override=gt0.5", "hundred"),
    ("ChargeItem?factor-override=ge0.5", "half hundred"),
    ("ChargeItem?factor-override=lt100", "half"),
    ("ChargeItem?factor-override=le100,sa1000", "half hundred"),
    ("ChargeItem?factor-override=ap95", "hundred"),
    ("ChargeItem?factor-override=ap80", ""),
]
QUANTITIES = [
    (f"Observation?value-quantity=72.5|{UCUM}|kg", "grams light"),
    (f"Observation?value-quantity=72500|{UCUM}|g", "grams light"),
    (f"Observation?value-quantity=72|{UCUM}|kg", ""),
    (f"Observation?value-quantity=73|{UCUM}|kg", "grams light"),
    ("Observation?value-quantity=72.5||kg", "light"),
    ("Observation?value-quantity=72.5", "light"),
    (f"Observation?value-quantity=gt72.5|{UCUM}|kg", "heavy"),
    (f"Observation?value-quantity=ge72500|{UCUM}|g", "grams heavy light"),
    (f"Observation?value-quantity=lt80000000|{UCUM}|mg", "grams light"),
    (f"Observation?value-quantity=72.5|{UCUM}|cm", ""),
    ("Observation?value-quantity=lt5||stone", "below"),
    ("Observation?value-quantity=ge5||stone", "below"),
    ("Observation?value-quantity=gt5||stone", ""),
    (f"Observation?value-quantity=90|{UCUM}|kg,5||stone", "heavy"),
    (f"Observation?component-value-quantity=gt140|{UCUM}|mm[Hg]", "high"),
    (f"Observation?combo-value-quantity=gt80|{UCUM}|kg", "heavy"),
    (f"Observation?combo-value-quantity=gt140|{UCUM}|mm[Hg]", "high"),
]
COMPOSITES = [
    (f"Observation?code-value-quantity={LOINC}|29463-7$gt80|{UCUM}|kg", "heavy"),
    (f"Observation?code-value-quantity=29463-7$72.5|{UCUM}|kg", "grams light"),
    (f"Observation?code-value-quantity={LOINC}|8480-6$gt80|{UCUM}|kg", ""),
    (f"Observation?component-code-value-quantity=8480-6$95|{UCUM}|mm[Hg]", "low"),
    (f"Observation?component-code-value-quantity=8462-4$95|{UCUM}|mm[Hg]", "high"),
    (f"Observation?component-code-value-quantity={LOINC}|8462-4$lt80|{UCUM}|mm[Hg],8480-6$150||mm[Hg]", "high low"),
    (f"Observation?component-code-value-quantity=http://other|8462-4$95|{UCUM}|mm[Hg]", ""),
    (f"Observation?combo-code-value-quantity=8480-6$gt140|{UCUM}|mm[Hg]", "high"),
    (f"Observation?combo-code-value-quantity=29463-7$90|{UCUM}|kg", "heavy"),
    (f"Observation?code-value-concept=29463-7${COLOURS}|red", "coded"),
    ("Observation?code-value-string=29463-7$neant", "named"),
    ("DocumentReference?relationship=replaces$DocumentReference/old", "new"),
    ("DocumentReference?relationship=signs$DocumentReference/old", ""),
    ("MolecularSequence?chromosome-variant-coordinate=1$100$110", "two"),
    ("MolecularSequence?chromosome-variant-coordinate=1$100$520", ""),
    ("MolecularSequence?chromosome-variant-coordinate=2$100$520", "one"),
    (f"MolecularSequence?chromosome-variant-coordinate={CHROMOSOMES}|1$ge90$lt115", "two"),
    ("MolecularSequence?chromosome-variant-coordinate=http://other|1$ge90$lt115", ""),
    ("MolecularSequence?chromosome-variant-coordinate=1$lt200$gt200", ""),
    ("MolecularSequence?chromosome-variant-coordinate=1$gt200$gt200", "two"),
    ("MolecularSequence?chromosome-variant-coordinate=1$ne100$ne110", "two"),
    ("MolecularSequence?chromosome-variant-coordinate=1$ap105$ap105", "two"),
    ("MolecularSequence?chromosome-variant-coordinate=1$100$110,2$lt101$gt519", "one two"),
    ("MolecularSequence?chromosome-variant-coordinate:missing=false", "one two"),
    ("MolecularSequence?referenceseqid-variant-coordinate=NC_1$sa499$eb521", "two"),
    ("MolecularSequence?referenceseqid-variant-coordinate=NC_2$sa499$eb521", ""),
    ("MolecularSequence?chromosome-window-coordinate=1$0$1000", "two"),
    ("MolecularSequence?chromosome-window-coordinate=2$ge0$le999", ""),
    ("MolecularSequence?referenceseqid-window-coordinate=NC_2$le0$ge1000", "one"),
    ("Patient?_has:MolecularSequence:patient:chromosome-variant-coordinate=2$100$520", "anne"),
]
PLACES = [
    ("Location?near=48.86|2.35|5|km", "paris"),
    ("Location?near=48.86|2.35", "paris"),
    ("Location?near=48.86|2.35|100|m", ""),
    ("Location?near=48.86|2.35|390|km", "paris"),
    ("Location?near=48.86|2.35|393|km", "lyon paris"),
    ("Location?near=45.7|4.8|10|km,48.8|2.3|10|km", "lyon paris"),
]
MODIFIERS = [
    (f"Patient?identifier={FOLDERS}|", "anne bruno"),
    ("Patient?identifier=urn:test:paper|", "bruno"),
    (f"Patient?identifier:of-type={V2}|MR|1", "bruno"),
    (f"Patient?identifier:of-type={V2}|MR|2", ""),
    ("Observation?value-concept:text=rouge", "coded"),
    ("Observation?code:text=vif", ""),
    ("Patient?gender:missing=true", "bruno"),
    ("Patient?gender:missing=false", "anne carla"),
    ("Observation?combo-value-quantity:missing=true", "coded named"),
    ("Observation?combo-code:not=8480-6", "below coded grams heavy light named"),
    ("Patient?organization:missing=true", "carla"),
    ("Observation?value-concept:in=http://test/warm", "coded"),
    ("Observation?value-concept:in=ValueSet/all", ""),
    ("Observation?value-concept:in=http://test/all|2", ""),
    ("Observation?value-concept:not-in=http://test/warm&value-concept:missing=false", ""),
    (f"Observation?value-concept:below={COLOURS}|warm", "coded"),
    (f"Observation?value-concept:below={COLOURS}|cold", ""),
    (f"Observation?value-concept:above={COLOURS}|red", "coded"),
    ("Patient?gender:in=http://hl7.org/fhir/ValueSet/administrative-gender", "anne carla"),
    ("ValueSet?url:below=http://test/", "all warm"),
    ("ValueSet?url:below=http://test/a", "all"),
    ("ValueSet?url:above=http://test/warm/1/2", "warm"),
    ("Patient?_text=réserve", "anne"),
    ("Patient?_text=apte -inapte", "anne"),
    ("Patient?_text=inapte", ""),
    ("Patient?_id:not=anne", "bruno carla"),
    ("Patient?_list=chosen", "bruno"),
    ("Observation?_list=chosen", "low"),
    ("Patient?_list=nothing", ""),
]
CHAINS = [
    ("Observation?patient.organization.name=forges", "below grams heavy light"),
    ("Observation?subject.name=abel", "coded high low named"),
    ("Observation?subject:Patient.identifier=1", "below coded grams heavy high light low named"),
    (f"Observation?subject:Patient.identifier={FOLDERS}|1", "below grams heavy light"),
    ("Observation?patient.general-practitioner:Practitioner.family=vass", "below grams heavy light"),
    ("Observation?patient.gender:missing=true&code=85354-9", "high low"),
    ("DocumentReference?author.name=vasseur", "old"),
    ("DocumentReference?relatesto.subject:Patient.family=morel", "new"),
    ("Patient?_has:Observation:patient:code=85354-9", "bruno"),
    (f"Patient?_has:Observation:patient:value-quantity=gt80|{UCUM}|kg", "anne"),
    ("Patient?_has:Observation:patient:code=nothing", ""),
    ("Practitioner?_has:Patient:general-practitioner:_has:Observation:patient:code=29463-7", "doctor"),
    ("Organization?_has:Patient:organization:name=abel", "office"),
    ("Observation?patient._has:DocumentReference:patient:date=lt2010", "below grams heavy light"),
    ("Observation?has-member.code=85354-9", "named"),
    ("Observation?_has:Observation:has-member:code=29463-7", "high"),
]
FILTERS = [
    ('family eq "morel"', "anne carla"),
    ('family co "ore" and gender eq female', "anne"),
    ('family sw "mor" or given ew "uno"', "anne bruno carla"),
    ('not (family eq "morel")', "bruno"),
    ('(family eq "abel" or gender eq other) and birthdate pr false', "carla"),
    ('family eq "abel" or family eq "morel" and gender eq other', "bruno carla"),
    ("birthdate gt 1975", "anne"),
    ("birthdate po 1980-05", "anne"),
    ("gender ne female", "bruno carla"),
    (f"identifier eq {FOLDERS}|1", "anne"),
    ("organization re Organization/works", "anne"),
    ('organization.name eq "forges"', "anne"),
    ("gender pr true", "anne carla"),
    ("gender in http://hl7.org/fhir/ValueSet/administrative-gender", "anne carla"),
]


@pytest.mark.parametrize(("query", "expected"), NUMBERS + QUANTITIES + COMPOSITES + PLACES + MODIFIERS + CHAINS)
async def test_a_search_finds(fhir_client: httpx.AsyncClient, query: str, expected: str) -> None:
    """Exactly these."""
    assert await found(fhir_client, query) == expected.split()


@pytest.mark.parametrize(("text", "expected"), FILTERS)
async def test_a_filter_finds(fhir_client: httpx.AsyncClient, text: str, expected: str) -> None:
    """`_filter` with and, or, not and parentheses."""
    assert await found(fhir_client, f"Patient?_filter={quote(text)}") == expected.split()


@pytest.mark.parametrize(("query", "expected"), CHAINS)
async def test_a_chain_that_leads_to_many_finds_the_same(
    fhir_client: httpx.AsyncClient, query: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement then begins at the other end."""
    monkeypatch.setattr("fhir_server.store.resolving.FEW", 0)
    assert await found(fhir_client, query) == expected.split()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Patient?_sort=family,birthdate", "bruno anne carla"),
        ("Patient?_sort=-family,birthdate", "anne carla bruno"),
        ("Patient?_sort=family,-birthdate,_id", "bruno anne carla"),
        ("Patient?_sort=gender", "anne carla bruno"),
        ("Patient?_sort=-gender", "carla anne bruno"),
        ("Patient?_sort=organization,-_id", "bruno anne carla"),
        ("Patient?_sort=-_id", "carla bruno anne"),
        ("ValueSet?_sort=url", "all warm"),
        ("ChargeItem?_sort=-factor-override", "hundred half"),
        ("Observation?code=29463-7&_sort=value-quantity,_id", "below light heavy grams coded named"),
        ("Observation?code=29463-7&_sort=value-concept,-date&_count=4", "coded heavy grams light"),
    ],
)
async def test_hits_come_in_any_order(fhir_client: httpx.AsyncClient, query: str, expected: str) -> None:
    """By several keys, each either way; what has no value is last."""
    assert await in_order(fhir_client, query) == expected.split()


@pytest.mark.parametrize(
    "order", ["family,birthdate", "-family,birthdate", "gender,family", "-birthdate", "_lastUpdated"]
)
async def test_pages_of_an_order_are_the_order(fhir_client: httpx.AsyncClient, order: str) -> None:
    """One by one, the same hits as all at once."""
    one_by_one = [one async for page in pages(fhir_client, f"Patient?_sort={order}&_count=1") for one in ids_of(page)]
    assert one_by_one == await in_order(fhir_client, f"Patient?_sort={order}")


@pytest.mark.parametrize("steps", [(1, 1, 1, 1), (1, 2, 4, 8), (3, 500)])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Observation?code=29463-7&_sort=-date&_count=2", "heavy grams light below coded named"),
        ("Observation?_sort=date&code=29463-7&_count=1", "light grams heavy below coded named"),
        ("Observation?_sort=-date&date=ge2024-01-02&_count=1", "heavy grams"),
        ("DocumentReference?_sort=date&_count=1", "old new"),
    ],
)
async def test_the_dates_are_walked_to_the_same_order(
    fhir_client: httpx.AsyncClient,
    query: str,
    expected: str,
    steps: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However far the walk goes, and wherever it ends in a sort; those without a date come last, in any order."""
    monkeypatch.setattr("fhir_server.store.date_walk.STEPS", steps)
    monkeypatch.setattr("fhir_server.store.date_walk.RARE", 0)
    found = [one async for page in pages(fhir_client, query) for one in ids_of(page)]
    dated = [one for one in expected.split() if one not in ("below", "coded", "named")]
    assert found[: len(dated)] == dated
    assert sorted(found) == sorted(expected.split())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Patient/anne/Observation", "below grams heavy light"),
        (f"Patient/anne/Observation?value-quantity=gt80|{UCUM}|kg", "heavy"),
        ("Patient/anne/Patient", "anne"),
        ("Patient/nobody/Observation", ""),
        ("Practitioner/doctor/DocumentReference", "old"),
        ("Practitioner/doctor/Patient", "anne"),
    ],
)
async def test_a_compartment_is_searched(fhir_client: httpx.AsyncClient, path: str, expected: str) -> None:
    """https://hl7.org/fhir/R4/compartmentdefinition.html"""
    assert await found(fhir_client, path) == expected.split()


async def test_a_compartment_is_paged_and_searched_by_post(fhir_client: httpx.AsyncClient) -> None:
    """Its links lead back into it."""
    one_by_one = [one async for page in pages(fhir_client, "Patient/anne/Observation?_count=1") for one in ids_of(page)]
    assert sorted(one_by_one) == ["below", "grams", "heavy", "light"]
    answer = await fhir_client.post("/fhir/Patient/anne/Observation/_search", data={"code": "29463-7"})
    assert sorted(ids_of(answer.json())) == ["below", "grams", "heavy", "light"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("Patient/anne/Organization", 404), ("Organization/works/Patient", 404), ("Patient/anne/Nothing", 404)],
)
async def test_what_is_in_no_compartment_is_refused(fhir_client: httpx.AsyncClient, path: str, status: int) -> None:
    """Rather than answered with nothing."""
    answer = await fhir_client.get(f"/fhir/{path}")
    assert (answer.status_code, codes(answer)) == (status, ["not-supported"])


@pytest.mark.parametrize(
    "query",
    [
        "Basic?subject.subject.subject.subject._id=x",
        "List?item._id=x&item._id=y",
        "List?_filter=item._id eq x or item._id eq y",
        "Patient?_has:List:item:item.subject.subject._id=x",
    ],
)
async def test_chains_that_lead_everywhere_are_too_costly(fhir_client: httpx.AsyncClient, query: str) -> None:
    """A reference to any type leads to all of them: once is enough."""
    answer = await fhir_client.get(f"/fhir/{query}")
    assert (answer.status_code, codes(answer)) == (403, ["too-costly"])
    assert await found(fhir_client, "List?item._id=bruno") == ["chosen"]


async def test_the_trail_of_a_worker_is_in_his_compartment(fhir_client: httpx.AsyncClient) -> None:
    """And in that of nobody else."""
    assert (await fhir_client.get("/fhir/Patient/anne")).status_code == 200
    trail = (await fhir_client.get("/fhir/Patient/anne/AuditEvent")).json()
    assert trail["total"] >= 1
    assert (await fhir_client.get("/fhir/Patient/never-asked-for/AuditEvent")).json()["total"] == 0
    assert (await fhir_client.get("/fhir/Device/d/AuditEvent")).status_code == 404


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("Observation?value-concept:in=http://test/unknown", "invalid"),
        ("Observation?value-concept:below=http://nowhere|red", "invalid"),
        ("Observation?value-concept:below=red", "invalid"),
        ("MolecularSequence?chromosome-variant-coordinate=1$100", "invalid"),
        ("MolecularSequence?chromosome-variant-coordinate=1$100$110$5", "invalid"),
        ("MolecularSequence?chromosome-variant-coordinate=1$$110", "invalid"),
        ("MolecularSequence?chromosome-variant-coordinate=1$100$soon", "invalid"),
        ("MolecularSequence?chromosome-variant-coordinate=urn:chromosomes|$100$110", "not-supported"),
    ],
)
async def test_what_cannot_be_asked_so_is_refused(fhir_client: httpx.AsyncClient, query: str, code: str) -> None:
    """An answer without a code that is not known here would be an answer to another question."""
    answer = await fhir_client.get(f"/fhir/{query}")
    assert (answer.status_code, codes(answer)) == (400, [code])


async def test_an_estimate_is_a_number(fhir_client: httpx.AsyncClient) -> None:
    """`_total=estimate` is what the planner believes; `accurate` is counted."""
    assert (await fhir_client.get("/fhir/Observation?_total=estimate&_count=1")).json()["total"] >= 0
    assert (await fhir_client.get("/fhir/Observation?_total=accurate&_count=1")).json()["total"] == 8
    assert (await fhir_client.get("/fhir/Patient?family:exact=Morel&_total=accurate&_count=1")).json()["total"] == 1


async def test_how_a_search_is_carried_out_is_told_to_operators(server: Server) -> None:
    """Its statement and the plan of PostgreSQL; nobody else sees them."""
    query = "/fhir/Observation?patient.organization.name=forges&_explain=true"
    operator = await server.client(EVERYTHING, role="operator")
    told = {one["name"]: one["valueString"] for one in (await operator.http.get(query)).json()["parameter"]}
    assert told["statement"].startswith("select r.rid")
    assert "Execution Time" in told["plan"]
    answer = await (await server.client(EVERYTHING)).http.get(query)
    assert (answer.status_code, codes(answer)) == (403, ["forbidden"])


async def test_the_pages_of_a_search_do_not_show_what_came_after_it_began(fhir_client: httpx.AsyncClient) -> None:
    """Sorted by name, a newcomer would fit in at the front of the second page."""
    first = (await fhir_client.get("/fhir/Patient?_sort=family&_count=1&_total=accurate")).json()
    await keep(fhir_client, patient("late", "Azur"))
    try:
        second = (await fhir_client.get(str(link(first, "next")))).json()
        assert (ids_of(first), ids_of(second), second["total"]) == (["bruno"], ["anne"], 3)
    finally:
        await fhir_client.delete("/fhir/Patient/late")
