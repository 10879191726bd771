"""Named SQL: every query of the store has a name, a line of purpose, and lives in one of the .sql files here."""

import re
from functools import cache
from importlib import resources

IN_SIGHT = (
    "(({0}.guard & %(hidden)s) = 0 and (%(only)s::bigint is null or {0}.worker = %(only)s or ({0}.guard & 1) <> 0)"
    " and (({0}.guard & 1024) <> 0 or {0}.worker is null or cardinality(%(rights)s::text[]) = 0 or not exists ("
    "select from opposition o where o.worker = {0}.worker and o.exercised = any(%(rights)s)"
    " and o.low <= now() and now() < o.high))"
    " and (%(team)s::text[] is null or ({0}.guard & 1024) <> 0 or {0}.worker is null"
    " or {0}.worker = any(%(lifted)s::bigint[]) or not exists ("
    "select from worker_centre w where w.worker = {0}.worker and w.centre <> all(%(team)s::text[]))))"
    " /* bounds of {0} */"
)
"""What `in_sight(row)` stands for, with the parameters of a `Sight`: the same as `Sight.covers`. The bounds of granular
scopes take the place of the remark (`store.bounds`).
"""
HELD = (
    "array(select o.exercised from opposition o where o.worker = {0}.worker and o.low <= now() and now() < o.high"
    " union all select w.centre from worker_centre w where w.worker = {0}.worker)"
)
"""What `held_of(row)` stands for: what holds of the worker in whose record a resource is."""
KEYED = "('x' || encode(substr(sha256(s.key || int8send({0})), 1, 8), 'hex'))::bit(64)::bigint"
"""What `keyed(k)` stands for: a number under the secret in the row `s` of `server_key`. HMAC (RFC 2104) needs an
extension; here the secret stands before a text of fixed length, to which nothing can be appended.
"""
_SIGHT = re.compile(r"\bin_sight\((\w+)\)")
_HELD = re.compile(r"\bheld_of\((\w+)\)")
_KEYED = re.compile(r"\bkeyed\(([\w.]+)\)")
_HEADING = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(file: str) -> dict[str, bytes]:
    """The queries of `file` (without .sql) by name, as the bytes that psycopg sends.

    A query starts at `-- name: x` and ends at the next one; the lines in between keep their comments.
    `in_sight(r)` is the condition that a row of `resource` is in sight, `held_of(r)` what holds of its worker,
    `keyed(k)` a number under the secret of `s`.
    """
    text = resources.files(__name__).joinpath(f"{file}.sql").read_text(encoding="utf-8")
    for pattern, meaning in ((_SIGHT, IN_SIGHT), (_HELD, HELD), (_KEYED, KEYED)):
        text = pattern.sub(lambda found, meaning=meaning: meaning.format(found[1]), text)
    parts = _HEADING.split(text)[1:]
    return {name: body.strip().encode() for name, body in zip(parts[::2], parts[1::2], strict=True)}
