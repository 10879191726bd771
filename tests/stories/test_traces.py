"""Traces: what a collector receives over OTLP/HTTP, and what it never does."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.settings import Settings
from tests.stories.support import Provider, dispatch_all, process, running_service, until
from tests.support import EVERYTHING, free_port, keep, observation, patient, serving

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

ROOT = Path(__file__).parents[2]
SECRET = "MARTINEAU"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """A collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                self.bodies.append(handler.rfile.read(int(handler.headers["content-length"])))
                handler.send_response(200 if handler.path == "/v1/traces" else 404)
                handler.end_headers()

            def log_message(handler, *_arguments: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Any]:
        requests = [trace_service.ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for one in requests
            for resource in one.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


async def test_requests_and_their_parts_are_traced(
    make_settings: Callable[..., Settings], collector: Collector
) -> None:
    """A span for each request, those of search, commit and blob within it, under the trace of the client; no person."""
    async with serving(make_settings(otlp_endpoint=collector.url)) as server:
        http = (await server.client(EVERYTHING)).http
        await keep(http, patient(f"{SECRET}-1", SECRET), observation(f"{SECRET}-1", id="o"))
        found = await http.get("/fhir/Patient", params={"name": SECRET}, headers={"traceparent": PARENT})
        assert found.json()["total"] == 1
        await http.get(f"/fhir/{SECRET}/1")
        pdf = {"content-type": "application/pdf"}
        place = httpx.URL((await http.post("/fhir/Binary", content=b"x", headers=pdf)).headers["location"]).path
        await http.get(place, headers={"accept": "application/pdf"})
    assert SECRET.encode() not in b"".join(collector.bodies)
    spans = collector.spans()
    names = sorted(span.name for span in spans)
    assert names == sorted(
        ["update Patient", "commit", "update Observation", "commit", "search-type Patient", "search", "unknown"]
        + ["create Binary", "blob write", "commit", "vread Binary", "blob read"]
    )
    (request,) = [span for span in spans if span.name == "search-type Patient"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    told = attributes(request)
    assert told.pop("dmst_fhir.request_id")
    assert told == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "dmst_fhir.interaction": "search-type",
        "dmst_fhir.type": "Patient",
    }
    (search,) = [span for span in spans if span.name == "search"]
    assert search.parent_span_id == request.span_id
    by_id = {span.span_id: span.name for span in spans}
    assert {(one.name, by_id.get(one.parent_span_id)) for one in spans if one.name.startswith("blob")} == {
        ("blob write", "create Binary"),
        ("blob read", "vread Binary"),
    }


async def test_each_attempt_to_deliver_is_traced(world: Settings, provider: Provider, collector: Collector) -> None:
    """With the name of the recipient and the number of the attempt."""
    async with running_service(world.model_copy(update={"otlp_endpoint": collector.url})) as service:
        await service.lots.receive(provider.lot("100000101"))
        await dispatch_all(service)
    deliveries = [attributes(span) for span in collector.spans() if span.name == "delivery"]
    assert {one["dmst_fhir.recipient"] for one in deliveries} == {"logiciel-metier", "dmp"}
    assert {one["dmst_fhir.attempt"] for one in deliveries} == {1}


async def test_a_collector_that_is_gone_stops_nothing(make_settings: Callable[..., Settings]) -> None:
    """Traces are for those who look; who asks gets his answer."""
    async with serving(make_settings(otlp_endpoint="http://127.0.0.1:1")) as server:
        client = (await server.client(EVERYTHING)).http
        await keep(client, patient("p"))
        assert (await client.get("/fhir/Patient/p")).status_code == 200


async def test_the_web_framework_tells_nobody_anything(
    make_settings: Callable[..., Settings], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI would send bodies and exceptions of token requests to a collector that the environment names."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    settings = make_settings(port=free_port(), drain_seconds=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}") as client:
        with process(settings, "serve") as serving:
            await until(lambda: _answers(client), "the server answers")
            await client.post("/oauth2/token", data={"client_id": SECRET})
            await client.post("/oauth2/token", content=b"{", headers={"content-type": "application/json"})
            serving.terminate()
            await asyncio.to_thread(serving.wait, 20)
    assert collector.bodies == []


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/livez")).status_code == 200
    except httpx.ConnectError:
        return False


def test_without_an_endpoint_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    """What is off costs nothing; the API alone comes with FastAPI, and does nothing without a provider."""
    program = (
        "import sys\nfrom fhir_server.app import create\nfrom fhir_server.settings import Settings\n"
        f"create(Settings(data={str(tmp_path)!r}))\n"
        "sys.exit(any(name.startswith(('opentelemetry.sdk.trace', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0
