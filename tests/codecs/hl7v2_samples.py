"""The sample messages of the ANS, where they are at hand."""

from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "hl7v2"


def names(*starts: str) -> list[str]:
    """Of the files, those that begin so."""
    return sorted(file.name for file in SAMPLES.glob("*") if file.name.startswith(starts))


def sample(name: str) -> bytes:
    """Its bytes; the test is skipped where it is not there."""
    if not (SAMPLES / name).exists():
        pytest.skip(f"the ANS sample {name} is not here")
    return (SAMPLES / name).read_bytes()
