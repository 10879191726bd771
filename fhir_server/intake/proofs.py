"""The Provenances of documents: they follow their documents into a record, and out of it."""

from collections.abc import Sequence
from typing import Final

from fhir_server.r4 import search_query
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.read import Archive
from fhir_server.store.resources import Stored

_AT_ONCE: Final = 50


async def proofs_of(archive: Archive, documents: Sequence[str], patient: str | None = None) -> list[Stored]:
    """Those that have one of these DocumentReferences (ids) as target, and name this Patient (`Patient/id`) where it is
    said. Raises Unavailable.
    """
    found: dict[str, Stored] = {}
    for start in range(0, len(documents), _AT_ONCE):
        some = ",".join(f"DocumentReference/{one}" for one in documents[start : start + _AT_ONCE])
        query, after = search_query.parse("Provenance", [("target", some), ("_count", "500")]), None
        while True:
            page = await archive.searches.page(query, after)
            keys = [(TYPE_NUMBER["Provenance"], hit.id) for hit in page.hits]
            rows = await archive.resources.read_many(keys) if keys else []
            found |= {
                row.id: row for row in rows if row.doc and (patient is None or f'"{patient}"'.encode() in row.doc)
            }
            if page.next is None:
                break
            after = page.next
    return list(found.values())
