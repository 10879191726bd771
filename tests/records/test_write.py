"""The one door: each request is written whole or not at all, and never at the cost of its neighbours."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from fhir_server.caller import Caller, service
from fhir_server.outcomes import (
    BadParameter,
    BadSyntax,
    Conflict,
    DanglingReference,
    Failure,
    Forbidden,
    Gone,
    InvalidResource,
    MultipleMatches,
    NotFound,
    Unavailable,
    VersionConflict,
)
from fhir_server.r4 import search_query
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.read import Archive
from fhir_server.records.write import (
    Alongside,
    Door,
    Incoming,
    Outcome,
    incoming_from_bytes,
    incoming_from_dict,
    new_id,
)
from fhir_server.store.commit import Commits, Plan, Unit, Write, Written
from fhir_server.store.custom_parameters import CustomParameters
from fhir_server.store.database import Connection, Database
from fhir_server.store.histories import Moment, Span
from fhir_server.store.search_index import NO_ROWS
from tests.support import FOLDERS, document_reference, in_folder, observation, patient

US = service("test")


def one(resource: Mapping[str, Any], **more: Any) -> Incoming:
    """A create of a resource; with `method="update"` it needs an id."""
    return incoming_from_bytes(
        orjson.dumps(resource),
        **{"method": "create", "resource_type": resource["resourceType"], "resource_id": resource.get("id"), **more},
    )


async def write(
    door: Door, *incoming: Incoming, caller: Caller = US, alongside: Alongside | None = None
) -> list[Outcome]:
    return await door.write(caller, incoming, interaction="create", request_id="r1", alongside=alongside)


async def search(archive: Archive, resource_type: str, *pairs: tuple[str, str]) -> list[str]:
    page = await archive.searches.page(search_query.parse(resource_type, pairs), None)
    return sorted(hit.id for hit in page.hits)


async def count(database: Database, table: str) -> int:
    async with database.connection() as connection:
        row = await (await connection.execute(f"select count(*) from {table}".encode())).fetchone()
    assert row
    return row[0]


def deletion(kind: str, resource_id: str) -> Unit:
    """A unit that deletes one resource."""
    key = TYPE_NUMBER[kind], resource_id

    async def plan(_connection: Connection) -> Plan:
        return Plan([Write(*key, must="update", render=None, rows=NO_ROWS)])

    return Unit(plan, touches=frozenset({key}))


async def test_a_resource_is_kept_with_our_id_version_and_time(door: Door, archive: Archive) -> None:
    """meta says what the answer said."""
    (outcome,) = await write(door, one(patient()))
    assert outcome.written
    assert (outcome.written.version, outcome.written.created) == (1, True)
    stored = await archive.read(US, "Patient", outcome.id, "r2")
    kept = orjson.loads(stored.doc or b"")
    assert (kept["id"], kept["meta"]["versionId"]) == (outcome.id, "1")
    assert kept["meta"]["lastUpdated"] == stored.updated.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


async def test_a_unit_that_fails_leaves_its_neighbours_alone(door: Door, database: Database) -> None:
    """Forty requests of one moment, every fourth of them bad for a reason of its own."""
    await write(door, one(patient("there"), method="update"))

    def request(number: int) -> Incoming:
        match number % 8:
            case 3:
                return one(observation("nobody"))
            case 7:
                return one(patient("there", f"N{number}"), method="update", expected_version=99)
            case _:
                return one(patient(family=f"N{number}"))

    results = await asyncio.gather(*(write(door, request(n)) for n in range(40)), return_exceptions=True)
    kinds = [type(result).__name__ if isinstance(result, BaseException) else "kept" for result in results]
    expected = ["kept", "kept", "kept", "DanglingReference", "kept", "kept", "kept", "VersionConflict"] * 5
    assert kinds == expected
    assert await count(database, "resource") == 31


async def test_a_unit_that_the_database_refuses_leaves_its_neighbours_alone(door: Door, database: Database) -> None:
    """A bug in what is written alongside undoes that request, and is told to that caller only."""

    async def broken(connection: Connection, _written: Sequence[Written]) -> None:
        await connection.execute("insert into delivery (delivery_id) values (gen_random_uuid())")

    results = await asyncio.gather(
        *(write(door, one(patient()), alongside=broken if n == 2 else None) for n in range(6)), return_exceptions=True
    )
    assert [isinstance(result, BaseException) for result in results] == [False, False, True, False, False, False]
    assert not isinstance(results[2], Failure)
    assert await count(database, "resource") == 5


async def test_a_failure_of_what_is_written_alongside_undoes_everything(door: Door, database: Database) -> None:
    """Resource, index, trail: nothing is half there."""

    async def refuses(_connection: Connection, _written: Sequence[Written]) -> None:
        raise Conflict("somebody else was quicker")

    with pytest.raises(Conflict):
        await write(door, one(in_folder("1")), alongside=refuses)
    assert [await count(database, table) for table in ("resource", "token", "word", "access")] == [0, 0, 0, 0]


@pytest.mark.parametrize("callers", [32])
async def test_one_condition_creates_once_whoever_comes_at_the_same_time(
    door: Door, database: Database, callers: int
) -> None:
    """If-None-Exist, asked 32 times at once: one writes, the others find what he wrote."""
    condition = (("identifier", f"{FOLDERS}|42"),)
    results = await asyncio.gather(*(write(door, one(in_folder("42"), condition=condition)) for _ in range(callers)))
    outcomes = [outcome for (outcome,) in results]
    assert sum(outcome.written is not None for outcome in outcomes) == 1
    assert len({outcome.id for outcome in outcomes}) == 1
    assert await count(database, "resource") == 1


async def test_the_order_of_a_condition_does_not_matter(door: Door, database: Database) -> None:
    """The same criteria written the other way round are the same condition."""
    pairs = (("identifier", f"{FOLDERS}|42"), ("family", "TESTEUR"))
    both = (pairs, pairs[::-1])
    results = await asyncio.gather(*(write(door, one(in_folder("42"), condition=both[n % 2])) for n in range(12)))
    assert len({outcome.id for (outcome,) in results}) == 1
    assert await count(database, "resource") == 1


async def test_a_condition_that_finds_several_is_refused(door: Door) -> None:
    """412: nobody can say which one was meant."""
    await write(door, one(in_folder("7")), one(in_folder("7")))
    with pytest.raises(MultipleMatches):
        await write(door, one(in_folder("7"), condition=(("identifier", f"{FOLDERS}|7"),)))


async def test_a_condition_without_criterion_is_refused(door: Door) -> None:
    """`_count=1` selects everything, and so nothing."""
    with pytest.raises(BadParameter):
        await write(door, one(in_folder("7"), condition=(("_count", "1"),)))


async def test_versions_follow_each_other_although_many_write_at_once(door: Door, archive: Archive) -> None:
    """Twenty updates of one resource are twenty versions, none of them lost."""
    results = await asyncio.gather(*(write(door, one(patient("p", f"N{n}"), method="update")) for n in range(20)))
    versions = sorted(outcome.written.version for (outcome,) in results if outcome.written)
    assert versions == list(range(1, 21))
    past = await archive.histories.of_instance((TYPE_NUMBER["Patient"], "p"), Span(), Moment(), 100)
    assert [version.version for version in past] == list(range(20, 0, -1))


async def test_of_many_who_expect_the_same_version_one_wins(door: Door) -> None:
    """If-Match is a promise."""
    await write(door, one(patient("p"), method="update"))
    results = await asyncio.gather(
        *(write(door, one(patient("p", f"N{n}"), method="update", expected_version=1)) for n in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, VersionConflict) for result in results) == 9


async def test_a_version_expected_of_what_is_not_there_is_a_conflict(door: Door) -> None:
    """If-Match never creates."""
    with pytest.raises(VersionConflict):
        await write(door, one(patient("p"), method="update", expected_version=1))


async def test_every_dangling_reference_is_named_by_its_path(door: Door, database: Database) -> None:
    """All of them at once, in FHIRPath, and nothing is written."""
    document = document_reference(
        "nobody",
        author=[{"reference": "Practitioner/none"}, {"display": "Dr Personne"}],
        custodian={"reference": "Organization/no"},
    )
    with pytest.raises(DanglingReference) as caught:
        await write(door, one(document))
    assert [(issue.code, issue.expression) for issue in caught.value.issues] == [
        ("not-found", "DocumentReference.subject.reference"),
        ("not-found", "DocumentReference.author[0].reference"),
        ("not-found", "DocumentReference.custodian.reference"),
    ]
    assert await count(database, "resource") == 0


async def test_a_reference_to_a_deleted_resource_dangles(door: Door, commits: Commits) -> None:
    """What is gone cannot be pointed to."""
    await write(door, one(patient("p"), method="update"))
    await commits.submit(deletion("Patient", "p"))
    with pytest.raises(DanglingReference):
        await write(door, one(observation("p")))


async def test_references_may_point_forward_and_in_circles_inside_one_request(door: Door) -> None:
    """What is written together may point to each other, whatever the order."""
    first = patient("a", link=[{"other": {"reference": "Patient/b"}, "type": "seealso"}])
    second = patient("b", link=[{"other": {"reference": "Patient/a"}, "type": "seealso"}])
    outcomes = await write(door, one(first, method="update"), one(second, method="update"))
    assert all(outcome.written and outcome.written.created for outcome in outcomes)


def test_a_conditional_reference_is_refused() -> None:
    """Outside a transaction `Patient?identifier=...` is no reference (R4 http#trules)."""
    with pytest.raises(InvalidResource) as caught:
        one({**observation("x"), "subject": {"reference": "Patient?identifier=1"}})
    assert [issue.expression for issue in caught.value.issues] == ["Observation.subject.reference"]


async def test_two_callers_who_bring_the_same_new_resource_both_succeed(door: Door) -> None:
    """Update as create, twice at the same moment in two lanes: versions 1 and 2, not a conflict."""
    for number in range(10):
        results = await asyncio.gather(
            *(write(door, one(patient(f"p{number}", name), method="update")) for name in ("A", "B", "C"))
        )
        assert sorted(o.written.version for (o,) in results if o.written) == [1, 2, 3]


async def test_of_many_who_create_the_same_id_one_wins(door: Door) -> None:
    """The others are told that it is there."""
    results = await asyncio.gather(*(write(door, one(patient("p"))) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 5


async def test_two_entries_for_one_identity_are_refused(door: Door, database: Database) -> None:
    """By id, by condition, by fullUrl: each would overwrite the other in silence."""
    condition = (("identifier", f"{FOLDERS}|1"),)
    twins = [
        [one(patient("a"), method="update"), one(patient("a"), method="update")],
        [one(in_folder("1"), condition=condition), one(in_folder("1"), condition=condition)],
    ]
    for pair in twins:
        with pytest.raises(BadParameter) as caught:
            await write(door, *pair)
        assert {issue.code for issue in caught.value.issues} == {"duplicate"}
    assert await count(database, "resource") == 0


async def test_create_never_overwrites(door: Door) -> None:
    """An id that is taken is a conflict."""
    await write(door, one(patient("p"), method="update"))
    with pytest.raises(Conflict):
        await write(door, one(patient("p")))


async def test_after_an_update_only_the_new_values_are_found(door: Door, archive: Archive) -> None:
    """Token, string, date and reference rows of the old version are gone, those that stay are kept once."""
    await write(door, *(one(patient(name), method="update") for name in ("p1", "p2")))
    before = observation("p1", "8867-4", id="o", effectiveDateTime="2020-01-01")
    await write(door, one(before, method="update"))
    after = observation("p2", "8480-6", id="o", effectiveDateTime="2024-05-05")
    await write(door, one(after, method="update"))
    for gone in [("code", "8867-4"), ("patient", "Patient/p1"), ("date", "2020")]:
        assert await search(archive, "Observation", gone) == [], gone
    for there in [("code", "8480-6"), ("patient", "Patient/p2"), ("date", "2024"), ("status", "final")]:
        assert await search(archive, "Observation", there) == ["o"], there


async def test_a_renamed_worker_is_found_by_the_new_name_only(door: Door, archive: Archive) -> None:
    """The same for strings."""
    await write(door, one(patient("p", "ANCIEN"), method="update"))
    await write(door, one(patient("p", "NOUVEAU"), method="update"))
    assert await search(archive, "Patient", ("family", "ancien")) == []
    assert await search(archive, "Patient", ("family", "nouveau")) == ["p"]


async def test_index_rows_never_pile_up(door: Door, database: Database) -> None:
    """A hundred updates back and forth leave the rows of one version."""
    await write(door, one(in_folder("1", id="p", birthDate="1980-01-01"), method="update"))
    tables = ("token", "period", "word")
    before = [await count(database, table) for table in tables]
    for n in range(6):
        await write(door, one(in_folder(str(n % 2), id="p", birthDate=f"198{n}-01-01"), method="update"))
    assert [await count(database, table) for table in tables] == before


async def test_a_deleted_resource_is_gone_and_found_no_more(
    door: Door, archive: Archive, commits: Commits, database: Database
) -> None:
    """410 on read, no hit on search, no index row; its history stays."""
    await write(door, one(patient("p"), method="update"))
    await commits.submit(deletion("Patient", "p"))
    with pytest.raises(Gone):
        await archive.read(US, "Patient", "p", "r")
    assert await search(archive, "Patient", ("family", "TESTEUR")) == []
    assert [await count(database, table) for table in ("token", "period", "word")] == [0, 0, 0]
    assert (await archive.vread(US, "Patient", "p", 1, "r")).doc
    with pytest.raises(Gone):
        await commits.submit(deletion("Patient", "p"))
    with pytest.raises(NotFound):
        await commits.submit(deletion("Patient", "never"))


async def test_a_deleted_resource_can_come_back(door: Door, archive: Archive, commits: Commits) -> None:
    """An update of what is gone is its next version, and counts as created."""
    await write(door, one(patient("p"), method="update"))
    await commits.submit(deletion("Patient", "p"))
    (outcome,) = await write(door, one(patient("p", "RETOUR"), method="update"))
    assert outcome.written
    assert (outcome.written.version, outcome.written.created) == (3, True)
    assert await search(archive, "Patient", ("family", "retour")) == ["p"]


async def test_the_caller_must_be_allowed_to(door: Door, database: Database) -> None:
    """Create and update are two permissions, per type."""
    creates = Caller("c", "c", "external-system", ("system/Patient.c",))
    await write(door, one(patient()), caller=creates)
    for refused in (one(patient("p"), method="update"), one({"resourceType": "Organization", "name": "x"})):
        with pytest.raises(Forbidden):
            await write(door, refused, caller=creates)
    with pytest.raises(Forbidden):
        await write(door, one(patient()), one({"resourceType": "Organization", "name": "x"}), caller=creates)
    assert await count(database, "resource") == 1


async def test_every_fault_is_told_at_once(door: Door) -> None:
    """The client mends its resource in one round."""
    with pytest.raises(InvalidResource) as caught:
        one({"resourceType": "Patient", "gender": "x", "birthDate": "1980-13-01", "unknown": 1})
    assert len(caught.value.issues) == 3
    assert all(issue.expression for issue in caught.value.issues)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"{}", b'{"resourceType": 3}', b"\xff\xfe"])
def test_what_is_not_a_resource_is_bad_syntax(body: bytes) -> None:
    """400, not 422: it cannot even be read."""
    with pytest.raises(BadSyntax):
        incoming_from_bytes(body, method="create", resource_type="Patient")


async def test_writing_leaves_an_access_of_the_worker(door: Door, database: Database) -> None:
    """Who, what, whose; in the same transaction."""
    await write(door, one(patient("p"), method="update"), one(observation("p", id="o"), method="update"))
    async with database.connection() as connection:
        cursor = await connection.execute("select resource_id, patient_id, outcome, client_id from access order by id")
        assert await cursor.fetchall() == [("p", "p", 0, "self:test"), ("o", "p", 0, "self:test")]


async def test_without_a_database_writing_is_unavailable() -> None:
    """Told to the caller, in our words, and not tried for ever."""
    database = Database("host=/nonexistent port=1 dbname=none", connections=1, statement_timeout_ms=1_000)
    with pytest.raises(Unavailable):
        await write(
            Door(Commits(database, CustomParameters(database, pause=5))),
            incoming_from_dict({**patient("p")}, method="update"),
        )


def test_later_ids_sort_later() -> None:
    """UUID version 7: the index grows at its end."""
    ids = [new_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(identity[14] == "7" and identity[19] in "89ab" for identity in ids)
    assert [identity[:13] for identity in ids] == sorted(identity[:13] for identity in ids)
