"""The pages of the console: `/console` and what is below it, for persons with a session.

Every page is private and kept by nobody; whoever has no session logs in and comes back. What changes something is a
POST with the token of the session. Rights are those of `Review` and `ReviewPages`, which also trace; nothing here
decides who may see what.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from fhir_server.caller import Caller
from fhir_server.console import french
from fhir_server.console.actions import decision_of, is_same, may_undo, one_of, undo_reasons
from fhir_server.console.item import item_page, listed_pages, own_lines, shown_page
from fhir_server.console.places import Position, Sought, position_of
from fhir_server.console.queue import href_of, queue_page
from fhir_server.console.references import References
from fhir_server.console.rendering import PRIVATE, page, picture, static_answer
from fhir_server.console.visits import Visit, Visiting
from fhir_server.console.words import words
from fhir_server.intake.review import Review
from fhir_server.intake.review_pages import MEDIA_TYPE, ReviewPages
from fhir_server.outcomes import BadParameter, Conflict, Failure, Forbidden, NotFound, Throttled, TooLarge
from fhir_server.store.identity_events import PlaceInQueue

log = structlog.get_logger(__name__)

ON_A_PAGE: Final = 25
LARGEST_FORM: Final = 64 * 1024
STAYS: Final = frozenset({"not-this-worker", "non-transmissible", "back-to-review", "disagree"})
"""After these the folder still waits, and is shown again."""
MOST_NAMED: Final = 4
"""Recipients of a sentence; `dmst-fhir recall` lists all."""
OLD_FORM: Final = "old-form"
FORM: Final = "application/x-www-form-urlencoded"
Form = Mapping[str, list[str]]
Answering = Callable[[Request, Visit], Awaitable[Response]]


class _OldForm(Forbidden):
    """A form does not repeat the token of the session: it is of an earlier one, or of another site."""


@dataclass(frozen=True, slots=True)
class Console:
    """What the pages are made with. `form_targets`: origins to which the logout may lead; `admit` counts a request of
    somebody, and raises Throttled where he has made too many.
    """

    review: Review
    pages: ReviewPages
    visiting: Visiting
    references: References
    late_after: timedelta
    form_targets: str
    admit: Callable[[Caller], None]

    # what is shown

    async def queue(self, request: Request, visit: Visit) -> Response:
        asked = request.query_params
        sought = Sought(*(_code(asked.get(name)) for name in ("etat", "centre", "motif")))
        after = position_of(self.references, asked.get("suite")).place
        counts = await self.review.counts(visit.caller)
        queue = await self.review.waiting(visit.caller, sought.filters, after, ON_A_PAGE)
        shown = queue_page(
            queue,
            counts,
            sought,
            self.references,
            now=datetime.now(UTC),
            late_after=self.late_after,
            first=after == PlaceInQueue(),
        )
        return self._page("queue.html", visit, queue=shown, said=self._said(request, visit.caller))

    async def decisions(self, request: Request, visit: Visit) -> Response:
        """What he decided of late, to be taken back."""
        events = await self.review.own(visit.caller)
        lines = own_lines(events, visit.caller, self.references)
        return self._page("decisions.html", visit, lines=lines)

    async def item(self, request: Request, visit: Visit) -> Response:
        asked, caller = request.query_params, visit.caller
        lot, barcode = self._folder(request)
        item = await self.review.item(caller, lot, barcode)
        position = position_of(self.references, asked.get("file"))
        folder = href_of(self.references, lot, barcode)
        base = f"{folder}?{urlencode({'file': position.sealed(self.references)})}"
        documents = await self.pages.listed(caller, lot, barcode) if caller.review == "whole" or "doc" in asked else ()
        document, at = _number(asked.get("doc")), _number(asked.get("page"))
        view = shown_page(documents, folder, base, document, at) if document else None
        return self._page(
            "item.html",
            visit,
            item=item_page(item, caller, self.references, now=datetime.now(UTC), late_after=self.late_after),
            view=view,
            zone=f"{folder}/zone" if await self.pages.has_zone(caller, lot, barcode) else None,
            documents=listed_pages(documents, base, document),
            folder=folder,
            masked=base,
            position=position.sealed(self.references),
            queue=f"/console?{urlencode(position.sought.pairs)}",
            said=self._said(request, caller),
        )

    async def following(self, request: Request, visit: Visit) -> Response:
        """The folder after a place in the queue."""
        return await self._on(visit.caller, position_of(self.references, request.query_params.get("file")), "")

    async def zone(self, request: Request, visit: Visit) -> Response:
        return picture(await self.pages.zone(visit.caller, *self._folder(request)), MEDIA_TYPE)

    async def whole(self, request: Request, visit: Visit) -> Response:
        document, at = _number(request.path_params["document"]), _number(request.path_params["page"])
        return picture(await self.pages.page(visit.caller, *self._folder(request), document, at), MEDIA_TYPE)

    # what is decided

    async def decide(self, request: Request, visit: Visit) -> Response:
        """A form that is sent twice is one decision: the second finds what the first did, and says so."""
        form = await _form(request, visit)
        lot, barcode = self._folder(request)
        decision = decision_of(form)
        try:
            settled = await self.review.decide(visit.caller, lot, barcode, decision)
            event, second = settled.event_id, decision.kind == "attach" and settled.state == "second-opinion"
        except Conflict:
            before = await self.review.settled(visit.caller, lot, barcode, decision)
            if before is None:
                raise
            event, second = before.event_id, decision.kind == "attach" and before.kind != "attach"
        position = position_of(self.references, one_of(form, "file"))
        folder = href_of(self.references, lot, barcode)
        undone = "second-opinion-asked" if second or decision.kind == "ask-second-opinion" else decision.kind
        undone = "attach" if decision.kind == "confirm" else undone
        said = self.references.seal("said", "second" if second else decision.kind, event, undone, folder)
        if decision.kind in STAYS:
            return _to(f"{folder}?{urlencode({'file': position.sealed(self.references), 'fait': said})}")
        return await self._on(visit.caller, position, said, but=(lot, barcode))

    async def undo(self, request: Request, visit: Visit) -> Response:
        form = await _form(request, visit)
        event, _ = self.references.open("event", one_of(form, "event"))
        folder = one_of(form, "folder")
        if not folder.startswith("/console/dossiers/"):
            raise BadParameter("This form is not one of these pages", expression="folder")
        undone = await self.review.undo(visit.caller, event, one_of(form, "reason") or None)
        left = _few(sorted({row.recipient for row in undone.recall}))
        said = self.references.seal("said", "undo", None, None, left)
        return _to(f"{folder}?{urlencode({'file': one_of(form, 'file'), 'fait': said})}")

    # on the way

    async def _on(self, caller: Caller, position: Position, said: str, but: tuple[str, str] | None = None) -> Response:
        """To the next folder that he may settle, or to the queue where there is none soon after this place."""
        found = await self.review.waiting(caller, position.sought.filters, position.place, ON_A_PAGE)
        told = {"fait": said} if said else {}
        for one in found.folders:
            if (one.lot, one.barcode) != but and not is_same(one.asked_by, caller):
                further = Position(position.sought, PlaceInQueue(one.updated, one.lot, one.barcode))
                href = href_of(self.references, one.lot, one.barcode)
                return _to(f"{href}?{urlencode({'file': further.sealed(self.references), **told})}")
        told = told or {"fait": self.references.seal("said", "end", None, None, "")}
        return _to(f"/console?{urlencode({**position.sought.pairs, **told})}")

    def _folder(self, request: Request) -> tuple[str, str]:
        lot, barcode = self.references.open("folder", request.path_params["folder"])
        return lot, barcode

    def _said(self, request: Request, caller: Caller) -> dict[str, Any] | None:
        """What was done on the page before, and with what it is taken back."""
        try:
            what, event, kind, more = self.references.open("said", request.query_params.get("fait", ""))
        except NotFound:
            return None
        undo = self.references.seal("event", event, kind) if event and may_undo(kind, caller) else None
        return {
            "words": words().done[what],
            "undo": undo,
            "folder": more if undo else "",
            "reasons": undo_reasons(kind or ""),
            "recall": more if what == "undo" else "",
            "position": request.query_params.get("file", ""),
        }

    def _page(self, template: str, visit: Visit, status: int = 200, **told: Any) -> Response:
        return page(
            template,
            self.form_targets,
            status,
            caller=visit.caller,
            csrf=visit.csrf,
            left=french.counted(max(0, int((visit.ends - time.time()) // 60)), "min", "min"),
            **told,
        )

    def answers(self, answering: Answering) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint: for who has a session, and with a page in French for what fails."""

        async def endpoint(request: Request) -> Response:
            visit = await self.visiting(request.scope)
            if visit is None:
                return _log_in(request)
            try:
                self.admit(visit.caller)
                return await answering(request, visit)
            except Failure as failure:
                return self._failed(request, visit, failure)
            except Exception:
                log.exception("console failed", method=request.method)
                return self._failed(request, visit, Failure("This did not succeed"))

        return endpoint

    def _failed(self, request: Request, visit: Visit, failure: Failure) -> Response:
        name = OLD_FORM if isinstance(failure, _OldForm) else str(failure.status)
        title, text = words().failure.get(name, words().failure["500"])
        log.info("console refused", status=failure.status, code=failure.code)
        folder = request.path_params.get("folder") if failure.status == Conflict.status else None
        again = f"/console/dossiers/{folder}" if folder else None
        answer = self._page("failure.html", visit, failure.status, title=title, text=text, again=again)
        if isinstance(failure, Throttled):
            answer.headers["Retry-After"] = str(failure.retry_after)
        return answer


