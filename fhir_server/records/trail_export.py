"""Accesses of the trail as a file that its reader can check: AuditEvents or CSV, its account, a signature on each.

RFC 5652 (CMS, detached). The export is an access itself: it is in the trail before the first line is written.
"""

import asyncio
import csv
import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Literal

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fhir_server.caller import Caller
from fhir_server.outcomes import Conflict
from fhir_server.r4.resource_types import TYPE_NAME
from fhir_server.records import audit
from fhir_server.records.write import new_id
from fhir_server.scans.seal import PrivateKey, sign
from fhir_server.store.access_log import BEGINNING, END, Access, AccessLog, Wanted
from fhir_server.store.audit_seals import AuditSeals

Form = Literal["ndjson", "csv"]
COLUMNS: Final = (
    "id", "at", "interaction", "outcome", "professional", "client_id", "role", "purpose", "patient", "resource",
    "version", "query", "recipient", "request_id", "circumstance",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Export:
    """Which accesses, in which form, to which file, and who wants them."""

    wanted: Wanted
    form: Form
    output: Path
    by: str


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signs: a certificate with what it chains to, and its key."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey


def read_signature(certificates: bytes, key: bytes) -> Signature:
    """From PEM; the first certificate is that of the key. Raises ValueError or TypeError where it is not so."""
    first, *chain = x509.load_pem_x509_certificates(certificates)
    private = serialization.load_pem_private_key(key, None)
    if not isinstance(private, PrivateKey) or private.public_key() != first.public_key():
        raise ValueError("the key is not that of the certificate, or of another kind")
    return Signature(first, tuple(chain), private)


async def export(accesses: AccessLog, seals: AuditSeals, asked: Export, signature: Signature | None) -> bytes:
    """Write OUTPUT and OUTPUT.account.json, and a detached signature OUTPUT.p7s of each; returns the account.

    Nothing has its final name before everything is written. Raises Conflict where what was written is not what was
    counted, Unavailable.
    """
    caller = Caller("self:audit", "audit", "operator", (), professional=asked.by)
    row = audit.access(
        caller,
        "export",
        new_id(),
        resource_type="AuditEvent",
        patient_id=asked.wanted.patient_id,
        query=_query(asked),
    )
    await accesses.append(row)
    account = asked.output.with_name(f"{asked.output.name}.account.json")
    written = asked.output.with_name(f".{asked.output.name}.part")
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with await asyncio.to_thread(_create, written) as file:
            total, last = await _write(accesses, asked, file)
        told = _account(asked, total, await asyncio.to_thread(_sha256, written), row.request_id)
        newest = await seals.newest()
        told |= {"last": last, "seal": {"number": newest.number, "sha256": newest.digest.hex()} if newest else None}
        content = orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        if signature:
            with written.open("rb") as file:
                _keep(_signed(asked.output), await asyncio.to_thread(_sign, file, signature))
            _keep(_signed(account), await asyncio.to_thread(_sign, content, signature))
        _keep(account, content)
        written.replace(asked.output)
    finally:
        written.unlink(missing_ok=True)
    return content


async def _write(accesses: AccessLog, asked: Export, file: IO[bytes]) -> tuple[int, int | None]:
    """All accesses, oldest first; returns how many and the id of the last. Raises Conflict."""
    line = FORMS[asked.form]
    written, last = 0, None
    if asked.form == "csv":
        file.write(_csv([COLUMNS]))
    async with accesses.export(asked.wanted) as (total, chunks):
        async for chunk in chunks:
            file.write(line(chunk))
            written, last = written + len(chunk), chunk[-1].id
    if written != total:
        raise Conflict(f"{total} rows were counted and {written} written: nothing is handed out")
    file.flush()
    os.fsync(file.fileno())
    return written, last


def _ndjson(chunk: Sequence[Access]) -> bytes:
    return b"".join(orjson.dumps(audit.event_of(one), option=orjson.OPT_APPEND_NEWLINE) for one in chunk)


def _lines(chunk: Sequence[Access]) -> bytes:
    return _csv([_columns(one) for one in chunk])


FORMS: Final[Mapping[Form, Callable[[Sequence[Access]], bytes]]] = {"ndjson": _ndjson, "csv": _lines}


def _columns(found: Access) -> Sequence[object]:
    row = found.row
    resource_type = TYPE_NAME[row.type] if row.type else ""
    resource = f"{resource_type}/{row.resource_id}" if row.resource_id else resource_type
    return (
        found.id, row.at.astimezone(UTC).isoformat(timespec="microseconds"), row.interaction, row.outcome,
        row.professional, row.client_id, row.role, row.purpose, row.patient_id, resource, row.version, row.query,
        row.recipient, row.request_id, row.circumstance,
    )  # fmt: skip


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([[_harmless(value) for value in row] for row in rows])  # RFC 4180
    return text.getvalue().encode()


def _harmless(value: object) -> object:
    """A spreadsheet runs what begins like a formula; what clients sent stands in these columns."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _account(asked: Export, total: int, sha256: str, request_id: str) -> dict[str, object]:
    wanted = asked.wanted
    return {
        "file": asked.output.name,
        "format": asked.form,
        "rows": total,
        "sha256": sha256,
        "patient": wanted.patient_id,
        "professional": wanted.professional,
        "circumstance": wanted.circumstance,
        "from": None if wanted.low == BEGINNING else wanted.low,
        "before": None if wanted.high == END else wanted.high,
        "made": datetime.now(UTC),
        "by": asked.by,
        "request": request_id,
    }


def _query(asked: Export) -> str:
    """What was asked, as the trail keeps it."""
    wanted = asked.wanted
    said = {
        "format": asked.form,
        "professional": wanted.professional,
        "circumstance": wanted.circumstance,
        "from": None if wanted.low == BEGINNING else wanted.low.isoformat(),
        "before": None if wanted.high == END else wanted.high.isoformat(),
    }
    return "&".join(f"{name}={value}" for name, value in said.items() if value)


def _create(path: Path) -> IO[bytes]:
    """For its owner alone: it says who saw whom."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _keep(path: Path, content: bytes) -> None:
    with _create(path) as file:
        file.write(content)


def _signed(path: Path) -> Path:
    return path.with_name(f"{path.name}.p7s")


def _sign(content: bytes | IO[bytes], signature: Signature) -> bytes:
    return sign(content, signature.certificate, signature.key, chain=signature.chain)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
