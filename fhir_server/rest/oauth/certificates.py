"""The TLS certificate of whoever is at the other end, and tokens that are bound to it (RFC 8705 section 3).

This server speaks plain HTTP behind a proxy that ends TLS, so the certificate comes in a header, which anybody could
write: it is believed from the proxies of the settings alone. Where the ASGI server itself speaks TLS, the certificate
is in its scope (https://asgi.readthedocs.io/en/latest/specs/tls.html).
"""

import base64
import binascii
import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fhir_server.settings import Settings, listed

log = structlog.get_logger(__name__)

LARGEST = 32_768
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Certificates:
    """Finds certificates in requests. Without `header` they come from the ASGI scope only."""

    header: bytes | None = None
    proxies: tuple[Network, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "Certificates":
        header = settings.certificate_header
        networks = tuple(ipaddress.ip_network(one) for one in listed(settings.trusted_proxies))
        return cls(header.lower().encode("latin-1") if header else None, networks)

    def thumbprint(self, scope: Mapping[str, Any]) -> bytes | None:
        """SHA-256 of the DER of the client's certificate; None where there is none, or nobody who may say so."""
        der = _from_tls(scope) or self._from_header(scope)
        return hashlib.sha256(der).digest() if der else None

    def _from_header(self, scope: Mapping[str, Any]) -> bytes | None:
        if self.header is None:
            return None
        values = [value for name, value in scope.get("headers", ()) if name == self.header]
        if not values:
            return None
        if not self._is_proxy(scope.get("client")):
            log.warning("a client certificate was handed on by somebody who is no trusted proxy")
            return None
        if len(values) > 1 or not values[0]:  # the proxy added its own to one that was there
            return None
        return _der(values[0])

    def _is_proxy(self, client: Any) -> bool:
        try:
            address = ipaddress.ip_address(client[0])
        except (TypeError, ValueError, IndexError):
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address.version == net.version and address in net for net in self.proxies)


def _from_tls(scope: Mapping[str, Any]) -> bytes | None:
    tls = (scope.get("extensions") or {}).get("tls") or {}
    chain = tls.get("client_cert_chain") or ()
    if not chain or tls.get("client_cert_error"):
        return None
    first = next(iter(chain))
    return _der_of_pem(first.encode() if isinstance(first, str) else first)


def _der(value: bytes) -> bytes | None:
    """Of `:base64:` (RFC 9440), of PEM with percent signs (nginx), and of base64 alone (Traefik, HAProxy)."""
    if len(value) > LARGEST:
        return None
    plain = unquote_to_bytes(value) if b"%" in value else value
    if b"-----BEGIN" in plain:
        return _der_of_pem(plain)
    try:
        der = base64.b64decode(b"".join(plain.strip(b": ").split()), validate=True)
        return x509.load_der_x509_certificate(der).public_bytes(Encoding.DER)
    except (binascii.Error, ValueError):
        return None


def _der_of_pem(text: bytes) -> bytes | None:
    try:
        return x509.load_pem_x509_certificate(text).public_bytes(Encoding.DER)
    except ValueError:
        return None
