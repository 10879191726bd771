"""Second opinions on every resource that a mapping builds."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from fhir_server.r4 import structure


@pytest.fixture
def is_r4() -> Callable[[dict[str, Any]], None]:
    """A check that fails unless the resource is R4 for fhir.resources and for our own structure check."""

    def check(resource: dict[str, Any]) -> None:
        kind = resource["resourceType"]
        model = getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
        model.model_validate(resource)
        assert [issue for issue in structure.check(resource) if issue.severity in ("error", "fatal")] == []

    return check
