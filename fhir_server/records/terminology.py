"""Questions of terminology on behalf of a caller: which definitions he may use, and what they answer.

https://hl7.org/fhir/R4/terminology-service.html - who asks of a value set needs `r` on ValueSet and on CodeSystem, of a
code system on CodeSystem, of a concept map on ConceptMap; whether something is kept is not told to anybody else.
"""

import asyncio
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fhir_server.caller import Caller
from fhir_server.outcomes import BadParameter, DanglingReference, Incomputable, NotFound, TooCostly
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records import audit
from fhir_server.records.read import Archive
from fhir_server.store.definitions import Definition
from terminology import code_system, problems
from terminology.code_system import CodeSystem
from terminology.library import Json, Library, chosen, split

Answer = TypeVar("Answer")

USED_BY: Final = {"ValueSet": ("ValueSet", "CodeSystem"), "CodeSystem": ("CodeSystem",), "ConceptMap": ("ConceptMap",)}
"""The types that a question about one of these may make use of."""


@dataclass(frozen=True, slots=True)
class Which:
    """The definition that a question is about: one of `id`, `url` (with or without a version) and `inline`."""

    id: str | None = None
    url: str | None = None
    version: str | None = None
    inline: Json | None = None
    named_by: str = "url"
    """The parameter that has the URL."""


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks what; `operation` is its name, as `$expand`."""

    archive: Archive
    caller: Caller
    request_id: str
    operation: str

    async def value_set(self, which: Which) -> tuple[Json, Library]:
        """A value set and what it refers to. Raises Forbidden, NotFound, Gone, TooCostly."""
        found = await self._definition("ValueSet", which)
        assert not isinstance(found, CodeSystem)
        return found, await self.archive.definitions.library(value_sets=[found])

    async def code_system(self, which: Which) -> tuple[CodeSystem, Library]:
        """A code system with its supplements. Raises Forbidden, NotFound, Gone, TooCostly, Incomputable."""
        found = await self._definition("CodeSystem", which)
        assert isinstance(found, CodeSystem)
        if found.is_supplement:
            raise Incomputable("This is a supplement: ask the code system that it supplements", expression="content")
        return found, await self.archive.definitions.library(systems=[found.canonical])

    async def concept_maps(self, which: Which, systems: Collection[str], *, reverse: bool) -> Sequence[Json]:
        """One concept map; all that lead from one of these systems (reversed, to one) where none is named."""
        if which != Which():
            found = await self._definition("ConceptMap", which)
            assert not isinstance(found, CodeSystem)
            return [found]
        self._must_read("ConceptMap")
        await self._trace("ConceptMap", None)
        by_url: dict[str, list[Json]] = {}
        for one in await self.archive.definitions.concept_maps_between(systems, reverse=reverse):
            if one.get("status") != "retired":
                by_url.setdefault(one.get("url", one["id"]), []).append(one)
        return [one for versions in by_url.values() if (one := chosen(versions))]

    async def answered(self, work: Callable[..., Answer], *arguments: Any) -> Answer:
        """What the terminology says, worked out beside the requests of others.

        Raises DanglingReference, Incomputable, TooCostly.
        """
        with told():
            return await asyncio.to_thread(work, *arguments)

    async def _definition(self, resource_type: str, which: Which) -> Definition:
        self._must_read(resource_type)
        if which.id is not None:
            stored = await self.archive.read(self.caller, resource_type, which.id, self.request_id)
            return await self.archive.definitions.read(stored)
        await self._trace(resource_type, None)
        if which.inline is not None:
            is_system = resource_type == "CodeSystem"
            return await asyncio.to_thread(code_system.parse, which.inline) if is_system else which.inline
        assert which.url is not None
        return await self._named(resource_type, which)

    async def _named(self, resource_type: str, which: Which) -> Definition:
        url, stated = split(which.url or "")
        if stated and which.version not in (None, stated):
            raise BadParameter("The URL and the version name two versions", expression=which.named_by)
        version = which.version or stated
        definitions = self.archive.definitions
        match resource_type:
            case "ValueSet":
                found = chosen(await definitions.value_sets(url), version)
            case "ConceptMap":
                found = chosen(await definitions.concept_maps(url), version)
            case _:
                found = (await definitions.library(systems=[url])).code_system(url, version)
        if found is None:
            text = f"This server keeps no {resource_type} with that URL" + (" and version" if version else "")
            raise NotFound(text, expression=which.named_by)
        return found

    def _must_read(self, resource_type: str) -> None:
        for name in USED_BY[resource_type]:
            self.caller.must_wholly("r", name)

    async def _trace(self, resource_type: str, resource_id: str | None) -> None:
        assert resource_type in TYPE_NUMBER
        row = audit.access(
            self.caller,
            "operation",
            self.request_id,
            resource_type=resource_type,
            resource_id=resource_id,
            query=self.operation,
        )
        await self.archive.accesses.append(row)


@contextmanager
def told() -> Generator[None]:
    """A problem of terminology as a failure."""
    try:
        yield
    except problems.NotKept as problem:
        raise DanglingReference(str(problem), expression=problem.place) from problem
    except problems.Incomputable as problem:
        raise Incomputable(str(problem), expression=problem.place) from problem
    except problems.TooMuch as problem:
        raise TooCostly(str(problem), expression=problem.place) from problem
