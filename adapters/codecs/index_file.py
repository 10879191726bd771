"""The index file beside a document: ordered (name, text) pairs <-> CSV, XML or JSON bytes. No sockets, no FHIR.

CSV as RFC 4180 with a separator of choice, one line of names and one of values; XML 1.0, one element per pair;
JSON one object.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - lxml tells no types

FORMATS: Final = ("csv", "xml", "json")
ENCODINGS: Final = ("utf-8", "utf-8-sig", "iso-8859-1", "iso-8859-15", "cp1252")
_ELEMENT = re.compile(r"(?!(?i:xml))[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class IndexFormat:
    """How an index is written. `separator` is for CSV, `root` for XML, `encoding` not for JSON (UTF-8, RFC 8259)."""

    name: str
    separator: str = ";"
    root: str = "document"
    encoding: str = "utf-8"

    def fault(self, names: Mapping[str, str]) -> str | None:
        """What is wrong with this format, or with names that it would have to write; None where nothing is."""
        if self.name not in FORMATS:
            return f"index must be one of {', '.join(FORMATS)}"
        if self.encoding not in ENCODINGS:
            return f"encoding must be one of {', '.join(ENCODINGS)}"
        if len(self.separator) != 1 or self.separator in '"\r\n':
            return "separator is one character, no quotation mark and no end of line"
        if self.name == "xml" and not all(_ELEMENT.fullmatch(name) for name in (self.root, *names)):
            return "root and the names of fields must be names of XML elements, in ASCII"
        return None

    def write(self, fields: Mapping[str, str]) -> bytes:
        """The bytes of an index. ValueError for a value that this format or encoding cannot hold: none is altered."""
        if self.name == "json":
            return orjson.dumps(dict(fields), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        if self.name == "xml":
            return self._xml(fields)
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self.separator, lineterminator="\r\n")
        writer.writerow(fields.keys())
        writer.writerow(fields.values())
        return text.getvalue().encode(self.encoding)  # UnicodeEncodeError is a ValueError

    def _xml(self, fields: Mapping[str, str]) -> bytes:
        """Characters that the encoding lacks become character references, so nothing is lost."""
        root = etree.Element(self.root)
        for name, value in fields.items():
            etree.SubElement(root, name).text = value
        encoding = "utf-8" if self.encoding == "utf-8-sig" else self.encoding
        return etree.tostring(root, xml_declaration=True, encoding=encoding, pretty_print=True)
