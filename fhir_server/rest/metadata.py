"""CapabilityStatement: what this server does, computed from what runs.

https://hl7.org/fhir/R4/capabilitystatement.html
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final

import orjson

from fhir_server.outcomes import BadParameter
from fhir_server.r4.compartments import COMPARTMENTS
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.r4.search_criterion import searchable
from fhir_server.r4.search_parameters import NOT_DOMAIN, REGISTRY, SearchParameter
from fhir_server.r4.search_system import common_parameters
from fhir_server.r4.summary import subset
from fhir_server.records.sharing.profiles import instantiates, supported
from fhir_server.rest.audit_events import SEARCHABLE as AUDIT_PARAMETERS
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Operation
from fhir_server.rest.patch import JSON_PATCH, XML_PATCH
from fhir_server.rest.read import wanted_part
from fhir_server.rest.service import Service
from fhir_server.rest.terminology_capabilities import terminology_capabilities
from terminology.systems import PIXM_MANAGER

IDENTITY_ACTORS: Final = (PIXM_MANAGER,)
"""The Supplier of PDQm is not claimed: it searches by the mother's maiden name, which R4's own parameters have not."""
PUBLISHED = "2026-11-22"
SECURITY_SERVICE: Final = "http://terminology.hl7.org/CodeSystem/restful-security-service"
SECURITY: Final = ("SMART-on-FHIR", "OAuth")
OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
TYPE_PARAMETER: Final = {
    "name": "_type",
    "type": "special",
    "documentation": "The types to search, with commas between",
}


async def metadata(exchange: Exchange, service: Service) -> Answer:
    """`mode=normative` is answered in full, as R4 allows; `mode=terminology` is another resource."""
    mode = dict(exchange.pairs()).get("mode", "full")
    if mode not in ("full", "normative", "terminology"):
        raise BadParameter("The modes of metadata are full, normative and terminology", expression="mode")
    settings = service.settings
    if mode == "terminology":
        name, statement = "TerminologyCapabilities", terminology_capabilities(service.base)
    else:
        name = "CapabilityStatement"
        statement = _statement(service.base, settings.token_url, settings.update_create, settings.require_if_match)
    wanted = wanted_part(exchange, name)
    return Answer(200, subset(statement, name, wanted) if wanted else statement)


@REGISTRY.cached
def _statement(base: str, token_url: str, update_create: bool, require_if_match: bool) -> bytes:
    # the table lists this interaction too
    from fhir_server.rest.routes import OPERATIONS, SYSTEM_CODES, codes_of, types_together

    together = [name for name in types_together() if name not in NOT_DOMAIN]
    versioning = "versioned-update" if require_if_match else "versioned"
    resources = [
        _resource(name, sorted(codes_of(name)), versioning, update_create) for name in RESOURCE_TYPES if codes_of(name)
    ]
    return orjson.dumps(
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": PUBLISHED,
            "kind": "instance",
            "instantiates": [*instantiates(), *IDENTITY_ACTORS],
            "software": {"name": "dmst-fhir", "version": version("dmst-fhir")},
            "implementation": {"description": "Interoperability server of scanned DMST", "url": base},
            "fhirVersion": "4.0.1",
            "patchFormat": [JSON_PATCH, XML_PATCH, "application/fhir+json", "application/fhir+xml"],
            "format": ["application/fhir+json", "application/fhir+xml", "json", "xml"],
            "rest": [
                {
                    "mode": "server",
                    "security": {
                        "extension": [_oauth_uris(token_url)],
                        "service": [{"coding": [{"system": SECURITY_SERVICE, "code": code}]} for code in SECURITY],
                        "description": "SMART Backend Services, or OAuth 2.0 client credentials with a secret",
                    },
                    "resource": resources,
                    "interaction": [{"code": code} for code in SYSTEM_CODES],
                    "searchParam": [TYPE_PARAMETER, *_parameters(common_parameters(together))],
                    "compartment": [f"http://hl7.org/fhir/CompartmentDefinition/{one.lower()}" for one in COMPARTMENTS],
                    **_operations([one for one in OPERATIONS if "system" in one.levels]),
                }
            ],
        }
    )


def _oauth_uris(token_url: str) -> dict[str, object]:
    """https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html#using-cs - as clients before SMART v2 look it up"""
    return {"url": OAUTH_URIS, "extension": [{"url": "token", "valueUri": token_url}]}


def _operations(operations: Iterable[Operation]) -> dict[str, object]:
    listed = [{"name": one.name[1:], "definition": one.definition} for one in operations]
    return {"operation": listed} if listed else {}


def _parameters(known: Mapping[str, SearchParameter]) -> list[dict[str, str]]:
    return [{"name": code, "definition": one.url, "type": one.type} for code, one in sorted(known.items())]


def _references(name: str) -> list[str]:
    return sorted(code for code, parameter in searchable(name).items() if parameter.type == "reference")


def _referring(name: str) -> list[tuple[str, str]]:
    """The reference parameters of every type that may lead to this one by name."""
    return [
        (source, code)
        for source in RESOURCE_TYPES
        for code in _references(source)
        if name in searchable(source)[code].targets
    ]


def _resource(name: str, codes: list[str], versioning: str, update_create: bool) -> dict[str, object]:
    from fhir_server.rest.routes import operations_of

    if name == "AuditEvent":
        parameters = [
            {"name": code, "definition": url, "type": kind} for code, (kind, url) in sorted(AUDIT_PARAMETERS.items())
        ]
    else:
        parameters = _parameters(searchable(name))
    statement: dict[str, object] = {
        "type": name,
        "interaction": [{"code": code} for code in codes],
        "versioning": versioning,
        "readHistory": "vread" in codes,
        "searchParam": parameters,
    }
    if profiles := supported(name):
        statement["supportedProfile"] = profiles
    if name != "AuditEvent" and "search-type" in codes:
        statement["searchInclude"] = [f"{name}:{code}" for code in (*_references(name), "*")]
        statement["searchRevInclude"] = [f"{source}:{code}" for source, code in _referring(name)]
    if "create" in codes:
        statement |= {
            "conditionalCreate": name != "Binary",
            "conditionalUpdate": name != "Binary",
            "conditionalDelete": "single",
            "conditionalRead": "full-support" if name != "Binary" else "not-match",
            "updateCreate": update_create,
        }
    if name == "AuditEvent":
        statement["versioning"] = "no-version"
    return statement | _operations(operations_of(name))
