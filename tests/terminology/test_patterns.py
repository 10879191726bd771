"""Regular expressions of strangers: they match as a whole, and cannot take long."""

import time

import pytest

from terminology.patterns import LONGEST, matching
from terminology.problems import Incomputable, TooMuch


@pytest.mark.parametrize(
    ("pattern", "matched", "other"),
    [
        ("RG[0-9]+", "RG42", "RG42b"),
        ("J45|J46", "J46", "J460"),
        (r"[^ \t\r\n\f]{4}[0-9]", "code1", "code12"),
        ("A.*", "A00.1", "BA"),
        ("", "", "a"),
        ("Éa", "Éa", "éa"),
        (r"\d+(\.\d+)?", "12.5", "12."),
    ],
)
def test_a_text_matches_as_a_whole(pattern: str, matched: str, other: str) -> None:
    """Not a part of it, nor with a line end behind."""
    matches = matching(pattern, [matched, other])
    assert matches(matched)
    assert not matches(other)
    assert not matches(matched + "\n")


@pytest.mark.parametrize("pattern", ["(a+)+", "((a+)+)+", "(a|a)*b", "(.*)*x", "(a*)*(a*)*(a*)*z"])
def test_a_pattern_that_would_run_away_elsewhere_is_quick(pattern: str) -> None:
    """Linear in the text."""
    text = "a" * 50_000 + "!"
    began = time.perf_counter()
    assert not matching(pattern, [text])(text)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("pattern", ["(", "a)|(b", "(?=a)b", r"(a)\1", "(?x)a #", "*a", "[z-a]"])
def test_what_is_no_pattern_here_is_told(pattern: str) -> None:
    """Unbalanced, or with what needs backtracking."""
    with pytest.raises(Incomputable):
        matching(pattern, [])


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [("a" * (LONGEST + 1), []), ("a{1000}{1000}{1000}", ["aaa"]), ("(.{1,99}x){1,99}", ["code"] * 10_000)],
)
def test_too_much_work_is_refused_before_it_begins(pattern: str, texts: list[str]) -> None:
    """By the length of the pattern, what it repeats, and how much text there is."""
    with pytest.raises(TooMuch):
        matching(pattern, texts)
