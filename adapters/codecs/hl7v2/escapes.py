"""Escape sequences of a value: HL7 v2.6 chapter 2.7.

Written by ourselves: the library's version takes the bytes of `\\X..\\` for code points, which they are not in UTF-8.
"""

import re
from dataclasses import dataclass
from functools import cached_property

LINE_BREAKS = (".br", ".sp", ".ce")
CONTROL = range(0x20)


@dataclass(frozen=True)
class Delimiters:
    """The five characters that a message is cut by."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @cached_property
    def _sequence(self) -> re.Pattern[str]:
        mark = re.escape(self.escape)
        return re.compile(f"{mark}([^{mark}]*){mark}")

    @cached_property
    def _letters(self) -> dict[str, str]:
        return {
            "F": self.field,
            "S": self.component,
            "R": self.repetition,
            "E": self.escape,
            "T": self.subcomponent,
            "H": "",
            "N": "",
        }

    @cached_property
    def _written(self) -> dict[int, str]:
        mark = self.escape
        controls = {code: f"{mark}X{code:02X}{mark}" for code in (*CONTROL, 0x7F)}
        letters = {ord(self._letters[letter]): f"{mark}{letter}{mark}" for letter in "FSRET"}
        return {**controls, 0x0A: f"{mark}.br{mark}", **letters}

    @cached_property
    def _special(self) -> re.Pattern[str]:
        return re.compile("[" + re.escape("".join(map(chr, self._written))) + "]")

    def unescape(self, text: str, encoding: str) -> str:
        """The value that was meant. A sequence that nobody knows stays as it is written."""
        if not self.escape or self.escape not in text:
            return text
        return self._sequence.sub(lambda found: self._meant(found, encoding), text)

    def escaped(self, text: str) -> str:
        """The value as it is written between delimiters."""
        return text.translate(self._written) if self._special.search(text) else text

    def _meant(self, found: re.Match[str], encoding: str) -> str:
        body = found[1]
        if (letter := self._letters.get(body)) is not None:
            return letter
        if body.startswith("."):
            return "\n" if body.startswith(LINE_BREAKS) else ""
        if body[:1] == "X":
            try:
                return bytes.fromhex(body[1:]).decode(encoding)
            except ValueError:
                return found[0]
        return found[0]
