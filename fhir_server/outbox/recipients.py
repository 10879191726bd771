"""Who receives documents: the `[[recipient]]` tables of the file that `DMST_FHIR_RECIPIENTS` names."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_server.consent.decide import BY_RECIPIENT
from fhir_server.outcomes import BadSyntax

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


@dataclass(frozen=True, slots=True)
class Recipient:
    """`kind` chooses the rules of consent, `adapter` the code that speaks to it, `options` go to that adapter."""

    name: str
    kind: str
    adapter: str
    options: Mapping[str, Any]


def load(path: Path | None) -> tuple[Recipient, ...]:
    """The recipients of the file, none where no file is named. Raises BadSyntax with what is wrong in it."""
    if path is None:
        return ()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("recipient", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSyntax(f"The file of recipients cannot be read: {error}") from error
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BadSyntax("Recipients are [[recipient]] tables")
    recipients = tuple(_recipient(table) for table in tables)
    names = [recipient.name for recipient in recipients]
    if len(set(names)) != len(names):
        raise BadSyntax("Two recipients have the same name")
    return recipients


def _recipient(table: Mapping[str, Any]) -> Recipient:
    name, kind, adapter = (str(table.get(key, "")) for key in ("name", "kind", "adapter"))
    if not _NAME.fullmatch(name):
        raise BadSyntax("A recipient needs a name of lower-case letters, digits and hyphens")
    if kind not in BY_RECIPIENT:
        raise BadSyntax(f"Recipient {name}: kind must be one of {', '.join(sorted(BY_RECIPIENT))}")
    if not adapter:
        raise BadSyntax(f"Recipient {name}: adapter is missing")
    options = table.get("options", {})
    if not isinstance(options, dict):
        raise BadSyntax(f"Recipient {name}: options is a table")
    return Recipient(name, kind, adapter, options)
