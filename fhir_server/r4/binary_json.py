"""A Binary in JSON whose `data` is taken out, and decoded, while it arrives: it is never whole in memory.

https://hl7.org/fhir/R4/binary.html - everything but the data stays as it came, and is parsed and validated as usual.
"""

import json
import re

import pybase64

from fhir_server.outcomes import BadSyntax, InvalidResource, Issue, TooLarge

LARGEST_REST = 256 * 1024
STEP = 64 * 1024
# A token that is not complete is looked at again: not at every byte of a client that sends them one by one.
LEAST_LOOKED_AT = 4096
# A valid base64Binary in the place of the one that was taken out, so that what validates it sees a Binary with data.
PLACEHOLDER = b"AAAA"
_TOKEN = re.compile(rb'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^\s"{}\[\]:,]+(?=[\s"{}\[\]:,]))', re.DOTALL)
_TEXT_BEGINS = re.compile(rb'[ \t\r\n]*"')
_BROKEN_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?$")
_QUANTUM = 4


class DataStream:
    """Fed with the bytes of a JSON document, gives the content of its top-level `data`.

    After `end()`, `rest` is the document with a placeholder as its data, and `found` tells whether there was any. What
    is no JSON is left to whoever parses `rest`.
    """

    def __init__(self) -> None:
        self.found = False
        self._rest = bytearray()
        self._at = 0  # how far its tokens are known
        self._seen = 0  # how long it was when it was looked at
        self._depth = 0
        self._before = b""  # the last token but one, at the top level
        self._last = b""
        self._inside = False
        self._base64 = _Base64()

    def feed(self, chunk: bytes) -> bytes:
        """The content in this chunk. Raises InvalidResource for base64 that is none, BadSyntax, TooLarge."""
        if len(chunk) > STEP:
            return b"".join([self.feed(chunk[at : at + STEP]) for at in range(0, len(chunk), STEP)])
        if self._inside:
            return self._content(chunk)
        self._rest += chunk
        return self._look() if len(self._rest) - self._seen >= LEAST_LOOKED_AT else b""

    def end(self) -> bytes:
        """The content that was still to come. Raises as `feed` does."""
        return b"" if self._inside else self._look()

    def _content(self, chunk: bytes) -> bytes:
        data, quote, after = chunk.partition(b'"')
        content = self._base64.feed(data)
        if quote:
            self._base64.end()
            self._inside = False
            self._last = PLACEHOLDER
            self._rest += (PLACEHOLDER if self._base64.begun else b"") + b'"'
            self._at = len(self._rest)
            self._rest += after
            self._look()  # of data there is no more: a second would be refused
        return content

    @property
    def rest(self) -> bytes:
        return bytes(self._rest)

    def _look(self) -> bytes:
        """Walk over the complete tokens; where the data begins, its content as far as it is here."""
        self._seen = len(self._rest)
        while True:
            if self._depth == 1 and self._last == b":" and _is_data(self._before):
                begins = _TEXT_BEGINS.match(self._rest, self._at)
                if begins:
                    if self.found:
                        raise BadSyntax("The data is there twice", expression="Binary.data")
                    self.found = self._inside = True
                    here = bytes(self._rest[begins.end() :])
                    del self._rest[begins.end() :]
                    return self._content(here)
            token = _TOKEN.match(self._rest, self._at)
            if token is None:
                break
            self._at = token.end()
            self._take(token[1])
        if len(self._rest) > LARGEST_REST:
            raise TooLarge("Of a Binary only the data may be large")
        return b""

    def _take(self, token: bytes) -> None:
        if token in (b"}", b"]"):
            self._depth -= 1
        if self._depth == 1:
            self._before, self._last = self._last, token
        if token in (b"{", b"["):
            self._depth += 1


def _is_data(token: bytes) -> bool:
    """Whether a token is the name `data`, however it is written."""
    if token == b'"data"':
        return True
    try:
        return b"\\" in token and json.loads(token) == "data"
    except ValueError:
        return False


class _Base64:
    """base64 inside a JSON text, decoded piece by piece."""

    def __init__(self) -> None:
        self.begun = False
        self._escape = b""  # an escape that the next piece completes
        self._left = b""  # characters that do not make a quantum yet
        self._padded = False

    def feed(self, piece: bytes) -> bytes:
        self.begun = self.begun or bool(piece)
        if self._escape or b"\\" in piece:
            piece = self._unescaped(self._escape + piece)
        if b" " in piece:
            piece = piece.translate(None, b" ")
        if self._left:
            piece = self._left + piece
        whole = len(piece) - len(piece) % _QUANTUM
        self._left = piece[whole:]
        return self._decoded(piece[:whole] if self._left else piece)

    def end(self) -> None:
        if self._escape or self._left:
            raise _wrong()

    def _decoded(self, quanta: bytes) -> bytes:
        if not quanta:
            return b""
        if self._padded:
            raise _wrong()
        self._padded = quanta.endswith(b"=")
        try:
            return pybase64.b64decode(quanta, validate=True)
        except ValueError:
            raise _wrong() from None

    def _unescaped(self, piece: bytes) -> bytes:
        broken = _BROKEN_ESCAPE.search(piece)
        self._escape = broken[0] if broken else b""
        try:
            text = json.loads(b'"' + piece[: len(piece) - len(self._escape)] + b'"')
        except ValueError:
            raise _wrong() from None
        return "".join(text.split()).encode()


def _wrong() -> InvalidResource:
    return InvalidResource(issues=[Issue("error", "value", "must be base64 (RFC 4648)", "Binary.data")])
