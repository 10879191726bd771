"""Figures are counted right, and the pages made of them say what the figures say."""

import json
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from bench.measure import Spent, flushes
from bench.rest import report
from bench.rest.client import Target
from bench.rest.driver import Book, percentiles
from bench.rest.population import reason, reference_of
from bench.sampler import shares

SVG = "{http://www.w3.org/2000/svg}"


def test_percentiles_are_those_of_a_known_series() -> None:
    """Of 1 to 101 the median is 51, and the 99th percentile leaves one above."""
    assert percentiles(list(range(1, 102))) == {"p50": 51, "p95": 96, "p99": 100, "max": 101}
    assert percentiles([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0, "max": 3.0}
    assert percentiles([]) == {}


def test_a_book_counts_rates_errors_and_resources() -> None:
    """Errors have no latency; resources have a rate of their own; each name has its percentiles."""
    book = Book()
    book.latencies["read"] += [1.0, 3.0]
    book.latencies["search"] += [5.0]
    book.errors["search: 503"] += 2
    book.size, book.resources = 4_000_000, 30
    summary = book.summary(2.0)
    assert (summary["requests"], summary["per_second"], summary["mb_per_second"]) == (3, 1.5, 2.0)
    assert (summary["errors"], summary["errors_by"]) == (2, {"search: 503": 2})
    assert (summary["resources"], summary["resources_per_second"]) == (30, 15.0)
    assert (summary["p50"], summary["by"]["read"]["p50"], summary["by"]["search"]["requests"]) == (3.0, 2.0, 1)
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize(
    "location",
    ["http://h/fhir/Patient/a/_history/1", "Patient/a", "/fhir/Patient/a", "https://h/Patient/a/_history/2?x=1"],
)
def test_an_id_is_found_in_any_form_of_location(location: str) -> None:
    """Absolute or not, with a version or without."""
    assert reference_of(location) == "Patient/a"


def test_a_target_takes_paths_of_its_base_and_urls_of_the_server() -> None:
    """A search value may hold an URL of its own without being taken for one."""
    target = Target("http://host:8080/base/fhir")
    assert (target.host, target.port) == ("host", 8080)
    assert target.path_of("Patient?identifier=http://a|b") == "/base/fhir/Patient?identifier=http://a|b"
    assert target.path_of("http://other/x/y?z=1") == "/x/y?z=1"
    assert target.path_of("") == "/base/fhir"


def test_the_reason_of_a_refusal_is_what_the_server_says() -> None:
    """Diagnostics of an OperationOutcome, else the text, else the beginning of the body."""
    assert reason(b'{"issue":[{"code":"invalid","diagnostics":"no such parameter"}]}') == "no such parameter"
    assert reason(b'{"issue":[{"code":"not-found"}]}') == "not-found"
    assert reason(b"<html>") == "<html>"
    assert reason(b"[1]") == "[1]"


def test_the_disk_is_asked_how_often_it_flushes(tmp_path: Path) -> None:
    """A rate above nothing, and nothing left behind."""
    assert flushes(tmp_path, 0.05)["per_second"] > 0
    assert list(tmp_path.iterdir()) == []


RESULT = {
    "machine": {"at": "2026-11-22T12:00:00+00:00", "cores": 2, "memory_gib": 23.5, "load_average": [0.5, 0, 0]},
    "flushes": {"per_second": 300},
    "settings": {"seconds": 20, "warm_up": 5, "repeat": 3},
    "servers": {
        "ours": {
            "software": "dmst-fhir 0.1.0",
            "workloads": {
                "W1": {
                    "title": "read & more",
                    "runs": [
                        {
                            "clients": 16,
                            "per_second": 4000.0,
                            "errors": 1,
                            "p50": 3.0,
                            "p95": 5.0,
                            "p99": 9.5,
                            "server_cpu_us_per_request": 150,
                            "client_cpu_us_per_request": 20,
                        }
                    ],
                },
                "W10": {"title": "$export", "runs": [{"clients": 16, "missing": "404: nothing here"}]},
            },
        },
        "other": {
            "software": "Other 1",
            "workloads": {"W1": {"title": "read & more", "runs": [{"clients": 16, "per_second": 1000.0, "errors": 0}]}},
        },
    },
}


def test_the_chart_is_an_svg_of_its_own_with_a_bar_per_run() -> None:
    """Well-formed, nothing loaded from outside, bars in proportion."""
    chart = report.chart(list(report.lines(RESULT)))
    root = ElementTree.fromstring(chart)
    bars = [one for one in root.iter(f"{SVG}rect") if one.get("x") == str(report.LEFT)]
    assert [float(bar.attrib["width"]) for bar in bars] == [report.BAR, report.BAR / 4]
    assert "read & more (16)" in "".join(root.itertext())
    assert "href" not in chart
    assert "url(" not in chart


def test_the_table_goes_between_its_marks_and_leaves_the_page_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published twice it stands there once; what is not offered says why."""
    page, result = tmp_path / "performance.md", tmp_path / "rest.json"
    begin, end = (mark.format("rest") for mark in report.MARKS)
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n", "utf-8")
    result.write_text(json.dumps(RESULT), "utf-8")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "CHART", tmp_path / "chart.svg")
    report.publish(result)
    once = page.read_text("utf-8")
    report.publish(result)
    assert page.read_text("utf-8") == once
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert "old" not in once
    assert "| W1 read & more | ours | 16 | 4,000 requests/s | 3 / 5 / 9.5 | 1 | 150 / - / 20 |" in once
    assert "- ours, W10: 404: nothing here" in once


def test_the_table_of_searches_shows_each_size_and_the_growth() -> None:
    """One row a search, one column a size."""
    times = {"p50": 0.5, "p99": 2.0, "postgres_cpu_us": 300, "hits": 7.5}
    result = {
        "machine": RESULT["machine"],
        "rounds": 200,
        "load": [{"to": "100", "per_second": 5000}, {"to": "1000", "per_second": 4000}],
        "searches": {"by patient": {"100": times, "1000": times | {"p50": 5.0}, "growth": 10.0}},
    }
    table = report.searches(result)
    assert "| search | 100 | 1000 | growth |" in table
    assert "| by patient | 0.5 / 2 | 5 / 2 | 10.0 | 300 | 7.5 |" in table
    assert "5,000/s to 100" in table


def test_samples_are_told_as_shares_of_the_whole() -> None:
    """Per cent of all samples, and how many there were."""
    told = shares({"samples": 200, "own": [("a", 50)], "with_called": [("b", 199)]})
    assert told == {"samples": 200, "own": {"a": 25.0}, "with_called": {"b": 99.5}}
    assert shares({"samples": 0, "own": [], "with_called": []})["samples"] == 0


def test_processor_time_is_counted_from_when_it_is_watched() -> None:
    """A process that comes later counts whole, one that ends counts for nothing, and nothing is ever negative."""
    me = psutil.Process()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    there = [me, psutil.Process(sleeper.pid)]
    spent = Spent(lambda: there)
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    sleeper.kill()
    sleeper.wait()
    assert 0.03 <= spent.seconds() < 5
