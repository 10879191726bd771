"""Failures are a closed family, and speak R4: https://hl7.org/fhir/R4/valueset-issue-type.html"""

import ast
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import orjson
import pytest

from fhir_server import outcomes
from fhir_server.outcomes import Failure, InvalidResource, Issue, NotFound
from fhir_server.r4 import structure
from fhir_server.rest.http import failure_answer, outcome, surprise_answer

ROOT = Path(__file__).parents[1]
# fmt: off
ISSUE_TYPES = frozenset({
    "invalid", "structure", "required", "value", "invariant", "security", "login", "unknown", "expired",
    "forbidden", "suppressed", "processing", "not-supported", "duplicate", "multiple-matches", "not-found",
    "deleted", "too-long", "code-invalid", "extension", "too-costly", "business-rule", "conflict", "transient",
    "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled", "informational",
})
# fmt: on
SOURCES = sorted(file for folder in ("fhir_server", "adapters") for file in (ROOT / folder).rglob("*.py"))


def family(of: type[Failure] = Failure) -> Iterator[type[Failure]]:
    yield of
    for kind in of.__subclasses__():
        if kind.__module__ == outcomes.__name__:
            yield from family(kind)


def test_r4_has_31_issue_types() -> None:
    """So the list above is the whole of it."""
    assert len(ISSUE_TYPES) == 31


@pytest.mark.parametrize("kind", list(family()))
def test_every_failure_has_a_status_and_a_code_of_r4(kind: type[Failure]) -> None:
    """And says what it is where nobody said more."""
    assert kind.code in ISSUE_TYPES
    assert 400 <= HTTPStatus(kind.status) < 600
    failure = kind()
    assert failure.diagnostics
    assert [(issue.severity, issue.code) for issue in failure.issues] == [("error", kind.code)]


def codes_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, code) of every literal `Issue(severity, code, ...)` and `code = "..."` of a failure class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Issue":
            code = (
                node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "code"), None)
            )
            if isinstance(code, ast.Constant):
                yield node.lineno, str(code.value)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_code_written_in_the_source_is_one_of_r4(source: Path) -> None:
    """No code is invented in passing."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    assert [(line, code) for line, code in codes_in(tree) if code not in ISSUE_TYPES] == []


def test_the_search_for_codes_finds_them() -> None:
    """A check that sees nothing would be green for ever."""
    found = {code for source in SOURCES for _, code in codes_in(ast.parse(source.read_text(encoding="utf-8")))}
    assert {"not-found", "not-supported", "duplicate", "informational"} <= found


def test_no_failure_is_defined_elsewhere() -> None:
    """The family is closed: who adds a kind adds it here."""
    for kind in Failure.__subclasses__():
        assert kind.__module__ == outcomes.__name__


@pytest.mark.parametrize("kind", list(family()))
def test_every_failure_becomes_a_valid_operation_outcome(kind: type[Failure]) -> None:
    """With its status."""
    answer = failure_answer(kind("why", expression="Patient.name"))
    assert isinstance(answer.body, bytes)
    resource = orjson.loads(answer.body)
    assert structure.check(resource) == []
    assert answer.status == kind.status
    assert resource["issue"] == [
        {"severity": "error", "code": kind.code, "diagnostics": "why", "expression": ["Patient.name"]}
    ]


def test_all_faults_are_in_the_outcome() -> None:
    """One issue each, in their order."""
    faults = [Issue("error", "value", "a", "Patient.a"), Issue("error", "required", "b")]
    assert outcome(InvalidResource(issues=faults).issues)["issue"] == [
        {"severity": "error", "code": "value", "diagnostics": "a", "expression": ["Patient.a"]},
        {"severity": "error", "code": "required", "diagnostics": "b"},
    ]


def test_who_may_come_again_is_told_when() -> None:
    """429 and 503 carry Retry-After, 401 its challenge, others neither."""
    for kind in family():
        names = {name for name, _ in failure_answer(kind()).headers}
        assert (b"retry-after" in names) == (kind.status in (429, 503)), kind
        assert (b"www-authenticate" in names) == (kind.status == 401), kind


def test_a_surprise_tells_a_number_and_nothing_else() -> None:
    """Our bugs are ours."""
    answer = surprise_answer("r-7")
    assert isinstance(answer.body, bytes)
    (issue,) = orjson.loads(answer.body)["issue"]
    assert (answer.status, issue["severity"], issue["code"]) == (500, "fatal", "exception")
    assert "r-7" in issue["diagnostics"]


def test_a_failure_is_caught_by_its_family() -> None:
    """One handler renders them all."""
    with pytest.raises(Failure):
        raise NotFound
