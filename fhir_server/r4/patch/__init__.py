"""The three patch formats of R4: a document and a patch as bytes, the changed document as bytes.

https://hl7.org/fhir/R4/http.html#patch

`json_patch` (RFC 6902) and `fhirpath_patch` work on JSON, `xml_patch` (RFC 5261) on XML. All are pure, apply every
operation or none, and leave what no operation touches as it was. Whether the outcome is valid R4 is for the caller.
No error quotes a value: paths are shown without the literals in them.
"""

from collections.abc import Generator
from contextlib import contextmanager

from fhir_server.outcomes import PatchFailed as PatchFailed
from fhir_server.r4.fhirpath.nodes import Misshapen


class Refusal(Exception):
    """Why one operation cannot be done; it never leaves this package."""


@contextmanager
def operation(number: int, kind: str, path: str) -> Generator[None]:
    """Name the operation in hand (counted from 0) in the PatchFailed that a Refusal inside becomes."""
    try:
        yield
    except (Refusal, Misshapen) as refusal:
        raise PatchFailed(f"operation {number} ({kind} {path}): {refusal}") from None
    except RecursionError:
        raise PatchFailed(f"operation {number} ({kind} {path}): the document is nested too deep") from None
