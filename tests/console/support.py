"""A console with folders that wait, and persons who log in to it at a real provider (Authlib) on loopback."""

import contextlib
import html
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import SecretStr

from fhir_server.app import Parts, build
from fhir_server.settings import Settings
from fhir_server.store.role_editions import in_days
from tests.peers.oidc_provider import CLIENT_ID, SECRET, AuthlibProvider
from tests.stories.support import SAMPLES, Provider
from tests.support import Server, serving

DOCTOR, NURSE, ASSISTANT, NOBODY = "89970000108", "89970000207", "assistante-c07", "direction-c07"
ROLE_OF = {DOCTOR: "medecin-travail", NURSE: "infirmier", ASSISTANT: "assistant", NOBODY: "direction"}
ROLES = '[second_factor]\namr = ["otp"]\n' + "".join(
    f'[[role]]\nrole = "{role}"\nscopes = ["system/*.rs"]\npurpose = "TREAT"\n[role.when]\nSubjectNameID = ["{who}"]\n'
    for who, role in ROLE_OF.items()
)
ORIGIN = "https://test"
WAITING = ("100000104", "100000106", "100000107")
"""Folders of the samples that no rule attaches: two workers, a provisional identity, a twin."""


def with_login(issuer: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Settings of a service whose persons log in at this provider."""
    file = folder / "people.toml"
    file.write_text(ROLES)
    return {
        "base_url": f"{ORIGIN}/fhir",
        "login_issuer": issuer,
        "login_client_id": CLIENT_ID,
        "login_client_secret": SecretStr(SECRET),
        "login_roles": file,
        "outbound_loopback": True,
        "seal": "optional",
        "inspectors": 1,
        **more,
    }


@dataclass
class Office:
    """The service at work: its parts, its application, who logs in, and the provider of scans."""

    parts: Parts
    server: Server
    people: AuthlibProvider
    scans: Provider

    async def deliver(self, *barcodes: str, **more: Any) -> str:
        """A lot with these folders of the samples; returns its name."""
        return (await self.parts.lots.receive(self.scans.lot(*barcodes, sealed=False, **more))).lot

    async def person(self, who: str) -> "Person":
        """Somebody who has logged in."""
        http = httpx.AsyncClient(transport=httpx.ASGITransport(self.server.app), base_url=ORIGIN)
        person = Person(await self.server.stack.enter_async_context(http), self, who)
        await person.log_in("/console")
        return person

    async def trail(self, query: str) -> list[tuple[Any, ...]]:
        """(professional, interaction, outcome, query) of accesses to folders whose query is like this one."""
        rows = "select professional, interaction, outcome, query from access where query like %s order by id"
        return await self.server.rows(rows, query)


@dataclass
class Person:
    """A browser without scripts."""

    http: httpx.AsyncClient
    office: Office
    who: str

    async def log_in(self, back: str) -> httpx.Response:
        self.office.people.claims = {"sub": self.who, "SubjectNameID": self.who, "amr": ["otp"]}
        begun = await self.http.get("/login", params={"back": back})
        async with httpx.AsyncClient() as elsewhere:
            answered = await elsewhere.get(begun.headers["location"])
        return await self.http.get(answered.headers["location"])

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(path, follow_redirects=True)

    async def lines(self, query: str = "") -> dict[str, str]:
        """Number of the folder -> its address, as the queue shows them."""
        text = (await self.get(f"/console{query}")).text
        return {number: html.unescape(href) for href, number in re.findall(r'<a href="([^"]+)" data-line>(\d+)<', text)}

    async def open(self, number: str) -> "Opened":
        """A folder out of the queue."""
        href = (await self.lines())[number]
        return Opened(self, href, (await self.get(href)).text)


@dataclass
class Opened:
    """The page of a folder."""

    person: Person
    href: str
    text: str

    @property
    def folder(self) -> str:
        return self.href.partition("?")[0]

    @property
    def offered(self) -> list[str]:
        return re.findall(r'name="decision" value="([a-z-]+)"', self.text)

    def fields(self, decision: str) -> dict[str, str]:
        """What the form of a decision holds, as it is sent without a change."""
        form = next(one for one in re.findall(r"<form.*?</form>", self.text, re.DOTALL) if f'value="{decision}"' in one)
        found = dict(re.findall(r'<input type="hidden" name="([a-z]+)" value="([^"]*)"', form))
        if chosen := re.search(r'name="patient" value="([^"]*)"[^>]*checked', form):
            found["patient"] = chosen[1]
        return {name: html.unescape(value) for name, value in found.items()}

    async def send(self, decision: str, /, **changes: Any) -> httpx.Response:
        """Send the form; where it is not offered, as somebody would who wrote it himself."""
        fields = self.fields(decision) if decision in self.offered else self.forged(decision)
        return await self.person.http.post(f"{self.folder}/decisions", data={**fields, **changes})

    def forged(self, decision: str) -> dict[str, str]:
        csrf = re.search(r'name="csrf" value="([^"]+)"', self.text)
        assert csrf
        return {"csrf": csrf[1], "decision": decision, "seen": "0", "file": ""}


def query_of(answer: httpx.Response) -> dict[str, list[str]]:
    """The query of where an answer leads."""
    return parse_qs(urlsplit(answer.headers["location"]).query)


@contextlib.asynccontextmanager
async def office(
    make_settings: Callable[..., Settings], folder: Path, people: AuthlibProvider, **more: Any
) -> AsyncGenerator[Office]:
    """A service with the register of the samples and a lot in which three folders wait."""
    settings = make_settings(**with_login(people.url, folder, **more))
    scans = folder / "scans"
    scans.mkdir()
    async with build(settings) as parts, serving(settings) as server:
        await parts.register.import_csv((SAMPLES / "workers.csv").read_bytes())
        await parts.role_editions.delegate(ASSISTANT, DOCTOR, *in_days(1))
        one = Office(parts, server, people, Provider(None, scans))  # pyright: ignore[reportArgumentType]
        await one.deliver(*WAITING)
        yield one


Offices = AsyncIterator[Office]
