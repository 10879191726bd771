"""The manifest of a scan lot: what is read, what is refused, and that reading undoes writing."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.outcomes import BusinessRule
from fhir_server.scans import manifest as module
from fhir_server.scans.manifest import (
    EXTENSIONS,
    ListedDocument,
    ListedFile,
    ListedFolder,
    Manifest,
    ManifestRefused,
    parse,
    path_problem,
    render,
)

DAY = datetime(2026, 10, 15, 8, 30, tzinfo=UTC)
SHA = "0" * 64


def _document(barcode: str = "000123456", number: int = 1, **changes: Any) -> ListedDocument:
    document_id = f"{barcode}_{number:04d}"
    document = ListedDocument(
        document_id=document_id,
        file=ListedFile(f"DOSSIER_{barcode}/{document_id}.pdf", 1000, SHA),
        pages=2,
        media_type="application/pdf",
        pdfa="2B",
        dpi=300,
        colour="colour",
        scanned_at=DAY,
        kind="DMST-VISITE",
        dated="1998-03",
    )
    return replace(document, **changes)


def _manifest(*folders: ListedFolder, **changes: Any) -> Manifest:
    folders = folders or (ListedFolder("000123456", "CARTON-7", (_document(),), None),)
    manifest = Manifest(
        lot="LOT_20261015_C07_0123",
        provider="Numérisation Fictive SA",
        provider_siret="12345678200010",
        centre="C07",
        convention="CONV-2026 v2",
        operator="OP-12",
        scanner="Fictif 9000 n° 42",
        started_at=DAY,
        finished_at=DAY + timedelta(hours=2),
        index=ListedFile("index.csv", 10, SHA),
        others=(ListedFile("PV_controle.pdf", 10, SHA),),
        folders=folders,
        pages=sum(document.pages for folder in folders for document in folder.documents),
        blank_pages_dropped=3,
    )
    return replace(manifest, **changes)


def _refusals(raw: bytes) -> dict[str | None, str]:
    with pytest.raises(ManifestRefused) as refused:
        _ = parse(raw)
    return {issue.expression: issue.diagnostics for issue in refused.value.issues}


barcodes = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,12}", fullmatch=True)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(1970, 1, 2), datetime(2999, 1, 1), timezones=offsets)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
lots = st.from_regex(r"LOT_[0-9]{8}_[A-Za-z0-9-]{1,9}_[0-9]{1,6}", fullmatch=True)
dates = st.one_of(
    st.none(),
    st.dates().map(lambda day: day.isoformat()),
    st.dates().map(lambda day: day.isoformat()[:7]),
    st.dates().map(lambda day: day.isoformat()[:4]),
)


@st.composite
def _folders(draw: st.DrawFn, barcode: str, lot: str) -> ListedFolder:
    documents: list[ListedDocument] = []
    for number in range(draw(st.integers(1, 3))):
        media_type = draw(st.sampled_from(sorted(EXTENSIONS)))
        document_id = f"{barcode}_{number}"
        documents.append(
            ListedDocument(
                document_id=document_id,
                file=ListedFile(
                    f"DOSSIER_{barcode}/{document_id}{EXTENSIONS[media_type]}",
                    draw(st.integers(1, 2**40)),
                    draw(digests),
                ),
                pages=draw(st.integers(1, 500)),
                media_type=media_type,
                pdfa=draw(st.sampled_from([None, "1B", "2B", "4"])) if "pdf" in media_type else None,
                dpi=draw(st.none() | st.integers(50, 4800)),
                colour=draw(st.sampled_from([None, "colour", "grey", "bilevel"])),
                scanned_at=draw(instants),
                kind=draw(st.sampled_from([None, "DMST-VISITE"])),
                dated=draw(dates),
            )
        )
    replaced = draw(st.none() | lots.filter(lambda other: other != lot))
    return ListedFolder(barcode, draw(st.none() | texts), tuple(documents), replaced)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    lot = draw(lots)
    names = draw(st.lists(barcodes, min_size=1, max_size=3, unique_by=str.casefold))
    folders = tuple(draw(_folders(barcode, lot)) for barcode in names)
    started, finished = sorted(draw(st.tuples(instants, instants)))
    return _manifest(
        *folders,
        lot=lot,
        provider=draw(texts),
        provider_siret=draw(st.none() | st.from_regex(r"[0-9]{14}", fullmatch=True)),
        operator=draw(texts),
        started_at=started,
        finished_at=finished,
        blank_pages_dropped=draw(st.integers(0, 10**6)),
    )


@given(manifests())
@settings(max_examples=60, deadline=None)
def test_reading_undoes_writing(manifest: Manifest) -> None:
    """Any valid manifest comes back equal from its bytes, and is written the same again."""
    raw = render(manifest)
    assert parse(raw) == manifest
    assert render(parse(raw)) == raw


def test_the_schema_describes_each_field_and_allows_no_other() -> None:
    """The JSON Schema is documentation too: 2020-12, closed objects, a description on each property."""
    schema = json.loads(Path(module.__file__).with_name("manifest.schema.json").read_bytes())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    objects = [schema, schema["properties"]["counts"], *schema["$defs"].values()]
    for entry in objects:
        assert entry["additionalProperties"] is False
        assert all("description" in described for described in entry["properties"].values())
    assert set(schema["$defs"]["document"]["properties"]) == {field.name for field in fields(ListedDocument)}
    assert set(schema["$defs"]["folder"]["properties"]) == {field.name for field in fields(ListedFolder)}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff",
        b"{",
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b'"\\ud800"',
        b"null",
        b'{"lot": "\\ud800"}',
        b"1" * 10_000,
    ],
)
def test_bytes_that_are_no_manifest_are_refused_with_e01(raw: bytes) -> None:
    """Garbage never raises anything else than ManifestRefused."""
    with pytest.raises(ManifestRefused) as refused:
        _ = parse(raw)
    assert isinstance(refused.value, BusinessRule)
    assert refused.value.reject_code == "E01"
    assert refused.value.issues


def test_all_schema_problems_are_told_at_once_without_any_value() -> None:
    """A provider corrects everything in one go, and no value of the manifest leaks into the answer."""
    tree = json.loads(render(_manifest()))
    tree["centre"] = "SECRET VALUE"
    tree["surprise"] = 1
    tree["folders"][0]["documents"][0]["pages"] = "SECRET"
    del tree["operator"]
    told = _refusals(json.dumps(tree).encode())
    assert set(told) == {"manifest", "manifest.centre", "manifest.folders[0].documents[0].pages"}
    assert "SECRET" not in str(told)


def test_all_contradictions_are_told_at_once() -> None:
    """Counts, order of time, dates, paths and repeats are rules that a schema cannot say."""
    tree = json.loads(
        render(
            _manifest(
                ListedFolder("000123456", None, (_document(), _document()), "LOT_20261015_C07_0123"),
                ListedFolder(
                    "000123457",
                    None,
                    (
                        _document("000123457", dated="2001-02-30", media_type="image/png"),
                        _document("000123457", 2, file=ListedFile("../../x.pdf", 0, SHA)),
                    ),
                    None,
                ),
                finished_at=DAY - timedelta(days=1),
                others=(ListedFile("DOSSIER_000123456/x.pdf", 1, SHA), ListedFile("manifest.json", 1, SHA)),
            )
        )
    )
    tree["counts"]["pages"] = 9
    tree["counts"]["documents"] = 1
    told = _refusals(json.dumps(tree).encode())
    assert set(told) == {
        "manifest.counts.pages",
        "manifest.counts.documents",
        "manifest.finished_at",
        "manifest.folders[0].replaces_lot",
        "manifest.folders[0].documents[1].document_id",
        "manifest.folders[0].documents[1].file.path",
        "manifest.folders[1].documents[0].dated",
        "manifest.folders[1].documents[0].pdfa",
        "manifest.folders[1].documents[0].file.path",
        "manifest.folders[1].documents[1].file.path",
        "manifest.folders[1].documents[1].file.size",
        "manifest.others[0].path",
        "manifest.others[1].path",
    }


def test_two_barcodes_that_differ_by_case_only_are_refused() -> None:
    """On Windows they would be one directory."""
    told = _refusals(
        render(
            _manifest(
                ListedFolder("a1", None, (_document("a1"),), None),
                ListedFolder("A1", None, (_document("A1"),), None),
            )
        )
    )
    assert "manifest.folders[1].barcode" in told


def test_a_leap_second_is_refused_as_an_unusable_instant() -> None:
    """RFC 3339 allows it, no clock of ours can hold it."""
    tree = json.loads(render(_manifest()))
    tree["started_at"] = "2016-12-31T23:59:60Z"
    assert set(_refusals(json.dumps(tree).encode())) == {"manifest.started_at"}


def test_a_manifest_wrong_everywhere_gets_a_bounded_answer() -> None:
    """The answer says how many more problems there are rather than list them all."""
    documents = tuple(_document(number=number, dated="2001-02-30") for number in range(500))
    with pytest.raises(ManifestRefused) as refused:
        _ = parse(render(_manifest(ListedFolder("000123456", None, documents, None))))
    assert len(refused.value.issues) == 201
    assert "300 more" in refused.value.issues[-1].diagnostics


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a\\b",
        "C:/x",
        "c:x",
        "a\nb",
        "a\x00",
        "a\x85",
        "a.",
        "a /b",
        "",
    ]
    + ["x" * 256, "\udcff"],
)
def test_a_dangerous_path_is_refused(path: str) -> None:
    """Nothing may point out of the lot or mean another file on another system."""
    assert path_problem(path)


@pytest.mark.parametrize("path", ["index.csv", "DOSSIER_1/1_0001.pdf", "PV contrôle n° 3.pdf", "..a/b"])
def test_an_ordinary_path_is_accepted(path: str) -> None:
    """Accents and spaces are ordinary."""
    assert path_problem(path) is None
