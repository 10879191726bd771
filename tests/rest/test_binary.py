"""Binary: the bytes of a document, both ways: https://hl7.org/fhir/R4/binary.html#rest"""

import base64
import email
import hashlib
import os
from collections.abc import AsyncIterator, Callable

import httpx
import orjson
import pytest

from fhir_server.r4.xml import to_json
from fhir_server.settings import Settings
from tests.support import EVERYTHING, FHIR_JSON, Server, codes, entry, patient, put, serving, transaction

PDF = b"%PDF-1.7\n" + os.urandom(1000) + b"\n%%EOF"
TYPE = {"content-type": "application/pdf"}
ETAG = f'"{hashlib.sha256(PDF).hexdigest()}"'


@pytest.fixture
async def binary(fhir_client: httpx.AsyncClient) -> str:
    """The path of a document that is there."""
    answer = await fhir_client.put("/fhir/Binary/b", content=PDF, headers=TYPE)
    assert answer.status_code == 201
    return "/fhir/Binary/b"


async def test_raw_bytes_posted_are_given_back_raw(fhir_client: httpx.AsyncClient) -> None:
    """With their media type, and nothing that a browser could run."""
    answer = await fhir_client.post("/fhir/Binary", content=PDF, headers=TYPE)
    assert answer.status_code == 201
    identity = answer.json()["id"]
    assert answer.headers["location"] == f"http://test/fhir/Binary/{identity}/_history/1"
    read = await fhir_client.get(f"/fhir/Binary/{identity}")
    assert (read.status_code, read.content) == (200, PDF)
    assert read.headers["content-type"] == "application/pdf"
    assert read.headers["content-length"] == str(len(PDF))
    assert read.headers["x-content-type-options"] == "nosniff"
    assert read.headers["etag"] == ETAG


