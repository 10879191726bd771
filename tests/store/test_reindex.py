"""Index rows are made again where they were made otherwise."""

import httpx
import psycopg

from fhir_server.store import reindex
from tests.support import Server, found, in_folder, keep, observation

TABLES = ("token", "period", "word", "measure", "place", "narrative")
SEARCHES = (
    "Patient?family=testeur",
    "Patient?identifier=1",
    "Observation?patient.identifier=1",
    "Observation?value-quantity=5",
    "Patient?_has:Observation:patient:code=8867-4",
    "Patient?birthdate:missing=true",
)


async def test_an_older_index_is_made_again_once(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """What was found is found again, deleted resources stay deleted, and the second start has nothing to do."""
    await keep(fhir_client, in_folder("1", id="p"), in_folder("1", id="gone"))
    await keep(fhir_client, observation("p", id="o", valueQuantity={"value": 5}))
    await fhir_client.delete("/fhir/Patient/gone")
    before = [await found(fhir_client, query) for query in SEARCHES]
    assert before == [["p"], ["p"], ["o"], ["o"], ["p"], ["p"]]
    rows = [await server.rows(f"select * from {table} order by 1, 2") for table in TABLES]
    for table in TABLES:
        await server.rows(f"delete from {table}")
    await server.rows("update resource set own_hash = 0, refs = null, present = null")
    await server.rows("update index_state set version = 1")
    assert await reindex.bring_up_to_date(server.database) == 3
    assert [await server.rows(f"select * from {table} order by 1, 2") for table in TABLES] == rows
    assert [await found(fhir_client, query) for query in SEARCHES] == before
    assert await reindex.bring_up_to_date(server.database) == 0


async def test_the_planner_knows_the_rows_of_the_new_index(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """In the same transaction: searches of the first minute are planned by what is there."""
    await keep(fhir_client, *(in_folder(str(number), id=f"p{number}") for number in range(20)))
    await server.as_owner("delete from pg_statistic where starelid = 'token'::regclass")
    await server.rows("update index_state set version = 1")
    assert await reindex.bring_up_to_date(server.database) == 20
    known = "select count(*) from pg_stats where tablename = 'token' and attname = 'tenant'"
    async with await psycopg.AsyncConnection.connect(server.database.dsn) as owner:
        assert await (await owner.execute(known)).fetchone() == (1,)
