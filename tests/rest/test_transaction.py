"""transaction: all entries or none: https://hl7.org/fhir/R4/http.html#transaction"""

import asyncio
import base64
from collections.abc import Awaitable, Callable

import httpx
import orjson
import pytest

from fhir_server.r4 import structure
from tests.support import (
    FHIR_JSON,
    FOLDERS,
    Caller,
    Server,
    codes,
    document_reference,
    entry,
    found,
    in_folder,
    issues,
    keep,
    observation,
    patient,
    post,
    transaction,
)

Make = Callable[..., Awaitable[Caller]]
ONE, TWO = "urn:uuid:0a1b2c3d-0000-4000-8000-000000000001", "urn:uuid:0a1b2c3d-0000-4000-8000-000000000002"


def about(full_url: str, **more: object) -> dict[str, object]:
    return {**observation("x"), "subject": {"reference": full_url}, **more}


async def test_links_among_the_entries_become_real(fhir_client: httpx.AsyncClient) -> None:
    """References, attachments and links of the narrative; whichever entry comes first."""
    document = document_reference("x")
    document["subject"] = {"reference": ONE}
    document["content"] = [{"attachment": {"url": TWO}}]
    document["text"] = {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{ONE}">x</a></div>',
    }
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="}
    answer = await post(fhir_client, transaction(entry(document), entry(patient(), ONE), entry(binary, TWO)))
    assert answer.status_code == 200, answer.text
    kept, worker, content = (one["resource"] for one in answer.json()["entry"])
    assert kept["subject"]["reference"] == f"Patient/{worker['id']}"
    assert kept["content"][0]["attachment"]["url"] == f"Binary/{content['id']}"
    assert f'href="Patient/{worker["id"]}"' in kept["text"]["div"]
    assert await found(fhir_client, f"DocumentReference?patient={worker['id']}") == [kept["id"]]


async def test_an_identifier_that_looks_like_a_link_stays(fhir_client: httpx.AsyncClient) -> None:
    """R4 3.1.0.11.2: only references and links are replaced."""
    worker = patient(identifier=[{"system": "urn:ietf:rfc:3986", "value": ONE}])
    answer = await post(fhir_client, transaction(entry(worker, ONE), entry(about(ONE))))
    first, second = (one["resource"] for one in answer.json()["entry"])
    assert first["identifier"][0]["value"] == ONE
    assert second["subject"]["reference"] == f"Patient/{first['id']}"


async def test_what_exists_already_is_found_and_linked_to(fhir_client: httpx.AsyncClient) -> None:
    """ifNoneExist: 200 for what was there, and the others point to it."""
    await keep(fhir_client, in_folder("1", id="there"))
    again = entry(in_folder("1"), ONE, method="POST", url="Patient", ifNoneExist=f"identifier={FOLDERS}|1")
    answer = await post(fhir_client, transaction(again, entry(about(ONE))))
    first, second = answer.json()["entry"]
    assert first["response"]["status"].startswith("200")
    assert first["response"]["location"] == "http://test/fhir/Patient/there/_history/1"
    assert second["response"]["status"].startswith("201")
    assert second["resource"]["subject"]["reference"] == "Patient/there"


async def test_the_same_transaction_twice_at_once_creates_its_worker_once(fhir_client: httpx.AsyncClient) -> None:
    """A sender that repeats itself does not double anybody."""
    bundle = transaction(
        entry(in_folder("5"), ONE, method="POST", url="Patient", ifNoneExist=f"identifier={FOLDERS}|5"),
        entry(about(ONE)),
    )
    answers = await asyncio.gather(*(post(fhir_client, bundle) for _ in range(16)))
    assert {answer.status_code for answer in answers} == {200}
    (worker,) = await found(fhir_client, "Patient?identifier=5")
    assert len(await found(fhir_client, f"Observation?patient={worker}")) == 16


