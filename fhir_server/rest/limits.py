"""How often one client or person may ask: token buckets in this process, one for all requests and one for fishing.

Not in Redis, though what it counts may be lost: a look there would cost each read a round trip, where a bucket here
costs a microsecond. So a service of N processes allows up to N times as much, and a start forgets what was used.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from fhir_server.caller import MACHINE_ROLES, Caller
from fhir_server.outcomes import Throttled
from fhir_server.settings import Settings

MOST_KEPT: Final = 10_000
OF_PERSONS: Final = frozenset({"Patient", "Person", "RelatedPerson"})
TRAITS: Final = frozenset(
    {"name", "family", "given", "phonetic", "birthdate", "death-date", "identifier", "phone", "email", "telecom",
     "_filter", "_text", "_content"}
)  # fmt: skip
"""Parameters by which somebody looks for a person of whom he knows something (`address` and what begins so, too)."""


class Buckets:
    """A bucket for each name: a minute's worth, filled as time goes by."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> int:
        """0 where there was something to take, else the seconds until there is."""
        now = self._clock()
        left, then = self._left.get(name, (self._most, now))
        left = min(self._most, left + (now - then) * self._per_second)
        if left < 1:
            self._left[name] = (left, now)
            return max(1, math.ceil((1 - left) / self._per_second))
        self._left[name] = (left - 1, now)
        if len(self._left) > MOST_KEPT:
            self._left.popitem(last=False)
        return 0


class Limits:
    """Those of the settings."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._of_machines = Buckets(settings.client_requests_per_minute, clock)
        self._of_persons = Buckets(settings.person_requests_per_minute, clock)
        self._by_machines = Buckets(settings.client_identity_searches_per_minute, clock)
        self._by_persons = Buckets(settings.person_identity_searches_per_minute, clock)

    def request(self, caller: Caller) -> None:
        """One more request. Raises Throttled."""
        is_machine = caller.role in MACHINE_ROLES
        _take(self._of_machines if is_machine else self._of_persons, caller, "requests")

    def identity_search(self, caller: Caller) -> None:
        """One more search by what is known of a person. Raises Throttled."""
        is_machine = caller.role in MACHINE_ROLES
        _take(self._by_machines if is_machine else self._by_persons, caller, "searches by traits of a person")


def _take(buckets: Buckets, caller: Caller, what: str) -> None:
    if seconds := buckets.take(caller.client_id):
        raise Throttled(f"Too many {what} in a minute: go on in {seconds} s", retry_after=seconds)


def looks_for_a_person(resource_type: str | None, names: Iterable[str]) -> bool:
    """Whether a search with these parameters goes by traits of a person: of its type, or where a chain leads."""
    return any(_is_trait(resource_type, name) for name in names)


def _is_trait(resource_type: str | None, name: str) -> bool:
    if name.startswith("_has:"):
        return True
    *chain, last = name.split(".")
    code = last.partition(":")[0]
    if code not in TRAITS and not code.startswith("address"):
        return False
    return bool(chain) or resource_type is None or resource_type in OF_PERSONS
