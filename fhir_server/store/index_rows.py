"""The rows of the index tables: written and taken back for many resources at once."""

from collections.abc import Iterable, Sequence
from typing import Any

from fhir_server.store import queries
from fhir_server.store.database import Connection
from fhir_server.store.search_index import IndexRows

SQL = queries.load("index_rows")

RowsOf = tuple[int, IndexRows]
"""The internal key of a resource, and its rows."""


def difference(left: IndexRows, right: IndexRows) -> IndexRows:
    """The rows of `left` that `right` has not."""
    return IndexRows(
        left.tokens - right.tokens,
        left.periods - right.periods,
        left.words - right.words,
        left.measures - right.measures,
        left.places - right.places,
        left.narratives - right.narratives,
        contents=left.contents - right.contents,
        oppositions=left.oppositions - right.oppositions,
        centres=left.centres - right.centres,
        identities=left.identities - right.identities,
    )


def columns_of(rows: Iterable[IndexRows]) -> tuple[list[str], list[str], list[int], list[int | None]]:
    """`refs`, `present`, `guard`, `worker` of each resource; arrays as literals: `unnest` takes others apart."""
    found = [(_literal(row.references), _literal(row.present), row.guard, row.worker) for row in rows]
    refs, present, guards, workers = zip(*found, strict=True) if found else ((), (), (), ())
    return list(refs), list(present), list(guards), list(workers)


def _literal(numbers: Iterable[Any]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


async def insert(connection: Connection, rows: Sequence[RowsOf]) -> None:
    """Rows of new resources."""
    await _each_table(connection, rows, "insert")


async def insert_missing(connection: Connection, rows: Sequence[RowsOf]) -> None:
    """Rows of known resources: a process that had not heard of a new parameter may have left some behind."""
    await _each_table(connection, rows, "insert", b" on conflict do nothing")


async def delete(connection: Connection, rows: Sequence[RowsOf]) -> None:
    await _each_table(connection, rows, "delete")


async def _each_table(connection: Connection, rows: Sequence[RowsOf], verb: str, end: bytes = b"") -> None:
    for table, columns in tables(rows):
        if columns:
            await connection.execute(SQL[f"{verb}_{table}"] + end, columns)


def tables(rows: Sequence[RowsOf]) -> Iterable[tuple[str, list[str | list[str]]]]:
    """The name of each index table, and its rows as one array per column; of no rows there is none."""
    yield from (
        ("tokens", _columns(((h,), rid) for rid, row in rows for h in row.tokens)),
        ("periods", _columns((period, rid) for rid, row in rows for period in row.periods)),
        ("words", _columns((word, rid) for rid, row in rows for word in row.words)),
        ("measures", _columns((measure, rid) for rid, row in rows for measure in row.measures)),
        ("places", _columns((place, rid) for rid, row in rows for place in row.places)),
        ("narratives", _columns((narrative, rid) for rid, row in rows for narrative in row.narratives)),
        ("contents", _columns((content, rid) for rid, row in rows for content in row.contents)),
        ("oppositions", _columns((opposition, rid) for rid, row in rows for opposition in row.oppositions)),
        ("centres", _columns((centre, rid) for rid, row in rows for centre in row.centres)),
        ("identities", _columns((identity, rid) for rid, row in rows for identity in row.identities)),
    )


def _columns(rows: Iterable[tuple[tuple[Any, ...], int]]) -> list[str | list[str]]:
    """Rows (values, rid) as one array per column, as `unnest` wants them.

    Numbers as the text of an array: to have each of them adapted costs more than all the rest of a create.
    """
    columns = zip(*((*values, rid) for values, rid in rows), strict=True)
    return [list(column) if isinstance(column[0], str) else _literal(column) for column in columns]
