"""The incoming records of one FR-SYN set against the registers of several, with the prior of their sum, and its rivals:

    python -m bench.identity.large FOLDER OTHER...

Registers are read once, and only those who share a key with an incoming record are kept: memory stays small.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.identity import french
from bench.identity.fr_syn import SECRET, figures
from fhir_server.linkage.comparable import Comparable, comparable
from fhir_server.linkage.grade import Candidate, Graded, Judge
from fhir_server.linkage.keys import keys_of
from fhir_server.linkage.model import default_model


def measure(folder: Path, others: list[Path]) -> dict[str, Any]:
    model = default_model()

    def made(traits: Any) -> Comparable:
        return comparable(traits, families=model.families, givens=model.givens)

    rows = list(french.rows(folder / "queries.parquet"))
    incoming = [made(french.of_incoming(row)) for row in rows]
    asked = [keys_of(person, SECRET, stored=False) for person in incoming]
    wanted = {key for keys in asked for key in keys}
    held: defaultdict[int, list[Candidate]] = defaultdict(list)
    size = 0
    for number, register in enumerate((folder, *others)):
        for row in french.rows(register / "registry.parquet"):
            size += 1
            person = made(french.of_register(row))
            if keys := [key for key in keys_of(person, SECRET) if key in wanted]:
                candidate = Candidate(row["id"] if number == 0 else f"{number} {row['id']}", person)
                for key in keys:
                    held[key].append(candidate)
    judge = Judge(model, size)
    answers: list[tuple[dict[str, Any], tuple[Graded, ...], set[str]]] = []
    found = 0
    for row, person, keys in zip(rows, incoming, asked, strict=True):
        candidates = {one.identity: one for key in keys for one in held.get(key, ())}
        found += len(candidates)
        answers.append((row, judge.grade(person, list(candidates.values())), set(candidates)))
    shape = {"register": size, "candidates_per_record": round(found / len(rows), 1)}
    return {"set": folder.name, **shape, **figures(answers)}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])))
