"""What a grade allows without a human: the table of policy.toml, the strictest line winning. Pure.

RNIV 1 v2.0 and guide d'implementation de l'INS v3.0; identities are received here, so attaching a document
edits no trait and merges nobody.
"""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, cast

from fhir_server.linkage.grade import Grade
from fhir_server.linkage.traits import same_matricule
from terminology.ins import Status, effective_status

Decision = Literal["attach", "review", "review-two-choices", "never"]
LinkDecision = Literal["doublon", "refused", "review"]
Case = Literal["duplicate", "collision"]

_STRICTER: Final[tuple[Decision, ...]] = ("attach", "review", "review-two-choices", "never")


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads((files("fhir_server.identity") / "policy.toml").read_text("utf8"))


def decide(grade: Grade, status: Status, attributes: Iterable[str] = ()) -> Decision:
    """What may be done with a document whose best candidate has this grade, status and attributes.

    A grade of none and an attribute that the table does not know are never attached.
    """
    if grade == "none":
        return "never"
    held = set(attributes)
    table = _table()
    said = [table["status"][effective_status(status, held)][grade]]
    said += [table["attribute"].get(attribute, {}).get(grade, "never") for attribute in held]
    return max(cast("list[Decision]", said), key=_STRICTER.index)


def decide_link(
    status: Status, matricule: str | None, other_status: Status, other_matricule: str | None
) -> LinkDecision:
    """What may be done about two identities of the register that look like one: never anything without a human."""
    table = _table()["link"]
    if matricule and other_matricule:
        if same_matricule(matricule, other_matricule):
            return table["same_ins"]
        if status == other_status == "QUAL":
            return table["both_qualified_other_ins"]
    return table["otherwise"]


def case_for(decision: LinkDecision, grade: Grade, guards: Iterable[str]) -> Case | None:
    """The case that two identities of the register that look like one are worth, so that a person looks at them.

    Two qualified ones with different INS are a collision where nothing but the INS tells them apart: twins are not.
    Where no INS speaks, what a guard forbids or is only possible is left to the report.
    """
    if grade == "none":
        return None
    if decision == "doublon":
        return "duplicate"
    if decision == "refused":
        return "collision" if set(guards) == {"G3-other-matricule"} else None
    return "duplicate" if grade in ("certain", "probable") else None
