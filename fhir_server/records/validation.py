"""Is it FHIR R4? Structure, value formats, required codes and base invariants; every fault at once.

https://hl7.org/fhir/R4/validation.html - profiles are not validated here.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from fhir_server.outcomes import BadSyntax, InvalidResource, Issue
from fhir_server.r4.constraints import check_constraints
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.structure import check

MISSHAPEN: Final = frozenset({"structure", "too-costly"})
"""The issue codes of JSON of which no rule can be asked."""


def parse_json(body: bytes) -> dict[str, Any]:
    """The resource of a JSON body. Raises BadSyntax when it is not one JSON object with a resourceType."""
    try:
        resource = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadSyntax(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        raise BadSyntax("The body is not a FHIR resource: no resourceType")
    return resource


def report(resource: Mapping[str, Any]) -> list[Issue]:
    """Everything that is to be said of a resource: what `validate` refuses, and what R4's own rules ask besides.

    A write does not ask the latter: they cost ten times more, and many of them are advice.
    """
    issues = check(resource)
    if all(issue.code not in MISSHAPEN for issue in issues):
        issues += check_constraints(resource)
    profiles = resource.get("meta", {}).get("profile") if isinstance(resource.get("meta"), dict) else None
    if profiles:
        place = f"{resource['resourceType']}.meta.profile"
        issues.append(Issue("warning", "not-supported", "The profiles that it claims were not checked", place))
    return issues


def validate(resource: Mapping[str, Any]) -> None:
    """Raises InvalidResource with every structural fault and its FHIRPath."""
    if resource["resourceType"] not in TYPE_NUMBER:
        raise InvalidResource("The resourceType is not one of R4", expression="resourceType")
    faults = [issue for issue in check(resource) if issue.severity in ("fatal", "error")]
    if faults:
        raise InvalidResource(issues=faults)
