"""What may be lost: counters, live progress, sessions of persons, what must not be used twice, in Redis or Valkey.

Nothing here is true, only useful: when Redis is gone, attempts are counted in this process alone and progress
is not shown, nobody logs in and no signed assertion is taken, and everything else goes on (docs/adr/0002).
"""

import time
from collections import defaultdict

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from fhir_server.outcomes import Unavailable

log = structlog.get_logger(__name__)

MINUTE = 60
PROGRESS_SECONDS = 3600


class Transient:
    """Counters and progress."""

    def __init__(self, redis: Redis, *, tenant: int = 0) -> None:
        self._redis = redis
        self._prefix = f"dmst-fhir:{tenant}"
        self._here: dict[str, int] = defaultdict(int)

    async def close(self) -> None:
        await self._redis.aclose()

    async def answers(self) -> bool:
        try:
            return bool(await self._redis.ping())
        except (RedisError, OSError):
            return False

    async def count(self, what: str, *, add: int = 0) -> int:
        """How often `what` happened in this minute, after adding `add`."""
        key = f"{self._prefix}:count:{what}:{int(time.time()) // MINUTE}"
        try:
            if not add:
                return int(await self._redis.get(key) or 0)
            async with self._redis.pipeline() as pipeline:
                pipeline.incrby(key, add)
                pipeline.expire(key, 2 * MINUTE)
                return int((await pipeline.execute())[0])
        except (RedisError, OSError):
            log.warning("redis is out of reach, counting in this process alone")
            if len(self._here) > 10_000:
                self._here.clear()
            self._here[key] += add
            return self._here[key]

    async def first_time(self, what: str, seconds: int) -> bool:
        """Whether `what` is seen for the first time in `seconds`. Raises Unavailable where nobody could tell."""
        try:
            return bool(await self._redis.set(f"{self._prefix}:once:{what}", b"1", nx=True, ex=max(seconds, 1)))
        except (RedisError, OSError):
            raise Unavailable("Redis, which remembers what was used already, is out of reach") from None

    async def keep(self, what: str, value: bytes, seconds: int) -> None:
        """Keep a value for a while. Raises Unavailable."""
        try:
            await self._redis.set(f"{self._prefix}:kept:{what}", value, ex=max(seconds, 1))
        except (RedisError, OSError):
            raise Unavailable("Redis, which holds the sessions, is out of reach") from None

    async def kept(self, what: str, *, prolong: int | None = None) -> bytes | None:
        """A value that was kept, while its time lasts, which `prolong` begins anew. Raises Unavailable."""
        key = f"{self._prefix}:kept:{what}"
        try:
            return _bytes(await (self._redis.getex(key, ex=prolong) if prolong else self._redis.get(key)))
        except (RedisError, OSError):
            raise Unavailable("Redis, which holds the sessions, is out of reach") from None

    async def take(self, what: str) -> bytes | None:
        """The same, and it is kept no more: of several who ask, one gets it. Raises Unavailable."""
        try:
            return _bytes(await self._redis.getdel(f"{self._prefix}:kept:{what}"))
        except (RedisError, OSError):
            raise Unavailable("Redis, which holds the sessions, is out of reach") from None

    async def gather(self, what: str, member: str, seconds: int) -> None:
        """Add to a set that is kept for a while. Raises Unavailable."""
        key = f"{self._prefix}:set:{what}"
        try:
            async with self._redis.pipeline() as pipeline:
                pipeline.sadd(key, member)
                pipeline.expire(key, max(seconds, 1))
                await pipeline.execute()
        except (RedisError, OSError):
            raise Unavailable("Redis, which holds the sessions, is out of reach") from None

    async def gathered(self, what: str) -> list[str]:
        """The members of a set, in order. Raises Unavailable."""
        try:
            members = await self._redis.smembers(f"{self._prefix}:set:{what}")
        except (RedisError, OSError):
            raise Unavailable("Redis, which holds the sessions, is out of reach") from None
        return sorted(one.decode() if isinstance(one, bytes) else one for one in members)

    async def show_progress(self, lot: str, done: int, of: int) -> None:
        """Tell whoever looks how far a lot has come."""
        try:
            await self._redis.set(f"{self._prefix}:progress:{lot}", f"{done}/{of}", ex=PROGRESS_SECONDS)
        except (RedisError, OSError):
            log.debug("progress not shown: redis is out of reach")

    async def progress(self, lot: str) -> tuple[int, int] | None:
        """(done, of) of a lot under way, None when nobody knows."""
        try:
            text = await self._redis.get(f"{self._prefix}:progress:{lot}")
        except (RedisError, OSError):
            return None
        if not text:
            return None
        done, _, of = str(text, "ascii").partition("/") if isinstance(text, bytes) else text.partition("/")
        return int(done), int(of)


def _bytes(value: object) -> bytes | None:
    return value if isinstance(value, bytes) else None
