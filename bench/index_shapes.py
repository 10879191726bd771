"""Which shape of the search index serves FHIR search best in PostgreSQL: array rows or narrow rows.

https://hl7.org/fhir/R4/search.html. docs/adr/0003-search-index-shape.md draws the decision from these figures.

Both shapes hold the same made-up resources (70 % DocumentReference, 25 % Observation, 5 % Patient; a fifth of the
documents belong to one patient in a hundred) beside the same `resource` table, and answer the same searches with
the same sampled values; a digest over the returned bodies proves that they answer alike.

    array_row    one `entry` per resource: int8[] of hashes under GIN, patient, date; `token_date` for the chosen
                 parameters
    narrow_rows  one `token` row per hash; `token_date` for the chosen parameters and pairs; `date_span` per date

String, quantity and full-text indexes are left out: they would be the same tables in both shapes.

    python -m bench.index_shapes --dsn "host=... dbname=..." --documents 1000000 --json FILE
    python -m bench.index_shapes --pg-bin /usr/lib/postgresql/15/bin --documents 100000 --json FILE

With --dsn, everything happens in a schema `index_shapes`, which must not exist beforehand and is dropped at the
end. With --pg-bin, a private cluster is made in a temporary folder and destroyed at the end; under root its
processes run as the user `postgres`. The driver is synchronous: one client, one statement at a time, so that a
time is PostgreSQL's.
"""

import argparse
import contextlib
import hashlib
import os
import platform
import pwd
import random
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, LiteralString

import orjson
import psycopg
import psycopg.sql
import xxhash

Connection = psycopg.Connection[tuple[Any, ...]]

DOCUMENT_REFERENCE, OBSERVATION, PATIENT = 1, 2, 3
TYPE_NAMES: Final = {DOCUMENT_REFERENCE: "DocumentReference", OBSERVATION: "Observation", PATIENT: "Patient"}

SEED: Final = 20261122
FIRST_DAY: Final = int(datetime(2016, 11, 1, tzinfo=UTC).timestamp())
LAST_DAY: Final = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
DAY: Final = 86_400
GROUP: Final = 64
LOT_SHARE: Final = 0.29
COPY: Final = psycopg.sql.SQL("copy {} from stdin (format binary)")
COPY_BATCH: Final = 10_000
SAMPLE_EVERY: Final = 83
WARM_UP: Final = 20
SINGLE_CREATES: Final = 2_000
GROUP_CREATES: Final = 300
UPDATES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Indexed:
    """One resource and everything an index may hold of it.

    `named` maps a search parameter (a trailing `.code` marks the form without system) to its 64-bit hash;
    `chosen` are the hashes that both shapes keep with the date, `paired` those that only narrow rows do; `at` is
    in seconds.
    """

    rid: int
    kind: int
    logical_id: str
    own_hash: int
    patient_hash: int
    at: int
    named: dict[str, int]
    chosen: tuple[int, ...]
    paired: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]
    body: bytes

    @property
    def tokens(self) -> list[int]:
        """Every distinct token and reference hash of the resource."""
        return list(dict.fromkeys(self.named.values()))


def hash64(text: str) -> int:
    """The signed 64-bit XXH3 of a text, as PostgreSQL's int8 holds it."""
    value = xxhash.xxh3_64_intdigest(text.encode())
    return value - (1 << 64) if value >> 63 else value


@lru_cache(maxsize=200_000)
def code_hash(parameter: str, value: str) -> int:
    """The hash of a value that comes again and again."""
    return hash64(f"{parameter}={value}")


def reference_hash(parameter: str, own_hash: int) -> int:
    """The hash of a reference: parameter XOR target, so that SQL can follow a chain without hashing."""
    return code_hash(parameter, "") ^ own_hash


def own_hash_of(kind: int, logical_id: str) -> int:
    """The hash under which a resource is referred to."""
    return hash64(f"{TYPE_NAMES[kind]}/{logical_id}")


class Skewed:
    """Values whose frequency falls with their rank, as types, authors and codes do in a real archive."""

    def __init__(self, prefix: str, count: int, exponent: float) -> None:
        self.values = [f"{prefix}{rank}" for rank in range(count)]
        self._cumulative = list(accumulate(1 / (rank + 1) ** exponent for rank in range(count)))

    def draw(self, chance: random.Random) -> str:
        return chance.choices(self.values, cum_weights=self._cumulative)[0]


def weighted(**weights: int) -> Callable[[random.Random], str]:
    values, cumulative = list(weights), list(accumulate(weights.values()))
    return lambda chance: chance.choices(values, cum_weights=cumulative)[0]


