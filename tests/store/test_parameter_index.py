"""Search parameters that are added: whoever writes meanwhile, the index ends as if it were made from nothing."""

import asyncio
import random

import pytest

from fhir_server.caller import service
from fhir_server.r4.parameter_definition import definition_of
from fhir_server.r4.search_parameters import REGISTRY
from fhir_server.records.write import Door, Incoming, deletion, incoming_from_dict
from fhir_server.store import custom_parameters, parameter_index, reindex
from fhir_server.store.commit import Commits
from fhir_server.store.custom_parameters import CustomParameters
from fhir_server.store.database import Database
from tests.support import Resource, patient

TABLES = ("token", "period", "word", "measure")
OPERATOR = service("test")
CONTACT = {
    "resourceType": "SearchParameter",
    "url": "urn:test:contact",
    "name": "Contact",
    "status": "active",
    "description": "Who is called",
    "code": "contact",
    "base": ["Patient"],
    "type": "string",
    "expression": "Patient.contact.name",
}
OTHER = {
    **CONTACT,
    "url": "urn:test:same-person",
    "code": "same-person",
    "type": "reference",
    "target": ["Patient"],
    "expression": "Patient.link.other",
}


@pytest.fixture
def parameters(database: Database) -> CustomParameters:
    """Of a process that has just looked, and would not look again for half a second."""
    return CustomParameters(database, pause=0.25)


@pytest.fixture
def door(database: Database, parameters: CustomParameters) -> Door:
    return Door(Commits(database, parameters))


async def write(door: Door, *resources: Incoming) -> None:
    await door.write(OPERATOR, resources, interaction="transaction", request_id="t")


async def announce(database: Database, *definitions: Resource) -> None:
    async with database.transaction() as connection:
        for one in definitions:
            wanted = definition_of(one)
            assert wanted
            await custom_parameters.announce(connection, one["url"], wanted)


def worker(number: int, name: str) -> Resource:
    """A worker with a contact, and a link to one of the first."""
    linked = {"link": [{"other": {"reference": f"Patient/p{number % 10}"}, "type": "seealso"}]} if number > 9 else {}
    return patient(f"p{number}", contact=[{"name": {"family": name}}], **linked)


def putting(number: int, name: str) -> Incoming:
    return incoming_from_dict(worker(number, name), method="update")


async def everybody_has_heard(database: Database) -> None:
    """The grace is over."""
    async with database.connection() as connection:
        await connection.execute(b"update custom_parameter set seen = now() - interval '1 hour'")


async def walk(database: Database, parameters: CustomParameters) -> None:
    """Index until every parameter is in use."""
    async with asyncio.timeout(60):
        while any(one.state in ("announced", "indexing") for one in await parameters.listed()):
            if not await parameter_index.step(database, parameters):
                await asyncio.sleep(0.05)


async def index_of(database: Database) -> list[object]:
    """Everything that the index holds, of resources that exist and of those that were deleted."""
    queries = [f"select * from {table} order by 1, 2, 3" for table in TABLES[1:]] + [
        "select * from token order by 1, 2"
    ]
    queries.append(
        "select rid, (select array_agg(x order by x) from unnest(refs) x),"
        " (select array_agg(x order by x) from unnest(present) x) from resource order by rid"
    )
    async with database.connection() as connection:
        return [await (await connection.execute(query.encode())).fetchall() for query in queries]


async def from_nothing(database: Database) -> list[object]:
    """The same after everything was indexed again."""
    async with database.connection() as connection:
        await connection.execute(b"update index_state set version = 1")
    await reindex.bring_up_to_date(database)
    return await index_of(database)


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_and_nothing_left_behind(database: Database, seed: int) -> None:
    """Two processes write while two parameters come: one has heard of them, the other has not yet."""
    chance = random.Random(seed)
    parameters = CustomParameters(database, pause=60)
    door = Door(Commits(database, parameters))
    count = parameter_index.BATCH + 20
    await parameters.refresh()
    await write(door, *(putting(number, f"Before{number % 7}") for number in range(count)))
    await announce(database, CONTACT, OTHER)
    await parameter_index.step(database, parameters)  # from here the grace is counted
    await parameters.refresh()
    knowing = REGISTRY.additions
    assert len(knowing) == 2
    for _ in range(60):
        REGISTRY.use(knowing if chance.random() < 0.5 else ())
        number = chance.choice((3, 30, count + 5, chance.randrange(1, count + 20)))
        if chance.random() < 0.15:
            await write(door, putting(999, "x"))
            await write(door, deletion("Patient", "p999"))
        await write(door, putting(number, f"Meanwhile{chance.randrange(2)}"))
    await everybody_has_heard(database)
    await parameters.refresh()
    indexing = asyncio.create_task(walk(database, parameters))
    while not indexing.done():
        await write(door, putting(chance.randrange(1, count), f"During{chance.randrange(4)}"))
        await asyncio.sleep(0)
    await indexing
    assert [one.state for one in await parameters.listed()] == ["active", "active"]
    found = await index_of(database)
    assert found == await from_nothing(database)


