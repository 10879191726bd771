"""What is at hand while one question is answered: code systems, their supplements and value sets, by canonical URL.

https://hl7.org/fhir/R4/references.html#canonical - which version is meant where none is named is decided here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from terminology.code_system import CodeSystem
from terminology.problems import Incomputable, NotKept
from terminology.systems import VALUE_SET_SUPPLEMENT

Json = Mapping[str, Any]
Definition = TypeVar("Definition", CodeSystem, Json)

_RANKS: Final = {"active": 3, "draft": 2, "unknown": 1, "retired": 0}
_NUMBERS: Final = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Library:
    """Every version that is at hand, by URL."""

    code_systems: Mapping[str, Sequence[CodeSystem]] = field(default_factory=dict)
    value_sets: Mapping[str, Sequence[Json]] = field(default_factory=dict)

    def code_system(self, url: str, version: str | None = None, on: str | None = None) -> CodeSystem | None:
        """The one that is meant; None where it is not at hand. A supplement is none."""
        return chosen([one for one in self.code_systems.get(url, ()) if not one.is_supplement], version, on)

    def value_set(self, canonical: str, on: str | None = None) -> Json | None:
        """`url` or `url|version`; None where it is not at hand."""
        url, version = split(canonical)
        return chosen(self.value_sets.get(url, ()), version, on)

    def supplements(self, url: str, version: str | None) -> list[CodeSystem]:
        """Those of a code system that are in force, of each the version that is meant, in the order of their URLs."""
        named = (url, f"{url}|{version}")
        fitting: dict[str, list[CodeSystem]] = {}
        for versions in self.code_systems.values():
            for one in versions:
                if one.is_supplement and one.supplements in named and one.status != "retired":
                    fitting.setdefault(one.url, []).append(one)
        return [one for key in sorted(fitting) if (one := chosen(fitting[key]))]


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions of code systems the client wants (https://hl7.org/fhir/R4/valueset-operation-expand.html).

    Each is system -> version: `preferred` where the value set names none, `checked` to be told where it is another
    one, `forced` whatever the value set names.
    """

    preferred: Mapping[str, str] = field(default_factory=dict)
    checked: Mapping[str, str] = field(default_factory=dict)
    forced: Mapping[str, str] = field(default_factory=dict)

    def of(self, system: str, stated: str | None) -> str | None:
        """The version that is meant, by a value set that states this one."""
        return self.forced.get(system) or stated or self.preferred.get(system) or self.checked.get(system)

    def check(self, system: str, version: str | None) -> None:
        """Raises Incomputable where the version that is used is not the one that was to be checked."""
        if system not in self.forced and self.checked.get(system, version) != version:
            raise Incomputable("The value set takes codes from another version", "check-system-version")


def split(canonical: str) -> tuple[str, str | None]:
    """`url|version` in two."""
    url, _, version = canonical.partition("|")
    return url, version or None


def canonical_of(resource: Json) -> str:
    """`url|version`, empty where it has no URL."""
    url, version = resource.get("url", ""), resource.get("version")
    return f"{url}|{version}" if url and version else url


def chosen(versions: Iterable[Definition], version: str | None = None, on: str | None = None) -> Definition | None:
    """The one with this version; without a version the active one before drafts and retired ones, then the newest.

    Newer is the greater version (`10.1` after `9.2`), then the later date, then what comes first; `on` leaves out what
    is dated later.
    """
    if version is not None:
        return next((one for one in versions if _told(one, "version") == version), None)
    known = [one for one in versions if not on or _told(one, "date")[: len(on)] <= on[: len(_told(one, "date"))]]
    return max(known, key=_newness, default=None)


def needed(value_set: Json) -> tuple[set[str], set[str]]:
    """The code systems (`url`, or `url|version`), and the URLs of the value sets, that a value set refers to."""
    systems: set[str] = set()
    value_sets: set[str] = set()
    for one in (value_set, *value_set.get("contained", ())):
        compose = one.get("compose", {})
        for part in (*compose.get("include", ()), *compose.get("exclude", ())):
            systems.add(canonical_of({"url": part.get("system", ""), "version": part.get("version")}))
            value_sets.update(split(url)[0] for url in part.get("valueSet", ()) if url and not url.startswith("#"))
        systems.update(split(url)[0] for url in supplements_named(one))
        systems.update(_systems_in(one.get("expansion", {}).get("contains", ())))
    return systems - {""}, value_sets


def supplements_named(value_set: Json) -> list[str]:
    """The supplements that a value set asks for: https://hl7.org/fhir/R4/extension-valueset-supplement.html"""
    return [
        one.get("valueCanonical", "")
        for one in value_set.get("extension", ())
        if one.get("url") == VALUE_SET_SUPPLEMENT
    ]


def check_supplements(value_set: Json, library: Library) -> None:
    """Raises NotKept where one that the value set asks for is not at hand."""
    for canonical in supplements_named(value_set):
        url, version = split(canonical)
        known = [one for one in library.code_systems.get(url, ()) if one.is_supplement]
        if chosen(known, version) is None:
            raise NotKept("This server does not keep a supplement that the value set asks for", "ValueSet.extension")


def _systems_in(entries: Sequence[Json]) -> set[str]:
    found: set[str] = set()
    left = list(entries)
    while left:
        one = left.pop()
        if "system" in one:
            found.add(one["system"])
        left.extend(one.get("contains", ()))
    return found


def _told(one: CodeSystem | Json, name: str) -> str:
    told = getattr(one, name) if isinstance(one, CodeSystem) else one.get(name)
    return told or ""


def _newness(one: CodeSystem | Json) -> tuple[int, list[tuple[int, int, str]], str]:
    parts = [part for part in _NUMBERS.split(_told(one, "version")) if part.strip(".-")]
    version = [(1, int(part[:18]), "") if part.isdecimal() else (0, 0, part) for part in parts]
    return _RANKS.get(_told(one, "status"), 0), version, _told(one, "date")
