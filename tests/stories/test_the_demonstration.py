"""The demonstration: what a new user sees first, run as he runs it, twice."""

import json
import subprocess
import sys
from pathlib import Path

COMMAND = (sys.executable, "-m", "fhir_server", "demo", "--once")
EXPECTED = {
    "lots": 1,
    "folders": 7,
    "documents": {"accepted": 12, "rejected": {"E05": 2}, "review": 8},
    "deliveries": {
        "dmp": {"withheld": 12},
        "logiciel-metier": {"handed_over": 12},
        "logiciel-occupe": {"handed_over": 12},
    },
}


def run(data: Path, summary: Path) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "fhir_server",
            "demo",
            "--once",
            "--port",
            "0",
            "--data",
            str(data),
            "--json",
            str(summary),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demonstration_ends_and_a_second_run_duplicates_nothing(tmp_path: Path):
    """Both summaries say the same, but for the seconds; the second finds the lot already ingested."""
    tmp_path.chmod(0o755)
    summary = tmp_path / "summary.json"
    first = run(tmp_path / "demo", summary)
    assert {k: v for k, v in json.loads(summary.read_text()).items() if k != "seconds"} == EXPECTED
    assert "Evidence of one document: pass" in first
    assert first.count("curl -s") == 3
    second = run(tmp_path / "demo", summary)
    assert {k: v for k, v in json.loads(summary.read_text()).items() if k != "seconds"} == EXPECTED
    assert "already-ingested" in second
