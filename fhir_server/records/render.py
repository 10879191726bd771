"""The bytes that are kept: what was received, with our id, versionId and lastUpdated set in place.

https://hl7.org/fhir/R4/resource.html#Meta - everything else stays byte for byte: decimals, order, escapes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
import orjson

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_LINKS = re.compile(rb'("(reference|url|uri|valueUri|valueUrl|valueUuid|valueOid)"\s*:\s*")((?:[^"\\]|\\.){1,2000})(")')
_DIV_LINKS = re.compile(rb'((?:href|src)=\\")([^"\\]{1,2000})(\\")')


def instant(moment: datetime) -> str:
    """A FHIR instant in UTC with milliseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


@dataclass(frozen=True, slots=True)
class Rendering:
    """A resource but for its version and moment, which `rendering(version, updated)` sets between `head` and `tail`."""

    head: bytes
    tail: bytes

    def __call__(self, version: int, updated: datetime) -> bytes:
        return b'%s%d","lastUpdated":"%s"%s' % (self.head, version, instant(updated).encode(), self.tail)


def renderer(body: bytes, resource_type: str, resource_id: str) -> Rendering:
    """How a resource received as `body` (JSON that was checked before) is kept."""
    members = _decode(body)
    meta = _decode(members.pop("meta")) if "meta" in members else {}
    for ours in ("resourceType", "id"):
        members.pop(ours, None)
    for ours in ("versionId", "lastUpdated"):
        meta.pop(ours, None)
    head = f'{{"resourceType":"{resource_type}","id":"{resource_id}","meta":{{"versionId":"'.encode()
    tail = b"".join(b"," + orjson.dumps(name) + b":" + bytes(value) for name, value in meta.items())
    tail += b"}" + b"".join(b"," + orjson.dumps(name) + b":" + bytes(value) for name, value in members.items()) + b"}"
    return Rendering(head, tail)


def without_member(body: bytes, name: str) -> bytes:
    """The object without one member; the other members keep their bytes."""
    members = _decode(body)
    members.pop(name, None)
    return b"{" + b",".join(orjson.dumps(key) + b":" + bytes(value) for key, value in members.items()) + b"}"


def with_links(body: bytes, targets: Mapping[str, str]) -> bytes:
    """The references and links among the entries of a Bundle replaced by what they became; the rest keeps its bytes.

    `targets` are the names of entries (`urn:uuid:...`, or the URL of a fullUrl) and conditional references
    (`Patient?identifier=...`). https://hl7.org/fhir/R4/http.html#trules - identifiers that look alike stay as they are,
    and so do other URLs than those of a Binary, which may be the canonical name of what an entry defines.
    """

    def replaced(match: re.Match[bytes]) -> bytes:
        before, name, link, after = match.groups()
        text: str = orjson.loads(b'"%s"' % link) if b"\\" in link else link.decode()
        target = targets.get(text)
        if target is None or not (name == b"reference" or text.startswith("urn:") or target.startswith("Binary/")):
            return match[0]
        return before + target.encode() + after

    def in_narrative(match: re.Match[bytes]) -> bytes:
        target = None if b"?" in match[2] else targets.get(match[2].decode())
        return match[1] + target.encode() + match[3] if target else match[0]

    return _DIV_LINKS.sub(in_narrative, _LINKS.sub(replaced, body))
