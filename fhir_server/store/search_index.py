"""What a resource is found by: the values that R4 makes searchable, as rows of the index tables.

https://hl7.org/fhir/R4/search.html - docs/adr/0003 says why equality is one narrow table of hashes.
A hash is 64 bits, so two values can share one: a search rechecks its page on the documents.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import orjson

from fhir_server.linkage.workers import parts_of_patient
from fhir_server.r4.index_values import (
    Composite,
    IndexValue,
    Number,
    Period,
    Position,
    Quantity,
    Reference,
    Text,
    Token,
    Uri,
    extract,
)
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import TokenValue
from fhir_server.r4.search_criterion import COMBINED, is_repeated
from fhir_server.r4.search_parameters import LAST_ADDED, REGISTRY, SearchParameter, indexed_of
from fhir_server.sight import own_hash, signed_hash
from mappings.access_facts import UNKNOWN, access_facts
from mappings.consent import consent_facts
from terminology import ucum
from terminology.systems import UCUM

SEPARATOR = "\x1f"
PARAMETERS_PER_TYPE: Final = LAST_ADDED + 1
LONGEST_WORD = 200
LONGEST_URI = 500
_TAG = re.compile(r"<[^>]*>")


INDEX_VERSION = 9
"""Raised when the rows of a resource are made otherwise: what is there is then indexed again."""

LONGEST_NARRATIVE = 100_000
LONGEST_CONTENT = 100_000
"""Characters of one resource that `_content` searches."""
LONGEST_WITHOUT_BLANK = 2000
"""A longer string without a blank is data, not words."""
Measure = tuple[int, Decimal, Decimal]


@dataclass(frozen=True, slots=True)
class IndexRows:
    """The rows of one resource, without its key: sets, so that an update touches only what changed."""

    tokens: frozenset[int] = frozenset()
    periods: frozenset[tuple[int, int, int]] = frozenset()
    words: frozenset[tuple[int, str]] = frozenset()
    measures: frozenset[Measure] = frozenset()
    places: frozenset[tuple[float, float]] = frozenset()
    narratives: frozenset[tuple[str]] = frozenset()
    references: frozenset[int] = frozenset()
    """The reference hashes among `tokens`, kept in the row of the resource."""
    present: frozenset[int] = frozenset()
    """The numbers of the parameters that have a value, kept in the row of the resource."""
    contents: frozenset[tuple[str]] = frozenset()
    """A JSON array of every string, folded, where `_content` is searched."""
    version: int = 0
    """That of the registry of search parameters by which they were made."""
    guard: int = UNKNOWN
    """What decides who may see the resource, kept in its row: `mappings.access_facts`."""
    worker: int | None = None
    """The own hash of the Patient in whose record it is, kept in its row."""
    oppositions: frozenset[tuple[int, str, str, str]] = frozenset()
    """Of a Consent: worker, right that he exercises against others, and from when to when."""
    centres: frozenset[tuple[int, str]] = frozenset()
    """Of a Patient: worker, and in whose charge he is (`Organization/id`)."""
    identities: frozenset[tuple[int]] = frozenset()
    """Of a Patient: what he is found by as a candidate (`linkage.keys`), kept under the secret of the service."""


NO_ROWS = IndexRows()


def param_key(type_number: int, parameter: SearchParameter) -> int:
    """The parameter of one resource type as one small number (a parameter such as `patient` serves many types)."""
    return type_number * PARAMETERS_PER_TYPE + parameter.number


def shown_key(param: int) -> int:
    """The key under which `word` holds what is compared from its beginning only: uris, what is shown for a token."""
    return -param


@lru_cache(maxsize=65536)
def hashed(param: int, *parts: str) -> int:
    """A signed 64-bit hash of a parameter and the parts of a value."""
    return signed_hash(SEPARATOR.join((str(param), *parts)))


def token_any_system(param: int, code: str) -> int:
    return hashed(param, code)


def token_with_system(param: int, system: str, code: str) -> int:
    """`system` is empty for a value that has none (`|code` in a search)."""
    return hashed(param, system, code)


def token_of_system(param: int, system: str) -> int:
    """Any code of a system (`system|`)."""
    return hashed(param, "|", system, "")


def token_of_type(param: int, system: str, code: str, value: str) -> int:
    """`:of-type`: an identifier by its type and value."""
    return hashed(param, "type", system, code, value)


def reference_to(param: int, target: str) -> int:
    """`target` is `Type/id`, or an absolute URL as written."""
    return reference_key(param) ^ own_hash(target)


def reference_key(param: int) -> int:
    """What the own hash of a target is combined with, by XOR."""
    return hashed(param)


def reference_by_identifier(param: int, system: str, value: str) -> int:
    return hashed(param, "identifier", system, value)


def uri_is(param: int, uri: str) -> int:
    return hashed(param, uri)


def text_exactly(param: int, text: str) -> int:
    """`:exact`: a string as it stands."""
    return hashed(param, "=", text)


def number_of(param: int) -> int:
    """Numbers, and quantities whatever their unit."""
    return hashed(param)


def in_unit(param: int, unit: str) -> int:
    """Quantities whose unit or code is written so (`number||unit`)."""
    return hashed(param, "unit", unit)


def in_system(param: int, system: str, code: str) -> int:
    """Quantities in a unit of a system that is not UCUM, or that UCUM does not know."""
    return hashed(param, system, code)


def in_dimension(param: int, dimension: str) -> int:
    """Quantities in base units of one UCUM dimension."""
    return hashed(param, "dimension", dimension)


def beside_token(param: int, value: TokenValue) -> int:
    """A composite whose token is this one: stands in the place of the parameter for what is beside it."""
    system, code = value
    return hashed(param, "$", code or "") if system is None else hashed(param, "$", system, code or "")


@lru_cache(maxsize=65536)
def folded(text: str) -> str:
    """Lower case, without accents, ligatures opened, blanks single: the form in which strings are compared."""
    return folded_whole(text)[:LONGEST_WORD]


def folded_whole(text: str) -> str:
    """The same of a text of any length."""
    if text.isascii():
        return " ".join(text.lower().split())
    opened = text.replace("œ", "oe").replace("Œ", "OE").replace("æ", "ae").replace("Æ", "AE")
    plain = "".join(c for c in unicodedata.normalize("NFKD", opened) if not unicodedata.combining(c))
    return " ".join(plain.casefold().split())


@REGISTRY.cached
def _leading_to(target_type: str) -> tuple[int, ...]:
    """The reference parameters of every type that may lead to `target_type`."""
    return tuple(
        param_key(number, parameter)
        for name, number in TYPE_NUMBER.items()
        for parameter in indexed_of(name).values()
        if parameter.type == "reference" and (not parameter.targets or target_type in parameter.targets)
    )


def references_to(target_type: str, resource_id: str) -> list[int]:
    """The hashes under which any resource that refers to this one is found, by whichever parameter."""
    return [reference_to(param, f"{target_type}/{resource_id}") for param in _leading_to(target_type)]


def rows_of(resource: Mapping[str, Any], *, added: int | None = None) -> IndexRows:
    """The index rows of one resource (its parsed JSON): all, or those of the added parameter with this number."""
    rows = _Rows(TYPE_NUMBER[resource["resourceType"]])
    for value in extract(resource):
        if added in (None, value.param.number):
            rows.take(value)
    if added is not None:
        return rows.done()
    facts = access_facts(resource)
    rows.guard = facts.guard
    rows.worker = own_hash(f"Patient/{facts.worker}") if facts.worker else None
    if rows.worker and resource["resourceType"] == "Consent":
        rows.oppositions.update((rows.worker, *one) for one in _oppositions(resource))
    if rows.worker and resource["resourceType"] == "Patient" and (centre := _centre(resource)):
        rows.centres.add((rows.worker, centre))
    if resource["resourceType"] == "Patient":
        rows.identities.update((part,) for part in parts_of_patient(resource))
    if REGISTRY.content and (words := folded_content(resource)):
        rows.contents.add((words,))
    if (narrative := resource.get("text")) and (words := folded_narrative(narrative.get("div", ""))):
        rows.narratives.add((words,))
    return rows.done()


def _centre(patient: Mapping[str, Any]) -> str | None:
    """The organisation in charge, where it is one of this server."""
    target = is_local(str(patient.get("managingOrganization", {}).get("reference", "")))
    return "/".join(target) if target and target[0] == "Organization" else None


def _oppositions(consent: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    for fact in consent_facts(consent):
        if not fact.permit:
            low = fact.start.isoformat() if fact.start else "-infinity"
            yield fact.right, low, fact.end.isoformat() if fact.end else "infinity"


def folded_narrative(div: str) -> str:
    """The words of a narrative without its tags."""
    return " ".join(folded(word) for word in html.unescape(_TAG.sub(" ", div[:LONGEST_NARRATIVE])).split())


def folded_content(resource: Mapping[str, Any]) -> str:
    """Every string of a resource but its id and version, as a JSON array: what stands apart is no phrase."""
    said = {name: value for name, value in resource.items() if name not in ("resourceType", "id")}
    if "meta" in said:
        said["meta"] = {name: one for name, one in said["meta"].items() if name not in ("versionId", "lastUpdated")}
    found: list[str] = []
    left = LONGEST_CONTENT
    for text in _strings(said):
        words = folded_narrative(text) if text.startswith("<div") else folded_whole(text[:left])
        if words and (len(words) <= LONGEST_WITHOUT_BLANK or " " in words):
            found.append(words[:left])
            left -= len(words)
        if left <= 0:
            break
    return orjson.dumps(found).decode() if found else ""


def _strings(value: Any) -> Iterable[str]:
    """Every string within a JSON value, in its order; no recursion, since resources may be deep."""
    left = [value]
    while left:
        one = left.pop()
        if type(one) is str:
            yield one
        elif type(one) is dict:
            left.extend(reversed(one.values()))
        elif type(one) is list:
            left.extend(reversed(one))


class _Rows:
    """The rows of one resource, as they are found."""

    def __init__(self, type_number: int) -> None:
        self.type_number = type_number
        self.tokens: set[int] = set()
        self.periods: set[tuple[int, int, int]] = set()
        self.words: set[tuple[int, str]] = set()
        self.measures: set[Measure] = set()
        self.places: set[tuple[float, float]] = set()
        self.narratives: set[tuple[str]] = set()
        self.contents: set[tuple[str]] = set()
        self.references: set[int] = set()
        self.present: set[int] = set()
        self.guard = UNKNOWN
        self.worker: int | None = None
        self.oppositions: set[tuple[int, str, str, str]] = set()
        self.centres: set[tuple[int, str]] = set()
        self.identities: set[tuple[int]] = set()

    def take(self, value: IndexValue) -> None:
        if value.param.url in COMBINED:
            return
        self.present.add(value.param.number)
        param = param_key(self.type_number, value.param)
        if isinstance(value, Token):
            self._token(param, value)
        elif isinstance(value, Reference):
            self._reference(param, value)
        elif isinstance(value, Period):
            self.periods.add((param, value.low, value.high))
        elif isinstance(value, Text):
            if word := folded(value.value):
                self.words.add((param, word))
                self.tokens.add(text_exactly(param, value.value))
        elif isinstance(value, Uri):
            self.tokens.add(uri_is(param, value.value))
            self.words.add((shown_key(param), value.value[:LONGEST_URI]))
        elif isinstance(value, Number):
            self.measures.add((number_of(param), value.low, value.high))
        elif isinstance(value, Quantity):
            self.measures.update(measures_of(param, value))
        elif isinstance(value, Position):
            self.places.add((value.latitude, value.longitude))
        elif is_repeated(value.param):
            self._composite(param, value)

    def _token(self, param: int, value: Token) -> None:
        if value.code is not None:
            system = value.system or ""
            self.tokens.add(token_any_system(param, value.code))
            self.tokens.add(token_with_system(param, system, value.code))
            if system:
                self.tokens.add(token_of_system(param, system))
            for kind_system, kind in value.kinds:
                self.tokens.add(token_of_type(param, kind_system or "", kind, value.code))
        if value.display and (shown := folded(value.display)):
            self.words.add((shown_key(param), shown))

    def _reference(self, param: int, value: Reference) -> None:
        if value.target:
            self.references.add(reference_to(param, value.target))
        if value.identifier is not None:
            system, code = value.identifier
            self.tokens.add(reference_by_identifier(param, system or "", code or ""))

    def _composite(self, param: int, value: Composite) -> None:
        first, second, *third = value.parts
        for token in first:
            if not isinstance(token, Token) or token.code is None:
                continue
            for key in (beside_token(param, (None, token.code)), beside_token(param, (token.system or "", token.code))):
                if third:
                    self._stretch(key, second, third[0])
                else:
                    for beside in second:
                        self._beside(key, beside)

    def _stretch(self, key: int, starts: Iterable[IndexValue], ends: Iterable[IndexValue]) -> None:
        """Two numbers of one element in one row: from the one to the other."""
        for start in starts:
            for end in ends:
                if isinstance(start, Number) and isinstance(end, Number):
                    self.measures.add((key, start.low, end.high))

    def _beside(self, key: int, value: IndexValue) -> None:
        if isinstance(value, Token) and value.code is not None:
            self.tokens.add(token_any_system(key, value.code))
            self.tokens.add(token_with_system(key, value.system or "", value.code))
        elif isinstance(value, Reference) and value.target:
            self.tokens.add(reference_to(key, value.target))
        elif isinstance(value, Quantity):
            self.measures.update(measures_of(key, value))

    def done(self) -> IndexRows:
        return IndexRows(
            frozenset(self.tokens | self.references),
            frozenset(self.periods),
            frozenset(self.words),
            frozenset(self.measures),
            frozenset(self.places),
            frozenset(self.narratives),
            frozenset(self.references),
            frozenset(self.present),
            frozenset(self.contents),
            REGISTRY.version,
            self.guard,
            self.worker,
            frozenset(self.oppositions),
            frozenset(self.centres),
            frozenset(self.identities),
        )


def measures_of(param: int, value: Quantity) -> Iterable[Measure]:
    """The rows of one quantity: whatever its unit, in its unit as written, and in base units where UCUM knows it."""
    yield number_of(param), value.low, value.high
    for unit in {value.code, value.unit} - {None, ""}:
        yield in_unit(param, str(unit)), value.low, value.high
    if value.system and value.code:
        ends = in_base_units(value.system, value.code, value.low, value.high)
        if ends is None:
            yield in_system(param, value.system, value.code), value.low, value.high
        else:
            dimension, low, high = ends
            yield in_dimension(param, dimension), low, high


def in_base_units(system: str, code: str, *values: Decimal) -> tuple[Any, ...] | None:
    """The dimension of a UCUM unit and the values in its base units; None for every other unit."""
    if system != UCUM or (unit := ucum.canonical(code)) is None:
        return None
    converted: list[Decimal] = []
    for value in values:
        found = ucum.to_base(value, code) if value.is_finite() else (value, unit.dimension)
        if found is None:
            return None
        converted.append(found[0])
    return unit.dimension, *converted
