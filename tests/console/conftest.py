"""What the tests of the console share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_server.settings import Settings
from tests.console.support import Offices
from tests.console.support import office as working
from tests.peers.oidc_provider import AuthlibProvider, authlib_provider


@pytest.fixture
def people() -> Iterator[AuthlibProvider]:
    """The provider at which persons log in."""
    with authlib_provider() as one:
        yield one


@pytest.fixture
async def office(make_settings: Callable[..., Settings], tmp_path: Path, people: AuthlibProvider) -> Offices:
    """The service, with a register and three folders that wait."""
    async with working(make_settings, tmp_path, people) as one:
        yield one
