"""What the stories share: a service on the embedded servers, and a provider with its seal."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import SecretStr

from fhir_server.app import Parts
from fhir_server.scans.seal import DemoAuthority, make_demo_authority
from fhir_server.settings import Settings
from tests.stories.support import Provider, running_service

LOOPBACK = """
[[recipient]]
name = "logiciel-metier"
kind = "logiciel-metier"
adapter = "loopback"

[[recipient]]
name = "dmp"
kind = "dmp"
adapter = "dmp"
"""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> DemoAuthority:
    """The fictitious authority that seals the provider's lots."""
    return make_demo_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trust(authority: DemoAuthority, tmp_path: Path) -> Path:
    path = tmp_path / "trust.pem"
    path.write_bytes(b"".join(root.public_bytes(Encoding.PEM) for root in authority.roots))
    return path


@pytest.fixture
def provider(authority: DemoAuthority, tmp_path: Path) -> Provider:
    folder = tmp_path / "provider"
    folder.mkdir()
    return Provider(authority, folder)


@pytest.fixture
def world(tmp_path: Path, trust: Path, dsn: str, redis_url: str) -> Settings:
    """The settings of a service of its own, with a loopback recipient and the DMP."""
    recipients = tmp_path / "recipients.toml"
    recipients.write_text(LOOPBACK, encoding="utf-8")
    return Settings(
        data=tmp_path / "data",
        postgres=SecretStr(dsn),
        redis=SecretStr(redis_url),
        seal_trust=trust,
        recipients=recipients,
        retry_first_seconds=0.05,
        stalled_seconds=1.0,
        watch_seconds=0.2,
        inspectors=2,
        log_level="error",
    )


@pytest.fixture
async def service(world: Settings) -> AsyncIterator[Parts]:
    async with running_service(world) as parts:
        yield parts