class Archive:
    """Makes the same resources, in the same order, each time it is asked with the same size."""

    def __init__(self, documents: int) -> None:
        self.documents = documents
        self.patients = documents // 20
        self._heavy = max(1, self.patients // 100)
        self._heavy_hashes = {own_hash_of(PATIENT, f"p{number}") for number in range(1, self._heavy + 1)}
        self._chance = random.Random(SEED)
        self._types = Skewed("type-", 40, 1.0)
        self._authors = Skewed("practitioner-", 2_000, 0.7)
        self._codes = Skewed("loinc-", 120, 0.9)
        self._facilities = Skewed("facility-", 8, 0.5)
        self._settings = Skewed("setting-", 12, 0.7)
        self._document_status = weighted(current=95, superseded=4, entered_in_error=1)
        self._observation_status = weighted(final=96, amended=3, cancelled=1)
        self._confidentiality = weighted(N=95, R=4, V=1)
        self._format = weighted(pdf=70, cda=15, jpeg=10, text=5)
        self._next_rid = 1

    def everything(self) -> Iterator[Indexed]:
        """Patients first, then documents and observations as they would have come in."""
        for _ in range(self.documents):
            yield self.next()

    def next(self) -> Indexed:
        """The resource after the last one."""
        rid = self._take_rid()
        if rid <= self.patients:
            return self._patient(rid)
        if rid * 7_919 % 19 < 14:
            return self._document_reference(rid, self._date(rid))
        return self._observation(rid, self._date(rid))

    def lot(self) -> Iterator[Indexed]:
        """A scan lot: one date later than all others, three types, three archivists, any patient."""
        for _ in range(int(self.documents * LOT_SHARE)):
            rid = self._take_rid()
            kind_of_document = self._types.values[rid % 3 * 5]
            yield self._document_reference(rid, LAST_DAY, kind_of_document, self._authors.values[-1 - rid % 3])

    def is_heavy(self, document: Indexed) -> bool:
        """Whether the resource belongs to one of the few patients with many documents."""
        return document.patient_hash in self._heavy_hashes

    def _take_rid(self) -> int:
        rid, self._next_rid = self._next_rid, self._next_rid + 1
        return rid

    def _date(self, rid: int) -> int:
        """Seven in ten arrive in the month of their date, the others are old papers, scanned late."""
        arrival = FIRST_DAY + (LAST_DAY - FIRST_DAY) * min(rid, self.documents) // self.documents
        if self._chance.random() < 0.7:
            return max(FIRST_DAY, arrival - self._chance.randrange(30 * DAY))
        return self._chance.randrange(FIRST_DAY, arrival + 1)

    def _patient_hash(self) -> int:
        if self._chance.random() < 0.2:
            number = self._chance.randint(1, self._heavy)
        else:
            number = self._chance.randint(self._heavy + 1, self.patients)
        return own_hash_of(PATIENT, f"p{number}")

    def _coded(self, kind: int, values: Mapping[str, str]) -> dict[str, int]:
        """Each coded value twice, as `system|code` and as `code` alone."""
        name, named = TYPE_NAMES[kind], dict[str, int]()
        for parameter, value in values.items():
            named[parameter] = code_hash(f"{name}.{parameter}", f"urn:example:{parameter}|{value}")
            named[f"{parameter}.code"] = code_hash(f"{name}.{parameter}", value)
        return named

    def _identified(self, kind: int, rid: int) -> dict[str, int]:
        name, value = TYPE_NAMES[kind], f"{kind}-{rid:010d}"
        return {
            "identifier": hash64(f"{name}.identifier=urn:example:identifier|{value}"),
            "identifier.code": hash64(f"{name}.identifier={value}"),
        }

    def _finish(
        self,
        rid: int,
        kind: int,
        patient: int,
        at: int,
        named: dict[str, int],
        dated: Sequence[str],
        pair: str,
    ) -> Indexed:
        name = TYPE_NAMES[kind]
        logical_id = f"p{rid}" if kind == PATIENT else f"{rid:x}-{rid * 2654435761 % 2**32:08x}"
        named["_profile"] = code_hash(f"{name}._profile", f"urn:example:profile:{name}")
        paired: tuple[int, ...] = ()
        if pair:
            named["patient"] = reference_hash(f"{name}.patient", patient)
            named["subject"] = reference_hash(f"{name}.subject", patient)
            paired = (named["patient"], pair_hash(named["patient"], named[pair]))
        spans = [(kind * 10, at, at + DAY)]
        if kind == DOCUMENT_REFERENCE:
            spans.append((kind * 10 + 1, at - 30 * DAY, at))
        chosen = tuple(named[parameter] for parameter in dated)
        body = self._body(name, logical_id, rid, at, named)
        own_hash = own_hash_of(kind, logical_id)
        return Indexed(rid, kind, logical_id, own_hash, patient, at, named, chosen, paired, tuple(spans), body)

    def _document_reference(self, rid: int, at: int, type_code: str = "", author: str = "") -> Indexed:
        chance, name = self._chance, "DocumentReference"
        patient = self._patient_hash()
        type_code = type_code or self._types.draw(chance)
        named = self._coded(
            DOCUMENT_REFERENCE,
            {
                "type": type_code,
                "category": f"category-{int(type_code.split('-')[1]) % 8}",
                "facility": self._facilities.draw(chance),
                "setting": self._settings.draw(chance),
                "format": self._format(chance),
                "security-label": self._confidentiality(chance),
            },
        )
        named |= self._identified(DOCUMENT_REFERENCE, rid)
        named["status"] = code_hash(f"{name}.status", self._document_status(chance))
        named["contenttype"] = code_hash(f"{name}.contenttype", "application/pdf")
        named["author"] = code_hash(f"{name}.author", author or self._authors.draw(chance))
        named["custodian"] = code_hash(f"{name}.custodian", "organization-1")
        dated = ("type", "category", "status", "author")
        return self._finish(rid, DOCUMENT_REFERENCE, patient, at, named, dated, "type")

    def _observation(self, rid: int, at: int) -> Indexed:
        chance, name = self._chance, "Observation"
        patient = self._patient_hash()
        code = self._codes.draw(chance)
        named = self._coded(OBSERVATION, {"code": code, "category": f"category-{int(code.split('-')[1]) % 4}"})
        named |= self._identified(OBSERVATION, rid)
        named["status"] = code_hash(f"{name}.status", self._observation_status(chance))
        named["performer"] = code_hash(f"{name}.performer", self._authors.draw(chance))
        named["device"] = code_hash(f"{name}.device", f"device-{chance.randrange(300)}")
        return self._finish(rid, OBSERVATION, patient, at, named, ("code", "category", "status"), "code")

    def _patient(self, rid: int) -> Indexed:
        chance, name = self._chance, "Patient"
        named = self._identified(PATIENT, rid) | self._coded(PATIENT, {"telecom": f"tel:{rid}"})
        named["gender"] = code_hash(f"{name}.gender", chance.choice(("female", "male")))
        named["active"] = code_hash(f"{name}.active", "true")
        named["organization"] = code_hash(
            f"{name}.organization", f"organization-{chance.randrange(self.patients // 100)}"
        )
        named["general-practitioner"] = code_hash(f"{name}.general-practitioner", self._authors.draw(chance))
        birth = chance.randrange(-700_000_000, 1_200_000_000) // DAY * DAY
        return self._finish(rid, PATIENT, own_hash_of(PATIENT, f"p{rid}"), birth, named, (), "")

    def _body(self, name: str, logical_id: str, rid: int, at: int, named: Mapping[str, int]) -> bytes:
        """About 2.3 kB of JSON that compresses as a resource does: names repeat, identifiers do not."""
        when = datetime.fromtimestamp(at, UTC).isoformat()
        codings = ",".join(
            f'{{"coding":[{{"system":"urn:example:{parameter}","code":"{value & 0xFFFFFF}",'
            f'"display":"Libelle {value % 9973}"}}]}}'
            for parameter, value in named.items()
        )
        digest = self._chance.getrandbits(640)
        head = (
            f'{{"resourceType":"{name}","id":"{logical_id}","meta":{{"versionId":"1","lastUpdated":"{when}"}},'
            f'"identifier":[{{"system":"urn:example:identifier","value":"{rid:010d}"}}],"date":"{when}",'
            f'"codes":[{codings}],"content":[{{"attachment":{{"contentType":"application/pdf","hash":"{digest:x}",'
            f'"url":"Binary/{digest % 2**64:x}","title":"'
        )
        return head.encode() + (b"document numerise " * 120)[: max(0, 2_290 - len(head))] + b'"}}]}'


def pair_hash(first: int, second: int) -> int:
    """The hash of two tokens that are asked for together."""
    return hash64(f"{first}&{second}")


RESOURCE_TABLE: Final[LiteralString] = """
create table resource (
    rid int8 primary key, type int2 not null, id text not null, own_hash int8 not null, version int4 not null,
    updated timestamptz not null, deleted bool not null, doc bytea compression lz4 not null
) with (autovacuum_enabled = off);
create table token_date (h int8, at int8, rid int8, primary key (h, at, rid)) with (autovacuum_enabled = off);
"""

RESOURCE_INSERT: Final[LiteralString] = """
resources as (
    insert into resource
    select rid, type, id, own_hash, 1, now(), false, doc
    from unnest(%(rid)s::int8[], %(kind)s::int2[], %(id)s::text[], %(own)s::int8[], %(body)s::bytea[])
         as _(rid, type, id, own_hash, doc)
),
dated as (
    insert into token_date
    select * from unnest(%(dated_h)s::int8[], %(dated_at)s::int8[], %(dated_rid)s::int8[])
)
"""

RESOURCE_UPDATE: Final[LiteralString] = """
resources as (update resource set version = version + 1, updated = now(), doc = %(body)s where rid = %(rid)s),
dated_out as (delete from token_date where h = %(old)s and at = %(at)s and rid = %(rid)s),
dated_in as (insert into token_date values (%(new)s, %(at)s, %(rid)s))
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """One way of indexing: its tables, what it writes for a resource, and how it asks each question.

    A search is the statement that finds the hits (`rid` and the sort key `k`); a count stands alone. Where two
    hashes are asked for in the order of a date, `lead` is the rarer one by PostgreSQL's own statistics, and walks.
    The searches that are `materialized` took 0.6 to 6 s at 1,000,000 resources without that fence, or 5 ms where
    others took 0.4 at 20,000: the planner cannot know how many rows a chain or a new array element will give.
    """

    name: str
    tables: LiteralString
    create: LiteralString
    update: LiteralString
    rows: Callable[[Sequence[Indexed]], dict[str, list[bytes]]]
    searches: Mapping[str, LiteralString]
    counts: Mapping[str, LiteralString]


def packed(fmt: str) -> Callable[..., bytes]:
    """A packer of one COPY BINARY row of fixed-size columns ("q" int8, "i" int4)."""
    sizes = [struct.calcsize(">" + letter) for letter in fmt]
    row = struct.Struct(">h" + "".join("i" + letter for letter in fmt))
    pack = row.pack
    if fmt == "qq":
        return lambda a, b: pack(2, 8, a, 8, b)
    if fmt == "qqq":
        return lambda a, b, c: pack(3, 8, a, 8, b, 8, c)
    return lambda *values: pack(len(fmt), *(part for pair in zip(sizes, values, strict=True) for part in pair))


pack_token, pack_token_date, pack_span = packed("qq"), packed("qqq"), packed("iqqq")
UPDATED_IN_COPY: Final = (LAST_DAY - 946_684_800) * 1_000_000  # timestamptz counts microseconds since 2000


def resource_row(document: Indexed) -> bytes:
    logical_id = document.logical_id.encode()
    return b"".join(
        (
            struct.pack(">hiqihi", 8, 8, document.rid, 2, document.kind, len(logical_id)),
            logical_id,
            struct.pack(">iqiiiqi?i", 8, document.own_hash, 4, 1, 8, UPDATED_IN_COPY, 1, False, len(document.body)),
            document.body,
        )
    )


def entry_row(document: Indexed) -> bytes:
    tokens = document.tokens
    elements = struct.pack(">" + "iq" * len(tokens), *(part for token in tokens for part in (8, token)))
    return b"".join(
        (
            struct.pack(
                ">hiqihiqiqi", 5, 8, document.rid, 2, document.kind, 8, document.patient_hash, 8, document.at,
                20 + len(elements),
            ),
            struct.pack(">iiiii", 1, 0, 20, len(tokens), 1),
            elements,
        )
    )  # fmt: skip


def token_date_rows(hashes: Iterable[tuple[int, int, int]]) -> list[bytes]:
    return [pack_token_date(*row) for row in sorted(hashes)]


def array_rows(batch: Sequence[Indexed]) -> dict[str, list[bytes]]:
    return {
        "resource": [resource_row(document) for document in batch],
        "entry": [entry_row(document) for document in batch],
        "token_date": token_date_rows((h, d.at, d.rid) for d in batch for h in d.chosen),
    }


def narrow_rows(batch: Sequence[Indexed]) -> dict[str, list[bytes]]:
    return {
        "resource": [resource_row(document) for document in batch],
        "token": [pack_token(*row) for row in sorted((h, d.rid) for d in batch for h in d.tokens)],
        "token_date": token_date_rows((h, d.at, d.rid) for d in batch for h in d.chosen + d.paired),
        "date_span": [pack_span(*row) for row in sorted((*span, d.rid) for d in batch for span in d.spans)],
    }


ARRAY_ROW: Final = Shape(
    name="array_row",
    tables=RESOURCE_TABLE
    + """
    create table entry (rid int8 primary key, type int2 not null, pat int8 not null, at int8 not null,
        tokens int8[] not null) with (autovacuum_enabled = off);
    create index entry_tokens on entry using gin (tokens) with (fastupdate = on);
    create index entry_patient on entry (type, pat, at desc, rid desc);
    """,
    create="with "
    + RESOURCE_INSERT
    + """
    insert into entry select rid, type, pat, at, tokens::int8[]
    from unnest(%(rid)s::int8[], %(kind)s::int2[], %(pat)s::int8[], %(at)s::int8[], %(tokens)s::text[])
         as _(rid, type, pat, at, tokens)
    """,
    update="with " + RESOURCE_UPDATE + "update entry set tokens = %(tokens)s where rid = %(rid)s",
    rows=array_rows,
    searches={
        "patient_type_date": """
            select rid, at as k from entry where type = 1 and pat = %(pat)s and at >= %(since)s
            and tokens @> array[%(type)s] order by at desc, rid desc limit 20""",
        "patient_category_date": """
            select rid, at as k from entry where type = 1 and pat = %(pat)s and at >= %(since)s
            and tokens @> array[%(category)s] order by at desc, rid desc limit 20""",
        "code_patient": """
            select rid, rid as k from entry where type = 2 and pat = %(pat)s and tokens @> array[%(code)s]
            order by rid desc limit 20""",
        "identifier": """
            with found as materialized (select rid from entry where tokens @> array[%(identifier)s])
            select rid, rid as k from found order by rid desc limit 20""",
        "type_date": """
            select rid, at as k from token_date where h = %(type)s and at >= %(since)s
            order by at desc, rid desc limit 20""",
        "category_status": """
            select e.rid, d.at as k from token_date d
            join entry e on e.rid = d.rid and e.tokens @> array[%(follow)s]
            where d.h = %(lead)s order by d.at desc, d.rid desc limit 20""",
        "timeline": """
            select rid, at as k from entry where type = 1 and pat = %(pat)s
            order by at desc, rid desc limit 20""",
        "facility_setting_label": """
            select rid, rid as k from entry where tokens @> array[%(facility)s, %(setting)s, %(label)s]
            order by rid desc limit 20""",
        "type_label_not": """
            select rid, rid as k from entry
            where tokens @> array[%(type)s] and not tokens @> array[%(normal)s]
            order by rid desc limit 20""",
        "chain_identifier": """
            select e.rid, e.rid as k from entry p join resource r on r.rid = p.rid
            join entry e on e.type = 1 and e.pat = r.own_hash
            where p.tokens @> array[%(person)s] order by e.rid desc limit 20""",
        "chain_organization_type": """
            select e.rid, e.rid as k from entry p join resource r on r.rid = p.rid
            join entry e on e.type = 1 and e.pat = r.own_hash and e.tokens @> array[%(type)s]
            where p.tokens @> array[%(organization)s] order by e.rid desc limit 20""",
        "chain_any_reference": """
            with found as materialized (
                select rid from entry where tokens @> array[%(type)s] and tokens && array(
                    select %(salt)s # own_hash from entry join resource using (rid)
                    where tokens @> array[%(organization)s]))
            select rid, rid as k from found order by rid desc limit 20""",
        "has_type": """
            select p.rid, p.rid as k from entry p join resource r on r.rid = p.rid
            where p.tokens @> array[%(organization)s] and exists (
                select from entry e where e.type = 1 and e.pat = r.own_hash and e.tokens @> array[%(type)s])
            order by p.rid desc limit 20""",
        "keyset_by_rid": """
            select rid, rid as k from entry where tokens @> array[%(type)s] and rid < %(before)s
            order by rid desc limit 20""",
    },
    counts={
        "author_count": "select count(*) from token_date where h = %(author)s",
        "facility_count": "select count(*) from entry where tokens @> array[%(facility)s]",
    },
)

NARROW_ROWS: Final = Shape(
    name="narrow_rows",
    tables=RESOURCE_TABLE
    + """
    create table token (h int8, rid int8, primary key (h, rid)) with (autovacuum_enabled = off);
    create table date_span (p int4, lo int8, hi int8, rid int8, primary key (p, lo, hi, rid))
        with (autovacuum_enabled = off);
    """,
    create="with "
    + RESOURCE_INSERT
    + """,
    tokens as (insert into token select * from unnest(%(token_h)s::int8[], %(token_rid)s::int8[]))
    insert into date_span
    select * from unnest(%(span_p)s::int4[], %(span_lo)s::int8[], %(span_hi)s::int8[], %(span_rid)s::int8[])
    """,
    update="with "
    + RESOURCE_UPDATE
    + """,
    tokens_out as (delete from token where h = %(old)s and rid = %(rid)s)
    insert into token values (%(new)s, %(rid)s)
    """,
    rows=narrow_rows,
    searches={
        "patient_type_date": """
            select rid, at as k from token_date where h = %(patient_type)s and at >= %(since)s
            order by at desc, rid desc limit 20""",
        "patient_category_date": """
            select rid, at as k from token_date d join token t using (rid)
            where d.h = %(patient)s and t.h = %(category)s and at >= %(since)s
            order by at desc, rid desc limit 20""",
        "code_patient": """
            select rid, rid as k from token a join token b using (rid)
            where a.h = %(patient)s and b.h = %(code)s order by rid desc limit 20""",
        "identifier": "select rid, rid as k from token where h = %(identifier)s order by rid desc limit 20",
        "type_date": """
            select rid, at as k from token_date where h = %(type)s and at >= %(since)s
            order by at desc, rid desc limit 20""",
        "category_status": """
            select rid, at as k from token_date d join token t using (rid)
            where d.h = %(lead)s and t.h = %(follow)s order by at desc, rid desc limit 20""",
        "timeline": """
            select rid, at as k from token_date where h = %(patient)s order by at desc, rid desc limit 20""",
        "facility_setting_label": """
            select rid, rid as k from token a join token b using (rid) join token c using (rid)
            where a.h = %(facility)s and b.h = %(setting)s and c.h = %(label)s order by rid desc limit 20""",
        "type_label_not": """
            select rid, rid as k from token a where a.h = %(type)s
            and not exists (select from token b where b.h = %(normal)s and b.rid = a.rid)
            order by rid desc limit 20""",
        "chain_identifier": """
            select t.rid, t.rid as k from token p join resource r on r.rid = p.rid
            join token t on t.h = %(salt)s # r.own_hash where p.h = %(person)s
            order by t.rid desc limit 20""",
        "chain_organization_type": """
            with found as materialized (
                select t.rid from token p join resource r on r.rid = p.rid
                join token t on t.h = %(salt)s # r.own_hash where p.h = %(organization)s)
            select f.rid, f.rid as k from found f join token u on u.rid = f.rid and u.h = %(type)s
            order by f.rid desc limit 20""",
        "chain_any_reference": """
            with found as materialized (
                select t.rid from token p join resource r on r.rid = p.rid
                join token t on t.h = %(salt)s # r.own_hash where p.h = %(organization)s)
            select f.rid, f.rid as k from found f join token u on u.rid = f.rid and u.h = %(type)s
            order by f.rid desc limit 20""",
        "has_type": """
            select p.rid, p.rid as k from token p join resource r on r.rid = p.rid
            where p.h = %(organization)s and exists (
                select from token t join token u on u.rid = t.rid and u.h = %(type)s
                where t.h = %(salt)s # r.own_hash)
            order by p.rid desc limit 20""",
        "keyset_by_rid": """
            select rid, rid as k from token where h = %(type)s and rid < %(before)s
            order by rid desc limit 20""",
    },
    counts={
        "author_count": "select count(*) from token where h = %(author)s",
        "facility_count": "select count(*) from token where h = %(facility)s",
    },
)

SHAPES: Final = {shape.name: shape for shape in (ARRAY_ROW, NARROW_ROWS)}

BODIES: Final[tuple[LiteralString, LiteralString]] = (
    "select r.doc from (",
    ") hit join resource r on r.rid = hit.rid order by hit.k desc, hit.rid desc",
)

QUESTIONS: Final[Mapping[str, str]] = {
    "patient_type_date": "DocumentReference patient + type + date>=, sorted by date, 20",
    "patient_type_date_heavy": "same, heavy patient",
    "patient_category_date": "DocumentReference patient + category + date>= (no pair kept), sorted by date",
    "patient_category_date_heavy": "same, heavy patient",
    "code_patient": "Observation code + patient",
    "identifier": "unique identifier",
    "type_date": "type + date>=, whole population, sorted by date",
    "category_status": "category + status, sorted by date",
    "author_count": "author, count",
    "timeline": "patient timeline",
    "facility_setting_label": "facility + setting + security-label (none chosen), newest first",
    "type_label_not": "type + security-label:not",
    "chain_identifier": "chain patient.identifier",
    "chain_organization_type": "chain patient.organization (100 patients) + type",
    "chain_any_reference": "same through a reference that has no column of its own",
    "has_type": "Patient organization + _has:DocumentReference:patient:type",
    "keyset_by_rid": "any type, page deep inside, by rid",
    "facility_count": "count of one dense, not chosen token",
}


def question_values(archive: Archive, sample: Sequence[Indexed], wanted: int) -> dict[str, list[dict[str, Any]]]:
    """For each question, the values to ask with, taken from resources that exist."""
    chance = random.Random(SEED + 1)
    documents = [d for d in sample if d.kind == DOCUMENT_REFERENCE]
    light = [d for d in documents if not archive.is_heavy(d)]
    heavy = [d for d in documents if archive.is_heavy(d)]
    observations = [d for d in sample if d.kind == OBSERVATION]
    patients = [d for d in sample if d.kind == PATIENT]
    types = sorted({d.named["type"] for d in documents})
    categories = sorted({d.named["category"] for d in documents})
    statuses = sorted({d.named["status"] for d in documents})
    salts = {name: code_hash(f"DocumentReference.{name}", "") for name in ("patient", "subject")}
    normal = code_hash("DocumentReference.security-label", "urn:example:security-label|N")

    def since(document: Indexed) -> int:
        return max(FIRST_DAY, document.at - chance.randrange(3 * 365 * DAY))

    def of_patient(document: Indexed) -> dict[str, Any]:
        named = document.named
        pair = pair_hash(named["patient"], named["type"])
        values = {key: named[key] for key in ("patient", "type", "category")}
        return values | {"pat": document.patient_hash, "patient_type": pair, "since": since(document)}

    def draw(population: Sequence[Indexed], make: Callable[[Indexed], dict[str, Any]]) -> list[dict[str, Any]]:
        return [make(chance.choice(population)) for _ in range(wanted)]

    def of_organization(reference: str) -> Callable[[Indexed], dict[str, Any]]:
        salt = salts[reference]
        return lambda d: {"salt": salt, "organization": d.named["organization"], "type": chance.choice(types)}

    def random_type(_: Indexed) -> dict[str, Any]:
        return {"type": chance.choice(types), "normal": normal, "before": chance.randrange(archive.documents)}

    return {
        "patient_type_date": draw(light, of_patient),
        "patient_type_date_heavy": draw(heavy, of_patient),
        "patient_category_date": draw(light, of_patient),
        "patient_category_date_heavy": draw(heavy, of_patient),
        "code_patient": draw(
            observations,
            lambda d: {"pat": d.patient_hash, "patient": d.named["patient"], "code": d.named["code"]},
        ),
        "identifier": draw(documents, lambda d: {"identifier": d.named["identifier"]}),
        "type_date": draw(documents, lambda d: {"type": chance.choice(types), "since": since(d)}),
        "category_status": draw(
            documents, lambda _: {"category": chance.choice(categories), "status": chance.choice(statuses)}
        ),
        "author_count": draw(documents, lambda d: {"author": d.named["author"]}),
        "timeline": draw(documents, of_patient),
        "facility_setting_label": draw(
            documents,
            lambda d: {
                "facility": d.named["facility"],
                "setting": chance.choice(documents).named["setting"],
                "label": chance.choice(documents).named["security-label"],
            },
        ),
        "type_label_not": draw(documents, random_type),
        "chain_identifier": draw(patients, lambda d: {"salt": salts["patient"], "person": d.named["identifier"]}),
        "chain_organization_type": draw(patients, of_organization("patient")),
        "chain_any_reference": draw(patients, of_organization("subject")),
        "has_type": draw(patients, of_organization("patient")),
        "keyset_by_rid": draw(documents, random_type),
        "facility_count": draw(documents, lambda d: {"facility": d.named["facility"]}),
    }


def token_shares(connection: Connection) -> dict[int, float]:
    """The share of each dense hash in `token_date`, from statistics that a server can cache; the rare are absent."""
    row = connection.execute(
        "select most_common_vals::text::int8[], most_common_freqs from pg_stats"
        " where schemaname = 'index_shapes' and tablename = 'token_date' and attname = 'h'"
    ).fetchone()
    return dict(zip(row[0], row[1], strict=True)) if row and row[0] else {}


def rarer_first(values: dict[str, Any], shares: Mapping[int, float]) -> dict[str, Any]:
    """The values of a search with `lead` and `follow` where it asks for a category and a status."""
    if "status" not in values:
        return values
    lead, follow = sorted((values["category"], values["status"]), key=lambda h: shares.get(h, 0.0))
    return values | {"lead": lead, "follow": follow}


def typed(statement: LiteralString) -> LiteralString:
    """Every value of a search is an int8: said once here, or the driver would guess by magnitude."""
    return statement.replace(")s", ")s::int8")


def statement_for(shape: Shape, question: str) -> LiteralString:
    name = question.removesuffix("_heavy")
    if name in shape.counts:
        return typed(shape.counts[name])
    return BODIES[0] + typed(shape.searches[name]) + BODIES[1]


def percentile(sorted_values: Sequence[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def in_ms(seconds: Iterable[float]) -> dict[str, float]:
    """Count, median, 99th percentile and maximum in milliseconds."""
    values = sorted(value * 1_000 for value in seconds)
    p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
    return {
        "n": len(values),
        "p50_ms": round(p50, 3),
        "p99_ms": round(p99, 3),
        "max_ms": round(values[-1], 3),
    }


class Meter:
    """Wall time, CPU of the server process and WAL bytes between two moments of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stat = Path(f"/proc/{connection.info.backend_pid}/stat")
        self._wall, self._cpu, self._lsn = time.perf_counter(), self._server_cpu(), self._position()

    def per_resource(self, resources: int, wall: float | None = None) -> dict[str, Any]:
        """Costs divided by `resources`; `wall` in seconds stands for the clock where preparation came between."""
        elapsed = time.perf_counter() - self._wall if wall is None else wall
        cpu, end = self._server_cpu(), self._position()
        total = self._one("select pg_wal_lsn_diff(%s, %s)", end, self._lsn)
        figures: dict[str, Any] = {
            "resources": resources,
            "wall_us": round(elapsed / resources * 1e6, 1),
            "wal_bytes": round(float(total) / resources),
        }
        if cpu is not None and self._cpu is not None:
            figures["pg_cpu_us"] = round((cpu - self._cpu) / resources * 1e6, 1)
        return figures

    def full_pages(self, resources: int) -> int | None:
        """Of the WAL bytes per resource, those of whole pages after a checkpoint (needs pg_walinspect)."""
        try:
            total = self._one("select sum(fpi_size) from pg_get_wal_stats(%s, %s)", self._lsn, self._position())
        except psycopg.Error:
            return None
        return round(float(total) / resources)

    def _one(self, query: LiteralString, *values: object) -> Any:
        row = self._connection.execute(query, values).fetchone()
        assert row is not None
        return row[0]

    def _position(self) -> str:
        return str(self._one("select pg_current_wal_flush_lsn()"))

    def _server_cpu(self) -> float | None:
        """Seconds of CPU used by the server process, where it runs on this machine."""
        try:
            fields = self._stat.read_text()
        except OSError:
            return None
        if "postgres" not in fields:
            return None
        user, system = fields.rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def load(connection: Connection, shape: Shape, documents: Iterable[Indexed]) -> tuple[dict[str, Any], list[Indexed]]:
    """COPY in sorted batches with the indexes live; gives the costs and every n-th resource as a sample."""
    meter, spent, count, sample, batch = Meter(connection), 0.0, 0, list[Indexed](), list[Indexed]()

    def flush() -> None:
        nonlocal spent
        tables = {name: b"".join(rows) for name, rows in shape.rows(batch).items()}
        start = time.perf_counter()
        with connection.transaction(), connection.cursor() as cursor:
            for name, rows in tables.items():
                with cursor.copy(COPY.format(psycopg.sql.Identifier(name))) as copy:
                    copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows + b"\xff\xff")
        spent += time.perf_counter() - start
        batch.clear()

    for document in documents:
        batch.append(document)
        count += 1
        if count % SAMPLE_EVERY == 0:
            sample.append(document)
        if len(batch) == COPY_BATCH:
            flush()
    if batch:
        flush()
    figures = meter.per_resource(count, wall=spent)
    return figures | {"resources_per_s": round(count / spent)}, sample


def create_values(group: Sequence[Indexed], shape: Shape) -> dict[str, Any]:
    """The arrays that one create statement unnests."""
    paired = shape is NARROW_ROWS
    dated = [(h, d.at, d.rid) for d in group for h in (d.chosen + d.paired if paired else d.chosen)]
    tokens = [(h, d.rid) for d in group for h in d.tokens]
    spans = [(*span, d.rid) for d in group for span in d.spans]
    return {
        "rid": [d.rid for d in group],
        "kind": [d.kind for d in group],
        "id": [d.logical_id for d in group],
        "own": [d.own_hash for d in group],
        "body": [d.body for d in group],
        "pat": [d.patient_hash for d in group],
        "at": [d.at for d in group],
        "tokens": ["{" + ",".join(map(str, d.tokens)) + "}" for d in group],
        "dated_h": [row[0] for row in dated],
        "dated_at": [row[1] for row in dated],
        "dated_rid": [row[2] for row in dated],
        "token_h": [row[0] for row in tokens],
        "token_rid": [row[1] for row in tokens],
        "span_p": [row[0] for row in spans],
        "span_lo": [row[1] for row in spans],
        "span_hi": [row[2] for row in spans],
        "span_rid": [row[3] for row in spans],
    }


def update_values(document: Indexed) -> dict[str, Any]:
    """A document is superseded: one token goes, one comes."""
    new = code_hash("DocumentReference.status", "superseded")
    return {
        "rid": document.rid,
        "at": document.at,
        "old": document.named["status"],
        "new": new,
        "body": document.body.replace(b'"versionId":"1"', b'"versionId":"2"'),
        "tokens": list((document.named | {"status": new}).values()),
    }


def timed_writes(
    connection: Connection, statement: LiteralString, values: Sequence[dict[str, Any]], resources_each: int
) -> dict[str, Any]:
    """One durable transaction per set of values, after a checkpoint."""
    connection.execute("checkpoint")
    meter, seconds = Meter(connection), list[float]()
    for each in values:
        start = time.perf_counter()
        connection.execute(statement, each, prepare=True)
        seconds.append(time.perf_counter() - start)
    resources = resources_each * len(values)
    figures = meter.per_resource(resources, wall=sum(seconds))
    return figures | {"wal_full_page_bytes": meter.full_pages(resources), "transaction": in_ms(seconds)}


def measure_writes(connection: Connection, shape: Shape, archive: Archive, sample: Sequence[Indexed]) -> dict[str, Any]:
    current = code_hash("DocumentReference.status", "current")
    updated = [d for d in sample if d.kind == DOCUMENT_REFERENCE and d.named["status"] == current][:UPDATES]
    singles = [create_values([archive.next()], shape) for _ in range(SINGLE_CREATES)]
    groups = [create_values([archive.next() for _ in range(GROUP)], shape) for _ in range(GROUP_CREATES)]
    return {
        "single_create": timed_writes(connection, shape.create, singles, 1),
        "group_create": timed_writes(connection, shape.create, groups, GROUP),
        "update_one_token": timed_writes(connection, shape.update, [update_values(d) for d in updated], 1),
    }


def measure_searches(
    connection: Connection, shape: Shape, values: Mapping[str, Sequence[dict[str, Any]]], budget: float
) -> dict[str, Any]:
    """Each question with its sampled values; one that outlasts `budget` seconds is cut short: see its `n`."""
    figures: dict[str, Any] = {}
    shares = token_shares(connection)
    for question in QUESTIONS:
        statement, seconds, hits, digest = statement_for(shape, question), list[float](), 0, hashlib.sha256()
        with connection.cursor(binary=True) as cursor:
            asked_values = [rarer_first(asked, shares) for asked in values[question]]
            for asked in asked_values[:WARM_UP]:
                cursor.execute(statement, asked, prepare=True).fetchall()
            for asked in asked_values:
                start = time.perf_counter()
                rows = cursor.execute(statement, asked, prepare=True).fetchall()
                seconds.append(time.perf_counter() - start)
                hits += len(rows)
                digest.update(orjson.dumps([row[0] if isinstance(row[0], int) else row[0].decode() for row in rows]))
                if sum(seconds) > budget:
                    break
        figures[question] = in_ms(seconds) | {"hits": hits, "digest": digest.hexdigest()[:16]}
        print(f"    {question}: {figures[question]}", flush=True)
    return figures


def sizes(connection: Connection) -> dict[str, int]:
    """Bytes of each table's heap and of each index in the benchmark's schema."""
    rows = connection.execute(
        "select relname, pg_table_size(oid) from pg_class"
        " where relnamespace = 'index_shapes'::regnamespace and relkind = 'r'"
        " union all select relname, pg_relation_size(oid) from pg_class"
        " where relnamespace = 'index_shapes'::regnamespace and relkind = 'i' order by 1"
    ).fetchall()
    return {str(name): int(size) for name, size in rows}


def measure(dsn: str, shape: Shape, documents: int, samples: int, budget: float) -> dict[str, Any]:
    """Load one shape, ask, write, load the lot, ask again; the schema is dropped whatever happens."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create schema index_shapes")
        try:
            connection.execute("set search_path = index_shapes")
            for setting in (
                "plan_cache_mode = force_custom_plan",
                "jit = off",
                "maintenance_work_mem = '512MB'",
            ):
                connection.execute("set " + setting)
            with contextlib.suppress(psycopg.Error):
                connection.execute("create extension pg_walinspect schema index_shapes")
            connection.execute(shape.tables)
            return measure_stages(connection, shape, Archive(documents), samples, budget)
        finally:
            connection.execute("drop schema index_shapes cascade")


def measure_stages(
    connection: Connection, shape: Shape, archive: Archive, samples: int, budget: float
) -> dict[str, Any]:
    loaded, sample = load(connection, shape, archive.everything())
    print(f"{shape.name}: loaded {loaded}", flush=True)
    vacuum = time_of(lambda: connection.execute("vacuum (analyze)"))
    values = question_values(archive, sample, samples)
    stages: dict[str, Any] = {"load": loaded, "vacuum_analyze_s": vacuum, "bytes": sizes(connection)}
    stages["searches"] = measure_searches(connection, shape, values, budget)
    stages["writes"] = measure_writes(connection, shape, archive, sample)
    print(f"{shape.name}: writes {stages['writes']}", flush=True)
    stages["lot"], _ = load(connection, shape, archive.lot())
    print(f"{shape.name}: lot {stages['lot']}", flush=True)
    stages["searches_after_lot"] = measure_searches(connection, shape, values, budget)
    stages["lot_vacuum_analyze_s"] = time_of(lambda: connection.execute("vacuum (analyze)"))
    stages["bytes_after_lot"] = sizes(connection)
    stages["searches_after_lot_vacuumed"] = measure_searches(connection, shape, values, budget)
    stages["load_average"] = os.getloadavg()
    stages["statements"] = {question: " ".join(statement_for(shape, question).split()) for question in QUESTIONS}
    return stages


def time_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return round(time.perf_counter() - start, 1)


def environment(dsn: str) -> dict[str, Any]:
    """What the figures depend on: processor, load, PostgreSQL and its settings."""
    names = (
        "server_version shared_buffers fsync synchronous_commit max_wal_size checkpoint_timeout wal_compression"
        " full_page_writes autovacuum"
    )
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select name, setting from pg_settings where name = any(%s)", [names.split()])
        settings = {str(name): str(setting) for name, setting in rows}
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_average_at_start": os.getloadavg(),
        "python": platform.python_version(),
        "settings": settings,
    }


@contextlib.contextmanager
def private_cluster(binaries: Path) -> Generator[str, None, None]:
    """The DSN of a fresh cluster on a private socket; stopped and deleted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="index_shapes_"))
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        owner = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(folder, account.pw_uid, account.pw_gid)
    options = "-c shared_buffers=1GB -c max_wal_size=4GB -c checkpoint_timeout=15min -c listen_addresses="

    def run(*command: str) -> None:
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **owner)

    run(
        str(binaries / "initdb"),
        "-D",
        f"{folder}/data",
        "-U",
        "bench",
        "-A",
        "trust",
        "--no-locale",
        "-E",
        "UTF8",
    )
    control = [str(binaries / "pg_ctl"), "-D", f"{folder}/data", "-w", "-l", f"{folder}/log"]
    try:
        run(*control, "-o", f"{options} -k {folder}", "start")
        try:
            yield f"host={folder} user=bench dbname=postgres"
        finally:
            run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def answers_agree(shapes: Mapping[str, Any]) -> list[str]:
    """The questions that the two shapes answered differently; empty when the benchmark is sound."""
    if len(shapes) < 2:
        return []
    one, other = shapes.values()
    stages = [stage for stage in one if stage.startswith("searches")]
    return [
        f"{stage}/{question}"
        for stage in stages
        for question in one[stage]
        if one[stage][question]["n"] == other[stage][question]["n"]
        and one[stage][question]["digest"] != other[stage][question]["digest"]
    ]


