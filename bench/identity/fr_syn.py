"""FR-SYN: python -m bench.identity.fr_syn SOURCES FOLDER... prints one line of figures per set.

Candidates come by the blocking keys, as they do online; nothing but the default model decides.
"""

import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from bench.identity import french
from fhir_server.linkage.grade import Candidate, Graded, Judge
from fhir_server.linkage.keys import keys_of
from fhir_server.linkage.model import default_model

SECRET = b"bench-of-identity"


def measure(folder: Path) -> dict[str, Any]:
    model = default_model()
    started = time.process_time()
    register_rows, register, incoming_rows, incoming = french.load(folder, model.families, model.givens)
    prepared = time.process_time() - started
    held: defaultdict[int, list[int]] = defaultdict(list)
    keys = 0
    for place, person in enumerate(register):
        for key in keys_of(person, SECRET):
            held[key].append(place)
            keys += 1
    judge = Judge(model, len(register))
    candidates = [Candidate(row["id"], person) for row, person in zip(register_rows, register, strict=True)]
    answers: list[tuple[dict[str, Any], tuple[Graded, ...], set[str]]] = []
    pairs = 0
    started = time.process_time()
    for row, person in zip(incoming_rows, incoming, strict=True):
        found = {place for key in keys_of(person, SECRET, stored=False) for place in held.get(key, ())}
        pairs += len(found)
        graded = judge.grade(person, [candidates[place] for place in sorted(found)])
        answers.append((row, graded, {candidates[place].identity for place in found}))
    seconds = time.process_time() - started
    return {
        "set": folder.name,
        **figures(answers),
        "prepare_us": round(prepared / (len(register) + len(incoming)) * 1e6),
        "us_per_pair": round(seconds / pairs * 1e6, 1),
        "ms_per_record": round(seconds / len(incoming) * 1e3, 2),
        "candidates_per_record": round(pairs / len(incoming), 1),
        "keys_per_identity": round(keys / len(register), 1),
    }


def figures(answers: list[tuple[dict[str, Any], tuple[Graded, ...], set[str]]]) -> dict[str, Any]:
    present = [one for one in answers if one[0]["true_id"]]
    certain = [(row, graded[0]) for row, graded, _ in answers if graded and graded[0].grade == "certain"]
    right = sum(one.identity == row["true_id"] for row, one in certain)
    wrong = Counter(row["kind"] for row, one in certain if one.identity != row["true_id"])
    kinds = Counter(row["kind"] for row, _, _ in answers)
    shown = [[one for one in graded if one.grade != "none"] for _, graded, _ in answers]
    review = Counter(
        row["kind"]
        for (row, graded, _), seen in zip(answers, shown, strict=True)
        if seen and graded[0].grade != "certain"
    )
    top = {
        n: sum(row["true_id"] in [one.identity for one in graded[:n]] for row, graded, _ in present) / len(present)
        for n in (1, 3)
    }
    top_shown = sum(
        row["true_id"] in [one.identity for one in graded if one.grade != "none"][:3] for row, graded, _ in present
    )
    hard = kinds["absent_twin"] + kinds["absent_homonym"]
    hard_wrong = wrong["absent_twin"] + wrong["absent_homonym"]
    return {
        "auto_precision": round(right / max(len(certain), 1), 5),
        "auto_recall": round(right / len(present), 4),
        "wrong": dict(wrong),
        "review": round(sum(review.values()) / len(answers), 4),
        "review_of": dict(review),
        "twins_certain": round(wrong["absent_twin"] / max(kinds["absent_twin"], 1), 4),
        "twin_homonym_errors_per_1000": round(1000 * hard_wrong / max(hard, 1), 2),
        "top1": round(top[1], 4),
        "top3": round(top[3], 4),
        "top3_shown": round(top_shown / len(present), 4),
        "pairs_completeness": round(sum(row["true_id"] in found for row, _, found in present) / len(present), 4),
    }


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps(measure(Path(name))), flush=True)
