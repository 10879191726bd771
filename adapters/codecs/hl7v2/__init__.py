"""HL7 v2: bytes <-> messages <-> what they say. No sockets (MLLP is transport), no FHIR (that is `mappings/`).

`reading.parse` and `writing.write` know segments; `ack`, `documents_*` and `receipts` know what the ANS means by them.
"""
