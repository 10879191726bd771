"""transaction: all entries or none: https://hl7.org/fhir/R4/http.html#transaction"""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import orjson
import pytest

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


@pytest.mark.parametrize(
    ("bad", "code", "where"),
    [
        (entry(patient(), method="GET", url="Patient/1"), "invalid", "Bundle.entry[1].request.method"),
        ({"request": {"method": "GET", "url": "Patient/1"}}, "invalid", "Bundle.entry[1].request.method"),
        ({"request": {"method": "DELETE", "url": "Patient"}}, "invalid", "Bundle.entry[1].request.url"),
        ({"request": {"method": "DELETE", "url": "Patient?family=x"}}, "invalid", "Bundle.entry[1].request.url"),
        (entry(patient(), method="POST", url="Observation"), "invalid", "Bundle.entry[1].request.url"),
        (entry(patient(), method="POST", url="Patient?x=1"), "invalid", "Bundle.entry[1].request.url"),
        (entry(patient("a"), method="PUT", url="Patient/b"), "invalid", "Bundle.entry[1].request.url"),
        (entry(patient(), method="PUT", url="Patient"), "invalid", "Bundle.entry[1].request.url"),
    ],
)
async def test_an_entry_that_we_do_not_take_is_named(
    fhir_client: httpx.AsyncClient, bad: dict[str, object], code: str, where: str
) -> None:
    """With its number."""
    answer = await post(fhir_client, transaction(entry(patient()), bad))
    assert answer.status_code == 422
    assert issues(answer) == [(code, where)]


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


async def test_a_conditional_reference_is_said_to_be_unsupported(fhir_client: httpx.AsyncClient) -> None:
    """R4 allows it inside a transaction; we do not, and say where."""
    answer = await post(fhir_client, transaction(entry(about("Patient?identifier=1"))))
    assert (answer.status_code, codes(answer)) == (422, ["not-supported"])


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
