"""Resource server of an outside issuer (Keycloak, Pro Santé Connect): its access tokens are good here too.

As JSON Web Tokens (RFC 9068), or asked of the issuer (RFC 7662) where the settings say so. What a token allows is
what it says and what the role of its holder may have, both.
"""

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.outcomes import BadParameter, Unauthenticated
from fhir_server.rest.oauth import roles
from fhir_server.rest.oauth.bearer import Bearer
from fhir_server.rest.oauth.outbound import Outbound
from fhir_server.rest.oauth.provider import Provider
from fhir_server.rest.oauth.roles import RoleTable
from fhir_server.rest.oauth.signed import LARGEST, NotGood, audiences, check_times, look, verified
from fhir_server.settings import Settings, secret

SOURCE: Final = "issuer"
# An ID token, a refresh token and a logout token are signed by the same keys, and open nothing.
TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
UNTOLD_SECONDS: Final = 10.0
"""How long an introspected token is taken for good where the issuer does not say when it ends."""


@dataclass(frozen=True, slots=True)
class Introspection:
    url: str
    client_id: str
    client_secret: str


@dataclass(frozen=True, slots=True)
class Issuer:
    """Accepts what `provider` issued for `audience`: with `introspection` it is asked, else its signature counts."""

    provider: Provider
    audience: str
    table: RoleTable
    outbound: Outbound
    introspection: Introspection | None = None

    async def bearer(self, token: str) -> Bearer:
        """Raises Unauthenticated for a token that is not good, Forbidden for one without a role, Unavailable."""
        try:
            now = time.time()
            claims = await (self._introspected(token) if self.introspection else self._verified(token))
            end = self._checked(claims, now)
            certificate = _certificate(claims)
        except NotGood as fault:
            raise Unauthenticated(f"The access token is refused: {fault}") from None
        caller = self.table.caller(claims, source=SOURCE, asked=_asked(claims))
        return Bearer(caller, end, certificate, self.table.claimed(claims))

    async def _verified(self, token: str) -> Mapping[str, Any]:
        seen = look(token)
        if seen.text("iss") != self.provider.issuer:
            raise NotGood("it is of another issuer")
        if seen.type is not None and seen.type.lower() not in TYPES:
            raise NotGood("it is no access token")
        key = await self.provider.key(seen.kid, seen.algorithm)
        if key is None:
            raise NotGood("its issuer has no key of this name")
        return verified(token, key, seen.algorithm)

    async def _introspected(self, token: str) -> Mapping[str, Any]:
        """RFC 7662 section 2."""
        assert self.introspection
        if len(token) > LARGEST:
            raise NotGood("it is too long")
        form = {"token": token, "token_type_hint": "access_token"}
        auth = (self.introspection.client_id, self.introspection.client_secret)
        status, claims = await self.outbound.post_form(self.introspection.url, form, auth=auth)
        if status != 200 or claims.get("active") is not True:
            raise NotGood("its issuer does not vouch for it")
        if str(claims.get("token_type", "Bearer")).lower() != "bearer":
            raise NotGood("it is no bearer token")
        return {"iss": self.provider.issuer, "exp": time.time() + UNTOLD_SECONDS, **claims}

    def _checked(self, claims: Mapping[str, Any], now: float) -> float:
        """When it ends. Raises NotGood."""
        if claims.get("iss") != self.provider.issuer:
            raise NotGood("it is of another issuer")
        if self.audience not in audiences(claims):
            raise NotGood("it is not meant for this server (aud)")
        if claims.get("typ", "Bearer") != "Bearer" or "at_hash" in claims:  # as Keycloak tells its tokens apart
            raise NotGood("it is no access token")
        return check_times(claims, now)


def _certificate(claims: Mapping[str, Any]) -> bytes | None:
    """SHA-256 of the certificate that must come with it (RFC 8705 section 3.1). Raises NotGood for other bindings."""
    confirmation = claims.get("cnf")
    if confirmation is None:
        return None
    if not isinstance(confirmation, Mapping) or set(confirmation) != {"x5t#S256"}:
        raise NotGood("it is bound to something that this server cannot check (cnf)")
    try:
        text = str(confirmation["x5t#S256"])
        thumbprint = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise NotGood("its cnf is malformed") from error
    if len(thumbprint) != 32:
        raise NotGood("its cnf is malformed")
    return thumbprint


def _asked(claims: Mapping[str, Any]) -> list[str]:
    scope = claims.get("scope", "")
    parts = scope if isinstance(scope, list) else [scope]
    return [one for part in parts if isinstance(part, str) for one in part.split()]


def issuer_of(settings: Settings, outbound: Outbound) -> Issuer | None:
    """The issuer of the settings. Raises BadParameter where they are incomplete."""
    if settings.issuer is None:
        return None
    if settings.issuer_audience is None or settings.issuer_roles is None:
        raise BadParameter("DMST_FHIR_ISSUER needs DMST_FHIR_ISSUER_AUDIENCE and DMST_FHIR_ISSUER_ROLES")
    trusting = outbound.trusting(settings.issuer, settings.issuer_jwks, settings.issuer_introspection)
    introspection = None
    if settings.issuer_introspection:
        client_secret = secret(settings.issuer_client_secret)
        if settings.issuer_client_id is None or client_secret is None:
            raise BadParameter("DMST_FHIR_ISSUER_INTROSPECTION needs DMST_FHIR_ISSUER_CLIENT_ID and its secret")
        introspection = Introspection(settings.issuer_introspection, settings.issuer_client_id, client_secret)
    for url in (settings.issuer, settings.issuer_jwks, settings.issuer_introspection):
        try:
            _ = url and trusting.check(url)
        except ValueError as error:
            raise BadParameter(f"The address of the issuer: {error}") from None
    provider = Provider(trusting, settings.issuer, jwks=settings.issuer_jwks)
    return Issuer(provider, settings.issuer_audience, roles.load(settings.issuer_roles), trusting, introspection)
