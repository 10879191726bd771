"""The planner knows of tables that grow from nothing, before autovacuum looks."""

import httpx
import pytest

from fhir_server.store import statistics
from fhir_server.store.statistics import Statistics
from tests.support import Server, keep, patient

TABLES = {
    *("resource", "token", "period", "word", "measure", "place", "narrative"),
    *("opposition", "worker_centre", "identity_key"),
}


async def analyses(server: Server) -> int:
    ((number,),) = await server.rows("select analyze_count from pg_stat_user_tables where relname = 'token'")
    return number


async def known(server: Server) -> float:
    ((number,),) = await server.rows("select reltuples from pg_class where oid = 'token'::regclass")
    return number


async def test_who_writes_has_the_tables_analysed_as_they_grow(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """What nobody knew is known then."""
    before = await known(server)
    await keep(fhir_client, *(patient(f"p{number}") for number in range(statistics.FIRST + 5)))
    for _ in range(100):
        if await known(server) > before:
            break
        await server.rows("select pg_sleep(0.05)")
    assert await known(server) > statistics.FIRST


async def test_every_table_that_a_search_asks_is_analysed(server: Server) -> None:
    """One that was forgotten is planned for as if it held thousands of rows."""
    await Statistics(server.database).analyze()
    await server.rows("select pg_stat_force_next_flush()")
    rows = await server.rows("select relname from pg_stat_user_tables where analyze_count > 0")
    assert TABLES - {name for (name,) in rows} == set()


async def test_a_table_that_is_known_is_left_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the planner knows of more than this process wrote, autovacuum does the rest; where of less, it is told."""
    for believed, analysed in ((10 * statistics.FIRST, 0), (1, 1)):
        monkeypatch.setitem(statistics.SQL, "known", f"select {believed}".encode())
        counted, before = Statistics(server.database), await analyses(server)
        counted.wrote(statistics.FIRST - 1)
        counted.wrote(1)
        await counted.drain()
        await server.rows("select pg_stat_force_next_flush()")
        assert await analyses(server) - before == analysed


async def test_a_database_that_is_gone_stops_nobody(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at again later."""
    with monkeypatch.context() as broken:
        broken.setitem(statistics.SQL, "known", b"select reltuples from nowhere")
        counted, before = Statistics(server.database), await analyses(server)
        counted.wrote(statistics.FIRST)
        await counted.drain()
    counted.wrote(statistics.STEP * statistics.FIRST)
    await counted.drain()
    assert await analyses(server) == before + 1
