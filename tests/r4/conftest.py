"""The official examples and those of the Personal Health Device guide, where they are at hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"
OFFICIAL = DATA / "fhir-r4" / "examples"
ABSENT = "the R4 examples are not at hand"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `example_file` runs once per JSON example."""
    if "example_file" in metafunc.fixturenames:
        files = sorted(file for folder in (OFFICIAL, DATA / "phd") for file in folder.glob("*.json"))
        absent = [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="absent")]
        metafunc.parametrize("example_file", [pytest.param(file, id=file.name) for file in files] or absent)


@pytest.fixture
def example() -> Callable[[str], dict[str, Any]]:
    """Reads one official example by its file name without ending."""

    def read(name: str) -> dict[str, Any]:
        file = OFFICIAL / f"{name}.json"
        if not file.exists():
            pytest.skip(ABSENT)
        return orjson.loads(file.read_bytes())

    return read
