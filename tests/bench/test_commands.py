"""Every bench that is named can be asked for."""

import importlib

import pytest

from bench.__main__ import ALONE, FULL, NAMED


@pytest.mark.parametrize("module", sorted({*NAMED.values(), *(f"bench.{name}" for name in (*ALONE, *FULL))}))
def test_a_bench_has_what_it_needs(module: str) -> None:
    """What it takes from other benches is there, and it can be called."""
    assert callable(importlib.import_module(module).main)
