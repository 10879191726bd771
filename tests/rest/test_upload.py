"""$upload: a document that is sent in several requests (tus 1.0.0): https://tus.io/protocols/resumable-upload"""

import asyncio
import base64
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from pathlib import Path

import httpx
import pytest

from fhir_server.settings import Settings, secret
from fhir_server.store import uploads
from fhir_server.store.clients import Clients
from fhir_server.store.database import Database
from tests.support import EVERYTHING, Caller, Server, codes, document_reference, keep, patient

Make = Callable[..., Awaitable[Caller]]
MB = 1024 * 1024
TUS = {"tus-resumable": "1.0.0"}
OFFSET_STREAM = {**TUS, "content-type": "application/offset+octet-stream"}
START = "/fhir/Binary/$upload"
DOCUMENT = os.urandom(3 * MB + 5)


def metadata(**values: str) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())


async def begin(client: httpx.AsyncClient, length: int = len(DOCUMENT), **more: str) -> str:
    """Announce an upload; its path."""
    told = {"filetype": "application/pdf", "filename": "DUPONT Camille.pdf", **more}
    headers = {**TUS, "upload-length": str(length), "upload-metadata": metadata(**told)}
    answer = await client.post(START, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-offset"] == "0"
    return answer.headers["location"].removeprefix("http://test")


async def append(client: httpx.AsyncClient, path: str, offset: int, content: object) -> httpx.Response:
    headers = {**OFFSET_STREAM, "upload-offset": str(offset)}
    return await client.patch(path, content=content, headers=headers)  # pyright: ignore[reportArgumentType] - as httpx


async def offset(client: httpx.AsyncClient, path: str) -> int:
    answer = await client.head(path, headers=TUS)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    return int(answer.headers["upload-offset"])


async def test_a_document_in_three_requests_becomes_a_binary(fhir_client: httpx.AsyncClient, server: Server) -> None:
    """The last one writes it, through the door: a version, an audit row; the name of the file is kept nowhere."""
    path = await begin(fhir_client)
    sent = 0
    for end in (MB, 2 * MB + 7, len(DOCUMENT)):
        answer = await append(fhir_client, path, sent, DOCUMENT[sent:end])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert "content-length" not in answer.headers
        sent = end
        assert await offset(fhir_client, path) == end
    written = (await fhir_client.head(path, headers=TUS)).headers["content-location"].removeprefix("http://test")
    read = await fhir_client.get(written)
    assert (read.content, read.headers["content-type"]) == (DOCUMENT, "application/pdf")
    name = written.split("/")[3]
    trail = await server.rows("select interaction from access where resource_id = %s order by id", name)
    assert trail == [("create",), ("vread",)]
    assert list((server.settings.data / "uploads").iterdir()) == []
    assert await server.rows("select count(*) from upload where resource like '%%DUPONT%%'::bytea") == [(0,)]


async def cut_off(server: Server, client: httpx.AsyncClient, path: str, at: int, content: bytes) -> None:
    """A PATCH whose client leaves in its middle, as an ASGI server tells it."""
    headers = {**OFFSET_STREAM, "upload-offset": str(at), "authorization": client.headers["authorization"]}
    messages = iter([{"type": "http.request", "body": content, "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Mapping[str, object]:
        return next(messages)

    async def send(_message: object) -> None:
        """Nobody hears it."""

    scope = {
        "type": "http",
        "method": "PATCH",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await server.app(scope, receive, send)  # pyright: ignore[reportArgumentType] - any ASGI send


async def test_a_request_that_is_cut_off_is_continued_where_it_was(
    fhir_client: httpx.AsyncClient, server: Server
) -> None:
    """Every byte that came counts, however few."""
    path, at = await begin(fhir_client), 0
    for end in (10, MB + 3, 2 * MB):
        await cut_off(server, fhir_client, path, at, DOCUMENT[at:end])
        at = await offset(fhir_client, path)
        assert at == end
    assert (await append(fhir_client, path, at, DOCUMENT[at:])).status_code == 204


async def test_an_upload_may_begin_with_its_first_bytes(fhir_client: httpx.AsyncClient) -> None:
    """creation-with-upload: a small document needs one request; an empty one, too."""
    for content in (b"small", b""):
        headers = {
            **OFFSET_STREAM,
            "upload-length": str(len(content)),
            "upload-metadata": metadata(filetype="text/plain"),
        }
        answer = await fhir_client.post(START, content=content, headers=headers)
        assert (answer.status_code, answer.headers["upload-offset"]) == (201, str(len(content)))
        assert (await fhir_client.get(answer.headers["content-location"])).content == content


async def test_an_upload_may_replace_a_binary_and_be_protected(
    fhir_client: httpx.AsyncClient, client_with: Make
) -> None:
    """`id` in the metadata makes it an update, X-Security-Context says what protects it."""
    await keep(fhir_client, patient("p"), document_reference("p", id="d"))
    await fhir_client.put("/fhir/Binary/b", content=b"old", headers={"content-type": "text/plain"})
    headers = {
        **OFFSET_STREAM,
        "upload-length": "3",
        "upload-metadata": metadata(filetype="text/plain", id="b"),
        "x-security-context": "DocumentReference/d",
    }
    creator = await client_with("system/Binary.cr")
    assert (await creator.http.post(START, content=b"new", headers=headers)).status_code == 403
    answer = await fhir_client.post(START, content=b"new", headers=headers)
    assert answer.headers["content-location"] == "http://test/fhir/Binary/b/_history/2"
    assert (await fhir_client.get("/fhir/Binary/b")).content == b"new"
    assert (await creator.http.get("/fhir/Binary/b")).status_code == 404


async def test_an_upload_is_its_owners(fhir_client: httpx.AsyncClient, client_with: Make) -> None:
    """Nobody else learns that it is there, and none of his requests touches it."""
    path = await begin(fhir_client)
    other = await client_with("system/Binary.cruds")
    never = START + "/" + "0" * 32
    for name in (path, never):
        answers = [
            await other.http.get(name, headers=TUS),
            await append(other.http, name, 0, DOCUMENT),
            await other.http.delete(name, headers=TUS),
        ]
        assert [(one.status_code, codes(one)) for one in answers] == [(404, ["not-found"])] * 3
    assert await offset(fhir_client, path) == 0


async def test_what_does_not_fit_is_refused(fhir_client: httpx.AsyncClient, client_with: Make) -> None:
    """Each with its status, and Tus-Resumable; what is there stays as it is."""
    path = await begin(fhir_client, 10)
    assert (await append(fhir_client, path, 0, b"12345")).status_code == 204
    refused = [
        (409, await append(fhir_client, path, 3, b"45")),
        (413, await append(fhir_client, path, 5, b"6789012")),
        (415, await fhir_client.patch(path, content=b"6", headers={**TUS, "upload-offset": "5"})),
        (400, await fhir_client.patch(path, content=b"6", headers=OFFSET_STREAM)),
        (412, await fhir_client.head(path)),
        (400, await fhir_client.post(START, headers=TUS)),
        (400, await fhir_client.post(START, headers={**TUS, "upload-length": "5"})),
        (413, await fhir_client.post(START, headers={**TUS, "upload-length": str(10**15)})),
        (
            422,
            await fhir_client.post(
                START,
                headers={
                    **TUS,
                    "upload-length": "5",
                    "x-security-context": "x",
                    "upload-metadata": metadata(filetype="a/b"),
                },
            ),
        ),
    ]
    assert [answer.status_code for _, answer in refused] == [status for status, _ in refused]
    assert {answer.headers["tus-resumable"] for _, answer in refused} == {"1.0.0"}
    assert await offset(fhir_client, path) == 5
    reader = await client_with("system/Binary.r")
    assert (await reader.http.post(START, headers={**TUS, "upload-length": "5"})).status_code == 403
    assert (await fhir_client.delete(path, headers=TUS)).status_code == 204
    assert (await fhir_client.head(path, headers=TUS)).status_code == 404


async def test_two_requests_do_not_write_one_upload(fhir_client: httpx.AsyncClient) -> None:
    """The second is 409, and the first goes on undisturbed."""
    path = await begin(fhir_client, 10)
    half, rest = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"12345"
        half.set()
        await rest.wait()
        yield b"67890"

    first = asyncio.create_task(append(fhir_client, path, 0, slowly()))
    await half.wait()
    assert (await append(fhir_client, path, 0, b"xxxxx")).status_code == 409
    rest.set()
    assert (await first).headers["upload-offset"] == "10"


async def test_uploads_are_few_and_expire(
    fhir_client: httpx.AsyncClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty per client; what has expired is gone, with its bytes, at the next one."""
    monkeypatch.setattr(uploads, "ABANDONED_SECONDS", -1.0)
    paths = [await begin(fhir_client, 10) for _ in range(20)]
    await append(fhir_client, paths[0], 0, b"12345")
    full = await fhir_client.post(
        START, headers={**TUS, "upload-length": "5", "upload-metadata": metadata(filetype="a/b")}
    )
    assert (full.status_code, codes(full)) == (429, ["throttled"])
    await server.rows("update upload set expires = now() - interval '1 second'")
    assert (await fhir_client.head(paths[0], headers=TUS)).status_code == 404
    await begin(fhir_client, 10)
    assert await server.rows("select count(*) from upload") == [(1,)]
    assert list((server.settings.data / "uploads").iterdir()) == []


async def test_what_of_tus_this_server_does(anonymous: httpx.AsyncClient, server: Server) -> None:
    """Asked with OPTIONS, by anybody; told by the CapabilityStatement too."""
    answer = await anonymous.options(START)
    assert (answer.status_code, answer.headers["tus-version"]) == (204, "1.0.0")
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "expiration",
        "termination",
    }
    assert answer.headers["tus-max-size"] == str(server.settings.max_binary_mb * MB)
    (rest,) = (await anonymous.get("/fhir/metadata")).json()["rest"]
    offered = {one["type"]: [op["name"] for op in one.get("operation", [])] for one in rest["resource"]}
    assert [name for name, operations in offered.items() if "upload" in operations] == ["Binary"]


@contextlib.contextmanager
def serving_aside(settings: Settings) -> Generator[tuple[str, "subprocess.Popen[bytes]"]]:
    """`dmst-fhir serve` as a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "DMST_FHIR_POSTGRES": secret(settings.postgres) or "",
        "DMST_FHIR_REDIS": secret(settings.redis) or "",
        "DMST_FHIR_BASE_URL": f"http://127.0.0.1:{port}/fhir",
    }
    command = [sys.executable, "-m", "fhir_server", "serve", "--data", str(settings.data), "--port", str(port)]
    with subprocess.Popen(
        command, env=environment, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


async def test_an_upload_goes_on_after_its_server_was_killed(settings: Settings) -> None:
    """kill -9 in the middle of 60 MB: the offset is what was flushed, and the document is whole at the end."""
    document = os.urandom(60 * MB)
    database = Database(secret(settings.postgres) or "", connections=2, statement_timeout_ms=15_000)
    clients = Clients(database)
    client_id, _ = await clients.add("uploader", EVERYTHING, "external-system")
    token, _ = await clients.give_token(client_id, EVERYTHING, 15)
    bearer = {"authorization": f"Bearer {token}"}
    with serving_aside(settings) as (base, process):

        async def until_killed() -> AsyncIterator[bytes]:
            for start in range(0, 40 * MB, MB):
                yield document[start : start + MB]
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGKILL)
            await asyncio.sleep(0.5)
            yield document[40 * MB :]

        async with httpx.AsyncClient(base_url=base, headers=bearer, timeout=60) as client:
            path = (await begin(client, len(document))).removeprefix(base)
            with pytest.raises(httpx.TransportError):
                await append(client, path, 0, until_killed())
    with serving_aside(settings) as (base, _):
        async with httpx.AsyncClient(base_url=base, headers=bearer, timeout=60) as client:
            at = await offset(client, path)
            assert 32 * MB <= at <= 40 * MB
            done = await append(client, path, at, document[at:])
            assert done.status_code == 204, done.text
            read = await client.get(done.headers["content-location"])
            assert hashlib.sha256(read.content).digest() == hashlib.sha256(document).digest()
    await database.close()


async def test_an_upload_that_was_whole_when_its_server_died_is_written_when_asked_for(
    fhir_client: httpx.AsyncClient, server: Server
) -> None:
    """Between the last byte and the Binary: HEAD does not say that all is there before it is."""
    path = await begin(fhir_client, 5)
    (server.settings.data / "uploads" / path.rpartition("/")[2]).write_bytes(b"whole")
    await server.rows("update upload set received = 5")
    answer = await fhir_client.head(path, headers=TUS)
    assert answer.headers["upload-offset"] == "5"
    assert (await fhir_client.get(answer.headers["content-location"])).content == b"whole"
    assert (await fhir_client.head(path, headers=TUS)).headers["content-location"] == answer.headers["content-location"]