@pytest.mark.parametrize("base", ["/fhir", "/fhir/"])
async def test_the_base_is_the_base_with_or_without_slash(fhir_client: httpx.AsyncClient, base: str) -> None:
    """No redirect: many clients do not follow one with a body."""
    answer = await fhir_client.post(base, content=orjson.dumps(transaction(entry(patient()))), headers=FHIR_JSON)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (entry(observation("nobody")), 422),
        (entry({"resourceType": "Observation", "status": "final"}), 422),
        (entry(patient("there"), method="PUT", url="Patient/there", ifMatch='W/"9"'), 412),
        (entry(about("urn:uuid:0a1b2c3d-0000-4000-8000-00000000ffff"), TWO), 422),
        (entry(in_folder("x"), method="POST", url="Patient", ifNoneExist="identifier=twice"), 412),
    ],
)
async def test_one_bad_entry_and_nothing_is_written(
    fhir_client: httpx.AsyncClient, server: Server, bad: dict[str, object], status: int
) -> None:
    """All or nothing: not the good entry, not its trail."""
    await keep(fhir_client, patient("there"), in_folder("twice", id="t1"), in_folder("twice", id="t2"))
    before = await server.rows("select count(*) from access where interaction = 'transaction'")
    answer = await post(fhir_client, transaction(entry(patient(family="GOOD")), bad))
    assert answer.status_code == status, answer.text
    assert await found(fhir_client, "Patient?family=good") == []
    assert await server.rows("select count(*) from access where interaction = 'transaction'") == before


async def test_answers_come_in_the_order_of_the_entries(fhir_client: httpx.AsyncClient) -> None:
    """Created, updated, found, created: each where it was asked."""
    await keep(fhir_client, patient("old"), in_folder("1", id="found"))
    entries = [
        entry(about(ONE)),
        entry(patient("old", "NOUVEAU"), method="PUT", url="Patient/old"),
        entry(in_folder("1"), method="POST", url="Patient", ifNoneExist="identifier=1"),
        entry(patient(family="UN"), ONE),
        entry(patient("new"), method="PUT", url="Patient/new"),
    ]
    answer = await post(fhir_client, transaction(*entries))
    assert answer.json()["type"] == "transaction-response"
    responses = [one["response"] for one in answer.json()["entry"]]
    assert [response["status"][:3] for response in responses] == ["201", "200", "200", "201", "201"]
    types = [response["location"].split("/")[4] for response in responses]
    assert types == ["Observation", "Patient", "Patient", "Patient", "Patient"]
    assert [responses[1]["etag"], responses[2]["etag"]] == ['W/"2"', 'W/"1"']


async def test_minimal_answers_have_no_resources(fhir_client: httpx.AsyncClient) -> None:
    """Prefer: return=minimal."""
    answer = await post(fhir_client, transaction(entry(patient())), prefer="return=minimal")
    (one,) = answer.json()["entry"]
    assert "resource" not in one
    assert one["response"]["status"].startswith("201")


async def test_decimals_and_order_of_members_survive(fhir_client: httpx.AsyncClient) -> None:
    """The bytes of each entry are kept as they came."""
    body = (
        b'{"entry":[{"request":{"url":"Observation","method":"POST"},"resource":{"valueQuantity":{"unit":"kg","value":1.00},'
        b'"status":"final","code":{"text":"x"},"resourceType":"Observation"}}],"type":"transaction","resourceType":"Bundle"}'
    )
    answer = await fhir_client.post("/fhir", content=body, headers=FHIR_JSON)
    location = answer.json()["entry"][0]["response"]["location"]
    kept = (await fhir_client.get(location)).content
    assert b'"valueQuantity":{"unit":"kg","value":1.00},"status":"final","code":{"text":"x"}}' in kept


async def test_decimals_survive_where_links_are_resolved(fhir_client: httpx.AsyncClient) -> None:
    """Replacing a link touches nothing else."""
    resource = orjson.dumps(about(ONE, valueQuantity={"value": 0})).replace(b'"value":0', b'"value":0.10')
    bundle = orjson.dumps(transaction(entry(patient(), ONE), entry({"resourceType": "X"})))
    body = bundle.replace(b'{"resourceType":"X"}', resource).replace(b'"url":"X"', b'"url":"Observation"')
    answer = await fhir_client.post("/fhir", content=body, headers=FHIR_JSON)
    assert answer.status_code == 200, answer.text
    assert b'"value":0.10' in answer.content


SECOND = "Bundle.entry[1]"
URL, SUBJECT = f"{SECOND}.request.url", f"{SECOND}.resource.subject.reference"


