"""Batching: what waits together travels together, and nobody is forgotten."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from fhir_server.store.batching import Batcher

IN_TIME = 20.0


async def test_an_item_alone_is_answered_at_once() -> None:
    """No timer stands between a lone caller and his answer."""
    batches: list[list[int]] = []

    async def double(items: list[int]) -> list[int]:
        batches.append(items)
        return [2 * item for item in items]

    batcher = Batcher(double, largest=8)
    assert await asyncio.wait_for(batcher.submit(21), 1) == 42
    assert batches == [[21]]


async def test_items_of_the_same_moment_travel_together_in_their_order() -> None:
    """Callers who are ready in the same turn share one batch, and each gets his own answer."""
    batches: list[list[int]] = []

    async def negate(items: list[int]) -> list[int]:
        batches.append(items)
        return [-item for item in items]

    batcher = Batcher(negate, largest=100)
    assert await asyncio.gather(*(batcher.submit(n) for n in range(30))) == [-n for n in range(30)]
    assert batches == [list(range(30))]


async def test_a_batch_is_never_larger_than_allowed() -> None:
    """What does not fit waits for the next one."""
    sizes: list[int] = []

    async def measure(items: list[int]) -> list[int]:
        sizes.append(len(items))
        await asyncio.sleep(0)
        return items

    await asyncio.gather(*(Batcher(measure, largest=7).submit(n) for n in range(1)))
    batcher = Batcher(measure, largest=7)
    await asyncio.gather(*(batcher.submit(n) for n in range(50)))
    assert max(sizes) == 7
    assert sum(sizes) == 51


async def test_no_more_lanes_run_than_allowed() -> None:
    """Two lanes are two batches at once, not three."""
    now, most = 0, 0

    async def hold(items: list[int]) -> list[int]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return items

    batcher = Batcher(hold, largest=3, lanes=2)
    await asyncio.gather(*(batcher.submit(n) for n in range(60)))
    assert most == 2


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("lanes", [1, 2, 3])
async def test_nothing_is_stuck_whenever_it_comes(seed: int, lanes: int) -> None:
    """Bursts at random turns of the loop, so that lanes end while others submit: every item is answered."""
    dice = random.Random(seed)

    async def process(items: list[int]) -> list[int]:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        return items

    batcher = Batcher(process, largest=5, lanes=lanes, keys_of=lambda item: [item % 4])

    async def caller(number: int) -> int:
        for _ in range(dice.randrange(40)):
            await asyncio.sleep(0)
        return await batcher.submit(number)

    callers = [caller(n) for n in range(300)]
    assert await asyncio.wait_for(asyncio.gather(*callers), IN_TIME) == list(range(300))


async def test_who_submits_when_the_lane_has_just_ended_is_answered() -> None:
    """A caller that was woken by the last answer submits in the very turn in which the lane goes away."""

    async def echo(items: list[int]) -> list[int]:
        return items

    batcher = Batcher(echo, largest=4)

    async def again_and_again() -> list[int]:
        return [await batcher.submit(number) for number in range(500)]

    answers = await asyncio.wait_for(asyncio.gather(again_and_again(), again_and_again()), IN_TIME)
    assert answers == [list(range(500))] * 2


async def test_items_that_touch_the_same_thing_never_share_a_batch() -> None:
    """Neither in one batch..."""
    batches: list[list[tuple[str, int]]] = []

    async def note(items: list[tuple[str, int]]) -> list[None]:
        batches.append(items)
        await asyncio.sleep(0)
        return [None] * len(items)

    batcher = Batcher(note, largest=10, keys_of=lambda item: [item[0]])
    await asyncio.gather(*(batcher.submit((key, n)) for n in range(5) for key in "abc"))
    assert all(len({key for key, _ in batch}) == len(batch) for batch in batches)


async def test_order_is_kept_per_key() -> None:
    """...nor out of the order in which they came, although items of other keys overtake them."""
    seen: dict[str, list[int]] = {}

    async def note(items: list[tuple[tuple[str, ...], int]]) -> list[None]:
        for keys, number in items:
            for key in keys:
                seen.setdefault(key, []).append(number)
        await asyncio.sleep(0)
        return [None] * len(items)

    dice = random.Random(7)
    batcher = Batcher(note, largest=6, keys_of=lambda item: item[0])
    items = [(tuple(dice.sample("abcd", dice.randint(1, 3))), n) for n in range(200)]
    await asyncio.wait_for(asyncio.gather(*(batcher.submit(item) for item in items)), IN_TIME)
    assert all(numbers == sorted(numbers) for numbers in seen.values())


async def test_an_exception_raised_goes_to_every_item_of_the_batch() -> None:
    """And the next batch is none the worse for it."""
    first = True

    async def fail_once(items: list[int]) -> list[int]:
        nonlocal first
        if first:
            first = False
            raise ValueError("the whole batch")
        return items

    batcher = Batcher(fail_once, largest=10)
    results = await asyncio.gather(*(batcher.submit(n) for n in range(4)), return_exceptions=True)
    assert [str(result) for result in results] == ["the whole batch"] * 4
    assert await batcher.submit(5) == 5


async def test_an_exception_answered_goes_to_its_item_alone() -> None:
    """The neighbours of a failure get their results."""

    async def odd_fails(items: list[int]) -> Sequence[int | BaseException]:
        return [ValueError(str(item)) if item % 2 else item for item in items]

    batcher = Batcher(odd_fails, largest=10)
    results = await asyncio.gather(*(batcher.submit(n) for n in range(4)), return_exceptions=True)
    assert [results[0], str(results[1]), results[2], str(results[3])] == [0, "1", 2, "3"]


async def test_a_caller_who_leaves_does_not_disturb_the_others() -> None:
    """A cancelled request has its item processed, and nobody waits for it."""
    processed: list[int] = []

    async def slow(items: list[int]) -> list[int]:
        await asyncio.sleep(0.01)
        processed.extend(items)
        return items

    batcher = Batcher(slow, largest=10)
    leaves, stays = asyncio.ensure_future(batcher.submit(1)), asyncio.ensure_future(batcher.submit(2))
    await asyncio.sleep(0.001)
    leaves.cancel()
    assert await stays == 2
    assert processed == [1, 2]


async def test_drain_returns_when_all_is_done() -> None:
    """Nothing waits and nothing is under way."""
    done: list[int] = []

    async def slow(items: list[int]) -> list[int]:
        await asyncio.sleep(0.002)
        done.extend(items)
        return items

    batcher = Batcher(slow, largest=2, lanes=2)
    waiting = [asyncio.ensure_future(batcher.submit(n)) for n in range(9)]
    await asyncio.sleep(0)
    await batcher.drain()
    assert sorted(done) == list(range(9))
    assert all(future.done() for future in waiting) or await asyncio.gather(*waiting)


async def test_drain_of_an_idle_batcher_returns_at_once() -> None:
    """There is nothing to wait for."""

    async def never(items: list[int]) -> list[int]:
        raise AssertionError(items)

    await asyncio.wait_for(Batcher(never, largest=1).drain(), 1)
