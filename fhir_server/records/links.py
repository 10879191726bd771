"""Links among the entries of a Bundle, and what they become.

https://hl7.org/fhir/R4/http.html#trules, https://hl7.org/fhir/R4/bundle.html#references
"""

import re
from collections.abc import Mapping
from typing import Final

from fhir_server.records.render import with_links

_RESTFUL: Final = re.compile(r"(https?://\S+)/([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})")


class Links:
    """What each name means: `names` are the fullUrls of entries, `resolved` conditional references."""

    def __init__(self, names: Mapping[str, str], resolved: Mapping[str, str]) -> None:
        self._everywhere = {**names, **resolved}
        self._under: dict[str, dict[str, str]] = {}
        for name, target in names.items():
            if parts := _RESTFUL.fullmatch(name):
                self._under.setdefault(parts[1], dict(self._everywhere))[parts[2]] = target

    def in_body(self, body: bytes, full_url: str | None) -> bytes:
        """The document with its links resolved; a relative one is read under the base of the document's own fullUrl."""
        if not self._everywhere:
            return body
        parts = _RESTFUL.fullmatch(full_url) if full_url and self._under else None
        return with_links(body, self._under.get(parts[1], self._everywhere) if parts else self._everywhere)