@pytest.mark.parametrize(
    ("bad", "status", "fault"),
    [
        ({"request": {"method": "GET", "url": "metadata"}}, 400, ("invalid", URL)),
        ({"request": {"method": "GET", "url": "Patient/a/$meta"}}, 400, ("invalid", URL)),
        ({"request": {"method": "GET", "url": "Nothing/1"}}, 404, ("not-supported", SECOND)),
        ({"request": {"method": "GET", "url": "Patient/never"}}, 404, ("not-found", SECOND)),
        ({"request": {"method": "DELETE", "url": "Patient"}}, 400, ("invalid", URL)),
        ({"request": {"method": "DELETE", "url": "Patient/there"}}, 409, ("conflict", SECOND)),
        ({"request": {"method": "PUT", "url": "Patient/a"}}, 400, ("invalid", SECOND)),
        (entry(patient(), method="POST", url="Observation"), 400, ("invalid", URL)),
        (entry(patient(), method="POST", url="Patient?x=1"), 400, ("invalid", URL)),
        (entry(patient("a"), method="PUT", url="Patient/b"), 400, ("invalid", URL)),
        (entry(patient(), method="PUT", url="Patient"), 400, ("invalid", URL)),
        (entry(patient("a"), method="PUT", url="Patient?nonsense=1"), 400, ("not-supported", SECOND)),
        (
            entry(patient("there"), method="PUT", url="Patient/there", ifMatch='W/"9"'),
            412,
            ("conflict", SECOND),
        ),
        (
            entry(patient("there"), method="PUT", url="Patient/there", ifNoneMatch="*"),
            412,
            ("conflict", SECOND),
        ),
        (entry(patient("a"), method="PUT", url="Patient/a", ifNoneMatch='W/"1"'), 400, ("invalid", SECOND)),
        (entry({"resourceType": "Parameters"}), 405, ("not-supported", SECOND)),
        (
            entry({"resourceType": "Parameters"}, method="PATCH", url="Binary/b"),
            405,
            ("not-supported", SECOND),
        ),
        (entry(observation("nobody")), 422, ("not-found", SUBJECT)),
        (
            entry(about("urn:uuid:0a1b2c3d-0000-4000-8000-00000000ffff")),
            422,
            ("not-found", SUBJECT),
        ),
        (entry(about("Patient?identifier=none")), 412, ("not-found", SUBJECT)),
        (entry(about("Patient?identifier=twice")), 412, ("multiple-matches", SUBJECT)),
        (entry(about("Patient?nonsense=1")), 422, ("invalid", SUBJECT)),
        (entry({"resourceType": "Patient", "gender": "x"}), 422, ("code-invalid", f"{SECOND}.resource.gender")),
    ],
)
async def test_an_entry_that_cannot_be_done_is_named(
    fhir_client: httpx.AsyncClient, server: Server, bad: dict[str, object], status: int, fault: tuple[str, str]
) -> None:
    """With its number, the status that it would have by itself, and nothing of the others is written."""
    await keep(fhir_client, patient("there"), in_folder("twice", id="t1"), in_folder("twice", id="t2"))
    await keep(fhir_client, observation("there", id="o"))
    (before,) = await server.rows("select count(*) from resource")
    answer = await post(fhir_client, transaction(entry(patient(family="GOOD")), bad))
    assert (answer.status_code, issues(answer)) == (status, [fault])
    assert await server.rows("select count(*) from resource") == [before]


async def test_faults_of_all_entries_are_told_at_once(fhir_client: httpx.AsyncClient) -> None:
    """The sender mends its Bundle in one round."""
    broken = entry({"resourceType": "Patient", "gender": "x"})
    answer = await post(fhir_client, transaction(broken, entry(patient()), broken))
    assert answer.status_code == 422
    places = [where or "" for _, where in issues(answer)]
    assert [place.split("]")[0] for place in places] == ["Bundle.entry[0", "Bundle.entry[2"]


