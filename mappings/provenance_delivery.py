"""A document left: the Provenance of its transmission (activity `transmit` of ISO 21089).

https://hl7.org/fhir/R4/provenance.html - who sent what to whom, with the SHA-256 of the bytes that went.
"""

from datetime import datetime

from mappings.elements import Element, concept, identifier, in_the_record_of, instant, reference
from terminology import systems


def to_provenance(
    provenance_id: str, *, document_reference_id: str, patient_id: str, recipient: str, sha256: str, at: datetime
) -> Element:
    """`recipient` is the name that the service gives to the party, `sha256` hexadecimal."""
    document = reference(f"DocumentReference/{document_reference_id}")
    return {
        "resourceType": "Provenance",
        "id": provenance_id,
        "extension": in_the_record_of(reference(f"Patient/{patient_id}")),
        "target": [document],
        "occurredDateTime": instant(at),
        "recorded": instant(at),
        "activity": concept(systems.ISO_21089, "transmit"),
        "agent": [
            {
                "type": concept(systems.PROVENANCE_PARTICIPANT, "transmitter"),
                "who": reference(type_="Device", identified=identifier(systems.CLIENT, "dmst-fhir")),
            },
            {
                "role": [concept(systems.PARTICIPATION_TYPE, "IRCP", "information recipient")],
                "who": reference(type_="Organization", identified=identifier(systems.CLIENT, recipient)),
            },
        ],
        "entity": [
            {"role": "source", "what": {**document, "identifier": identifier(systems.SHA256, sha256)}},
        ],
    }
