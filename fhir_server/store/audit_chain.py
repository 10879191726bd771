"""How rows of the trail are sealed: SHA-256 over the seal before, the rows in their order, and what is said of them.

The form is for those who check it with tools of their own (docs/adr/0006): each row and the end of each seal is one
line of JSON without white space as RFC 8785 has it, an array that ends in a newline.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

FORM: Final = "dmst-fhir-audit-seal/1"
GENESIS: Final = bytes(32)
"""What stands for the seal before the first."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Row = Sequence[Any]
"""One row as it is sealed: the columns of the query `rows`, of which the second is its id."""


class Seal(NamedTuple):
    """A seal as it is kept: it closes `rows` rows, from `first_id` to `last_id`."""

    number: int
    first_id: int
    last_id: int
    rows: int
    sealed: datetime
    previous: bytes
    digest: bytes


class Sealing:
    """A seal in the making: rows in the order of their ids, then the end. Holds no row."""

    def __init__(self, tenant: int, previous: bytes) -> None:
        self._tenant = tenant
        self._previous = previous
        self._hash = hashlib.sha256(previous)
        self.rows = 0
        self.first_id = 0
        self.last_id = 0

    def add(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        if not self.rows:
            self.first_id = rows[0][1]
        self.last_id = rows[-1][1]
        self.rows += len(rows)
        self._hash.update(b"".join([orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows]))

    def end(self, number: int, sealed: datetime) -> Seal:
        """The seal of these rows, which is the `number`th, made at `sealed`."""
        moment = (sealed - _EPOCH) // timedelta(microseconds=1)
        said = [FORM, self._tenant, number, self.first_id, self.last_id, self.rows, moment]
        self._hash.update(orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE))
        return Seal(number, self.first_id, self.last_id, self.rows, sealed, self._previous, self._hash.digest())