@pytest.mark.parametrize("twins", ["id", "condition", "fullUrl"])
async def test_two_entries_for_one_identity_are_refused(fhir_client: httpx.AsyncClient, twins: str) -> None:
    """They would overwrite each other in silence (R4 3.1.0.11.2)."""
    one = {
        "id": entry(patient("a"), method="PUT", url="Patient/a"),
        "condition": entry(in_folder("1"), method="POST", url="Patient", ifNoneExist="identifier=1"),
        "fullUrl": entry(patient(), ONE),
    }[twins]
    answer = await post(fhir_client, transaction(one, one))
    assert answer.status_code in (400, 422)
    assert await found(fhir_client, "Patient") == []


def seek(number: str) -> str:
    return f"Patient?identifier={FOLDERS}|{number}"


async def test_a_conditional_reference_becomes_what_it_finds(fhir_client: httpx.AsyncClient) -> None:
    """In the stored resource and its index; twice the same is one search; written with escapes too."""
    await keep(fhir_client, in_folder("1", id="there"))
    reading = about(seek("1"), performer=[{"reference": seek("1")}])
    body = orjson.dumps(transaction(entry(reading))).replace(b"Patient?", rb"Pat\u0069ent?")
    answer = await fhir_client.post("/fhir", content=body, headers=FHIR_JSON)
    assert answer.status_code == 200, answer.text
    kept = answer.json()["entry"][0]["resource"]
    assert (kept["subject"], kept["performer"]) == ({"reference": "Patient/there"}, [{"reference": "Patient/there"}])
    assert await found(fhir_client, "Observation?patient=there") == [kept["id"]]


async def test_a_conditional_reference_sees_the_entries_of_its_transaction(fhir_client: httpx.AsyncClient) -> None:
    """R4 3.1.0.11.2: it is resolved last, after deletions, creates and updates, wherever these stand."""
    await keep(fhir_client, in_folder("1", id="going"), in_folder("2", id="changing"))
    entries = [
        entry(about(seek("1"))),
        entry(about(seek("3"))),
        entry(in_folder("3", id="changing"), method="PUT", url="Patient/changing"),
        entry(in_folder("1", family="NOUVEAU")),
        {"request": {"method": "DELETE", "url": "Patient/going"}},
    ]
    answer = await post(fhir_client, transaction(*entries))
    assert answer.status_code == 200, answer.text
    first, second, _, new, _ = answer.json()["entry"]
    assert first["resource"]["subject"]["reference"] == f"Patient/{new['resource']['id']}"
    assert second["resource"]["subject"]["reference"] == "Patient/changing"
    gone = await post(fhir_client, transaction(entry(about(seek("2")))))
    assert (gone.status_code, codes(gone)) == (412, ["not-found"])


async def test_a_condition_sees_what_is_processed_before_it(fhir_client: httpx.AsyncClient) -> None:
    """Deletions before creates, both before updates by criteria."""
    await keep(fhir_client, in_folder("1", id="old"))
    replaced = [
        entry(in_folder("1"), method="POST", url="Patient", ifNoneExist=f"identifier={FOLDERS}|1"),
        {"request": {"method": "DELETE", "url": "Patient/old"}},
    ]
    answer = await post(fhir_client, transaction(*replaced))
    assert [one["response"]["status"][:3] for one in answer.json()["entry"]] == ["201", "204"]
    both = [entry(in_folder("5", gender="male"), method="PUT", url=seek("5")), entry(in_folder("5"))]
    refused = await post(fhir_client, transaction(*both))
    assert (refused.status_code, codes(refused)) == (400, ["duplicate"])
    assert await found(fhir_client, "Patient?identifier=5") == []


async def test_conditional_references_at_once_with_conditional_creates_never_dangle(
    fhir_client: httpx.AsyncClient,
) -> None:
    """Whoever comes first: one worker, and readings of nobody else."""
    makes = entry(in_folder("9"), method="POST", url="Patient", ifNoneExist=f"identifier={FOLDERS}|9")
    bundles = [transaction(makes, entry(about(seek("9")))), transaction(entry(about(seek("9"))))]
    answers = await asyncio.gather(*(post(fhir_client, bundles[n % 2]) for n in range(24)))
    made, sought = answers[::2], answers[1::2]
    assert {answer.status_code for answer in made} == {200}
    assert {answer.status_code for answer in sought} <= {200, 412}
    (worker,) = await found(fhir_client, "Patient?identifier=9")
    assert len(await found(fhir_client, f"Observation?patient={worker}&_count=100")) == sum(
        answer.status_code == 200 for answer in answers
    )


