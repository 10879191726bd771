"""Regular expressions of strangers, matched in a time that they cannot blow up.

https://hl7.org/fhir/R4/valueset-filter-operator.html - R4 names no dialect and does not say whether the whole text has
to match; here it has to, as in most terminology servers.

The engine is the one of pydantic (Rust `regex`): it knows no look-around and no back-references, so that its time is
linear in the text, whatever the pattern.
"""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Final

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

from terminology.problems import Incomputable, TooMuch

LONGEST: Final = 500
"""Characters of a pattern."""
MOST_WORK: Final = 2_000_000_000
"""Steps of the engine, at worst: the size of the pattern times the characters that it looks at."""

_REPEATED: Final = re.compile(r"\{(\d*),?(\d*)\}")


def matching(pattern: str, texts: Iterable[str]) -> Callable[[str], bool]:
    """Whether a text matches as a whole, for the `texts` that will be asked. Raises Incomputable, TooMuch."""
    if len(pattern) > LONGEST:
        raise TooMuch(f"A regular expression has at most {LONGEST} characters")
    if _size(pattern) * sum(map(len, texts)) > MOST_WORK:
        raise TooMuch("The regular expression is too large for so many codes")
    _compiled(pattern)  # by itself first: in the brackets below, an unbalanced one would pass
    adapter = _compiled(rf"\A(?:{pattern})\z")

    def matches(text: str) -> bool:
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    return matches


def _size(pattern: str) -> int:
    """The states that the pattern may need: its length, times whatever it repeats."""
    size = len(pattern)
    for numbers in _REPEATED.findall(pattern):
        size *= max([int(number[:9]) for number in numbers if number] or [1]) or 1
    return size


def _compiled(pattern: str) -> TypeAdapter[str]:
    constrained = Annotated[str, StringConstraints(pattern=pattern)]
    try:
        return TypeAdapter(constrained, config=ConfigDict(regex_engine="rust-regex"))
    except Exception as error:  # of pydantic's core, which has no public name
        raise Incomputable("The regular expression is none that this server can match") from error
