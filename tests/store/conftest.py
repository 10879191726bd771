"""Both blob stores: a folder, and an S3 service that runs as a process of its own."""

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from fhir_server.ports import BlobStore
from fhir_server.store.blobs import Blobs
from fhir_server.store.blobs_s3 import connect

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


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest) -> tuple[BlobStore, Callable[[], list[str]]]:
    """Each blob store, empty, and what lies in it that has no final name."""
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        return bucket.store(), lambda: [*bucket.unfinished(), *(k for k in bucket.objects() if "/incoming/" in k)]
    folder: Path = request.getfixturevalue("tmp_path")
    blobs: Blobs = request.getfixturevalue("folder_blobs")
    return blobs, lambda: [one.name for one in (folder / "blobs" / "incoming").iterdir()]


@pytest.fixture
def blobs(store: tuple[BlobStore, object]) -> BlobStore:
    """Each blob store, empty."""
    return store[0]


@pytest.fixture
def leftovers(store: tuple[object, Callable[[], list[str]]]) -> Callable[[], list[str]]:
    """What lies in the store that nobody can read."""
    return store[1]