def write_cell(cost: Mapping[str, Any]) -> str:
    wal, transaction = f"{cost['wal_bytes']:,} ({cost['wal_full_page_bytes']})", cost["transaction"]
    return f"{cost.get('pg_cpu_us')} / {wal}; {transaction['p50_ms']} / {transaction['p99_ms']}"


def load_cell(cost: Mapping[str, Any]) -> str:
    return f"{cost['resources_per_s']:,} / {cost.get('pg_cpu_us')} / {cost['wal_bytes']:,}"


def report(shapes: Mapping[str, Any]) -> str:
    """The results as Markdown tables."""
    names = list(shapes)
    lines = ["| cost | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]

    def row(label: str, tell: Callable[[Any], str]) -> None:
        lines.append(f"| {label} | " + " | ".join(tell(shapes[name]) for name in names) + " |")

    def index_bytes(sizes_of: Mapping[str, int]) -> str:
        parts = {name: size for name, size in sizes_of.items() if not name.startswith("resource")}
        heap = sum(size for name, size in parts.items() if name in ("entry", "token", "token_date", "date_span"))
        return f"{heap / 1e6:,.0f} + {(sum(parts.values()) - heap) / 1e6:,.0f}"

    for key, label in (("load", "load"), ("lot", "lot of one date")):
        row(f"{label}: res/s, pg CPU us, WAL bytes per resource", lambda s, k=key: load_cell(s[k]))
    row("index size, heap + b-trees or GIN, MB", lambda s: index_bytes(s["bytes"]))
    row("same after the lot, MB", lambda s: index_bytes(s["bytes_after_lot"]))
    for key in ("single_create", "group_create", "update_one_token"):
        label = f"{key}: pg CPU us / WAL bytes (of which full pages) per resource; transaction p50 / p99 ms"
        row(label, lambda s, k=key: write_cell(s["writes"][k]))
    stages = ("searches", "searches_after_lot", "searches_after_lot_vacuumed")
    columns = [f"{name}: {stage.replace('_', ' ')}" for stage in stages for name in names]
    lines += [
        "",
        "| search, p50 / p99 ms | " + " | ".join(columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for question, label in QUESTIONS.items():
        cells = [shapes[name][stage][question] for stage in stages for name in names]
        lines.append(f"| {label} | " + " | ".join(f"{c['p50_ms']:.2f} / {c['p99_ms']:.2f}" for c in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the options, measure both shapes, write the JSON file, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.index_shapes", description=(__doc__ or "").splitlines()[0])
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--dsn", help="an existing database; the schema index_shapes is made and dropped")
    server.add_argument("--pg-bin", type=Path, help="folder of initdb and pg_ctl: use a private, temporary cluster")
    parser.add_argument("--shape", choices=list(SHAPES), action="append", help="only this one (default: each)")
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=400, help="searches measured for each question")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds after which a question is cut short")
    parser.add_argument("--json", type=Path, required=True, help="where the run is added to earlier ones")
    options = parser.parse_args()
    server_or_given = private_cluster(options.pg_bin) if options.pg_bin else contextlib.nullcontext(options.dsn)
    with server_or_given as dsn:
        results: dict[str, Any] = {"documents": options.documents, "environment": environment(dsn)}
        results["shapes"] = {
            name: measure(dsn, SHAPES[name], options.documents, options.samples, options.budget)
            for name in options.shape or SHAPES
        }
    results["answered_differently"] = answers_agree(results["shapes"])
    options.json.parent.mkdir(parents=True, exist_ok=True)
    runs = orjson.loads(options.json.read_bytes())["runs"] if options.json.exists() else []
    options.json.write_bytes(orjson.dumps({"runs": [*runs, results]}, option=orjson.OPT_INDENT_2) + b"\n")
    print(report(results["shapes"]))
    print("Answered differently:", results["answered_differently"] or "nothing")


if __name__ == "__main__":
    main()
