"""The acknowledgement of a lot, its codes, and the page that explains them to the provider."""

import json
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.outcomes import BadSyntax
from fhir_server.scans import acknowledgement as module
from fhir_server.scans.acknowledgement import (
    Acknowledgement,
    Counts,
    FolderResult,
    FolderState,
    RejectCode,
    file_name,
    overall_state,
    parse,
    reject_codes,
    render,
)
from fhir_server.scans.index_file import COLUMNS
from fhir_server.scans.seal import Seal
from fhir_server.scans.unpack import Problem

LOT = "LOT_20261015_C07_0123"
NOON = datetime(2026, 10, 15, 12, tzinfo=UTC)
DOCS = Path(__file__).parents[2] / "docs" / "scan_lot.md"
ACKNOWLEDGEMENT = Acknowledgement(
    lot=LOT,
    received_at=NOON,
    state="partly-accepted",
    seal=Seal("valid", "Numérisation Fictive SA", "2A", NOON, NOON, "Horodatage Fictif"),
    folders=(
        FolderResult("101", "accepted", 2, 5),
        FolderResult("102", "rejected", 1, 3, (Problem("E02", "DOSSIER_102/102_0001.pdf", "altered"),)),
        FolderResult("103", "to-review", 1, 1, (Problem("E11", None, "ambiguous"),)),
    ),
    problems=(Problem("E17", None, "late"),),
)

problems = st.builds(Problem, st.sampled_from(sorted(reject_codes())), st.none() | st.text(), st.text())
results = st.builds(
    FolderResult,
    st.text(),
    st.sampled_from(["accepted", "rejected", "to-review", "already-ingested"]),
    st.integers(0, 99),
    st.integers(0, 999),
    st.lists(problems, max_size=3).map(tuple),
)
moments = st.datetimes(timezones=st.just(UTC))


@given(
    st.builds(
        Acknowledgement,
        st.text(),
        moments,
        st.sampled_from(["accepted", "partly-accepted", "rejected", "already-ingested"]),
        st.builds(
            Seal,
            st.sampled_from(["valid", "absent", "invalid"]),
            *[st.none() | st.text()] * 2,
            *[st.none() | moments] * 2,
            st.none() | st.text(),
            st.lists(st.text()).map(tuple),
        ),
        st.lists(results, max_size=4).map(tuple),
        st.lists(problems, max_size=2).map(tuple),
    )
)
def test_reading_undoes_writing(acknowledgement: Acknowledgement) -> None:
    """A provider's program reads back all that we said."""
    assert parse(render(acknowledgement)) == acknowledgement


def test_the_file_says_what_to_do_and_counts() -> None:
    """Each problem carries the French instruction of its code."""
    tree = json.loads(render(ACKNOWLEDGEMENT))
    assert tree["counts"] == {
        "folders": 3,
        "accepted": 1,
        "rejected": 1,
        "to_review": 1,
        "already_ingested": 0,
        "documents": 4,
        "pages": 9,
    }
    assert set(tree["counts"]) == {field.name for field in fields(Counts)}
    assert "Livrer de nouveau" in tree["folders"][1]["problems"][0]["action_fr"]
    assert file_name(LOT) == "LOT_20261015_C07_0123.ack.json"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "rejected"),
        (["rejected", "rejected"], "rejected"),
        (["accepted", "rejected"], "partly-accepted"),
        (["to-review", "rejected"], "partly-accepted"),
        (["already-ingested", "rejected"], "partly-accepted"),
        (["accepted", "to-review"], "accepted"),
        (["accepted", "already-ingested"], "accepted"),
        (["already-ingested"], "already-ingested"),
    ],
)
def test_the_state_of_the_lot_follows_from_its_folders(states: list[FolderState], expected: str) -> None:
    """A folder to review is in; only a rejected one has to be delivered again."""
    assert overall_state([FolderResult(str(i), state, 1, 1) for i, state in enumerate(states)]) == expected


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b"null", b'{"format": "other"}', b"[" * 10**5])
def test_another_file_is_no_acknowledgement(raw: bytes) -> None:
    """BadSyntax, whatever the bytes."""
    with pytest.raises(BadSyntax):
        _ = parse(raw)


def test_a_state_that_does_not_exist_is_refused() -> None:
    """The states are a closed list."""
    with pytest.raises(BadSyntax):
        _ = parse(render(ACKNOWLEDGEMENT).replace(b'"to-review"', b'"lost"'))


def test_the_codes_are_e01_to_e17_with_every_text() -> None:
    """Data with a source each."""
    codes = reject_codes()
    assert list(codes) == [f"E{number:02d}" for number in range(1, 18)]
    for code in codes.values():
        assert all(getattr(code, field.name) for field in fields(RejectCode))
    assert {code.code for code in codes.values() if code.scope == "lot"} == {"E01", "E17"}


def test_the_page_for_the_provider_lists_all_that_the_code_knows() -> None:
    """Each field of the manifest and of the acknowledgement, each index column, each code with what to do."""
    page = DOCS.read_text(encoding="utf-8")
    for code in reject_codes().values():
        assert f"| {code.code} | {code.label_fr} |" in page
        assert code.action_fr in page
    for column in COLUMNS:
        assert f"| `{column}` |" in page
    for name in _names(json.loads(Path(module.__file__).with_name("manifest.schema.json").read_bytes())):
        assert f"`{name}`" in page, name
    for name in _keys(json.loads(render(ACKNOWLEDGEMENT))):
        assert f"`{name}`" in page, name


def _names(schema: Any) -> set[str]:
    found: set[str] = set()
    if isinstance(schema, dict):
        found |= set(schema.get("properties", {}))
        for value in schema.values():
            found |= _names(value)
    return found


def _keys(tree: Any) -> set[str]:
    if isinstance(tree, dict):
        return set(tree).union(*map(_keys, tree.values()))
    return set().union(*map(_keys, tree)) if isinstance(tree, list) else set()