async def test_a_conditional_reference_needs_the_right_to_search(
    fhir_client: httpx.AsyncClient, client_with: Make
) -> None:
    """Its answer tells whether anybody meets the criteria."""
    await keep(fhir_client, in_folder("1", id="there"))
    writer = (await client_with("system/Observation.c")).http
    for number in ("1", "2"):
        assert (await post(writer, transaction(entry(about(seek(number)))))).status_code == 403
    enough = (await client_with("system/Observation.c", "system/Patient.s")).http
    assert (await post(enough, transaction(entry(about(seek("1")))))).status_code == 200


async def test_a_conditional_reference_outside_a_transaction_is_refused(fhir_client: httpx.AsyncClient) -> None:
    """R4 allows it nowhere else."""
    await keep(fhir_client, in_folder("1", id="there"))
    assert (await post(fhir_client, about(seek("1")))).status_code == 422


async def test_updates_and_deletions_by_criteria_are_entries_too(fhir_client: httpx.AsyncClient) -> None:
    """Of none a create or nothing, of one that one; the links follow."""
    await keep(fhir_client, in_folder("1", id="one"), in_folder("2", id="two"))
    entries = [
        entry(in_folder("1", gender="female"), ONE, method="PUT", url=seek("1")),
        entry(in_folder("3"), TWO, method="PUT", url=seek("3")),
        {"request": {"method": "DELETE", "url": seek("2")}},
        {"request": {"method": "DELETE", "url": seek("4")}},
        {"request": {"method": "DELETE", "url": "Patient/never"}},
        entry(about(ONE)),
        entry(about(TWO)),
    ]
    answer = await post(fhir_client, transaction(*entries))
    assert answer.status_code == 200, answer.text
    done = answer.json()["entry"]
    assert [one["response"]["status"][:3] for one in done] == ["200", "201", "204", "204", "204", "201", "201"]
    assert done[0]["resource"]["id"] == "one"
    subjects = [one["resource"]["subject"]["reference"] for one in done[5:]]
    assert subjects == ["Patient/one", f"Patient/{done[1]['resource']['id']}"]
    assert (await fhir_client.get("/fhir/Patient/two")).status_code == 410


@pytest.mark.parametrize(
    "other",
    [
        entry(patient("one"), method="PUT", url="Patient/one"),
        {"request": {"method": "DELETE", "url": "Patient/one"}},
        entry(in_folder("1"), method="PUT", url="Patient?gender=male"),
    ],
)
async def test_entries_whose_criteria_lead_to_one_resource_are_refused(
    fhir_client: httpx.AsyncClient, other: dict[str, object]
) -> None:
    """R4 3.1.0.11.2: they would overwrite each other, which is seen only once the criteria are asked."""
    await keep(fhir_client, in_folder("1", id="one", gender="male"))
    answer = await post(fhir_client, transaction(entry(in_folder("1"), method="PUT", url=seek("1")), other))
    if other.get("resource"):
        assert (answer.status_code, codes(answer)) == (400, ["duplicate"])
        assert "Bundle.entry[" in str(issues(answer)[0][1])
    else:  # the deletion comes first, and then nothing meets the criteria
        assert [one["response"]["status"][:3] for one in answer.json()["entry"]] == ["201", "204"]
        return
    assert (await fhir_client.get("/fhir/Patient/one")).json()["meta"]["versionId"] == "1"


async def test_reads_come_after_the_writes_and_see_them(fhir_client: httpx.AsyncClient) -> None:
    """read, vread, search, histories, HEAD and 304, wherever they stand."""
    await keep(fhir_client, patient("p", "UN"))

    def get(url: str, method: str = "GET", **request: str) -> dict[str, object]:
        return {"request": {"method": method, "url": url, **request}}

    answer = await post(
        fhir_client,
        transaction(
            get("Patient/p"),
            get("Patient/p/_history/1"),
            get("Patient?family=deux"),
            get("Patient/p/_history"),
            get("_history?_count=1"),
            get("Patient/p", "HEAD"),
            get("Patient/p", ifNoneMatch='W/"2"'),
            entry(patient("p", "DEUX"), method="PUT", url="Patient/p"),
        ),
    )
    assert answer.status_code == 200, answer.text
    read, version, search, past, everything, head, same, _ = answer.json()["entry"]
    assert (read["resource"]["name"][0]["family"], read["response"]["etag"]) == ("DEUX", 'W/"2"')
    assert version["resource"]["name"][0]["family"] == "UN"
    assert search["resource"]["total"] == 1
    assert (past["resource"]["total"], len(everything["resource"]["entry"])) == (2, 1)
    assert (head["response"]["status"], head.get("resource")) == ("200 OK", None)
    assert (same["response"]["status"], same.get("resource")) == ("304 Not Modified", None)


