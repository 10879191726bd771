"""Binary: the bytes of a document, both ways: https://hl7.org/fhir/R4/binary.html#rest"""

import base64
import hashlib
import os
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest

from tests.support import FHIR_JSON, Server, codes, entry, patient, put, transaction

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


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "pages=1-2", "bytes=-", "nonsense"])
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


async def test_a_part_only_of_the_same_document(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """If-Range with another ETag gives the whole."""
    same = await fhir_client.get(binary, headers={"range": "bytes=0-3", "if-range": ETAG})
    assert (same.status_code, same.content) == (206, PDF[:4])
    other = await fhir_client.get(binary, headers={"range": "bytes=0-3", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, PDF)


async def test_head_of_a_document(fhir_client: httpx.AsyncClient, binary: str) -> None:
    """Its size and ETag, not its bytes."""
    head = await fhir_client.head(binary)
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["etag"]) == (str(SIZE), ETAG)


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
    digest = hashlib.sha256(PDF).hexdigest()
    (server.settings.blob_folder / digest[:2] / digest[2:4] / digest).unlink()
    answer = await fhir_client.get(binary)
    assert (answer.status_code, codes(answer)) == (404, ["not-found"])
