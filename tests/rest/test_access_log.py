"""One line in the log for each request: enough to find it, nothing of whom it is about."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support import keep, observation, patient

ROOT = Path(__file__).parents[2]
SECRET = "MARTINEAU"


def access_lines(text: str) -> list[dict[str, object]]:
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [event for event in events if event["event"] == "access"]


async def test_each_request_leaves_one_line_without_what_it_asked(
    fhir_client: httpx.AsyncClient, anonymous: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Method, interaction, type, status, time, client and request id; no id of a resource, no query, no path."""
    await keep(fhir_client, patient(f"{SECRET}-1"), observation(f"{SECRET}-1", id="o"))
    capsys.readouterr()
    mine = {"x-request-id": "r-1"}
    await fhir_client.get(f"/fhir/Patient/{SECRET}-1", headers=mine)
    await fhir_client.get("/fhir/Observation", params={"subject:Patient.name": SECRET}, headers=mine)
    await fhir_client.post("/fhir/Patient/_search", data={"name": SECRET}, headers=mine)
    await fhir_client.get(f"/fhir/{SECRET}/1", headers=mine)
    await fhir_client.request(SECRET, "/fhir/Patient", headers=mine)
    await anonymous.get(f"/fhir/Patient/{SECRET}-1", headers=mine)
    await anonymous.post(f"/oauth2/token?{SECRET}", data={"client_id": SECRET}, headers=mine)
    text = capsys.readouterr().err
    assert SECRET not in text
    lines = access_lines(text)
    assert [(one["method"], one["interaction"], one["type"], one["status"]) for one in lines] == [
        ("GET", "read", "Patient", 200),
        ("GET", "search-type", "Observation", 200),
        ("POST", "search-type", "Patient", 200),
        ("GET", "unknown", None, 404),
        ("unknown", "unknown", "Patient", 405),
        ("GET", "read", "Patient", 401),
        ("POST", "token", None, 400),
    ]
    assert {one["request_id"] for one in lines} == {"r-1"}
    assert all(isinstance(one["ms"], float) for one in lines)
    assert [bool(one["client"]) for one in lines] == [True, True, True, False, False, False, False]


async def test_health_is_asked_too_often_to_be_told(
    anonymous: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """A probe every few seconds would hide the rest."""
    for path in ("/livez", "/readyz"):
        assert (await anonymous.get(path)).status_code == 200
    assert access_lines(capsys.readouterr().err) == []


PROGRAM = """
import sys
import structlog
from fhir_server.app import create
from fhir_server.settings import Settings
create(Settings(data="{data}", log_level="info", log_format="{form}"))
def broken(name):
    raise ValueError(name)
try:
    broken("{secret}")
except ValueError:
    structlog.get_logger("x").exception("it failed", request_id="r-1")
"""


@pytest.mark.parametrize("form", ["json", "text", "auto"])
def test_who_serves_the_application_by_himself_gets_our_log(tmp_path: Path, form: str) -> None:
    """`create()` alone sets it up: no traceback with the values of variables, in either form."""
    program = PROGRAM.format(data=tmp_path, form=form, secret=SECRET)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert SECRET not in done.stderr + done.stdout
    (line,) = done.stderr.splitlines()
    assert "it failed" in line
    assert "ValueError" in line
    assert "r-1" in line
    assert line.startswith("{") == (form != "text"), "no terminal reads this"


def test_a_server_that_cannot_start_says_why_and_no_more(tmp_path: Path) -> None:
    """The reason as a sentence; the traceback that the HTTP server tells as text is kept as places only."""
    nowhere = f"host=127.0.0.1 port=1 user={SECRET}"
    program = (
        "from fhir_server.app import create\nfrom fhir_server.settings import Settings\nimport uvicorn\n"
        f"app = create(Settings(data='{tmp_path}', redis='redis://x', postgres='{nowhere}'))\n"
        "uvicorn.run(app, port=0, log_config=None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode != 0
    assert SECRET not in done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    (told,) = [one for one in events if one["event"] == "the server cannot start"]
    assert told["reason"] == "The database is out of reach; try again"
    assert any("app.py" in place for one in events for place in one.get("at", []))