async def test_reads_of_a_transaction_are_traced_when_it_is_done(
    fhir_client: httpx.AsyncClient, client_with: Make, server: Server
) -> None:
    """And need their rights: one that is refused undoes the whole."""
    await keep(fhir_client, patient("p"))
    read = {"request": {"method": "GET", "url": "Patient/p"}}
    client = await client_with("system/Observation.c", "system/Patient.r")
    assert (await post(client.http, transaction(read, entry(observation("p"))))).status_code == 200
    rows = "select interaction, patient_id from access where client_id = %s order by id"
    assert await server.rows(rows, client.client_id) == [("transaction", "p"), ("read", "p")]
    blind = await client_with("system/Observation.c")
    refused = await post(blind.http, transaction(entry(observation("p")), read))
    assert (refused.status_code, issues(refused)) == (403, [("forbidden", "Bundle.entry[1]")])
    assert len(await found(fhir_client, "Observation")) == 1


async def test_what_one_transaction_may_cost_is_bounded(fhir_client: httpx.AsyncClient) -> None:
    """Reads hold the locks of the writes: a hundred of them, not more."""
    await keep(fhir_client, patient("p"))
    read = {"request": {"method": "GET", "url": "Patient/p"}}
    assert (await post(fhir_client, transaction(*[read] * 100))).status_code == 200
    refused = await post(fhir_client, transaction(*[read] * 101))
    assert (refused.status_code, codes(refused)) == (403, ["too-costly"])


async def test_the_same_condition_may_be_patched_with_a_version(fhir_client: httpx.AsyncClient) -> None:
    """ifMatch of a PATCH entry holds."""
    await keep(fhir_client, in_folder("1", id="p"))
    operations = base64.b64encode(b'[{"op":"add","path":"/active","value":true}]').decode()
    binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": operations}
    for version, status in (("2", 412), ("1", 200)):
        patch = entry(binary, method="PATCH", url=seek("1"), ifMatch=f'W/"{version}"')
        assert (await post(fhir_client, transaction(patch))).status_code == status


async def test_names_of_entries_may_be_urls(fhir_client: httpx.AsyncClient) -> None:
    """R4 bundle#references: absolute, or relative to the base of the entry's own fullUrl; canonical names stay."""
    base = "http://elsewhere.test/fhir"
    profile = {"resourceType": "ValueSet", "url": f"{base}/ValueSet/1", "status": "draft"}
    document = document_reference("x", id="d")
    document["subject"] = {"reference": f"{base}/Patient/77"}
    document["content"] = [{"attachment": {"url": f"{base}/Binary/5"}}]
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="}
    answer = await post(
        fhir_client,
        transaction(
            entry(about("Patient/77"), f"{base}/Observation/1"),
            entry(patient("77"), f"{base}/Patient/77"),
            entry(document, ONE),
            entry(binary, f"{base}/Binary/5"),
            entry(profile, f"{base}/ValueSet/1"),
        ),
    )
    assert answer.status_code == 200, answer.text
    reading, worker, document, content, defined = (one["resource"] for one in answer.json()["entry"])
    assert reading["subject"] == document["subject"] == {"reference": f"Patient/{worker['id']}"}
    assert document["content"][0]["attachment"]["url"] == f"Binary/{content['id']}"
    assert defined["url"] == f"{base}/ValueSet/1"
    outside = await post(
        fhir_client, transaction(entry(about("Patient/77"), ONE), entry(patient("77"), f"{base}/Patient/77"))
    )
    assert outside.status_code == 422, "a relative reference in an entry of no base is one to this server"


