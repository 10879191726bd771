"""TerminologyCapabilities: what the operations of terminology can do, beside the CapabilityStatement.

https://hl7.org/fhir/R4/terminologycapabilities.html - anybody may read it, so it lists none of the code systems that
are kept: those are found by a search.
"""

from functools import lru_cache
from importlib.metadata import version
from typing import Final

import orjson

from fhir_server.rest.operations.expand import PARAMETERS

PUBLISHED: Final = "2026-11-22"
TEXT_FILTER: Final = (
    "Each word that is typed begins a word of the code, or of one name of it in any language; case and accents do not"
    " matter"
)


@lru_cache(maxsize=1)
def terminology_capabilities(base: str) -> bytes:
    """The resource; `base` is the FHIR base as clients see it."""
    known = [name for name, parameter in PARAMETERS.items() if not parameter.refused]
    return orjson.dumps(
        {
            "resourceType": "TerminologyCapabilities",
            "status": "active",
            "date": PUBLISHED,
            "kind": "instance",
            "software": {"name": "dmst-fhir", "version": version("dmst-fhir")},
            "implementation": {"description": "Interoperability server of scanned DMST", "url": base},
            "lockedDate": True,
            "expansion": {
                "hierarchical": False,
                "paging": True,
                "incomplete": True,
                "parameter": [{"name": name} for name in known],
                "textFilter": TEXT_FILTER,
            },
            "codeSearch": "explicit",
            "validateCode": {"translations": True},
            "translation": {"needsMap": False},
        }
    )
