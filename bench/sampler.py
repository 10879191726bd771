"""Runs the server and counts where its processor time goes: a sample for each millisecond of it.

    python -m bench.sampler FILE serve --data FOLDER --port PORT

SIGUSR2 writes what was counted since the last one to FILE and begins anew. A sample is taken between two steps of
Python, so that time in C (the parser, the driver, the kernel) is that of the function which called it.
"""

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

INTERVAL: Final = 0.001
DEEPEST: Final = 200
SHOWN: Final = 25
EVERYWHERE: Final = 0.98
"""What is in so many of the samples is how the program was started, and says nothing."""


class Sampler:
    """Samples of this process by function: where it was, and what it was called from."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._own: Counter[str] = Counter()
        self._with_called: Counter[str] = Counter()

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR2, self._write)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        self._own[_name(frame)] += 1
        seen: set[str] = set()
        while frame is not None and len(seen) < DEEPEST:
            seen.add(_name(frame))
            frame = frame.f_back
        self._with_called.update(seen)

    def _write(self, *_: object) -> None:
        own, with_called = self._own, self._with_called
        self._own, self._with_called = Counter(), Counter()
        most = own.total() * EVERYWHERE
        called = [(name, count) for name, count in with_called.most_common() if count < most][: SHOWN * 2]
        result = {"samples": own.total(), "own": own.most_common(SHOWN), "with_called": called}
        partial = self._file.with_suffix(".part")
        partial.write_text(json.dumps(result), "utf-8")
        partial.replace(self._file)


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_qualname}"


def shares(result: dict[str, Any]) -> dict[str, Any]:
    """The same in per cent of all samples, of which the number is told."""
    whole = result["samples"] or 1
    return {"samples": result["samples"]} | {
        kind: {name: round(100 * count / whole, 1) for name, count in result[kind]} for kind in ("own", "with_called")
    }


def main() -> None:
    from fhir_server.__main__ import main as run

    Sampler(Path(sys.argv[1])).start()
    sys.argv = ["dmst-fhir", *sys.argv[2:]]
    run()


if __name__ == "__main__":
    main()
