"""OpenAPI: it describes every route, and no request that follows it, or bends it, breaks the server."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from fhir_server.rest.routes import OPERATION_ROUTES, ROUTES
from fhir_server.settings import Settings
from tests.stories.support import process, running_service, until
from tests.support import EVERYTHING, free_port, keep, observation, patient

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
EXAMPLES = 15


@pytest.fixture
async def api(anonymous: httpx.AsyncClient) -> dict[str, Any]:
    return (await anonymous.get("/openapi.json")).json()


def test_every_route_is_described_once(api: dict[str, Any]) -> None:
    """As many operations as there are routes, each under its own name."""
    described = [one for path, methods in api["paths"].items() if path.startswith("/fhir") for one in methods.values()]
    assert len(described) == len(ROUTES) + len(OPERATION_ROUTES)
    names = [one["operationId"] for methods in api["paths"].values() for one in methods.values()]
    assert len(set(names)) == len(names)


def test_what_is_not_offered_on_a_type_is_not_described(api: dict[str, Any]) -> None:
    """Nobody patches a Binary, nobody writes the trail."""

    def types(path: str, method: str) -> list[str]:
        (one,) = [p for p in api["paths"][path][method]["parameters"] if p["name"] == "type"]
        return one["schema"]["enum"]

    assert "Binary" in types("/fhir/{type}/{id}", "get")
    assert "Binary" not in types("/fhir/{type}/{id}", "patch")
    assert "AuditEvent" not in types("/fhir/{type}", "post")
    assert "Parameters" not in types("/fhir/{type}", "get")


async def test_the_page_needs_nothing_from_elsewhere(anonymous: httpx.AsyncClient) -> None:
    """It shows each operation, and the machine that shows it may be offline."""
    answer = await anonymous.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "GET /fhir/{type}/{id}/_history/{version}" in answer.text
    assert "<script" not in answer.text
    assert re.findall(r'(?:src|href)="(?!#)([^"]+)"', answer.text) == ["openapi.json"]


@pytest.fixture
async def base(make_settings: Any, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """A server process with a Patient and an Observation in it: where it is, and a token."""
    port = free_port()
    chosen: Settings = make_settings(port=port, base_url=f"http://127.0.0.1:{port}/fhir", log_level="error")
    async with running_service(chosen) as service:
        client_id, _ = await service.clients.add("api", EVERYTHING, "operator")
        token, _ = await service.clients.give_token(client_id, EVERYTHING, 15)
        with process(chosen, "serve"):
            where = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=where, headers={"authorization": f"Bearer {token}"}) as client:
                await until(lambda: _answers(client), "the server is ready")
                await keep(client, patient("p"), observation("p", id="o"))
                yield where, token


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.ConnectError:
        return False


@pytest.mark.filterwarnings("ignore")  # of the tool: deprecations of its own libraries
async def test_no_request_made_from_the_description_breaks_the_server(base: tuple[str, str]) -> None:
    """Valid and invalid ones: never 5xx, always a status and a media type that is described."""
    where, token = base
    faults = await asyncio.to_thread(_faults, where, {"authorization": f"Bearer {token}"})
    assert faults == {}


def _faults(where: str, headers: dict[str, str]) -> dict[str, str]:
    api = schemathesis.openapi.from_url(f"{where}/openapi.json")
    found: dict[str, str] = {}
    for result in api.get_all_operations():
        operation = result.ok()
        strategy = operation.as_strategy()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def ask(case: Any) -> None:
            answer = case.call(headers=headers)
            case.validate_response(answer, checks=CHECKS)

        try:
            ask()
        except Exception as fault:
            found[operation.label] = str(fault)[:1500]
    return found
