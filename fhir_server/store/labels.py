"""Profiles, tags and security labels: which were ever used, and which are in use on the resources of a type.

https://hl7.org/fhir/R4/resource.html#Meta - what was ever used is a small table, written with the resources; whether it
still is, the search index says (`_profile`, `_tag`, `_security`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from fhir_server.outcomes import TooCostly
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.sight import Sight
from fhir_server.store import queries
from fhir_server.store.bounds import bounded
from fhir_server.store.database import Connection, Database
from fhir_server.store.search_index import param_key, token_with_system, uri_is

SQL = queries.load("labels")
PROFILE, TAG, SECURITY = 1, 2, 3
PARAMETERS: Final = {PROFILE: "_profile", TAG: "_tag", SECURITY: "_security"}
MOST: Final = 200_000
"""Labels times types that one question may ask of the index."""

_BARE: Final = re.compile(rb'\{"resourceType":"\w+","id":"[^"]+","meta":\{"versionId":"\d+","lastUpdated":"[^"]+"\}')


class Label(NamedTuple):
    """A profile (`code` is its url), a tag or a security label; `system` is empty where it has none."""

    kind: int
    system: str
    code: str
    display: str | None


class _Coding(msgspec.Struct):
    system: str | None = None
    code: str | None = None
    display: str | None = None


class _Meta(msgspec.Struct):
    profile: list[str | None] = []
    tag: list[_Coding] = []
    security: list[_Coding] = []


class _Labelled(msgspec.Struct):
    meta: _Meta


_decode = msgspec.json.Decoder(_Labelled).decode


def labels_of(doc: bytes) -> Iterable[Label]:
    """The labels of a document as it is kept; a document without any is not parsed."""
    if _BARE.match(doc):
        return
    meta = _decode(doc).meta
    yield from (Label(PROFILE, "", url, None) for url in meta.profile if url)
    for kind, codings in ((TAG, meta.tag), (SECURITY, meta.security)):
        yield from (Label(kind, one.system or "", one.code, one.display) for one in codings if one.code)


async def keep_labels(connection: Connection, docs: Iterable[bytes | None]) -> None:
    """Remember the labels of documents that are being written, in the same transaction."""
    await keep(connection, (label for doc in docs if doc for label in labels_of(doc)))


async def keep(connection: Connection, labels: Iterable[Label]) -> None:
    """Remember labels, inside a transaction of somebody else."""
    if found := {one[:3]: one for one in labels}:
        columns = [list(column) for column in zip(*found.values(), strict=True)]
        await connection.execute(SQL["keep"], columns)


@dataclass(frozen=True, slots=True)
class Labels:
    """Asks for labels over one database."""

    database: Database

    async def in_use(self, resource_types: Sequence[str], sight: Sight) -> list[Label]:
        """The labels that resources in sight of these types have now. Raises TooCostly, Unavailable."""
        async with self.database.connection() as connection:
            cursor = await connection.execute(SQL["all"], (MOST + 1,))
            labels = [Label(*row) for row in await cursor.fetchall()]
            if len(labels) * len(resource_types) > MOST:
                raise TooCostly("There are too many labels: ask for one resource type")
            places = {_hash(name, one): one for name in resource_types for one in labels}
            text, seen = bounded(SQL["in_use"], sight, [TYPE_NUMBER[name] for name in resource_types])
            cursor = await connection.execute(text, {"hashes": list(places), **seen})
            return sorted({places[row[0]] for row in await cursor.fetchall()}, key=lambda one: one[:3])


def _hash(resource_type: str, label: Label) -> int:
    """Where the search index has it."""
    param = param_key(TYPE_NUMBER[resource_type], parameters_of(resource_type)[PARAMETERS[label.kind]])
    return uri_is(param, label.code) if label.kind == PROFILE else token_with_system(param, label.system, label.code)
