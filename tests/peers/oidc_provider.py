"""OpenID Connect providers on loopback: a real one, made of Authlib, and one that looks like Pro Santé Connect.

Both insist on PKCE. The second follows the discovery document of the wallet (`wallet-openid-configuration`):
authorization and tokens at different places, `acr_values=eidas1`, `scope_all`, the identity in userinfo, secrets in
the form.
"""

import base64
import contextlib
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, grants
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode
from flask import Flask, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.oauth import Publisher, Reply, Signer, key_set, publishing, signer

CLIENT_ID, SECRET = "dmst-console", "s3cret-of-the-console"
CALLBACK = "https://test/login/callback"


@dataclass
class Client(ClientMixin):
    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> str:
        return CALLBACK

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == CALLBACK

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, SECRET)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class Code(AuthorizationCodeMixin):
    code: str
    scope: str
    redirect_uri: str
    nonce: str
    code_challenge: str
    code_challenge_method: str
    auth_time: int
    claims: dict[str, Any]

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.auth_time

    def get_acr(self) -> str | None:
        return self.claims.get("acr")

    def get_amr(self) -> list[str] | None:
        return self.claims.get("amr")


@dataclass
class Token:
    access_token: str
    claims: dict[str, Any]
    expires_at: float = field(default_factory=lambda: time.time() + 60)

    def is_expired(self) -> bool:
        return time.time() > self.expires_at

    def is_revoked(self) -> bool:
        return False

    def get_scope(self) -> str:
        return "openid"


class OnlyS256(CodeChallenge):
    SUPPORTED_CODE_CHALLENGE_METHOD: ClassVar = ["S256"]

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        super().validate_code_challenge(grant, redirect_uri)
        assert grant.request.payload.data.get("code_challenge"), "required of every client here"


@dataclass
class AuthlibProvider:
    """A person with `claims` who says yes at once; `auth_time` is when he proved who he is."""

    claims: dict[str, Any] = field(default_factory=dict)
    keys: Signer = field(default_factory=lambda: signer("RS256", "authlib"))
    auth_age: int = 0
    url: str = ""
    codes: dict[str, Code] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    left: list[dict[str, str]] = field(default_factory=list)

    def app(self) -> Flask:
        provider = self

        class CodeGrant(grants.AuthorizationCodeGrant):
            TOKEN_ENDPOINT_AUTH_METHODS: ClassVar = ["client_secret_basic"]

            def save_authorization_code(self, code: str, request: Any) -> None:
                data = request.payload.data
                provider.codes[code] = Code(
                    code,
                    request.payload.scope,
                    data["redirect_uri"],
                    data["nonce"],
                    data["code_challenge"],
                    data["code_challenge_method"],
                    int(time.time()) - provider.auth_age,
                    provider.claims,
                )

            def query_authorization_code(self, code: str, client: Client) -> Code | None:
                return provider.codes.get(code)

            def delete_authorization_code(self, authorization_code: Code) -> None:
                del provider.codes[authorization_code.code]

            def authenticate_user(self, authorization_code: Code) -> dict[str, Any]:
                return authorization_code.claims

        class Identity(OpenIDCode):
            def exists_nonce(self, nonce: str, request: Any) -> bool:
                return any(code.nonce == nonce for code in provider.codes.values())

            def resolve_client_private_key(self, client: Client) -> Any:
                return provider.keys.key

            def get_client_algorithm(self, client: Client) -> str:
                return provider.keys.algorithm

            def get_client_claims(self, client: Client) -> dict[str, Any]:
                return {"iss": provider.url}

            def get_encode_header(self, client: Client) -> dict[str, str]:
                return {"alg": provider.keys.algorithm, "kid": provider.keys.kid}

            def generate_user_info(self, user: dict[str, Any], scope: str) -> dict[str, Any]:
                return {"sub": user["sub"]}

        class Known(BearerTokenValidator):
            def authenticate_token(self, token_string: str) -> Token | None:
                return provider.tokens.get(token_string)

        def save_token(token: dict[str, Any], request: Any) -> None:
            provider.tokens[token["access_token"]] = Token(token["access_token"], request.user)

        app = Flask("provider")
        server = AuthorizationServer(
            app, query_client=lambda name: Client() if name == CLIENT_ID else None, save_token=save_token
        )
        server.register_grant(CodeGrant, [Identity(require_nonce=True), OnlyS256(required=True)])
        protected = ResourceProtector()
        protected.register_token_validator(Known())

        @app.get("/.well-known/openid-configuration")
        def described() -> Any:
            return jsonify(
                issuer=provider.url,
                authorization_endpoint=f"{provider.url}/authorize",
                token_endpoint=f"{provider.url}/token",
                userinfo_endpoint=f"{provider.url}/userinfo",
                jwks_uri=f"{provider.url}/jwks",
                end_session_endpoint=f"{provider.url}/leave",
                token_endpoint_auth_methods_supported=["client_secret_basic"],
            )

        @app.get("/jwks")
        def jwks() -> Any:
            return json.loads(key_set(provider.keys))

        @app.get("/authorize")
        def authorize() -> Any:
            grant = server.get_consent_grant(end_user=provider.claims)
            return server.create_authorization_response(grant_user=provider.claims, grant=grant)

        @app.post("/token")
        def token() -> Any:
            return server.create_token_response()

        @app.get("/userinfo")
        def userinfo() -> Any:
            with protected.acquire() as found:
                return jsonify(found.claims)

        @app.get("/leave")
        def leave() -> Any:
            provider.left.append(dict(request.args))
            return jsonify({})

        return app


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def authlib_provider() -> Iterator[AuthlibProvider]:
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # it is on loopback
    provider = AuthlibProvider()
    server = make_server("127.0.0.1", 0, provider.app(), threaded=True, request_handler=_Quiet)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


