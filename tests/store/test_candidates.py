"""Candidates by parts of an identity: found when a part is shared, kept under a secret, gone with the worker."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from fhir_server.linkage.traits import TraitsIns
from fhir_server.linkage.workers import parts_of_patient, parts_of_record
from fhir_server.metrics import Metrics
from fhir_server.roles import sight_of
from fhir_server.sight import EVERYTHING
from fhir_server.store import candidates
from fhir_server.store.candidates import Candidates
from tests.support import Server, keep, patient

ANNE = TraitsIns(birth_name="LE GOFF", given_names=("ANNE",), birth_date="1979-03-14", sex="female")


def worker(identity: str, family: str = "LEGOFF", given: str = "ANNE", born: str = "1979-03-14") -> dict[str, Any]:
    named = [{"use": "official", "family": family, "given": [given]}]
    return {**patient(identity, family), "name": named, "birthDate": born, "gender": "female"}


async def found(server: Server, stated: TraitsIns = ANNE) -> list[str]:
    alike = await Candidates(server.database).alike(list(parts_of_record(stated)), EVERYTHING)
    return [one.id for one in alike.candidates]


async def rows(server: Server) -> set[int]:
    async with server.database.connection() as connection:
        return {row[0] for row in await (await connection.execute(b"select k from identity_key")).fetchall()}


async def test_who_shares_a_part_is_found_most_alike_first(fhir_client: httpx.AsyncClient, server: Server) -> None:
    await keep(fhir_client, worker("other", "MARTIN", "PAUL", "1961-01-09"))
    await keep(fhir_client, worker("misspelt", "LEGOF", "ANNE", "1979-04-14"))
    await keep(fhir_client, worker("same"))
    assert await found(server) == ["same", "misspelt"]


async def test_a_worker_is_found_by_what_he_is_now(fhir_client: httpx.AsyncClient, server: Server) -> None:
    await keep(fhir_client, worker("w"))
    await keep(fhir_client, worker("w", "MARTIN", "PAUL", "1961-01-09"))
    assert await found(server) == []
    await keep(fhir_client, worker("w"))
    await keep(fhir_client, {**worker("w"), "active": False})
    assert await found(server) == []
    await keep(fhir_client, worker("w"))
    assert await found(server) == ["w"]
    assert (await fhir_client.delete("/fhir/Patient/w")).status_code < 300
    assert await found(server) == []
    assert await rows(server) == set()


async def test_the_table_holds_no_part_as_anybody_could_make_it(fhir_client: httpx.AsyncClient, server: Server) -> None:
    kept: Mapping[str, Any] = worker("w")
    await keep(fhir_client, dict(kept))
    parts = set(parts_of_patient(kept))
    assert parts
    assert len(await rows(server)) == len(parts)
    assert not await rows(server) & parts


async def test_who_is_out_of_sight_is_no_candidate(fhir_client: httpx.AsyncClient, server: Server) -> None:
    await keep(fhir_client, worker("w"))
    nobody = sight_of("employeur", None, None, delegated=False)
    alike = await Candidates(server.database).alike(list(parts_of_record(ANNE)), nobody)
    assert alike.candidates == ()


async def test_a_part_that_too_many_share_is_cut_and_counted(
    fhir_client: httpx.AsyncClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "MOST_OF_A_PART", 2)
    for number in range(3):
        await keep(fhir_client, worker(f"w{number}"))
    metrics = Metrics()
    alike = await Candidates(server.database, metrics).alike(list(parts_of_record(ANNE)), EVERYTHING)
    assert len(alike.candidates) == 2
    assert alike.capped == metrics.identity_parts_capped.values[()] > 0


async def test_the_register_has_a_size(fhir_client: httpx.AsyncClient, server: Server) -> None:
    await keep(fhir_client, worker("w0"), worker("w1"))
    assert await Candidates(server.database).register_size() == 2


async def test_all_workers_are_read_in_pages(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """In the order of their ids, each once; those who were deleted are left out."""
    for identity in ("b", "a", "c"):
        await keep(fhir_client, worker(identity))
    assert (await fhir_client.delete("/fhir/Patient/b")).status_code < 300
    read, after = [], ""
    while page := await Candidates(server.database).next_workers(after, EVERYTHING, most=1):
        read += [one.id for one in page]
        after = page[-1].id
    assert read == ["a", "c"]
