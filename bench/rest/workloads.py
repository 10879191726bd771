"""The table of workloads: what each asks, and whose definition it follows."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from bench.rest import bulk, bundles, mixes
from bench.rest.driver import Book, Iterate, Watch
from bench.rest.mixes import Ground
from bench.rest.population import WRITERS


@dataclass(frozen=True, slots=True)
class Timed:
    """Repeated by every client until the time is over; `prepare` may ask what the server can do, and raises Missing."""

    code: str
    title: str
    prepare: Callable[[Ground], Awaitable[Iterate]]


@dataclass(frozen=True, slots=True)
class Whole:
    """Done once, to the end, by so many clients: the wall time is the result."""

    code: str
    title: str
    clients: int
    run: Callable[[Ground, Watch], Awaitable[Book]]


Workload = Timed | Whole

_ALL: Final[tuple[Workload, ...]] = (
    Timed("W1", "read by id, random", mixes.read_by_id),
    Timed("W2", "create Patient", mixes.create_patient),
    Timed("W3", "transaction of Patient and Observation", bundles.transaction_of_two),
    Timed("W4", "transaction of Patient, Encounter, two Observations", bundles.transaction_of_four),
    Timed("W5", "read mix: 45 % read, 50 % searches, 5 % history", mixes.read_mix),
    Timed("W6", "CRUD mix: 10 % create, 60 % read, 25 % update, 5 % delete", mixes.crud_mix),
    Timed("W7", "chain of 9 linked resources, 36 requests", bundles.crud_chain),
    Timed("W8", "search families, 100 a page", mixes.search_families),
    Whole("W9", "100 patients, one transaction each", WRITERS, bundles.whole_patients),
    Whole("W10", "$export of everything", bulk.DOWNLOADS, bulk.export),
    Timed("W11", "documents: 60 % search, 20 % range of a scan, 15 % ITI-65, 5 % $docref", mixes.document_mix),
)
WORKLOADS: Final[dict[str, Workload]] = {workload.code: workload for workload in _ALL}
