"""Links to pages: the query and the place where the page starts, sealed for the one client that may follow it.

A link holds no readable search value, so no INS ends in a proxy's log because of us. AES-256-GCM, bound to
the client by its associated data.
"""

import base64
import binascii
import os

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.outcomes import BadParameter
from fhir_server.store.ordering import Place

NONCE = 12


class PageLinks:
    """Seals and opens the `_cursor` of page links."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, client_id: str, resource_type: str, pairs: list[tuple[str, str]], place: Place | None) -> str:
        nonce = os.urandom(NONCE)
        content = orjson.dumps([resource_type, pairs, list(place) if place else None])
        sealed = nonce + self._cipher.encrypt(nonce, content, client_id.encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, client_id: str, resource_type: str, text: str) -> tuple[list[tuple[str, str]], Place | None]:
        """The pairs and the place. Raises BadParameter when the link is not ours, or somebody else's."""
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            content = self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], client_id.encode())
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise BadParameter("This page link was not made for this client", expression="_cursor") from error
        of_type, pairs, place = orjson.loads(content)
        if of_type != resource_type:
            raise BadParameter("This page link is one of another resource type", expression="_cursor")
        return [(name, value) for name, value in pairs], Place(*place) if place else None
