"""What is counted: plain numbers that cost less than a microsecond each, read when somebody scrapes them.

The numbers are those of one process. Histograms belong to its event loop; counters may be added to from its threads.
No label says anything of a person: labels are interactions, resource types, states, and the names of recipients that
the operator gave.
https://prometheus.io/docs/practices/naming/
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fhir_server.traces import NO_TRACES, Traces

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float]]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Counter:
    """Numbers that only grow, one for each set of labels."""

    __slots__ = ("_lock", "values")

    def __init__(self) -> None:
        self.values: dict[Labels, float] = {}
        self._lock = Lock()

    def add(self, labels: Labels, amount: float = 1) -> None:
        with self._lock:
            self.values[labels] = self.values.get(labels, 0) + amount


class Histogram:
    """How many observations fell below each bound, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """(bound, observations up to it), as the exposition format wants them."""
        names = [*(format(bound, "g") for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class Metrics:
    """The numbers of one process. Each part counts into those that it is given, and times its work with `traces`."""

    def __init__(self) -> None:
        self.traces: Traces = NO_TRACES
        self.requests = Counter()
        self.request_seconds: dict[str, Histogram] = {}
        self.in_flight = 0
        self.pool_wait_seconds = Histogram(SECONDS)
        self.commit_units = Histogram(SIZES)
        self.commit_seconds = Histogram(SECONDS)
        self.audit_rows = Histogram(SIZES)
        self.search_seconds = Histogram(SECONDS)
        self.identity_candidates = Histogram(SIZES)
        self.identity_parts_capped = Counter()
        self.blob_bytes = Counter()
        self.delivery_attempts = Counter()
        self.pools: list[Callable[[], Samples]] = []
        self.audit_waiting: Callable[[], int] = lambda: 0
        self.replica_age: Callable[[], Samples] = lambda: ()
        self.queues: Mapping[str, Samples] = {}
        """What the database said of its queues at the last scrape: family name -> samples."""

    def request(self, interaction: str, resource_type: str, status: int, seconds: float) -> None:
        """One request was answered; the labels are of tables, never of what a client sent."""
        self.requests.add((interaction, resource_type, f"{status // 100}xx"))
        histogram = self.request_seconds.get(interaction)
        if histogram is None:
            histogram = self.request_seconds[interaction] = Histogram(SECONDS)
        histogram.observe(seconds)


def _pools(metrics: Metrics) -> Samples:
    return [sample for pool in metrics.pools for sample in pool()]


_Numbers = Callable[[Metrics], Samples]
# What is exposed: (name without `dmst_fhir_`, what it is, labels, where its samples are)
COUNTERS: Final[tuple[tuple[str, str, Labels, _Numbers], ...]] = (
    (
        "requests",
        "Requests answered",
        ("interaction", "type", "status"),
        lambda m: m.requests.values.items(),
    ),
    ("blob_bytes", "Bytes of documents written and read", ("direction",), lambda m: m.blob_bytes.values.items()),
    (
        "delivery_attempts",
        "What attempts to deliver came to, in this process",
        ("recipient", "event"),
        lambda m: m.delivery_attempts.values.items(),
    ),
    (
        "identity_parts_capped",
        "Parts of an identity that more workers share than were looked at",
        (),
        lambda m: m.identity_parts_capped.values.items(),
    ),
)
GAUGES: Final[tuple[tuple[str, str, Labels, _Numbers], ...]] = (
    ("requests_in_flight", "Requests that are being answered", (), lambda m: [((), m.in_flight)]),
    ("database_connections", "PostgreSQL connections", ("database", "state"), _pools),
    ("audit_waiting", "Audit rows that wait for the disk", (), lambda m: [((), m.audit_waiting())]),
    ("replica_age_seconds", "How old what the replica surely holds is", (), lambda m: m.replica_age()),
    ("deliveries", "Deliveries in each state", ("recipient", "state"), lambda m: m.queues.get("deliveries", ())),
    (
        "delivery_oldest_waiting_seconds",
        "Age of the oldest delivery that has not left",
        ("recipient",),
        lambda m: m.queues.get("delivery_oldest_waiting_seconds", ()),
    ),
    ("review_folders", "Folders that wait for a person", (), lambda m: m.queues.get("review_folders", ())),
    ("jobs", "Background jobs", ("task", "status"), lambda m: m.queues.get("jobs", ())),
    (
        "queues_known",
        "1 where the database told of deliveries, folders and jobs, else 0",
        (),
        lambda m: m.queues.get("queues_known", ()),
    ),
)
HISTOGRAMS: Final[tuple[tuple[str, str, Labels, Callable[[Metrics], Iterable[tuple[Labels, Histogram]]]], ...]] = (
    (
        "request_seconds",
        "Time until the answer is complete",
        ("interaction",),
        lambda m: [((name,), histogram) for name, histogram in m.request_seconds.items()],
    ),
    ("database_wait_seconds", "Wait for a connection", (), lambda m: [((), m.pool_wait_seconds)]),
    ("commit_units", "Units of change in one commit", (), lambda m: [((), m.commit_units)]),
    ("commit_seconds", "Time of one commit of a group", (), lambda m: [((), m.commit_seconds)]),
    ("audit_rows", "Audit rows of reads in one group", (), lambda m: [((), m.audit_rows)]),
    ("search_seconds", "Time of one page of a search in the store", (), lambda m: [((), m.search_seconds)]),
)


class _Exposed(Collector):
    """The tables above as Prometheus reads them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for name, text, labels, samples in COUNTERS:
            counter = CounterMetricFamily(f"dmst_fhir_{name}", text, labels=labels)
            for values, number in samples(self._metrics):
                counter.add_metric(values, number)
            yield counter
        for name, text, labels, samples in GAUGES:
            gauge = GaugeMetricFamily(f"dmst_fhir_{name}", text, labels=labels)
            for values, number in samples(self._metrics):
                gauge.add_metric(values, number)
            yield gauge
        for name, text, labels, histograms in HISTOGRAMS:
            family = HistogramMetricFamily(f"dmst_fhir_{name}", text, labels=labels)
            for values, histogram in histograms(self._metrics):
                family.add_metric(values, histogram.buckets(), histogram.sum)
            yield family


def registry_of(metrics: Metrics) -> CollectorRegistry:
    """These numbers with those of the process: memory, CPU, file descriptors, garbage collection, Python."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exposed(metrics))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
