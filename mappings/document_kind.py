"""Which kind of DMST paper a DocumentReference is: its coding in our nomenclature, read back.

The counterpart of `mappings.scanned_document.kind_concept`.
"""

from collections.abc import Mapping
from typing import Any

from mappings.nomenclature import DocumentKind, kind_of
from terminology import systems


def kind_of_document(document_reference: Mapping[str, Any]) -> DocumentKind:
    """The kind; DMST-AUTRE (to be qualified) where the document carries no code of ours."""
    for coding in document_reference.get("type", {}).get("coding", []):
        if coding.get("system") == systems.DMST_NOMENCLATURE:
            return kind_of(coding.get("code"))
    return kind_of(None)
