"""The log says what happened and where, never to whom."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME, INS = "MARTINEAU-SECRET", "255069912345678"
PROGRAM = f'''
import asyncio, logging, sys
import structlog
from fhir_server import logs
logs.configure("debug")
log = structlog.get_logger("test")
def broken(name):
    ins = "{INS}"
    try:
        raise KeyError(name)
    except KeyError as error:
        raise ValueError(f"cannot handle {{name}} {{ins}}") from error
def fail():
    broken("{NAME}")
'''
TRY = "try:\n    fail()\nexcept ValueError"
WAYS = {
    "structlog": f"{TRY}:\n    log.exception('it failed', request_id='r-1')",
    "structlog, the error given": f"{TRY} as e:\n    log.error('it failed', exc_info=e)",
    "structlog, the error given later": f"{TRY} as e:\n    kept = e\nlog.error('it failed', exc_info=kept)",
    "logging of a library": f"{TRY}:\n    logging.getLogger('library').exception('it failed')",
    "a task that nobody awaited": (
        "async def main():\n"
        "    async def task():\n        fail()\n"
        "    asyncio.create_task(task())\n    await asyncio.sleep(0.01)\n"
        "    import gc; gc.collect(); await asyncio.sleep(0.01)\n"
        "asyncio.run(main())"
    ),
}


def logged(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_an_exception_that_holds_a_name_leaves_no_trace_of_it(way: str) -> None:
    """Neither its text, nor its cause, nor the values of its variables, whoever logs it."""
    text = logged(WAYS[way])
    assert text.strip(), "something must be logged"
    assert NAME not in text
    assert INS not in text
    assert "ValueError" in text


def test_an_exception_is_logged_by_type_cause_and_places() -> None:
    """Enough to find it."""
    (line,) = logged(WAYS["structlog"]).splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["request_id"]) == ("it failed", "error", "r-1")
    assert (event["exception"], event["cause"]) == ("ValueError", "KeyError")
    assert event["at"][-1].endswith("broken")
    assert "timestamp" in event


def test_each_event_is_one_line_of_json() -> None:
    """Also with line breaks in it."""
    lines = logged("log.info('a\\nb', x=1)\nlog.warning('ü')").splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["a\nb", "ü"]


def test_less_than_the_level_is_not_logged() -> None:
    """`warning` keeps `info` out."""
    text = logged("logs.configure('warning')\nl = structlog.get_logger('x')\nl.info('small')\nl.warning('large')")
    assert "small" not in text
    assert "large" in text