def console_routes(console: Console) -> APIRouter:
    """`/console` and everything below it, and `/`, where the provider sends those who have logged out."""
    router = APIRouter()
    folder = "/dossiers/{folder}"
    for path, method, answering in (
        ("", "GET", console.queue),
        ("/suivant", "GET", console.following),
        ("/decisions", "GET", console.decisions),
        (folder, "GET", console.item),
        (f"{folder}/zone", "GET", console.zone),
        (f"{folder}/pages/{{document}}/{{page}}", "GET", console.whole),
        (f"{folder}/decisions", "POST", console.decide),
        ("/annulations", "POST", console.undo),
    ):
        router.add_api_route(f"/console{path}", console.answers(answering), methods=[method], response_model=None)

    @router.get("/")
    async def home() -> Response:
        return page("home.html", "")

    @router.get("/console/static/{digest}/{name}")
    async def static(digest: str, name: str) -> Response:
        """Raises NotFound."""
        answer = static_answer(digest, name)
        if answer is None:
            raise NotFound("There is no such file")
        return answer

    return router


def _log_in(request: Request) -> Response:
    """To the login, and back to the page; after a form, to the page that it was on."""
    path = request.url.path
    back = path.removesuffix("/decisions") if request.method == "POST" else path
    if request.method == "GET" and request.url.query:
        back = f"{path}?{request.url.query}"
    elif back.endswith("/annulations"):
        back = "/console"
    return _to(f"/login?{urlencode({'back': back})}")


def _to(address: str) -> Response:
    return RedirectResponse(address, 303, PRIVATE)


async def _form(request: Request, visit: Visit) -> Form:
    """The fields of a form, where it repeats the token of the session. Raises BadParameter, TooLarge, Forbidden."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != FORM:
        raise BadParameter("A form is sent as application/x-www-form-urlencoded")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise TooLarge("This form is too large")
    try:
        form = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=1000, errors="strict")
    except ValueError as error:
        raise BadParameter("This form cannot be read") from error
    try:
        visit.must_repeat(one_of(form, "csrf"))
    except Forbidden as refused:
        raise _OldForm(refused.diagnostics) from refused
    return form


def _few(names: list[str]) -> str:
    """Names for a sentence, as many as an address carries."""
    told = ", ".join(name[:100] for name in names[:MOST_NAMED])
    beyond = len(names) - MOST_NAMED
    return told + (f" et {french.counted(beyond, 'autre')}" if beyond > 0 else "")


def _code(text: str | None) -> str:
    """A code of a filter; empty for what cannot be one."""
    return text if text and len(text) <= 64 and text.isprintable() else ""


def _number(text: str | None) -> int:
    """A small whole number; 0 for anything else."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else 0