async def test_who_has_not_looked_for_long_looks_before_it_writes(
    database: Database, parameters: CustomParameters, door: Door
) -> None:
    """A process that stood still, or whose looks failed, cannot write what nobody will index."""
    await announce(database, CONTACT)
    await asyncio.sleep(custom_parameters.OLD * parameters.pause)
    assert REGISTRY.additions == ()
    await write(door, putting(0, "Late"))
    assert [one.parameter.code for one in REGISTRY.additions] == ["contact"]
    assert await index_of(database) == await from_nothing(database)


async def test_indexing_waits_for_writes_that_are_under_way(database: Database, parameters: CustomParameters) -> None:
    """A transaction that began before everybody had heard may still bring a resource without its rows."""
    await announce(database, CONTACT)
    async with database.transaction() as connection:
        await connection.execute(b"select 1")
        await parameter_index.step(database, parameters)
        await asyncio.sleep(parameter_index.GRACE * parameters.pause + 0.1)
        assert not await parameter_index.step(database, parameters)
    assert await parameter_index.step(database, parameters)


async def test_indexing_that_is_cut_off_goes_on_where_it_was(
    database: Database, parameters: CustomParameters, door: Door
) -> None:
    """What was committed stays, what was not is made again, and nothing twice."""
    count = 2 * parameter_index.BATCH + 10
    await write(door, *(putting(number, "Name") for number in range(count)))
    await announce(database, CONTACT)
    await parameter_index.step(database, parameters)
    await everybody_has_heard(database)
    for _ in range(2):  # begins, then the first batch
        assert await parameter_index.step(database, parameters)
    cut_off = asyncio.create_task(parameter_index.step(database, parameters))
    await asyncio.sleep(0.02)
    cut_off.cancel()
    await asyncio.gather(cut_off, return_exceptions=True)
    (half,) = await parameters.listed()
    assert (half.state, half.of) == ("indexing", count)
    assert half.done in (parameter_index.BATCH, 2 * parameter_index.BATCH)
    REGISTRY.use(())  # a new process knows nothing
    await walk(database, CustomParameters(database, pause=0.25))
    (whole,) = await parameters.listed()
    assert (whole.state, whole.done) == ("active", count)
    assert await index_of(database) == await from_nothing(database)


async def test_two_processes_share_the_work(database: Database, parameters: CustomParameters, door: Door) -> None:
    """Each batch is made by one of them."""
    count = 3 * parameter_index.BATCH
    await write(door, *(putting(number, "Name") for number in range(count)))
    await announce(database, CONTACT)
    await asyncio.gather(*(walk(database, parameters) for _ in range(3)))
    (added,) = await parameters.listed()
    assert (added.state, added.done) == ("active", count)
    assert await index_of(database) == await from_nothing(database)


async def test_a_retired_parameter_leaves_no_word_behind(
    database: Database, parameters: CustomParameters, door: Door
) -> None:
    """What it had indexed may name somebody who is deleted after it."""
    await write(door, *(putting(number, "Name") for number in range(20)))
    before = await index_of(database)
    await announce(database, CONTACT)
    await parameter_index.step(database, parameters)
    await everybody_has_heard(database)
    await walk(database, parameters)
    assert (await index_of(database))[1] != before[1]
    async with database.transaction() as connection:
        await custom_parameters.retire(connection, CONTACT["url"])
    assert not await parameter_index.step(database, parameters), "others may still write it"
    await everybody_has_heard(database)
    while await parameter_index.step(database, parameters):
        pass
    assert (await index_of(database))[:2] == before[:2]


async def test_a_number_is_never_given_twice(database: Database, parameters: CustomParameters) -> None:
    """Also not to the same parameter after it was away: rows of before may be there."""
    for _ in range(2):
        await announce(database, CONTACT)
        async with database.transaction() as connection:
            await custom_parameters.retire(connection, CONTACT["url"])
    await announce(database, OTHER)
    await announce(database, OTHER)  # says the same: nothing happens
    assert [(one.number, one.state) for one in await parameters.listed()] == [
        (20003, "announced"),
        (20002, "retired"),
        (20001, "retired"),
    ]