async def test_a_put_replaces_and_the_old_version_stays(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """Each version has its own bytes."""
    answer = await fhir_client.put(binary, content=b"\x89PNG second", headers={"content-type": "image/png"})
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"2"')
    assert (await fhir_client.get(binary)).content == b"\x89PNG second"
    first = await fhir_client.get(f"{binary}/_history/1")
    assert (first.content, first.headers["content-type"]) == (PDF, "application/pdf")


async def test_a_fhir_reader_gets_the_resource_with_base64(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """The same bytes, inside JSON."""
    answer = await fhir_client.get(binary, headers={"accept": "application/fhir+json"})
    resource = answer.json()
    assert (resource["resourceType"], resource["id"], resource["contentType"]) == ("Binary", "b", "application/pdf")
    assert base64.b64decode(resource["data"], validate=True) == PDF
    assert (await fhir_client.get(f"{binary}?_format=json")).json() == resource


async def test_a_binary_sent_as_fhir_is_given_back_raw(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """Its base64 does not stay in the database."""
    resource = {
        "resourceType": "Binary",
        "id": "f",
        "contentType": "application/pdf",
        "data": base64.b64encode(PDF).decode(),
    }
    assert (await put(fhir_client, resource)).status_code == 201
    read = await fhir_client.get("/fhir/Binary/f")
    assert (read.content, read.headers["etag"]) == (PDF, ETAG)
    ((doc,),) = await server.rows("select doc from resource where id = 'f'")
    assert b"data" not in bytes(doc)
    again = await fhir_client.get("/fhir/Binary/f", headers={"accept": "application/fhir+json"})
    assert again.json()["data"] == resource["data"]


async def test_a_binary_inside_a_transaction(fhir_client: httpx.AsyncClient) -> None:
    """ITI-65 brings its documents so."""
    resource = {"resourceType": "Binary", "contentType": "application/pdf", "data": base64.b64encode(PDF).decode()}
    answer = await fhir_client.post("/fhir", content=orjson.dumps(transaction(entry(resource))), headers=FHIR_JSON)
    assert answer.status_code == 200
    location = answer.json()["entry"][0]["response"]["location"].removeprefix("http://test").partition("/_history")[0]
    assert (await fhir_client.get(location)).content == PDF


async def test_an_empty_binary_and_one_without_data(fhir_client: httpx.AsyncClient) -> None:
    """Nothing, faithfully."""
    await fhir_client.put("/fhir/Binary/e", content=b"", headers=TYPE)
    read = await fhir_client.get("/fhir/Binary/e")
    assert (read.status_code, read.content, read.headers["content-length"]) == (200, b"", "0")
    await put(fhir_client, {"resourceType": "Binary", "id": "n", "contentType": "text/plain"})
    assert (await fhir_client.get("/fhir/Binary/n")).content == b""
    as_fhir = await fhir_client.get("/fhir/Binary/n", headers={"accept": "application/fhir+json"})
    assert "data" not in as_fhir.json()


SIZE = len(PDF)
RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-9", 0, 10),
    ("bytes=10-", 10, SIZE),
    ("bytes=-5", SIZE - 5, SIZE),
    (f"bytes=-{SIZE * 2}", 0, SIZE),
    (f"bytes=5-{SIZE * 2}", 5, SIZE),
    (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
]


@pytest.mark.parametrize(("asked", "start", "end"), RANGES)
async def test_a_part_of_a_document(
    fhir_client: httpx.AsyncClient, binary: str, asked: str, start: int, end: int
) -> None:
    """206 with exactly these bytes (RFC 9110 section 14)."""
    answer = await fhir_client.get(binary, headers={"range": asked})
    assert (answer.status_code, answer.content) == (206, PDF[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0", "bytes=9-5"])
async def test_a_part_that_is_not_there(fhir_client: httpx.AsyncClient, binary: str, asked: str) -> None:
    """416; an end before the start is rejected as RFC 9110 section 14.2 allows."""
    answer = await fhir_client.get(binary, headers={"range": asked})
    assert (answer.status_code, codes(answer)) == (416, ["invalid"])
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("asked", ["pages=1-2", "bytes=-", "bytes=0-1,-", "bytes=a-b", "nonsense"])
async def test_a_range_that_we_do_not_do_gives_the_whole(
    fhir_client: httpx.AsyncClient, binary: str, asked: str
) -> None:
    """RFC 9110 section 14.2 lets a server ignore it."""
    answer = await fhir_client.get(binary, headers={"range": asked})
    assert (answer.status_code, answer.content) == (200, PDF)


async def test_a_document_that_the_client_has_is_not_sent_again(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """304 for its ETag, 200 for another."""
    same = await fhir_client.get(binary, headers={"if-none-match": ETAG})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", ETAG)
    other = await fhir_client.get(binary, headers={"if-none-match": '"other"'})
    assert other.status_code == 200
    assert (await fhir_client.get(binary, headers={"if-none-match": "*"})).status_code == 304


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        ("bytes=0-3,400-409", [(0, 4), (400, 410)]),
        (f"bytes=-5, 0-9 ,{SIZE}-", [(0, 10), (SIZE - 5, SIZE)]),
        ("bytes=600-,0-0,300-310", [(0, 1), (300, 311), (600, SIZE)]),
    ],
)
async def test_several_parts_in_one_answer(
    fhir_client: httpx.AsyncClient, binary: str, asked: str, parts: list[tuple[int, int]]
) -> None:
    """multipart/byteranges: each part with its type and place, those outside the content left out."""
    answer = await fhir_client.get(binary, headers={"range": asked})
    assert answer.status_code == 206
    assert int(answer.headers["content-length"]) == len(answer.content)
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content)
    assert message.get_content_type() == "multipart/byteranges"
    received = [
        (part["content-range"], part.get_content_type(), part.get_payload(decode=True))
        for part in message.walk()
        if not part.is_multipart()
    ]
    expected = [(f"bytes {start}-{end - 1}/{SIZE}", "application/pdf", PDF[start:end]) for start, end in parts]
    assert received == expected


@pytest.mark.parametrize("asked", ["bytes=0-9,5-20", "bytes=10-20,0-9", "bytes=0-3,0-3,0-20", "bytes=15-20,0-3"])
async def test_parts_that_overlap_or_nearly_touch_are_one(
    fhir_client: httpx.AsyncClient, binary: str, asked: str
) -> None:
    """RFC 9110 section 15.3.7.2: nobody is sent the same bytes twice."""
    answer = await fhir_client.get(binary, headers={"range": asked})
    assert (answer.status_code, answer.content) == (206, PDF[:21])
    assert answer.headers["content-range"] == f"bytes 0-20/{SIZE}"


async def test_too_many_parts_are_refused(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """RFC 9110 section 14.2: many small ranges are an attack or a mistake."""
    asked = ",".join(f"{n}-{n}" for n in range(17))
    answer = await fhir_client.get(binary, headers={"range": f"bytes={asked}"})
    assert (answer.status_code, codes(answer)) == (416, ["invalid"])


async def test_the_digest_of_the_whole_goes_along(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """Repr-Digest (RFC 9530), with a part too: whoever puts the parts together can verify them."""
    digest = base64.b64encode(hashlib.sha256(PDF).digest()).decode()
    for headers in ({}, {"range": "bytes=0-3"}):
        assert (await fhir_client.get(binary, headers=headers)).headers["repr-digest"] == f"sha-256=:{digest}:"


async def test_a_part_only_of_the_same_document(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """If-Range with another ETag gives the whole."""
    same = await fhir_client.get(binary, headers={"range": "bytes=0-3", "if-range": ETAG})
    assert (same.status_code, same.content) == (206, PDF[:4])
    for validator in ('"other"', f"W/{ETAG}", "Sun, 22 Nov 2026 00:00:00 GMT"):
        other = await fhir_client.get(binary, headers={"range": "bytes=0-3", "if-range": validator})
        assert (other.status_code, other.content) == (200, PDF), validator


async def test_head_of_a_document(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """Its size and ETag, not its bytes."""
    head = await fhir_client.head(binary)
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["etag"]) == (str(SIZE), ETAG)
    assert (await fhir_client.head(binary, headers={"range": "bytes=0-3"})).status_code == 200


@pytest.mark.parametrize("size", [1, 2, 3, 1024 * 1024 + 1])
@pytest.mark.parametrize("form", ["json", "xml"])
async def test_the_resource_is_made_while_it_is_sent(fhir_client: httpx.AsyncClient, form: str, size: int) -> None:
    """In both forms, of a length that is known before, with what stands beside the data."""
    document = os.urandom(size)
    sent = {
        "resourceType": "Binary",
        "id": "r",
        "contentType": "application/pdf",
        "_data": {"extension": [{"url": "urn:test:beside", "valueString": "</Binary>"}]},
        "data": base64.b64encode(document).decode(),
    }
    assert (await put(fhir_client, sent)).status_code == 201
    asked = {"accept": f"application/fhir+{form}"}
    answer = await fhir_client.get("/fhir/Binary/r", headers=asked)
    assert answer.headers["content-type"].startswith(f"application/fhir+{form}")
    assert int(answer.headers["content-length"]) == len(answer.content)
    resource = orjson.loads(to_json(answer.content) if form == "xml" else answer.content)
    assert {**sent, "meta": resource["meta"]} == resource
    assert (await fhir_client.get("/fhir/Binary/r", headers={**asked, "if-none-match": 'W/"1"'})).status_code == 304


async def test_a_resource_larger_than_any_other_body_is_taken_in_as_it_arrives(
    make_settings: Callable[..., Settings],
) -> None:
    """The limit of FHIR bodies does not hold for the data of a Binary, that of Binaries does; the rest is small."""
    async with serving(make_settings(max_body_mb=1, max_binary_mb=3)) as server:
        client = (await server.client(EVERYTHING)).http
        document = os.urandom(3 * 1024 * 1024)
        sent = {"resourceType": "Binary", "contentType": "a/b", "data": base64.b64encode(document).decode()}
        answer = await client.post("/fhir/Binary", content=orjson.dumps(sent), headers=FHIR_JSON)
        assert answer.status_code == 201
        assert (await client.get(f"/fhir/Binary/{answer.json()['id']}")).content == document
        for fault in (
            {"data": base64.b64encode(document + b"!").decode()},
            {"implicitRules": "urn:" + "x" * 400_000},
        ):
            refused = await client.post("/fhir/Binary", content=orjson.dumps({**sent, **fault}), headers=FHIR_JSON)
            assert (refused.status_code, codes(refused)) == (413, ["too-long"])


async def test_a_binary_that_is_not_valid_keeps_no_content(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """The fault comes after the data, and the data is not kept."""
    for fault in (b'"contentType":5', b'"contentType":"a/b","id":"other"', b'"contentType":"a/b","data":"eA=="', b""):
        body = b'{"resourceType":"Binary","id":"x","data":"%s",%s}' % (base64.b64encode(os.urandom(3000)), fault)
        answer = await fhir_client.put("/fhir/Binary/x", content=body, headers=FHIR_JSON)
        assert answer.status_code in (400, 422), fault
    assert [path for path in server.settings.blob_folder.rglob("*") if path.is_file()] == []


async def test_a_content_that_does_not_fit_into_a_batch(make_settings: Callable[..., Settings]) -> None:
    """That entry is 413, and the others are answered."""
    async with serving(make_settings(max_body_mb=1)) as server:
        client = (await server.client(EVERYTHING)).http
        for name, size in (("small", 100), ("large", 2_000_000)):
            await client.put(f"/fhir/Binary/{name}", content=bytes(size), headers=TYPE)
        asked = [{"request": {"method": "GET", "url": f"Binary/{name}"}} for name in ("small", "large", "small")]
        asked.append({"request": {"method": "GET", "url": "Binary/small?_format=xml"}})
        sent = {"resourceType": "Bundle", "type": "batch", "entry": asked}
        answers = (await client.post("/fhir", json=sent, headers=FHIR_JSON)).json()["entry"]
        assert [one["response"]["status"][:3] for one in answers] == ["200", "413", "200", "200"]
        assert answers[1]["response"]["outcome"]["issue"][0]["code"] == "too-long"
        assert answers[3]["resource"]["resourceType"] == "Binary"


async def test_a_version_that_is_no_longer_current_is_not_replaced(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """If-Match holds for bytes too; criteria are refused, not ignored."""
    stale = await fhir_client.put(binary, content=b"new", headers={**TYPE, "if-match": 'W/"7"'})
    assert stale.status_code == 412
    assert (await fhir_client.put(binary, content=b"new", headers={**TYPE, "if-match": 'W/"1"'})).status_code == 200
    made = await fhir_client.post("/fhir/Binary", content=b"x", headers={**TYPE, "if-none-exist": "_id=b"})
    assert made.status_code == 400


async def test_thirty_megabytes_go_through_in_pieces(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """In and out, whole and in part, raw and as base64."""
    piece, pieces = os.urandom(1024 * 1024), 30
    digest = hashlib.sha256()

    async def body() -> AsyncIterator[bytes]:
        for number in range(pieces):
            chunk = number.to_bytes(4, "big") + piece[4:]
            digest.update(chunk)
            yield chunk

    answer = await fhir_client.put("/fhir/Binary/big", content=body(), headers=TYPE)
    assert answer.status_code == 201
    raw = await fhir_client.get("/fhir/Binary/big")
    assert hashlib.sha256(raw.content).digest() == digest.digest()
    part = await fhir_client.get(
        "/fhir/Binary/big", headers={"range": f"bytes={7 * 1024 * 1024}-{7 * 1024 * 1024 + 3}"}
    )
    assert part.content == (7).to_bytes(4, "big")
    as_fhir = await fhir_client.get("/fhir/Binary/big", headers={"accept": "application/fhir+json"})
    assert hashlib.sha256(base64.b64decode(as_fhir.json()["data"])).digest() == digest.digest()
    assert await server.rows("select blob_size from resource where id = 'big'") == [(pieces * 1024 * 1024,)]


@pytest.mark.parametrize("kind", ["text/plain\r\nset-cookie: a=b", "text/plain\nx: y", "no media type", "é/x"])
async def test_a_content_type_that_is_no_header_is_not_sent_as_one(fhir_client: httpx.AsyncClient, kind: str) -> None:
    """It is the word of a client, and may not become a header of ours."""
    sent = {"resourceType": "Binary", "id": "x", "contentType": kind, "data": base64.b64encode(PDF).decode()}
    if (await put(fhir_client, sent)).status_code == 422:
        return
    for headers in ({}, {"range": "bytes=0-0,300-400"}):
        answer = await fhir_client.get("/fhir/Binary/x", headers=headers)
        assert "set-cookie" not in answer.headers
        assert answer.headers["content-type"].partition(";")[0] in ("application/octet-stream", "multipart/byteranges")
        assert b"\nx: y" not in answer.content


async def test_a_content_type_with_its_parameters_is_sent(fhir_client: httpx.AsyncClient) -> None:
    """As it was given."""
    sent = {"resourceType": "Binary", "id": "x", "contentType": "text/plain; charset=utf-8", "data": "w6k="}
    await put(fhir_client, sent)
    assert (await fhir_client.get("/fhir/Binary/x")).headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_raw_document_needs_a_media_type(fhir_client: httpx.AsyncClient) -> None:
    """400: nobody could show it."""
    answer = await fhir_client.post("/fhir/Binary", content=PDF)
    assert (answer.status_code, codes(answer)) == (400, ["structure"])


async def test_base64_that_is_none_is_invalid(fhir_client: httpx.AsyncClient) -> None:
    """422, not a crash."""
    for data in ("####", "AAA", "é"):
        answer = await put(fhir_client, {"resourceType": "Binary", "id": "x", "contentType": "a/b", "data": data})
        assert answer.status_code == 422, data


async def test_a_security_context_must_exist(fhir_client: httpx.AsyncClient) -> None:
    """X-Security-Context says whose document it is (R4 binary#rest)."""
    headers = {**TYPE, "x-security-context": "Patient/p"}
    assert (await fhir_client.put("/fhir/Binary/s", content=PDF, headers=headers)).status_code == 422
    await put(fhir_client, patient("p"))
    answer = await fhir_client.put("/fhir/Binary/s", content=PDF, headers=headers)
    assert answer.json()["securityContext"] == {"reference": "Patient/p"}


async def test_a_document_lost_on_disk_is_not_found(
    fhir_client: httpx.AsyncClient, binary: str, server: Server
) -> None:
    """An answer, not a broken stream."""
    ((address,),) = await server.rows("select address from blob_key where sha256 = %s", hashlib.sha256(PDF).digest())
    name = address.hex()
    (server.settings.blob_folder / name[:2] / name[2:4] / name).unlink()
    answer = await fhir_client.get(binary)
    assert (answer.status_code, codes(answer)) == (404, ["not-found"])
    forms = [{"accept": "application/fhir+json"}, {"accept": "application/fhir+xml"}, {"range": "bytes=0-1,500-501"}]
    for headers in forms:
        assert (await fhir_client.get(binary, headers=headers)).status_code == 404
