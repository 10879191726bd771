"""Metrics: who may see them, what they count, and that they say nothing of a person."""

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as families_of

from fhir_server.app import Parts
from fhir_server.metrics import Metrics
from fhir_server.rest.metrics import Exposition
from fhir_server.rest.watch import Watch
from fhir_server.settings import Settings
from fhir_server.store.database import Database
from tests.support import FHIR_JSON, Caller, Server, codes, entry, keep, observation, patient, post, transaction

Make = Callable[..., Awaitable[Caller]]


@pytest.fixture
async def operator(client_with: Make) -> httpx.AsyncClient:
    return (await client_with("system/Task.rs", role="operator")).http


async def samples(client: httpx.AsyncClient) -> dict[tuple[str, tuple[str, ...]], float]:
    """Each sample by its name and the values of its labels, in the order of the names of the labels."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return {
        (one.name, tuple(one.labels[label] for label in sorted(one.labels))): one.value
        for one in every_sample(answer.text)
    }


def every_sample(text: str) -> Iterator[Any]:
    for family in families_of(text):
        yield from family.samples


async def test_metrics_are_for_operators(
    anonymous: httpx.AsyncClient, fhir_client: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """On the port of FHIR, which a proxy may open to the world: no token, no numbers."""
    refused = await anonymous.get("/metrics")
    assert (refused.status_code, codes(refused)) == (401, ["login"])
    refused = await fhir_client.get("/metrics")
    assert (refused.status_code, codes(refused)) == (403, ["forbidden"])
    answer = await operator.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_requests_are_counted_by_interaction_type_and_status(
    fhir_client: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """Each as the CapabilityStatement calls it; what is unknown under one name, whatever it was called."""
    await keep(fhir_client, patient("p"), observation("p", id="o"))
    for path in ("Patient/p", "Patient/nobody", "Observation?subject=Patient/p", "Patient/p/$meta", "Secret/x", "$x"):
        await fhir_client.get(f"/fhir/{path}")
    await post(fhir_client, transaction(entry(patient())))
    seen = await samples(operator)
    counted = {labels: number for (name, labels), number in seen.items() if name == "dmst_fhir_requests_total"}
    assert counted == {
        ("update", "2xx", "Patient"): 1,
        ("update", "2xx", "Observation"): 1,
        ("read", "2xx", "Patient"): 1,
        ("read", "4xx", "Patient"): 1,
        ("search-type", "2xx", "Observation"): 1,
        ("$meta", "2xx", "Patient"): 1,
        ("unknown", "4xx", ""): 2,
        ("transaction", "2xx", ""): 1,
    }
    assert seen["dmst_fhir_request_seconds_count", ("read",)] == 2
    assert seen["dmst_fhir_requests_in_flight", ()] == 1, "this one"
    assert seen["dmst_fhir_search_seconds_count", ()] == 1
    assert seen["dmst_fhir_commit_units_sum", ()] >= 2
    assert seen["dmst_fhir_audit_rows_sum", ()] >= 3
    assert seen["dmst_fhir_database_wait_seconds_count", ()] > 0
    assert seen["dmst_fhir_database_connections", ("primary", "idle")] > 0
    assert seen["process_resident_memory_bytes", ()] > 0
    assert any(name == "python_gc_collections_total" for name, _ in seen)


async def test_bytes_of_documents_are_counted_both_ways(
    fhir_client: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """As they pass the blob store."""
    sent = await fhir_client.post("/fhir/Binary", content=b"x" * 70_000, headers={"content-type": "application/pdf"})
    place = httpx.URL(sent.headers["location"]).path.removesuffix("/_history/1")
    await fhir_client.get(place, headers={"accept": "application/pdf"})
    seen = await samples(operator)
    assert seen["dmst_fhir_blob_bytes_total", ("in",)] == 70_000
    assert seen["dmst_fhir_blob_bytes_total", ("out",)] == 70_000


async def test_the_queues_of_the_database_are_told(server: Server, operator: httpx.AsyncClient) -> None:
    """Deliveries by recipient and state, the oldest that waits, folders for a person, jobs."""
    await server.rows(
        "insert into delivery (delivery_id, recipient, document_reference_id, patient_id, state, created, updated)"
        " select gen_random_uuid(), 'dmp', n::text, 'p', case when n < 4 then 'pending' else 'refused' end,"
        " now() - make_interval(mins => n), now() from generate_series(1, 5) n"
    )
    seen = await samples(operator)
    assert seen["dmst_fhir_deliveries", ("dmp", "pending")] == 3
    assert seen["dmst_fhir_deliveries", ("dmp", "refused")] == 2
    assert seen["dmst_fhir_delivery_oldest_waiting_seconds", ("dmp",)] == pytest.approx(180, abs=30)
    assert seen["dmst_fhir_review_folders", ()] == 0
    assert seen["dmst_fhir_queues_known", ()] == 1


async def test_what_the_process_knows_is_told_without_the_database(parts: Parts) -> None:
    """A scrape that fails when it is needed most helps nobody."""
    nowhere = Database("host=127.0.0.1 port=1", connections=2, statement_timeout_ms=1000)
    answer = await Exposition(parts.metrics, nowhere).answer("")
    told = {one.name: one.value for one in every_sample(bytes(answer.body).decode())}
    assert told["dmst_fhir_queues_known"] == 0
    assert "dmst_fhir_review_folders" not in told
    assert "process_cpu_seconds_total" in told


async def test_the_queues_are_counted_once_for_many_scrapes(parts: Parts) -> None:
    """Whoever scrapes often costs the database nothing more."""
    exposition = Exposition(parts.metrics, parts.database)
    await exposition.answer("")
    before = parts.metrics.pool_wait_seconds.buckets()[-1][1]
    for _ in range(20):
        await exposition.answer("")
    assert parts.metrics.pool_wait_seconds.buckets()[-1][1] == before


async def test_no_label_holds_anything_of_a_person(fhir_client: httpx.AsyncClient, operator: httpx.AsyncClient) -> None:
    """Names, ids, values of searches and paths that somebody made up stay out."""
    await keep(fhir_client, patient("MARTINEAU-1"))
    for path in ("Patient?name=MARTINEAU", "Patient/MARTINEAU-1/_history", "MARTINEAU/1", "Patient/1/$MARTINEAU"):
        await fhir_client.get(f"/fhir/{path}")
    await fhir_client.get("/MARTINEAU")
    await fhir_client.request("MARTINEAU", "/fhir/Patient")
    assert "MARTINEAU" not in (await operator.get("/metrics")).text


def test_counting_a_request_costs_less_than_three_microseconds() -> None:
    """What a read passes: request, latency, in flight, two waits for a connection, a group of audit rows."""
    metrics = Metrics()

    def count() -> None:
        metrics.in_flight += 1
        began = time.perf_counter()
        for _ in range(2):
            metrics.pool_wait_seconds.observe(time.perf_counter() - began)
        metrics.audit_rows.observe(1)
        metrics.in_flight -= 1
        metrics.request("read", "Patient", 200, time.perf_counter() - began)

    def seconds(times: int) -> float:
        began = time.thread_time()
        for _ in range(times):
            count()
        return (time.thread_time() - began) / times

    assert min(seconds(2000) for _ in range(20)) < 3e-6


async def test_the_metrics_port_of_a_process_needs_no_token(
    make_settings: Callable[..., Settings], unused_tcp_port: int
) -> None:
    """Where the operator opens one, on loopback unless told otherwise; nothing else is there."""
    from tests.support import serving

    async with serving(make_settings(metrics_port=unused_tcp_port)), httpx.AsyncClient() as client:
        base = f"http://127.0.0.1:{unused_tcp_port}"
        assert "dmst_fhir_requests_in_flight 0.0" in (await client.get(f"{base}/metrics")).text
        assert (await client.get(f"{base}/fhir/metadata")).status_code == 404


async def test_every_answer_carries_the_id_of_its_request(
    anonymous: httpx.AsyncClient, fhir_client: httpx.AsyncClient
) -> None:
    """The one that the client gave where it is one, otherwise a new one; success or not, FHIR or not."""
    await keep(fhir_client, patient("p"))
    for client, path in ((fhir_client, "/fhir/Patient/p"), (fhir_client, "/fhir/Patient/x"), (anonymous, "/livez")):
        answer = await client.get(path, headers={"x-request-id": "mine-1"})
        assert answer.headers.get_list("x-request-id") == ["mine-1"]
        answer = await client.get(path, headers={"x-request-id": "not an id"})
        assert len(answer.headers["x-request-id"]) == 32
    answer = await fhir_client.post("/fhir/Patient", content=b"{", headers={**FHIR_JSON, "x-request-id": "mine-2"})
    assert answer.headers.get_list("x-request-id") == ["mine-2"]


async def test_a_process_that_is_about_to_stop_says_so(server: Server, anonymous: httpx.AsyncClient) -> None:
    """At /readyz at once, and each answer asks its client to go; it still answers, and it is alive."""
    watch: Watch = server.app.watch  # pyright: ignore[reportAttributeAccessIssue]
    assert (await anonymous.get("/readyz")).status_code == 200
    watch.draining = True
    answer = await anonymous.get("/readyz")
    assert (answer.status_code, answer.json(), answer.headers["connection"]) == (503, {"status": "stopping"}, "close")
    assert (await anonymous.get("/livez")).status_code == 200
    answer = await anonymous.get("/fhir/metadata")
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
