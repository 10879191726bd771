"""Both blob stores: a folder, and an S3 service that runs as a process of its own."""

import asyncio
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from fhir_server.ports import BlobStore
from fhir_server.store.blob_keys import BlobKeys
from fhir_server.store.blobs import Blobs
from fhir_server.store.blobs_s3 import connect
from fhir_server.store.blobs_sealed import SealedBlobs
from fhir_server.store.database import Database
from fhir_server.store.master_keys import KeyFile

KEYS = {"access_key": "testing", "secret_key": "testing"}
_buckets = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of the test, its service, and the eyes of its operator."""

    endpoint: str
    name: str
    client: Any

    def objects(self) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def unfinished(self) -> list[str]:
        return [one["Key"] for one in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])]

    def store(self) -> BlobStore:
        blobs = connect(f"s3://{self.name}/dmst", endpoint=self.endpoint, region="us-east-1", **KEYS)
        blobs.open()
        return blobs


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's server: S3 over HTTP, in another process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    """An empty bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id=KEYS["access_key"],
        aws_secret_access_key=KEYS["secret_key"],
        region_name="us-east-1",
    )
    name = f"blobs-{next(_buckets)}"
    client.create_bucket(Bucket=name)
    return Bucket(s3_endpoint, name, client)


@pytest.fixture
def folder_blobs(tmp_path: Path) -> Blobs:
    blobs = Blobs(tmp_path / "blobs")
    blobs.open()
    return blobs


@pytest.fixture
async def keys_database(dsn: str) -> AsyncIterator[Database]:
    """A migrated database for the keys of blobs."""
    database = Database(dsn, connections=4, statement_timeout_ms=15_000)
    yield database
    await database.close()


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    """A place for master keys."""
    return KeyFile(tmp_path / "keys" / "master-keys.json")


@pytest.fixture
async def blob_keys(keys_database: Database, key_file: KeyFile) -> BlobKeys:
    """The keys of blobs, with a first master key."""
    keys = BlobKeys(keys_database, key_file)
    await keys.start(make=True)
    return keys


@pytest.fixture
async def sealed(folder_blobs: Blobs, blob_keys: BlobKeys) -> SealedBlobs:
    """A folder of encrypted blobs."""
    return SealedBlobs(folder_blobs, blob_keys)


@pytest.fixture(params=["folder", "s3", "sealed folder", "sealed s3"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[BlobStore, Callable[[], list[str]]]]:
    """Each blob store, empty, and what lies in it that has no final name."""
    if "s3" in request.param:
        bucket: Bucket = request.getfixturevalue("bucket")
        blobs: BlobStore = await asyncio.to_thread(bucket.store)

        def left() -> list[str]:
            return [*bucket.unfinished(), *(key for key in bucket.objects() if "/incoming/" in key)]
    else:
        blobs = Blobs(tmp_path / "blobs")
        blobs.open()

        def left() -> list[str]:
            return [one.name for one in (tmp_path / "blobs" / "incoming").iterdir()]

    if "sealed" in request.param:
        dsn: str = request.getfixturevalue("dsn")
        database = Database(dsn, connections=4, statement_timeout_ms=15_000)
        keys = BlobKeys(database, KeyFile(tmp_path / "keys" / "master-keys.json"))
        await keys.start(make=True)
        yield SealedBlobs(blobs, keys), left
        await database.close()
    else:
        yield blobs, left


@pytest.fixture
def blobs(store: tuple[BlobStore, object]) -> BlobStore:
    """Each blob store, empty."""
    return store[0]


@pytest.fixture
def leftovers(store: tuple[object, Callable[[], list[str]]]) -> Callable[[], list[str]]:
    """What lies in the store that nobody can read."""
    return store[1]
