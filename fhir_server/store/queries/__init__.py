"""Named SQL: every query of the store has a name, a line of purpose, and lives in one of the .sql files here."""

import re
from functools import cache
from importlib import resources

_HEADING = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(file: str) -> dict[str, bytes]:
    """The queries of `file` (without .sql) by name, as the bytes that psycopg sends.

    A query starts at `-- name: x` and ends at the next one; the lines in between keep their comments.
    """
    text = resources.files(__name__).joinpath(f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEADING.split(text)[1:]
    return {name: body.strip().encode() for name, body in zip(parts[::2], parts[1::2], strict=True)}
