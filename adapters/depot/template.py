"""Templates of a drop folder: text with `{field}` in it. Names of files are made of safe characters only.

Which fields there are is `mappings.drop_index.FIELDS`; a template is checked when the program starts.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from mappings.drop_index import FIELDS, IDENTIFYING

_FIELD = re.compile(r"\{([^{}]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9._-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")
# Windows gives these names to devices, whatever the extension (Naming Files, Paths, and Namespaces)
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
LONGEST_VALUE: Final = 60
LONGEST_NAME: Final = 180


def fault_of(template: str) -> str | None:
    """What is wrong with a template of a value: a field that does not exist, a brace alone. None where nothing is."""
    unknown = sorted(set(_FIELD.findall(template)) - FIELDS)
    if unknown:
        return f"there is no field {', '.join(unknown)}"
    return "braces stand around the name of a field only" if set("{}") & set(_FIELD.sub("", template)) else None


def fault_of_name(template: str, *, identity_allowed: bool) -> str | None:
    """What is wrong with a template of file names; None where nothing is.

    It must hold `delivery_id`: two documents never share a name, and the same delivery always has the same one.
    """
    if fault := fault_of(template):
        return fault
    used = set(_FIELD.findall(template))
    if "delivery_id" not in used:
        return "a file name must hold {delivery_id}, or two documents could share it"
    if "file_name" in used:
        return "a file name cannot hold {file_name}"
    if (identifying := sorted(used & IDENTIFYING)) and not identity_allowed:
        return f"{', '.join(identifying)} in a file name says who the worker is: identity_in_names allows it"
    if not _LITERAL.fullmatch(_FIELD.sub("", template)):
        return "between fields a file name has letters, digits, dots, hyphens and underscores only"
    return None


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with the values in it, as they are."""
    return _FIELD.sub(lambda match: values[match[1]], template)


def file_stem(template: str, values: Mapping[str, str]) -> str:
    """A name without extension: ASCII letters, digits, `.`, `-` and `_`; no hidden file, no folder, no device.

    Raises ValueError where it would be too long.
    """
    stem = filled(template, {name: _safe(value) for name, value in values.items()}).lstrip(".")
    if _DEVICES.fullmatch(stem):
        stem = f"_{stem}"
    if len(stem) > LONGEST_NAME:
        raise ValueError(f"The file name would have more than {LONGEST_NAME} characters")
    return stem


def _safe(value: str) -> str:
    """Accents off, everything else that is not safe becomes one underscore: no dot, so no `..` either."""
    plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode()
    return _UNSAFE.sub("_", plain)[:LONGEST_VALUE]
