"""pseudopeople 1.3.1: its sample census linked with its sample social security file, nothing tuned to it.

    python -m bench.identity.people [SEED]

Compared are names, middle initial, birth date and sex; the census has no number. Truth is `simulant_id`.
"""

import json
import sys
import time
from typing import Any

from bench.identity.febrl import found_pairs


def load(seed: int) -> tuple[list[dict[str, dict[str, str]]], set[tuple[str, str]]]:
    import pseudopeople

    census = pseudopeople.generate_decennial_census(seed=seed)
    insured = pseudopeople.generate_social_security(seed=seed)
    insured = insured[insured.event_type == "creation"]
    files: list[dict[str, dict[str, str]]] = []
    persons: list[dict[str, str]] = []
    for letter, frame in (("c", census), ("s", insured)):
        rows: dict[str, dict[str, str]] = {}
        held: dict[str, str] = {}
        for place, row in enumerate(frame.astype("string").fillna("").to_dict("records")):
            initial = row.get("middle_initial") or row.get("middle_name", "")[:1]
            stated = {
                "given_name": row["first_name"],
                "surname": row["last_name"],
                "middle_initial": initial,
                "sex": row["sex"],
                "date_of_birth": _date(row["date_of_birth"]),
            }
            rows[f"{letter}{place}"] = {field: value for field, value in stated.items() if value}
            held[f"{letter}{place}"] = row["simulant_id"]
        files.append(rows)
        persons.append(held)
    of_person: dict[str, list[str]] = {}
    for key, simulant in persons[1].items():
        of_person.setdefault(simulant, []).append(key)
    return files, {(key, other) for key, who in persons[0].items() for other in of_person.get(who, [])}


def _date(text: str) -> str:
    parts = text.split("/")
    return parts[2] + parts[0] + parts[1] if len(parts) == 3 else text


def measure(seed: int) -> dict[str, Any]:
    started = time.process_time()
    files, true = load(seed)
    odds, probable, _ = found_pairs(files, "people")
    found = {pair for pair, probability in probable.items() if probability >= 0.5}
    right = len(found & true)
    precision, recall = right / len(found), right / len(true)
    ranked = sorted(probable.items(), key=lambda one: -one[1])
    hits, at_999 = 0, 0.0
    for place, (pair, _probability) in enumerate(ranked, 1):
        hits += pair in true
        if hits / place >= 0.999:
            at_999 = hits / len(true)
    return {
        "data": "pseudopeople census x social security",
        "seed": seed,
        "true": len(true),
        "F1": round(2 * precision * recall / (precision + recall), 4),
        "P": round(precision, 4),
        "R": round(recall, 4),
        "R_at_P999": round(at_999, 4),
        "pairs_completeness": round(len(odds.keys() & true) / len(true), 4),
        "pairs": len(odds),
        "cpu_s": round(time.process_time() - started, 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 0)))
