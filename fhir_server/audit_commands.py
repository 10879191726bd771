"""What the commands `dmst-fhir audit` do: verify the trail, hand it out."""

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import orjson

from fhir_server.app import Parts, read_audit_trust
from fhir_server.outcomes import BadParameter
from fhir_server.r4.index_values import period_of
from fhir_server.records import trail_export, trail_verify
from fhir_server.records.trail_export import Export, Signature
from fhir_server.records.trail_verify import Question, Report
from fhir_server.store.access_log import BEGINNING, CIRCUMSTANCES, END, Wanted


async def verify(parts: Parts, low: str | None, high: str | None, holds: Sequence[str]) -> Report:
    """The trail against its seals. Raises BadParameter, Unavailable."""
    settings = parts.settings
    question = Question(
        low=_moment(low, "--from", 0) if low else None,
        high=_moment(high, "--to", 1) if high else None,
        trust=read_audit_trust(settings),
        every=timedelta(hours=settings.audit_anchor_hours) if settings.audit_tsa else None,
        holds=[_noted(one) for one in holds],
    )
    return await trail_verify.verify(parts.seals, question)


def render(report: Report) -> bytes:
    """The report as JSON; digests in hexadecimal."""
    found: dict[str, Any] = asdict(report)
    if report.newest:
        found["newest"] = {"number": report.newest.number, "digest": report.newest.digest.hex()}
    return orjson.dumps(found, option=orjson.OPT_INDENT_2)


async def export(
    parts: Parts,
    output: Path,
    *,
    patient_id: str | None,
    professional: str | None,
    circumstance: str | None,
    low: str | None,
    high: str | None,
    form: str,
    signed: bool,
    by: str | None,
) -> bytes:
    """Write the accesses that are wanted; returns the account of it (JSON). Raises BadParameter, Unavailable."""
    if form not in trail_export.FORMS:
        raise BadParameter(f"--format is one of {', '.join(trail_export.FORMS)}")
    if circumstance not in (None, *CIRCUMSTANCES):
        raise BadParameter(f"--circumstance is one of {', '.join(CIRCUMSTANCES)}")
    wanted = Wanted(
        patient_id=patient_id,
        professional=professional,
        circumstance=circumstance,
        low=_moment(low, "--from", 0) if low else BEGINNING,
        high=_moment(high, "--to", 1) if high else END,
    )
    asked = Export(wanted, cast(trail_export.Form, form), output, by or getpass.getuser())
    return await trail_export.export(parts.archive.accesses, parts.seals, asked, _signature(parts) if signed else None)


def _signature(parts: Parts) -> Signature:
    certificate, key = parts.settings.audit_export_certificate, parts.settings.audit_export_key
    if certificate is None or key is None:
        raise BadParameter(
            "An export is signed: set DMST_FHIR_AUDIT_EXPORT_CERTIFICATE and DMST_FHIR_AUDIT_EXPORT_KEY,"
            " or say --unsigned"
        )
    try:
        return trail_export.read_signature(certificate.read_bytes(), key.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise BadParameter(
            "DMST_FHIR_AUDIT_EXPORT_CERTIFICATE or DMST_FHIR_AUDIT_EXPORT_KEY cannot be read, or do not belong together"
        ) from error


def _moment(text: str, option: str, bound: int) -> datetime:
    """The beginning (0) or the end (1) of a day, a month, a moment."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=period_of(text)[bound])
    except ValueError:
        raise BadParameter(f"{option} is a date such as 2026-01-31 or a moment with its offset") from None


def _noted(text: str) -> tuple[int, bytes]:
    number, _, digest = text.partition(":")
    try:
        return int(number), bytes.fromhex(digest)
    except ValueError:
        raise BadParameter("--holds is NUMBER:SHA256, as verify prints the newest seal") from None
