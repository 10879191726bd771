"""A client that signs: `private_key_jwt` (RFC 7523) as SMART Backend Services has it.

https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html - the assertion names its client
twice (iss, sub), this token endpoint alone (aud), ends within five minutes (exp), and is taken once (jti).
"""

import hashlib
import time
from dataclasses import dataclass
from typing import Final

from fhir_server.rest.oauth.errors import OAuthError
from fhir_server.rest.oauth.key_source import KeySources
from fhir_server.rest.oauth.public_keys import Key, registered
from fhir_server.rest.oauth.signed import Glimpse, NotGood, audiences, check_times, look, verified
from fhir_server.store.clients import Client, Clients
from fhir_server.store.transient import Transient

TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST: Final = 300.0
LONGEST_JTI: Final = 255
# The same words for an unknown client, an unknown key and a wrong signature: nobody learns which clients there are.
NO_KEY: Final = "no key of this client verifies the assertion"


@dataclass(frozen=True, slots=True)
class Assertions:
    """Takes assertions that are meant for `audience`, the address of the token endpoint."""

    clients: Clients
    transient: Transient
    sources: KeySources
    audience: str

    async def client(self, assertion: str, client_id: str) -> Client:
        """The client that signed; `client_id` is what the request says beside, "" where it does not.

        Raises OAuthError (invalid_client), Unavailable where keys cannot be fetched or replays not be told.
        """
        try:
            seen = look(assertion)
            _check_form(seen, client_id, self.audience)
            now = time.time()
            end = check_times(seen.claims, now, longest=LONGEST)
            client = await self._named(seen)
            key = await self._key(client, seen)
            if client is None or key is None:
                raise NotGood(NO_KEY)
            try:
                verified(assertion, key, seen.algorithm)
            except NotGood:
                raise NotGood(NO_KEY) from None
            await self._once(client, str(seen.text("jti")), end - now)
        except NotGood as fault:
            raise OAuthError(401, "invalid_client", str(fault)) from fault
        return client

    async def _named(self, seen: Glimpse) -> Client | None:
        name = seen.text("iss") or ""
        return await self.clients.find(name) if len(name) <= 64 else None

    async def _key(self, client: Client | None, seen: Glimpse) -> Key | None:
        if client is None:
            return None
        address = seen.header.get("jku")
        if address is not None and address != client.jwks_uri:
            raise NotGood(NO_KEY)
        if client.jwks is not None:
            return registered(client.jwks).fitting(seen.kid, seen.algorithm)
        if client.jwks_uri is not None:
            return await self.sources.at(client.jwks_uri).fitting(seen.kid, seen.algorithm)
        return None

    async def _once(self, client: Client, jti: str, seconds: float) -> None:
        """A jti is remembered as long as its assertion could be used. Raises NotGood the second time."""
        name = hashlib.sha256(f"{client.client_id}\n{jti}".encode()).hexdigest()
        if not await self.transient.first_time(f"jti:{name}", int(seconds) + 2):
            raise NotGood("this jti was used before")


def _check_form(seen: Glimpse, client_id: str, audience: str) -> None:
    """What can be said without knowing the client. Raises NotGood."""
    if not seen.kid:
        raise NotGood("the header names no key (kid)")
    if (seen.type or "JWT").upper() != "JWT":
        raise NotGood("the header has a typ other than JWT")
    issuer = seen.text("iss")
    if not issuer or seen.text("sub") != issuer or client_id not in ("", issuer):
        raise NotGood("iss and sub are both the client_id")
    if audiences(seen.claims) != [audience]:
        raise NotGood(f"aud is not {audience}")
    if not 0 < len(seen.text("jti") or "") <= LONGEST_JTI:
        raise NotGood(f"jti is a text of 1 to {LONGEST_JTI} characters")