DOCTOR_OF_PSC = {
    "Secteur_Activite": "SA07^1.2.250.1.71.4.2.4",
    "sub": "f:550dc1c8-d97b-4b1e-ac8c-8eb4471cf9dd:899700218896",
    "SubjectOrganization": "SERVICE DE PREVENTION ET DE SANTE AU TRAVAIL0021889",
    "SubjectOrganizationID": "R10B0000000000",
    "Mode_Acces_Raison": "",
    "preferred_username": "899700218896",
    "given_name": "ROGER",
    "family_name": "DOC0021889",
    "Acces_Regulation_Medicale": "FAUX",
    "UITVersion": "1.0",
    "Palier_Authentification": "APPPRIP3^1.2.250.1.213.1.5.1.1.1",
    "SubjectRole": ["10^1.2.250.1.213.1.1.5.5"],
    "SubjectRefPro": {
        "codeCivilite": "M",
        "exercices": [
            {
                "nomDexercice": "DOC0021889",
                "prenomDexercice": "ROGER",
                "codeProfession": "10",
                "codeCategorieProfessionnelle": "C",
                "codeSavoirFaire": "SM25",
            }
        ],
    },
    "otherIds": [{"identifiant": "899700218896", "origine": "RPPS", "qualite": 1}],
    "PSI_Locale": "1.2.250.1.213.1.3.1.1",
    "SubjectNameID": "899700218896",
}


class ProSanteConnect:
    """The wallet. `id_token` and `userinfo` change what it says, `respond` the parameters of its answer."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.keys = signer("RS256", "psc")
        realm = f"{publisher.url}/auth/realms/esante-wallet"
        self.issuer, openid = realm, f"{realm}/protocol/openid-connect"
        self.discovery = f"{realm}/.well-known/wallet-openid-configuration"
        self.description: dict[str, Any] = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{publisher.url}/wallet/auth",
            "token_endpoint": f"{openid}/token",
            "introspection_endpoint": f"{openid}/token/introspect",
            "userinfo_endpoint": f"{openid}/userinfo",
            "end_session_endpoint": f"{openid}/logout",
            "jwks_uri": f"{openid}/certs",
            "response_types_supported": ["code"],
            "scopes_supported": ["openid", "scope_all"],
            "acr_values_supported": ["eidas1"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "tls_client_auth"],
            "code_challenge_methods_supported": ["plain", "S256"],
        }
        self.describe()
        publisher.publish("/auth/realms/esante-wallet/protocol/openid-connect/certs", key_set(self.keys))
        publisher.replies[urlsplit(self.description["authorization_endpoint"]).path] = self._authorize
        publisher.replies[urlsplit(self.description["token_endpoint"]).path] = self._token
        publisher.replies[urlsplit(self.description["userinfo_endpoint"]).path] = self._userinfo
        self.userinfo: dict[str, Any] = {}
        self.id_token: dict[str, Any] = {}
        self.respond: dict[str, str] = {}
        self.signs_with = self.keys
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: set[str] = set()

    def describe(self, **changes: Any) -> None:
        text = {**self.description, **changes}
        self.publisher.publish("/auth/realms/esante-wallet/.well-known/wallet-openid-configuration", text)

    def _authorize(self, _method: str, path: str, _body: bytes, _headers: Mapping[str, str]) -> Reply:
        asked = {name: value for name, (value,) in parse_qs(urlsplit(path).query).items()}
        right = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": CALLBACK,
            "scope": "openid scope_all",
            "acr_values": "eidas1",
            "code_challenge_method": "S256",
        }
        if any(asked.get(name) != value for name, value in right.items()) or not {"nonce", "state"} <= asked.keys():
            return 400, {}, b"{}"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], "session_state": "x", **self.respond}
        shown = {name: value for name, value in answer.items() if value}
        return 302, {"location": f"{CALLBACK}?{urlencode(shown)}"}, b""

    def _token(self, _method: str, _path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        given = {name: value for name, (value,) in parse_qs(body.decode()).items()}
        asked = self.codes.pop(given.get("code", ""), None)
        digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        good = (
            asked is not None
            and "authorization" not in headers
            and (given.get("client_id"), given.get("client_secret")) == (CLIENT_ID, SECRET)
            and (given.get("grant_type"), given.get("redirect_uri")) == ("authorization_code", CALLBACK)
            and asked["code_challenge"] == challenge
        )
        if not good or asked is None:
            return 400, {"content-type": "application/json"}, b'{"error":"invalid_grant"}'
        access_token = secrets.token_urlsafe(24)
        self.tokens.add(access_token)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "azp": CLIENT_ID,
            "sub": DOCTOR_OF_PSC["sub"],
            "typ": "ID",
            "exp": now + 120,
            "iat": now,
            "auth_time": now,
            "nonce": asked["nonce"],
            "acr": "eidas1",
            "preferred_username": DOCTOR_OF_PSC["preferred_username"],
            **self.id_token,
        }
        told = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": 120,
            "id_token": self.signs_with.sign({name: one for name, one in claims.items() if one is not None}),
        }
        return 200, {"content-type": "application/json"}, json.dumps(told).encode()

    def _userinfo(self, _method: str, _path: str, _body: bytes, headers: Mapping[str, str]) -> Reply:
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return 401, {}, b"{}"
        return 200, {"content-type": "application/json"}, json.dumps({**DOCTOR_OF_PSC, **self.userinfo}).encode()


@contextlib.contextmanager
def pro_sante_connect() -> Iterator[ProSanteConnect]:
    with publishing() as publisher:
        yield ProSanteConnect(publisher)
