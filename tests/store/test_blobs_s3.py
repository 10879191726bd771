"""The blob store on S3: a whole server over it, what an interrupted transfer leaves, a service that is gone."""

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr

from fhir_server.outcomes import StorageFull, Unavailable
from fhir_server.settings import Settings
from fhir_server.store import blobs_s3
from fhir_server.store.blobs_s3 import connect
from tests.store.conftest import KEYS, Bucket
from tests.store.test_blobs import MB, in_pieces
from tests.support import EVERYTHING, serving


async def test_a_server_keeps_its_documents_on_s3(bucket: Bucket, make_settings: Callable[..., Settings]) -> None:
    """Settings alone: `s3://bucket/prefix`, an address and keys. Raw, a part, and as FHIR."""
    settings = make_settings(
        blobs=f"s3://{bucket.name}/dmst",
        s3_endpoint=bucket.endpoint,
        s3_access_key=SecretStr(KEYS["access_key"]),
        s3_secret_key=SecretStr(KEYS["secret_key"]),
    )
    document = os.urandom(10 * MB)
    digest = hashlib.sha256(document).hexdigest()
    async with serving(settings) as server:
        client = (await server.client(EVERYTHING)).http
        made = await client.put("/fhir/Binary/b", content=document, headers={"content-type": "application/pdf"})
        assert made.status_code == 201
        ((address,),) = await server.rows("select address from blob_key where sha256 = decode(%s, 'hex')", digest)
        name = address.hex()
        assert bucket.objects() == [f"dmst/{name[:2]}/{name[2:4]}/{name}"]
        assert name != digest, "sealed bytes have a name of their own"
        assert (await client.get("/fhir/Binary/b")).content == document
        part = await client.get("/fhir/Binary/b", headers={"range": "bytes=-7"})
        assert (part.status_code, part.content) == (206, document[-7:])
        assert (await client.get("/readyz")).json()["blobs"] == "ok"


async def test_a_start_removes_what_was_never_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that was killed had streamed to `incoming/` goes after a day; not what is on its way now."""
    bucket.client.put_object(Bucket=bucket.name, Key="dmst/incoming/half", Body=b"half")
    blob = await bucket.store().put_bytes(b"whole")
    assert len(bucket.objects()) == 2
    monkeypatch.setattr(blobs_s3, "ABANDONED", timedelta(seconds=-60))
    await asyncio.to_thread(bucket.store)
    assert [key.rpartition("/")[2] for key in bucket.objects()] == [blob.sha256.hex()]


async def test_a_service_that_is_gone_is_unavailable() -> None:
    """503, after seconds and not minutes, and nothing of its address in the words. The server starts all the same."""
    gone = connect("s3://bucket/prefix", endpoint="http://127.0.0.1:9", region="us-east-1", **KEYS)
    gone.open()
    assert not await gone.answers()
    for attempt in (gone.put_bytes(b"x"), gone.put(in_pieces(bytes(9 * MB)), largest=16 * MB), gone.size(bytes(32))):
        with pytest.raises(Unavailable) as refused:
            await attempt
        assert "127.0.0.1" not in str(refused.value)


class Full(BaseHTTPRequestHandler):
    """An S3 service without room, as MinIO words it."""

    def do_HEAD(self) -> None:
        self._answer(404, b"")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(507, b"<Error><Code>XMinioStorageFull</Code><Message>full</Message></Error>")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def full_service() -> Iterator[str]:
    """Its address."""
    with HTTPServer(("127.0.0.1", 0), Full) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{service.server_port}"
        service.shutdown()


async def test_a_service_without_room_is_storage_full(full_service: str) -> None:
    """507, as of a full disk: the lot waits, and comes in later."""
    full = connect("s3://bucket/prefix", endpoint=full_service, region="us-east-1", **KEYS)
    with pytest.raises(StorageFull):
        await full.put_bytes(b"x")
