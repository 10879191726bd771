"""Work that waits at the same moment travels together: one round trip, one commit, for many callers.

No timer: a batch is what gathered while the one before it was under way, so an idle server answers at once
and a busy one shares its disk flushes (docs/adr/0002).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Calls `process` with the items that wait, at most `largest` at once, in at most `lanes` tasks.

    `process` answers one result or exception per item, in order; if it raises, every item of the batch gets
    that exception. `keys_of` names what an item touches: two items that touch the same thing are never in
    one batch.
    """

    def __init__(
        self,
        process: Callable[[list[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        largest: int,
        lanes: int = 1,
        keys_of: Callable[[Item], Iterable[Hashable]] = lambda _item: (),
    ) -> None:
        self._process = process
        self._largest = largest
        self._lanes = lanes
        self._keys_of = keys_of
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._busy = 0  # a task leaves `_running` a turn after its loop has ended: this says who still looks

    async def submit(self, item: Item) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._busy < self._lanes:
            self._busy += 1
            task = asyncio.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await future

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._waiting)

    async def drain(self) -> None:
        """Return when nothing waits and nothing is under way."""
        while self._running:
            await asyncio.wait(self._running)

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # let those who are ready in this turn of the loop come along
            while self._waiting:
                await self._process_batch(self._gather())
        finally:
            self._busy -= 1

    async def _process_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._process([item for item, _ in batch])
        except asyncio.CancelledError as error:
            self._settle(batch, [error] * len(batch))
            raise
        except Exception as error:
            results = [error] * len(batch)
        self._settle(batch, results)

    def _gather(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        touched: set[Hashable] = set()
        later: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._largest:
            entry = self._waiting.popleft()
            keys = set(self._keys_of(entry[0]))
            if keys & touched:
                later.append(entry)
            else:
                batch.append(entry)
            touched |= keys  # an item that waits also holds back those behind it: order is kept per key
        self._waiting.extendleft(reversed(later))
        return batch

    @staticmethod
    def _settle(batch: list[tuple[Item, asyncio.Future[Result]]], results: Sequence[Result | BaseException]) -> None:
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
