"""The proof of a Consent: a document of the same worker, kept as long as the Consent is.

R4624-45-6 C. trav.: what a worker was told and what he decided is recorded in his DMST (headings 6° and 7°).
https://hl7.org/fhir/R4/consent.html - `source[x]` is the document, or the attachment, that the decision was written in.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import BusinessRule, Conflict, DanglingReference, Issue
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.subjects import patient_in
from fhir_server.store.commit import Written
from fhir_server.store.database import Connection
from fhir_server.store.resources import read_within
from fhir_server.store.retention import holding, referring
from mappings.access_facts import NOT_A_MODEL, access_facts
from mappings.consent import exercises_a_right, proof_of

CONSENT, BINARY, DOCUMENT = (TYPE_NUMBER[name] for name in ("Consent", "Binary", "DocumentReference"))
OVER: Final = frozenset({"inactive", "rejected", "entered-in-error"})
"""A withdrawal is never refused for the sake of a proof."""
_ATTACHMENT: Final = (
    "Name the DocumentReference of the proof in sourceReference: it says whose it is, and keeps its bytes"
)


async def check(connection: Connection, caller: Caller, written: Sequence[Written]) -> None:
    """Raises BusinessRule or DanglingReference where a Consent that was written here has no proof of its worker.

    What the caller does not see looks to him like what is not there.
    """
    for one in written:
        consent: Mapping[str, Any] = orjson.loads(one.doc) if one.type == CONSENT and one.doc else {}
        proof = proof_of(consent) if exercises_a_right(consent) else None
        if proof and consent.get("status") not in OVER:
            await _check_one(connection, caller, consent, *proof)


async def _check_one(
    connection: Connection, caller: Caller, consent: Mapping[str, Any], place: str, named: str
) -> None:
    target = is_local(named)
    if place.startswith("Consent.sourceAttachment"):
        raise BusinessRule(_ATTACHMENT, expression=place)
    if target is None:
        raise BusinessRule("The proof is a document of this server, or an attachment with its data", expression=place)
    found = await read_within(connection, [(TYPE_NUMBER[target[0]], target[1])])
    stored = next((one for one in found if one.doc is not None and one.is_in(caller.sight("r"))), None)
    if stored is None:
        text = f"{target[0]}/{target[1]} does not exist on this server"
        raise DanglingReference(issues=[Issue("error", "not-found", text, f"{place}.reference")])
    resource = orjson.loads(stored.doc or b"{}")
    whose = patient_in(resource)
    if whose is None or f"Patient/{whose}" != consent.get("patient", {}).get("reference"):
        raise BusinessRule("The proof is a document of the same worker", expression=place)
    if stored.type == DOCUMENT and not access_facts(resource).guard & NOT_A_MODEL:
        text = (
            "The employer holds documents of this kind too, and does not learn of it (L4624-8-1): file the proof apart"
        )
        raise BusinessRule(text, expression=place)


async def keep_proofs(connection: Connection, binaries: Iterable[str]) -> None:
    """Raises Conflict where one of these Binaries, which are deleted, holds the proof of a Consent that is there."""
    held = [f"DocumentReference/{one.id}" for one in await holding(connection, binaries, "")]
    if held and any(one.type == CONSENT for one in await referring(connection, held)):
        raise Conflict("These bytes prove a Consent: they stay as long as it does")
