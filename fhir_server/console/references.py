"""Words for URLs and forms that say nothing to who reads them: what they name is sealed.

The barcode of a folder is the number of a worker, so no path may hold it. AES-SIV (RFC 5297) gives the same word for
the same thing, so that a page has one address; the purpose is bound as associated data.
"""

import base64
import binascii
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from fhir_server.outcomes import NotFound

LONGEST: Final = 1024


class References:
    """Seals under one key of 256 bits."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def seal(self, purpose: str, *parts: str | int | None) -> str:
        """A word for a URL."""
        return _word(self._cipher.encrypt(orjson.dumps(parts), [purpose.encode()]))

    def open(self, purpose: str, word: str) -> list[Any]:
        """What was sealed for this purpose. Raises NotFound for any other word."""
        try:
            if len(word) > LONGEST:
                raise ValueError("no word of ours")
            sealed = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
            if _word(sealed) != word:
                raise ValueError("one thing has one word")
            return orjson.loads(self._cipher.decrypt(sealed, [purpose.encode()]))
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise NotFound("This address was not made here") from error


def _word(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