@pytest.mark.parametrize("asked", ["minimal", "representation", "OperationOutcome"])
async def test_the_client_says_what_it_wants_back(fhir_client: httpx.AsyncClient, asked: str) -> None:
    """Prefer: return, for all entries, and echoed."""
    bundle = transaction(entry(patient("p"), method="PUT", url="Patient/p"))
    answer = await post(fhir_client, bundle, prefer=f"return={asked}")
    assert answer.headers["preference-applied"] == f"return={asked}"
    (one,) = answer.json()["entry"]
    assert ("resource" in one, "outcome" in one["response"]) == (asked == "representation", asked == "OperationOutcome")
    assert structure.check(answer.json()) == []


@pytest.mark.parametrize("kind", ["searchset", "collection", "history"])
async def test_only_transactions_and_batches_are_posted_to_the_base(fhir_client: httpx.AsyncClient, kind: str) -> None:
    """Anything else is refused, never half done."""
    body = orjson.dumps({"resourceType": "Bundle", "type": kind})
    answer = await fhir_client.post("/fhir", content=body, headers=FHIR_JSON)
    assert (answer.status_code, issues(answer)) == (400, [("structure", "Bundle.type")])
    assert (await fhir_client.post("/fhir", content=orjson.dumps(patient()), headers=FHIR_JSON)).status_code == 400


@pytest.mark.parametrize(
    "entries", ["x", ["x"], [3], [{"request": 3}], [{"request": {"method": 3}}], [{"resource": 3}]]
)
@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_entries_of_another_shape_are_refused(fhir_client: httpx.AsyncClient, kind: str, entries: object) -> None:
    """As a whole, or in a batch each for itself; never with a crash."""
    body = orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})
    answer = await fhir_client.post("/fhir", content=body, headers=FHIR_JSON)
    if answer.status_code == 200:
        assert kind == "batch"
        assert answer.json()["entry"][0]["response"]["status"].startswith("4")
    else:
        assert answer.status_code in (400, 422)
        assert set(codes(answer)) <= {"structure", "value", "required", "code-invalid", "invariant"}


async def test_an_empty_transaction_does_nothing(fhir_client: httpx.AsyncClient) -> None:
    """And succeeds at it."""
    answer = await fhir_client.post(
        "/fhir", content=b'{"resourceType":"Bundle","type":"transaction"}', headers=FHIR_JSON
    )
    assert (answer.status_code, answer.json()) == (200, {"resourceType": "Bundle", "type": "transaction-response"})


async def test_a_transaction_needs_the_scope_of_each_entry(client_with: Make, fhir_client: httpx.AsyncClient) -> None:
    """One entry that is not allowed refuses the whole."""
    client = (await client_with("system/Patient.c")).http
    answer = await post(client, transaction(entry(patient(), ONE), entry(about(ONE))))
    assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
    assert await found(fhir_client, "Patient") == []
    assert (await post(client, transaction(entry(patient())))).status_code == 200


async def test_two_hundred_entries_travel_together(fhir_client: httpx.AsyncClient) -> None:
    """A lot of documents is one transaction."""
    entries = [entry(patient(), ONE), *(entry(about(ONE)) for _ in range(200))]
    answer = await post(fhir_client, transaction(*entries))
    assert len(answer.json()["entry"]) == 201
    assert len(await found(fhir_client, "Observation?_count=1000")) == 200


async def test_a_transaction_deletes_with_the_rest_or_not_at_all(fhir_client: httpx.AsyncClient) -> None:
    """DELETE is an entry like another."""
    await keep(fhir_client, patient("old"), patient("p"))
    deletion = {"request": {"method": "DELETE", "url": "Patient/old"}}
    refused = await post(fhir_client, transaction(deletion, entry(observation("old"))))
    assert refused.status_code == 422
    assert await found(fhir_client, "Patient") == ["old", "p"]
    answer = await post(fhir_client, transaction(deletion, entry(observation("p"))))
    assert [one["response"]["status"][:3] for one in answer.json()["entry"]] == ["204", "201"]
    assert await found(fhir_client, "Patient") == ["p"]
    assert (await fhir_client.get("/fhir/Patient/old")).status_code == 410
