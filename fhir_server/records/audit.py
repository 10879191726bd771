"""One row in the access trail per access or refusal (IHE BALP; art. R4624-45-5 C. trav.).

The row says who, when, what and whose; never a name, a trait or a piece of a document.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, cast
from urllib.parse import parse_qsl, urlencode

from fhir_server.caller import UNTOLD, Caller
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.store.access_log import Access, AccessRow
from mappings.audit_event import Access as AccessFacts
from mappings.audit_event import Interaction, to_audit_event

SUCCESS, REFUSED, FAILED = 0, 4, 8
CONSENT_DECISION: Final = "consent-decision"
LOGIN, LOGOUT, DECLARE_ACCESS = "login", "logout", "declare-access"
SAYS_WHY: Final = frozenset({CONSENT_DECISION, LOGIN, LOGOUT})
_OUTCOMES: Final[dict[int, Literal["0", "4", "8"]]] = {0: "0", 4: "4", 8: "8"}
_IDENTIFYING = frozenset({"identifier", "phone", "email", "telecom", "birthdate", "death-date"})
_ANYTHING = frozenset({"_has", "_filter", "_text", "_content"})  # their values hold those of any parameter


def access(
    caller: Caller | None,
    interaction: str,
    request_id: str,
    *,
    outcome: int = SUCCESS,
    resource_type: str | None = None,
    resource_id: str | None = None,
    version: int | None = None,
    patient_id: str | None = None,
    query: str | None = None,
    recipient: str | None = None,
    at: datetime | None = None,
    circumstance: str | None = None,
) -> AccessRow:
    """The row of one access; `caller` None is somebody who did not say who he is."""
    return AccessRow(
        at or datetime.now(UTC),
        interaction,
        outcome,
        caller.client_id if caller else None,
        caller.role if caller else None,
        caller.purpose if caller else None,
        TYPE_NUMBER.get(resource_type) if resource_type else None,
        resource_id,
        version,
        patient_id,
        query,
        recipient,
        request_id,
        caller.professional if caller else None,
        circumstance,
        caller.standing if caller else UNTOLD,
    )


def consent_decision(
    caller: Caller,
    request_id: str,
    reason: str,
    *,
    permitted: bool,
    resource_type: str,
    resource_id: str,
    patient_id: str,
    recipient: str | None = None,
    at: datetime | None = None,
) -> AccessRow:
    """The row of a decision by consent (IHE BALP AuthZconsent): about which record, and its reason as a code."""
    return access(
        caller,
        CONSENT_DECISION,
        request_id,
        outcome=SUCCESS if permitted else REFUSED,
        resource_type=resource_type,
        resource_id=resource_id,
        patient_id=patient_id,
        query=f"reason={reason}",
        recipient=recipient,
        at=at,
    )


def event_of(found: Access) -> dict[str, object]:
    """The row as an AuditEvent (IHE BALP)."""
    row = found.row
    said = _said(row)
    return to_audit_event(
        AccessFacts(
            id=str(found.id),
            at=row.at,
            interaction=cast(Interaction, row.interaction),
            outcome=_OUTCOMES[row.outcome],
            client_id=row.client_id or "anonymous",
            client_name=row.client_id or "anonymous",
            role=row.role,
            purpose=row.purpose,
            resource_type=TYPE_NAME[row.type] if row.type else None,
            resource_id=row.resource_id,
            version=str(row.version) if row.version else None,
            patient_id=row.patient_id,
            query=None if said else row.query,
            reason=said.get("reason"),
            declared=said.get("declared"),
            repeated=int(said["repeated"]) if "repeated" in said else None,
            request_id=row.request_id,
            recipient=row.recipient,
            user_id=row.professional,
            circumstances=tuple((row.circumstance or "").split()),
        ),
        "dmst-fhir",
    )


def _said(row: AccessRow) -> dict[str, str]:
    """What stands in the place of a query in rows that are of none: `reason=...&repeated=...`, or a text."""
    if row.interaction == DECLARE_ACCESS:
        return {"declared": row.query} if row.query and row.outcome == SUCCESS else dict(parse_qsl(row.query or ""))
    if row.interaction in SAYS_WHY or (row.query or "").startswith("repeated="):
        return dict(parse_qsl(row.query or ""))
    return {}


def query_for_trail(resource_types: Sequence[str], pairs: Iterable[tuple[str, str]]) -> str:
    """A search as the trail may keep it: `***` for values that may say who somebody is (names, identifiers, chains)."""
    kept = [(name, value if all(_may_be_kept(one, name) for one in resource_types) else "***") for name, value in pairs]
    return urlencode(kept, safe="/:,|*")


def _may_be_kept(resource_type: str, name: str) -> bool:
    code, _, modifier = name.partition(":")
    if code.startswith("_"):
        return code not in _ANYTHING
    parameter = parameters_of(resource_type).get(code)  # None where it is a chain
    return (
        parameter is not None
        and not parameter.is_added  # nobody knows what an operator's parameter is about
        and parameter.type != "string"
        and code not in _IDENTIFYING
        and (not modifier or modifier == "not" or modifier in TYPE_NUMBER)
        and "." not in name
    )
