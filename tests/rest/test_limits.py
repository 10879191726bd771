"""How often somebody may ask, and how refusals that anybody can cause are told without a flood."""

from collections.abc import Callable

import httpx
import pytest

from fhir_server.app import Parts
from fhir_server.caller import Caller
from fhir_server.outcomes import Throttled
from fhir_server.records import audit
from fhir_server.records.failures import Failures
from fhir_server.rest.limits import Buckets, looks_for_a_person
from fhir_server.settings import Settings
from tests.support import EVERYTHING, Server, codes, keep, patient

REQUESTS, SEARCHES, EACH = 6, 2, 3


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(
        person_requests_per_minute=REQUESTS,
        person_identity_searches_per_minute=SEARCHES,
        audit_failures_per_minute=EACH,
    )


def test_a_bucket_fills_as_time_goes_by() -> None:
    """A minute's worth at once, then as much as comes in; each name has its own."""
    clock = Clock()
    buckets = Buckets(60, clock)
    assert [buckets.take("a") for _ in range(60)] == [0] * 60
    assert buckets.take("a") == 1
    assert buckets.take("b") == 0
    clock.now += 2
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 1]
    slow = Buckets(1, clock)
    assert (slow.take("a"), slow.take("a")) == (0, 60)
    clock.now += 1e6
    assert [slow.take("a") for _ in range(2)] == [0, 60], "never more than a minute's worth"


@pytest.mark.parametrize(
    ("resource_type", "names", "fishes"),
    [
        ("Patient", ["family"], True),
        ("Patient", ["birthdate", "_count"], True),
        ("Patient", ["identifier:of-type"], True),
        ("Patient", ["address-city"], True),
        ("Patient", ["name:contains"], True),
        ("Patient", ["_id", "_lastUpdated"], False),
        ("Patient", ["_has:Observation:subject:code"], True),
        ("DocumentReference", ["patient", "date", "identifier"], False),
        ("DocumentReference", ["patient.identifier"], True),
        ("Observation", ["subject:Patient.family"], True),
        ("Organization", ["name"], False),
        (None, ["name"], True),
        ("Patient", ["_filter"], True),
    ],
)
def test_what_looks_for_a_person(resource_type: str | None, names: list[str], fishes: bool) -> None:
    assert looks_for_a_person(resource_type, names) == fishes


async def test_who_asks_too_often_waits(server: Server) -> None:
    """429 that says how long; others go on, and so does a machine; the trail says it, and does not grow with it."""
    nurse = await server.client(EVERYTHING, role="infirmier")
    other = await server.client(EVERYTHING, role="infirmier")
    machine = (await server.client(EVERYTHING)).http
    await keep(machine, patient("p"))
    answers = [await nurse.http.get("/fhir/Patient/p") for _ in range(REQUESTS + 9)]
    assert [one.status_code for one in answers] == [200] * REQUESTS + [429] * 9
    assert codes(answers[-1]) == ["throttled"]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert (await other.http.get("/fhir/Patient/p")).status_code == 200
    for _ in range(REQUESTS + 1):
        assert (await machine.get("/fhir/Patient/p")).status_code == 200
    rows = await server.rows("select query from access where client_id = %s and outcome = 4", nurse.client_id)
    assert len(rows) == EACH


async def test_fishing_is_limited_more_than_the_rest(server: Server) -> None:
    """By any way to search; pages that follow are none."""
    machine = (await server.client(EVERYTHING)).http
    await keep(machine, patient("p", "DURAND"), patient("q", "DURAND"))
    http = (await server.client(EVERYTHING, role="infirmier")).http
    first = await http.get("/fhir/Patient?family=durand&_count=1")
    (link,) = (one["url"] for one in first.json()["link"] if one["relation"] == "next")
    assert (await http.post("/fhir/Patient/_search", data={"birthdate": "1980-01-01"})).status_code == 200
    assert (await http.get("/fhir/Observation?subject:Patient.family=durand")).status_code == 429
    assert (await http.get(link)).status_code == 200
    assert (await http.get("/fhir/Patient/p")).status_code == 200


async def test_a_batch_is_as_many_requests_as_it_holds(server: Server) -> None:
    http = (await server.client(EVERYTHING, role="infirmier")).http
    entries = [{"request": {"method": "GET", "url": "Patient/p"}}] * REQUESTS
    batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    answer = await http.post("/fhir", json=batch)
    told = [one["response"]["status"][:3] for one in answer.json()["entry"]]
    assert told == ["404"] * (REQUESTS - 1) + ["429"]


async def test_refusals_of_nobody_do_not_fill_the_trail(server: Server, anonymous: httpx.AsyncClient) -> None:
    """Requests without a token and failed logins of programs: some one by one, the others in one row each."""
    for _ in range(20):
        assert (await anonymous.get("/fhir/Patient")).status_code == 401
        form = {"grant_type": "client_credentials", "client_id": "a secret gone astray", "client_secret": "x"}
        assert (await anonymous.post("/oauth2/token", data=form)).status_code == 401
    rows = await server.rows("select interaction, outcome, client_id, query from access order by id")
    assert len(rows) == EACH
    assert set(rows) == {("search-type", 4, None, None), ("login", 4, None, "reason=invalid_client")}


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_the_others_of_a_minute_have_one_row(parts: Parts, server: Server, clock: Clock) -> None:
    """With their number; who is known keeps his name, nothing else is told of any."""
    failures = Failures(parts.archive.accesses, each=1, clock=clock)
    nurse = Caller("n", "x", "infirmier", (), professional="10001")
    nobody = audit.access(None, "read", "r", outcome=4, resource_type="Patient", resource_id="p", patient_id="p")
    for _ in range(5):
        await failures.tell(nobody, "login")
    for _ in range(3):
        await failures.tell(audit.access(nurse, "read", "r", outcome=4, patient_id="p"), "throttled")
    clock.now += 60
    await failures.tell(nobody, "login")
    rows = await server.rows("select client_id, professional, patient_id, query from access order by id")
    assert rows == [
        (None, None, "p", None),
        (None, None, None, "repeated=4&reason=login"),
        ("n", "10001", None, "repeated=3&reason=throttled"),
        (None, None, "p", None),
    ]
    dpo = (await server.client(("system/AuditEvent.rs",), role="dpo")).http
    told = (await dpo.get("/fhir/AuditEvent?agent:identifier=10001")).json()["entry"][0]["resource"]
    assert {"type": "repeated", "valueString": "3"} in [one for e in told["entity"] for one in e.get("detail", [])]
    assert told["outcomeDesc"] == "throttled"


def test_a_throttled_failure_says_how_long() -> None:
    assert Throttled("x", retry_after=7).retry_after == 7
