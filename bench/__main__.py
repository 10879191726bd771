"""The benches by name: `python -m bench rest ...`, `searches`, `lots`, `reads`, `bulk`, `binaries`, `crash` and others.

Without a name: `lots`, then `reads`, as `make bench` runs them (`--quick` for small ones).
"""

import importlib
import subprocess
import sys

NAMED = {
    "rest": "bench.rest.command",
    "report": "bench.rest.report",
    "searches": "bench.searches",
    "rights": "bench.rights",
}
FULL = {"lots": (), "reads": ()}
ALONE = frozenset(
    {
        "lots",
        "reads",
        "index_shapes",
        "bulk",
        "binaries",
        "crash",
        "full_text",
        "audit",
        "tokens",
        "rights",
        "covers",
        "match",
    }
)
QUICK = {
    "lots": ("--documents", "400", "--json", "bench/results/quick/lots.json"),
    "reads": ("--documents", "20000", "--seconds", "5", "--json", "bench/results/quick/reads.json"),
}


def main() -> int:
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if name in NAMED:
        importlib.import_module(NAMED[name]).main(arguments)
        return 0
    if name in ALONE:
        return subprocess.run([sys.executable, "-m", f"bench.{name}", *arguments], check=False).returncode
    benches = QUICK if "--quick" in sys.argv[1:] else FULL
    commands = [[sys.executable, "-m", f"bench.{name}", *given] for name, given in benches.items()]
    return max(subprocess.run(command, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
