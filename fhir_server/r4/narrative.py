"""The XHTML that a Narrative may hold: basic formatting, no script, nothing that acts by itself.

https://hl7.org/fhir/R4/narrative.html#xhtml - rules txt-1 and txt-2.
"""

import re
from functools import cache
from html.entities import name2codepoint
from typing import Final
from xml.etree import ElementTree
from xml.parsers import expat

import orjson

from fhir_server.r4.definitions import TABLES

XML: Final = "http://www.w3.org/XML/1998/namespace"
XHTML: Final = "http://www.w3.org/1999/xhtml"

OUTER_DIV: Final = f'<div xmlns="{XHTML}">'
TAG: Final = re.compile("<[A-Za-z][^>]*>")  # tags that close say nothing new
FILLED: Final = re.compile(r">\s*[^<\s]")
DIV: Final = f"{{{XHTML}}}div"
IMAGE: Final = f"{{{XHTML}}}img"
LINKS: Final = frozenset({"href", "src", "longdesc", "cite"})
SCRIPTS: Final = ("javascript:", "vbscript:", "data:text/html")
BLANKS: Final = re.compile(r"[\s\x00-\x1f]+")  # browsers read past them
ENTITY: Final = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
XML_ENTITIES: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})


@cache
def _allowed() -> tuple[frozenset[str], frozenset[str]]:
    """The elements and the attributes of `tables/narrative.json`, as the XML parser names them."""
    table = orjson.loads((TABLES / "narrative.json").read_bytes())
    attributes = (name.replace("xml:", f"{{{XML}}}") for name in table["attributes"])
    return frozenset(f"{{{XHTML}}}{name}" for name in table["elements"]), frozenset(attributes)


def what_is_wrong(div: str) -> str | None:
    """Why this is not a narrative, in a sentence that quotes none of it; None when it is one."""
    text = div.strip()
    if not text.startswith("<div"):  # so no DOCTYPE, and no entity of one's own
        return "must be one XHTML div"
    if "&" in text:
        text = ENTITY.sub(character, text)
    if _is_plain(text):
        return None
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no DOCTYPE can come here
    except (ElementTree.ParseError, ValueError):  # ValueError: a lone surrogate
        return "must be well-formed XHTML"
    tags, attributes = _allowed()
    elements = list(root.iter())
    if root.tag != DIV or not tags.issuperset([element.tag for element in elements]):
        return f"must hold only the basic formatting elements of {XHTML} (txt-1)"
    for element in elements:
        if names := element.keys():
            if not attributes.issuperset(names):
                return "must hold basic formatting attributes only (txt-1)"
            links = (BLANKS.sub("", element.get(name, "")).lower() for name in LINKS.intersection(names))
            if any(link.startswith(SCRIPTS) for link in links):
                return "must not hold a script (txt-1)"
    filled = any(not text.isspace() for text in root.itertext())
    return (
        None
        if filled or any(element.tag == IMAGE for element in elements)
        else "must hold some text or an image (txt-2)"
    )


@cache
def _plain_tags() -> frozenset[str]:
    """The tags, as they are written, that have no attribute; and that of the outer div."""
    names: list[str] = orjson.loads((TABLES / "narrative.json").read_bytes())["elements"]
    return frozenset(f"<{name}{end}" for name in names for end in (">", "/>", " />")) | {OUTER_DIV}


def _is_plain(text: str) -> bool:
    """Whether it is surely a narrative: bare tags in one outer div. Most are, and a tree is not built for them."""
    if not text.startswith(OUTER_DIV) or not FILLED.search(text) or not _plain_tags().issuperset(TAG.findall(text)):
        return False
    try:
        expat.ParserCreate().Parse(text, True)
    except (expat.ExpatError, ValueError):
        return False
    return True


def character(match: re.Match[str]) -> str:
    """HTML's named entities, which XML alone does not know, as the characters that they stand for."""
    name = match.group(1)
    known = name not in XML_ENTITIES and name in name2codepoint
    return chr(name2codepoint[name]) if known else match.group(0)
