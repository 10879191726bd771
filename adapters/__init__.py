"""The outside parties: each adapter by the name that a `[[recipient]]` table gives it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from adapters import depot, loopback, sante_travail
from fhir_server.ports import Adapter

Factory = Callable[[Mapping[str, Any], Path], Adapter]

ADAPTERS: Final[Mapping[str, Factory]] = {
    "depot": depot.make,
    "loopback": loopback.make,
    "sante_travail": sante_travail.make,
}
