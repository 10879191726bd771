"""A5 and A9 of the acceptance scenarios: oppositions, delegations, what the service's doctor lays down."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from fhir_server import roles
from fhir_server.__main__ import app
from fhir_server.store.role_editions import RoleEditions
from mappings.consent import WORKER_RIGHT
from terminology import systems
from tests.support import (
    EVERYTHING,
    Resource,
    Server,
    document_reference,
    found,
    keep,
    patient,
    put,
)


@pytest.fixture(autouse=True)
def _the_law_again() -> Iterator[None]:
    yield
    roles.IN_FORCE.put(0, roles.of_the_law())


def opposition(right: str, **more: Any) -> Resource:
    return {
        "resourceType": "Consent",
        "id": f"{right.lower()}",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": right}]}],
        "patient": {"reference": "Patient/p"},
        "dateTime": datetime.now(UTC).isoformat(),
        "policyRule": {"text": "R4624-45-6"},
        "provision": {"type": "deny"},
        **more,
    }


def of_heading(name: str, heading: str) -> Resource:
    return document_reference("p", id=name, category=[{"coding": [{"system": systems.DMST_CATEGORY, "code": heading}]}])


@pytest.fixture
async def doctor(server: Server) -> httpx.AsyncClient:
    http = (await server.client(EVERYTHING, role="medecin-travail")).http
    await keep(http, patient("p"), of_heading("visit", "3"), of_heading("exposure", "2"))
    return http


async def test_a5_who_is_opposed_finds_nothing_and_the_attempt_is_traced(
    server: Server, doctor: httpx.AsyncClient
) -> None:
    """C2 keeps the record from the nurse, C1 from the MPC; the doctor reads on; a withdrawal opens it again."""
    nurse = (await server.client(EVERYTHING, role="infirmier")).http
    mpc = (await server.client(EVERYTHING, role="medecin-praticien-correspondant")).http
    asked = "DocumentReference?patient=p"
    assert await found(nurse, asked) == await found(mpc, asked) == ["exposure", "visit"]
    await keep(doctor, opposition("C2"))
    assert (await found(nurse, asked), await found(mpc, asked)) == ([], ["exposure", "visit"])
    assert (await nurse.get("/fhir/DocumentReference/visit")).status_code == 404
    assert (await nurse.get("/fhir/Patient/p")).status_code == 200, "who he is is not concealed"
    statement = "select interaction, resource_id from access where outcome = 4 and patient_id = 'p' order by id"
    refused = await server.rows(statement)
    assert refused == [("search-type", None), ("read", "visit")]
    await keep(doctor, opposition("C1"))
    assert (await found(mpc, asked), await found(doctor, asked)) == ([], ["exposure", "visit"])
    await keep(doctor, opposition("C2", status="inactive"))
    assert await found(nurse, asked) == ["exposure", "visit"]


async def test_a_page_link_given_before_an_opposition_shows_nothing_after_it(
    server: Server, doctor: httpx.AsyncClient
) -> None:
    """Hits are those of the first page; who may see them is decided now."""
    nurse = (await server.client(EVERYTHING, role="infirmier")).http
    first = (await nurse.get("/fhir/DocumentReference?patient=p&_count=1&_sort=_id")).json()
    await keep(doctor, opposition("C2"), {**of_heading("visit", "3"), "description": "changed"})
    (following,) = (one["url"] for one in first["link"] if one["relation"] == "next")
    assert (await nurse.get(following)).json().get("entry", []) == []


async def test_an_assistant_sees_headings_one_and_two_while_a_delegation_is_in_force(
    server: Server, doctor: httpx.AsyncClient
) -> None:
    """R4624-45-5: without it nothing of a worker, with it no health information, after it nothing again."""
    editions = RoleEditions(server.database)
    caller = await server.client(EVERYTHING, role="assistant")
    asked = "DocumentReference?patient=p"
    assert await found(caller.http, asked) == []
    now = datetime.now(UTC)
    later = await server.client(EVERYTHING, role="assistant")
    await editions.delegate(later.client_id, "Dr Test", now, now.replace(year=now.year + 1))
    assert await found(later.http, asked) == ["exposure"]
    assert (await later.http.get("/fhir/DocumentReference/visit")).status_code == 404
    assert (await put(later.http, of_heading("new", "2"))).status_code == 201
    refused = await put(later.http, of_heading("newer", "3"))
    assert (refused.status_code, "R4624-45-5" in refused.text) == (403, True)
    assert (await put(later.http, {**of_heading("exposure", "3")})).status_code == 403
    assert await editions.end(later.client_id) == 1
    assert [one.delegate for one in await editions.delegations()] == [later.client_id]


async def test_the_services_doctor_takes_away_and_never_gives(server: Server, doctor: httpx.AsyncClient) -> None:
    """An edition is kept with who and why, and is in force at once here, soon everywhere."""
    nurse = (await server.client(EVERYTHING, role="infirmier")).http
    editions = RoleEditions(server.database)
    row = {"label": "Infirmier", "source": "Protocole du 3 mars", "read": [1, 2], "write": [1], "opposed_by": ["C2"]}
    assert await editions.lay_down({"infirmier": row}, "Dr Test", "Protocole") == 1
    assert await found(nurse, "DocumentReference?patient=p") == ["exposure"]
    with pytest.raises(ValueError, match="goes beyond"):
        await editions.lay_down({"infirmier": {**row, "opposed_by": []}}, "Dr Test", "too much")
    assert await editions.lay_down({}, "Dr Test", "fin du protocole") == 2
    assert await found(nurse, "DocumentReference?patient=p") == ["exposure", "visit"]
    assert [(one.number, one.by_whom, one.reason) for one in await editions.editions()] == [
        (2, "Dr Test", "fin du protocole"),
        (1, "Dr Test", "Protocole"),
    ]


async def test_only_the_doctor_makes_a_personal_note_transmissible_again(
    server: Server, doctor: httpx.AsyncClient
) -> None:
    """A8: flagged by the nurse, it is gone from every path for everybody else at once."""
    nurse = (await server.client(EVERYTHING, role="infirmier")).http
    software = (await server.client(EVERYTHING)).http
    note = of_heading("visit", "3")
    flag = {"security": [{"system": systems.SECURITY_TAG, "code": "non-transmissible"}]}
    await keep(nurse, {**note, "meta": flag})
    for http in (nurse, software):
        assert (await http.get("/fhir/DocumentReference/visit")).status_code == 404
        assert (await http.get("/fhir/DocumentReference/visit/_history")).status_code == 404
        assert await found(http, "DocumentReference?patient=p") == ["exposure"]
        assert (await put(http, note)).status_code == 403
    assert await found(doctor, "DocumentReference?patient=p") == ["exposure", "visit"]
    assert (await put(doctor, note)).status_code == 200
    assert await found(software, "DocumentReference?patient=p") == ["exposure", "visit"]


async def test_the_trail_is_for_those_who_control(server: Server, doctor: httpx.AsyncClient) -> None:
    """Whatever the scopes say: it would tell a nurse of what a worker keeps from her."""
    for role, status in (
        ("medecin-travail", 200),
        ("dpo", 200),
        ("infirmier", 403),
        ("assistant", 403),
        ("technique", 403),
    ):
        http = (await server.client(EVERYTHING, role=role)).http
        answer = await http.get("/fhir/AuditEvent?patient=p")
        assert answer.status_code == status, role


def test_commands(tmp_path: Path, make_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dmst-fhir roles`, `delegations` and `persons`, as an operator types them."""
    settings = make_settings()
    monkeypatch.setenv("DMST_FHIR_POSTGRES", settings.postgres.get_secret_value())
    monkeypatch.setenv("DMST_FHIR_REDIS", settings.redis.get_secret_value())
    data = ["--data", str(tmp_path)]
    runner = CliRunner()
    shown = runner.invoke(app, ["roles", "show", *data])
    assert shown.exit_code == 0
    assert "the law's table" in shown.output
    rows = tmp_path / "rows.toml"
    rows.write_text('[assistant]\nlabel = "Assistant"\nsource = "Note"\nread = [1]\nwrite = [1]\ndelegation = true\n')
    done = runner.invoke(app, ["roles", "restrict", str(rows), "--by", "Dr Test", "--reason", "Note", *data])
    assert "edition 1 is in force" in done.output
    rows.write_text('[assistant]\nlabel = "Assistant"\nsource = "Note"\nread = [1, 3]\ndelegation = true\n')
    beyond = runner.invoke(app, ["roles", "restrict", str(rows), "--by", "Dr Test", "--reason", "Note", *data])
    assert (beyond.exit_code, "goes beyond" in beyond.output) == (2, True)
    assert '"Dr Test"' in runner.invoke(app, ["roles", "history", *data]).output
    given = runner.invoke(app, ["delegations", "give", "c1", "--by", "Dr Test", *data])
    assert (given.exit_code, "c1" in runner.invoke(app, ["delegations", "list", *data]).output) == (0, True)
    assert runner.invoke(app, ["delegations", "end", "c1", *data]).exit_code == 0
    assert runner.invoke(app, ["delegations", "end", "c1", *data]).exit_code == 1
    for word, to in (("link", "Patient/nobody"), ("join", "C99")):
        nowhere = runner.invoke(app, ["persons", word, "person-1", to, "--by", "Mme A", *data])
        assert nowhere.exit_code != 0, nowhere.output
    assert "nobody" in runner.invoke(app, ["persons", "list", *data]).output
