"""The List of a scan lot: what the provider handed in. Not a lot de soumission, which is what gets published.

https://hl7.org/fhir/R4/list.html - the lot is nobody's: it has no subject, its entries are the folder Lists.
"""

from collections.abc import Sequence
from datetime import datetime

from mappings.elements import Element, concept, identifier, instant, present, reference
from terminology import systems


def scan_lot_list(
    list_id: str, lot: str, *, received_at: datetime, folder_list_ids: Sequence[str], note: str | None = None
) -> Element:
    """The List of the lot `lot`, with the Lists of the folders attached so far, in the
    order of the manifest.
    """
    return present(
        resourceType="List",
        id=list_id,
        identifier=[identifier(systems.SCAN_LOT, lot)],
        status="current",
        mode="working",
        title=f"Lot de numérisation {lot}",
        code=concept(systems.LIST_TYPE, "scan-lot", "Lot de numérisation"),
        date=instant(received_at),
        note=[{"text": note}] if note else None,
        entry=[{"item": reference(f"List/{folder}")} for folder in folder_list_ids],
    )
