"""The one door and the archive, over each PostgreSQL, without HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fhir_server.records.read import Archive
from fhir_server.records.write import Door
from fhir_server.store.access_log import AccessLog
from fhir_server.store.blobs import Blobs
from fhir_server.store.commit import Commits
from fhir_server.store.custom_parameters import CustomParameters
from fhir_server.store.database import Database
from fhir_server.store.search import Search


@pytest.fixture
async def commits(database: Database) -> AsyncIterator[Commits]:
    commits = Commits(database, CustomParameters(database, pause=5))
    yield commits
    await commits.drain()


@pytest.fixture
def door(commits: Commits) -> Door:
    return Door(commits)


@pytest.fixture
async def archive(database: Database, tmp_path: Path) -> AsyncIterator[Archive]:
    accesses = AccessLog(database, sync=True)
    blobs = Blobs(tmp_path / "blobs")
    blobs.open()
    yield Archive.over(database, Search(database), blobs, accesses)
    await accesses.drain()
