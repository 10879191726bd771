"""What tests of tokens share: key pairs, tokens signed with them or forged, and a server that publishes things."""

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_URL = "http://test/oauth2/token"
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


@dataclass(frozen=True)
class Signer:
    """A key pair with its algorithm and its name."""

    key: RSAKey | ECKey
    algorithm: str
    kid: str

    @property
    def public(self) -> dict[str, Any]:
        return {**self.key.as_dict(private=False), "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token; `header` adds and replaces members, one that is None is left out."""
        full = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **header}
        shown = {name: value for name, value in full.items() if value is not None}
        return jwt.encode(shown, dict(claims), self.key, algorithms=[self.algorithm])


def signer(algorithm: str = "ES384", kid: str = "k1") -> Signer:
    if algorithm in CURVES:
        return Signer(ECKey.generate_key(CURVES[algorithm]), algorithm, kid)
    return Signer(RSAKey.generate_key(2048), algorithm, kid)


def key_set(*signers: Signer) -> str:
    return json.dumps({"keys": [one.public for one in signers]})


def assertion_claims(client_id: str, **changes: Any) -> dict[str, Any]:
    """What an assertion says; a change to None leaves the claim out."""
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": TOKEN_URL,
        "exp": int(time.time()) + 240,
        "jti": secrets.token_hex(16),
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def form(assertion: str, **more: str) -> dict[str, str]:
    """A token request with an assertion."""
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
        **more,
    }


def encoded(part: bytes | Mapping[str, Any]) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(claims: Mapping[str, Any], algorithm: str = "none", **header: Any) -> str:
    """A token that nobody signed."""
    return f"{encoded({'alg': algorithm, 'typ': 'JWT', **header})}.{encoded(claims)}."


def with_public_key_as_secret(claims: Mapping[str, Any], one: Signer) -> str:
    """HS256 whose secret is the PEM of a public key: what a verifier takes that asks the token for its algorithm."""
    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': one.kid})}.{encoded(claims)}"
    secret = one.key.as_pem(private=False)
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Publisher:
    """A server on loopback that answers what it was told, and remembers what it was asked."""

    url: str
    replies: dict[str, Reply | Callable[[str, str, bytes, Mapping[str, str]], Reply]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def publish(self, path: str, text: str | Mapping[str, Any], status: int = 200, **headers: str) -> str:
        body = text if isinstance(text, str) else json.dumps(text)
        self.replies[path] = (status, {"content-type": "application/json", **headers}, body.encode())
        return self.url + path

    def count(self, path: str) -> int:
        return sum(one.partition("?")[0] == path for one in self.asked)


@contextlib.contextmanager
def publishing(tls: ssl.SSLContext | None = None) -> Iterator[Publisher]:
    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            publisher.asked.append(self.path)
            reply = publisher.replies.get(self.path.partition("?")[0], (404, {}, b"{}"))
            if callable(reply):
                reply = reply(self.command, self.path, body, {k.lower(): v for k, v in self.headers.items()})
            status, headers, content = reply
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _reply

        def log_message(self, *_: Any) -> None:
            """Nothing: the tests look at `asked`."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that does not like our certificate leaves; that is a test, not an accident."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    publisher = Publisher(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
