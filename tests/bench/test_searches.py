"""The archive that goes in by COPY is the one that the server would have written."""

import asyncio
import random

from bench.copy_in import Archive, fill
from bench.searches import SEARCHES
from fhir_server.app import Parts
from fhir_server.r4 import search_query
from fhir_server.store.search import Search
from fhir_server.store.search_index import rows_of

INDEXES = b"select indexname, indexdef from pg_indexes where schemaname = 'public' order by 1"


async def rows(parts: Parts, statement: bytes, *values: object) -> list[tuple[object, ...]]:
    async with parts.database.connection() as connection:
        return await (await connection.execute(statement, values)).fetchall()


async def test_a_filled_database_is_found_by_the_index_rows_of_the_server(parts: Parts) -> None:
    """Every row of each resource is there, every index is there again, and each search runs and finds."""
    before = await rows(parts, INDEXES)
    archive = Archive(2_000)
    await asyncio.to_thread(fill, parts.postgres, archive, range(1, 2_001))
    await asyncio.to_thread(fill, parts.postgres, archive, range(2_001, 2_101), lot=True)
    assert await rows(parts, INDEXES) == before
    assert await rows(parts, b"select count(*), max(rid) from resource") == [(2_100, 2_100)]
    for number, lot in ((3, False), (17, False), (20, False), (2_020, True)):
        index = rows_of(archive.resource(number, lot=lot))
        assert {h for (h,) in await rows(parts, b"select h from token where rid = %s", number)} == index.tokens
        periods = await rows(parts, b"select param, low, high from period where rid = %s", number)
        assert set(periods) == index.periods
        words = await rows(parts, b"select param, folded from word where rid = %s", number)
        assert set(words) == index.words
    found = dict.fromkeys(SEARCHES, 0)
    for name, ask in SEARCHES.items():
        for seed in range(30):
            page = await Search(parts.database).page(search_query.parse(*ask(random.Random(seed), archive)), None)
            found[name] += len(page.hits) or page.total or 0
    del found["Patient family + birth year"]  # asks for one name in 121, born in one year of 49
    assert all(found.values()), found
