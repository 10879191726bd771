"""Every bench whose figures docs/performance.md gives, one after the other: `python -m bench [--quick]`."""

import subprocess
import sys

FULL = {"lots": (), "reads": ()}
QUICK = {
    "lots": ("--documents", "400", "--json", "bench/results/quick/lots.json"),
    "reads": ("--documents", "20000", "--seconds", "5", "--json", "bench/results/quick/reads.json"),
}


def main() -> int:
    benches = QUICK if "--quick" in sys.argv[1:] else FULL
    commands = [[sys.executable, "-m", f"bench.{name}", *arguments] for name, arguments in benches.items()]
    return max(subprocess.run(command, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
