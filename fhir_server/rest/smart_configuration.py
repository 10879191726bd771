"""`.well-known/smart-configuration`: how to come to a token, for clients that look it up.

https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html - there is no authorization endpoint here, so none is
named: apps of persons get their tokens from the provider of the service.
"""

from typing import Any, Final

import orjson

from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.oauth.public_keys import ALGORITHMS
from fhir_server.rest.service import Service
from fhir_server.scopes import LETTERS
from fhir_server.settings import Settings

JSON: Final = b"application/json"
A_GRANULAR_ONE: Final = (
    "system/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
)
"""One of those with a search, to say that there are such: `permission-v2` does not tell, and no list could hold all."""


async def smart_configuration(_exchange: Exchange, service: Service) -> Answer:
    return Answer(200, orjson.dumps(document(service.settings)), media_type=JSON)


def document(settings: Settings) -> dict[str, Any]:
    bound = {"tls_client_certificate_bound_access_tokens": True} if settings.certificate_header else {}
    return {
        "token_endpoint": settings.token_url,
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic", "client_secret_post"],
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "grant_types_supported": ["client_credentials"],
        "scopes_supported": [*(f"system/*.{letter}" for letter in LETTERS), A_GRANULAR_ONE],
        "capabilities": ["client-confidential-asymmetric", "client-confidential-symmetric", "permission-v2"],
        **bound,
    }
