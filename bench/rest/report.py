"""The results of `bench rest` and `bench searches` as tables in docs/performance.md, the former with a chart beside it.

    python -m bench report [FILE]

The chart is one SVG without anything from outside. A bar is the throughput as a share of the best in its workload; the
line on the right goes from the median latency to the 99th percentile, on a logarithmic scale.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from bench.measure import RESULTS

DOCS: Final = RESULTS.parents[1] / "docs"
PAGE: Final = DOCS / "performance.md"
CHART: Final = DOCS / "performance_rest.svg"
MARKS: Final = ("<!-- bench {}: begin -->", "<!-- bench {}: end -->")

ROW, LEFT, BAR, SCALE, WIDTH = 22, 300, 240, 240, 960
COLOURS: Final = ("#20639b", "#c2571a", "#3c8d5a", "#7a4ea3")
SHORTEST, LONGEST = 0.1, 10_000.0


@dataclass(frozen=True, slots=True)
class Line:
    """One run of one workload on one server."""

    workload: str
    title: str
    server: str
    run: Mapping[str, Any]

    @property
    def rate(self) -> float:
        return self.run.get("resources_per_second") or self.run.get("per_second") or 0.0

    @property
    def unit(self) -> str:
        return "resources/s" if "resources_per_second" in self.run else "requests/s"

    def cpu(self, of: str) -> str:
        """Microseconds of a resource or request, or a dash where nobody could look."""
        found = [value for name, value in self.run.items() if name.startswith(f"{of}_cpu_us_per_")]
        return str(found[0]) if found else "-"


def publish(file: Path) -> None:
    """Put the table of a result between its marks on the page, and draw the chart of workloads."""
    result = json.loads(file.read_text("utf-8"))
    if "searches" in result:
        _between("searches", searches(result))
        return
    rows = list(lines(result))
    CHART.write_text(chart(rows), "utf-8")
    _between("rest", page(result, rows))


def _between(name: str, text: str) -> None:
    begin, end = MARKS[0].format(name), MARKS[1].format(name)
    head, _, rest = PAGE.read_text("utf-8").partition(begin)
    PAGE.write_text(f"{head}{begin}\n{text}{end}{rest.partition(end)[2]}", "utf-8")


def main(arguments: Sequence[str]) -> None:
    for file in map(Path, arguments or [str(RESULTS / "rest.json"), str(RESULTS / "searches.json")]):
        publish(file)


def searches(result: Mapping[str, Any]) -> str:
    """The Markdown of `bench searches`: median and 99th percentile at each size, and how the median grows."""
    sizes = [loaded["to"] for loaded in result["load"]]
    load = ", ".join(f"{one['per_second']:,}/s to {one['to']}" for one in result["load"])
    machine = result["machine"]
    text = [
        f"{machine['at'][:10]}, {machine['cores']} cores, load average {machine['load_average'][0]} before, "
        f"{result['rounds']} rounds, p50 / p99 in ms. Loading with index rows by COPY: {load}.",
        "",
        "| search | " + " | ".join(sizes) + " | growth | PostgreSQL CPU us | hits |",
        "| --- " * (len(sizes) + 4) + "|",
    ]
    for name, by_size in result["searches"].items():
        cells = [f"{by_size[size]['p50']:g} / {by_size[size]['p99']:g}" for size in sizes]
        last = by_size[sizes[-1]]
        ending = f"{by_size.get('growth', '-')} | {last.get('postgres_cpu_us', '-')} | {last['hits']}"
        text.append(f"| {name} | {' | '.join(cells)} | {ending} |")
    return "\n".join([*text, ""])


def lines(result: Mapping[str, Any]) -> Iterator[Line]:
    """Every run, by workload and then by server."""
    servers: Mapping[str, Any] = result["servers"]
    codes = {code: workload["title"] for server in servers.values() for code, workload in server["workloads"].items()}
    for code, title in codes.items():
        for name, server in servers.items():
            for run in server["workloads"].get(code, {}).get("runs", []):
                yield Line(code, title, name, run)


def page(result: Mapping[str, Any], rows: Sequence[Line]) -> str:
    """The Markdown between the marks."""
    machine, settings = result["machine"], result["settings"]
    servers = ", ".join(f"{name} ({server['software']})" for name, server in result["servers"].items())
    text = [
        f"{machine['at'][:10]}, {machine['cores']} cores, {machine['memory_gib']} GiB, load average "
        f"{machine['load_average'][0]} before; the disk makes {result['flushes']['per_second']} flushes a second. "
        f"{servers}. {settings['repeat']} runs of {settings['seconds']:g} s, {settings['warm_up']:g} s to warm up, "
        "of which the one of median rate is shown. CPU is in us a request, or a resource where that is the rate.",
        "",
        "![Throughput and latency of each workload](performance_rest.svg)",
        "",
        "| workload | server | clients | rate | p50 / p95 / p99 ms | errors | CPU us: server / PostgreSQL / client |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *map(_row, rows),
        "",
    ]
    notes = dict.fromkeys(f"- {line.server}, {line.workload}: {note}" for line in rows for note in _notes(line))
    return "\n".join([*text, *notes, ""] if notes else text)


def _row(line: Line) -> str:
    run = line.run
    start = f"| {line.workload} {line.title} | {line.server} | {run['clients']} |"
    if "missing" in run:
        return f"{start} not offered | | | |"
    latency = " / ".join(f"{run[name]:g}" for name in ("p50", "p95", "p99")) if "p50" in run else "-"
    cpu = " / ".join(line.cpu(of) for of in ("server", "postgres", "client"))
    return f"{start} {line.rate:,.0f} {line.unit} | {latency} | {run['errors']} | {cpu} |"


def _notes(line: Line) -> list[str]:
    return [*([line.run["missing"]] if "missing" in line.run else []), *line.run.get("notes", [])]


def chart(rows: Sequence[Line]) -> str:
    """The SVG of all runs that came to an end."""
    shown = [line for line in rows if line.rate]
    servers = list(dict.fromkeys(line.server for line in shown))
    best = {line.workload: max(one.rate for one in shown if one.workload == line.workload) for line in shown}
    height = 60 + ROW * (len(shown) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_legend(servers),
        *_grid(height),
    ]
    for number, line in enumerate(shown):
        parts += _bar(line, 52 + ROW * number, line.rate / best[line.workload], COLOURS[servers.index(line.server) % 4])
    return "\n".join([*parts, "</svg>", ""])


def _legend(servers: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(servers):
        yield f'<rect x="{10 + 180 * number}" y="8" width="12" height="12" fill="{COLOURS[number % 4]}"/>'
        yield f'<text x="{28 + 180 * number}" y="18">{escape(name)}</text>'
    yield f'<text x="{LEFT}" y="40">throughput</text><text x="{LEFT + BAR + 140}" y="40">latency, ms: p50 to p99</text>'


def _grid(height: int) -> Iterator[str]:
    decade = SHORTEST
    while decade <= LONGEST:
        x = _at(decade)
        yield f'<line x1="{x:.1f}" y1="46" x2="{x:.1f}" y2="{height - 24}" stroke="#dddddd"/>'
        yield f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle" fill="#666666">{decade:g}</text>'
        decade *= 10


def _at(milliseconds: float) -> float:
    """The place of a latency on the logarithmic scale."""
    bounded = min(max(milliseconds, SHORTEST), LONGEST)
    return LEFT + BAR + 140 + SCALE * math.log10(bounded / SHORTEST) / math.log10(LONGEST / SHORTEST)


def _bar(line: Line, top: int, share: float, colour: str) -> Iterator[str]:
    name = f"{line.workload} {line.title.partition(':')[0]}"
    clients = f" ({line.run['clients']})"
    yield f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(name[:38])}{clients}</text>'
    yield f'<rect x="{LEFT}" y="{top + 3}" width="{BAR * share:.1f}" height="{ROW - 6}" fill="{colour}"/>'
    yield f'<text x="{LEFT + BAR * share + 6:.1f}" y="{top + 15}">{line.rate:,.0f} {line.unit}</text>'
    if "p50" in line.run:
        start, end, middle = _at(line.run["p50"]), _at(line.run["p99"]), top + ROW / 2
        yield f'<line x1="{start:.1f}" y1="{middle}" x2="{end:.1f}" y2="{middle}" stroke="{colour}" stroke-width="2"/>'
        yield f'<circle cx="{start:.1f}" cy="{middle}" r="4" fill="{colour}"/>'
