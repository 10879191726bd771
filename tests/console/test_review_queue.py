"""The review queue over HTTP: who comes in, what is listed, what is decided, and what is refused."""

import html
import re
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from fhir_server.caller import Caller
from fhir_server.identity.decisions import Decision
from tests.console.support import ASSISTANT, DOCTOR, NURSE, ORIGIN, WAITING, Office, query_of


async def states(office: Office) -> dict[str, str]:
    rows = await office.server.rows("select barcode, state from scan_folder")
    return dict(rows)


def undo_of(text: str) -> dict[str, str]:
    """The first form of a page that takes something back."""
    form = re.search(r'<form method="post" action="/console/annulations".*?</form>', text, re.DOTALL)
    assert form, "nothing is to be taken back here"
    found = re.findall(r'<input type="hidden" name="([a-z]+)" value="([^"]*)"', form[0])
    return {name: html.unescape(value) for name, value in found}


async def test_without_a_session_one_logs_in_and_comes_back(office: Office) -> None:
    """The page, a form whose session has ended, and the static files that anybody has."""
    anybody = httpx.AsyncClient(transport=httpx.ASGITransport(office.server.app), base_url=ORIGIN)
    async with anybody:
        for path in ("/console", "/console/dossiers/abc?file=x", "/console/dossiers/abc/zone"):
            sent = await anybody.get(path)
            assert sent.status_code == 303
            assert query_of(sent)["back"] == [path]
            assert urlsplit(sent.headers["location"]).path == "/login"
        posted = await anybody.post("/console/dossiers/abc/decisions", data={"decision": "attach"})
        assert query_of(posted)["back"] == ["/console/dossiers/abc"]
        assert query_of(await anybody.post("/console/annulations"))["back"] == ["/console"]
        assert (await anybody.get("/console/static/0000000000000000/console.css")).status_code == 404
        assert (await anybody.get("/console/static/..%2f/words.toml")).status_code == 404
    doctor = await office.person(DOCTOR)
    back = await doctor.log_in("/console?motif=E11")
    assert back.headers["location"] == "/console?motif=E11"
    page = await doctor.get("/console")
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';")
    assert "unsafe" not in policy
    assert not re.search(r"<script(?! src)|<style| style=| on[a-z]+=", page.text)
    assert "89970000108" in page.text
    assert "Médecin du travail" in page.text
    for href in re.findall(r'(?:href|src)="(/console/static/[^"]+)"', page.text):
        static = await doctor.get(href)
        assert static.status_code == 200
        assert "immutable" in static.headers["cache-control"]
    csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert csrf
    assert (await doctor.http.post("/logout", data={"csrf": csrf[1]})).status_code == 303
    assert (await doctor.http.get("/console")).status_code == 303


async def test_the_queue_is_filtered_counted_and_paged(office: Office) -> None:
    """Oldest first; nothing of anybody in an address; an empty queue says so."""
    nurse = await office.person(NURSE)
    lines = await nurse.lines()
    assert sorted(lines) == sorted(WAITING)
    for href in lines.values():
        assert not any(number in href for number in (*WAITING, "LOT_", "C07"))
    page = (await nurse.get("/console")).text
    assert "3\u202fdossiers" in page
    assert "Centre C07 (3)" in page
    assert sorted(await nurse.lines("?motif=E13")) == ["100000104"]
    assert sorted(await nurse.lines("?centre=C07&motif=E11")) == ["100000106", "100000107"]
    assert await nurse.lines("?centre=C99") == {}
    assert "Aucun dossier n'attend avec ces filtres" in (await nurse.get("/console?centre=C99")).text
    for strange in ("?etat=nothing-known", "?centre=%00", "?suite=%00", "?fait=x&suite=y", f"?motif={'E' * 99}"):
        assert sorted(await nurse.lines(strange)) == sorted(WAITING), strange
    injected = (await nurse.get("/console?centre=%22%3E%3Cscript%3E")).text
    assert "&#34;&gt;&lt;script&gt;" in injected
    assert '"><script>' not in injected
    opened = await nurse.open(next(iter(lines)))
    title = re.search(r"<title>(.*?)</title>", opened.text)
    assert title
    assert title[1] == "Dossier en attente – Console DMST"
    order = list(lines)
    passed = await nurse.http.get(f"/console/suivant?{urlsplit(opened.href).query}")
    assert passed.headers["location"].startswith(lines[order[1]].partition("?")[0])
    last = await nurse.open(order[-1])
    ended = await nurse.http.get(f"/console/suivant?{urlsplit(last.href).query}")
    assert urlsplit(ended.headers["location"]).path == "/console"
    assert "Fin de la file" in (await nurse.get(ended.headers["location"])).text


async def test_decisions_are_made_once_and_taken_back(office: Office) -> None:
    """Attach, with the second person that the policy asks for; a form sent twice; somebody else; undo."""
    nurse, doctor = await office.person(NURSE), await office.person(DOCTOR)
    at_nurse, at_doctor = await nurse.open("100000106"), await doctor.open("100000106")
    assert "confirm" not in at_nurse.offered
    assert "= identique" in re.sub(r"<[^>]+>", "", at_nurse.text)
    assert "17/09/1990" in at_nurse.text
    forms = [await at_nurse.send("attach", note="lu à l'index") for _ in range(2)]
    assert [one.status_code for one in forms] == [303, 303]
    assert forms[0].headers["location"] == forms[1].headers["location"]
    assert "Un deuxième avis est nécessaire" in (await nurse.get(forms[0].headers["location"])).text
    assert (await states(office))["100000106"] == "second-opinion"
    asked = await office.server.rows("select count(*) from identity_event where barcode = '100000106'")
    assert asked == [(1,)]
    late = await at_doctor.send("not-in-register")
    assert late.status_code == 409
    assert "Quelqu&#39;un d&#39;autre a décidé" in late.text
    assert at_doctor.folder in late.text

    mine = await nurse.open("100000106")
    assert "C'est votre propre demande" in mine.text
    assert mine.offered == ["disagree"]
    own = await mine.send("confirm", seen=re.findall(r'name="seen" value="(\d+)"', mine.text)[0])
    assert own.status_code == 403
    theirs = await doctor.open("100000106")
    assert "Rattachement proposé à <strong>PATRON SANDRINE</strong>" in theirs.text
    assert "lu à l&#39;index" in theirs.text
    confirmed = [await theirs.send("confirm") for _ in range(2)]
    assert [one.status_code for one in confirmed] == [303, 303]
    assert (await states(office))["100000106"] == "accepted"
    assert (await doctor.get(theirs.href)).status_code == 404

    following = await doctor.get(confirmed[0].headers["location"])
    assert "Rattachement confirmé." in following.text
    taken = undo_of(following.text)
    undone = await doctor.http.post("/console/annulations", data={**taken, "reason": "wrong-worker"})
    assert undone.headers["location"].startswith(f"{theirs.folder}?")
    assert "Décision annulée." in (await doctor.get(undone.headers["location"])).text
    assert (await states(office))["100000106"] == "to-review"
    assert (await doctor.http.post("/console/annulations", data=taken)).status_code == 409

    dismissing = await doctor.open("100000106")
    stays = await dismissing.send("not-this-worker")
    assert urlsplit(stays.headers["location"]).path == dismissing.folder
    shown = (await doctor.get(stays.headers["location"])).text
    assert "1\u202fsalarié écarté" in shown
    assert "Aucun salarié du registre ne ressemble" in shown
    await doctor.http.post("/console/annulations", data=undo_of(shown))
    assert "PATRON SANDRINE" in (await doctor.open("100000106")).text

    own = (await nurse.get("/console/decisions")).text
    assert "deuxième avis demandé" in own
    assert "rattachement (annulé)" in own, "what was proposed is the nurse's decision"
    assert "écarté" not in own, "and the other decisions are not"
    assert "salarié écarté (annulé)" in (await doctor.get("/console/decisions")).text
    aside = await doctor.open("100000106")
    assert (await aside.send("not-in-register")).status_code == 303
    (href,) = (await doctor.lines("?etat=aside")).values()
    back = type(aside)(doctor, href, (await doctor.get(href)).text)
    assert back.offered == ["back-to-review"]
    assert (await back.send("back-to-review")).status_code == 303
    flagged = await (await doctor.open("100000107")).send("non-transmissible", document="100000107_0002")
    assert flagged.status_code == 303
    taken = undo_of((await doctor.get("/console/decisions")).text)
    assert (await nurse.http.post("/console/annulations", data=taken)).status_code == 403, "of another session"
    assert (await doctor.http.post("/console/annulations", data=taken)).status_code == 303
    assert "Non transmissible</strong>" not in (await doctor.open("100000107")).text
    rejected = await (await doctor.open("100000104")).send("several-workers")
    assert "plusieurs salariés (E13)" in (await doctor.get(rejected.headers["location"])).text
    assert (await states(office))["100000104"] == "rejected"


async def test_what_a_role_may_not_decide_is_not_offered_and_refused(office: Office) -> None:
    """An assistant decides by the index; a form without the token of the session decides nothing."""
    assistant, nurse = await office.person(ASSISTANT), await office.person(NURSE)
    opened, whole = await assistant.open("100000107"), await nurse.open("100000107")
    assert set(whole.offered) - set(opened.offered) == {"non-transmissible"}
    forged = await opened.send("non-transmissible", document="100000107_0002")
    assert forged.status_code == 403
    assert "Accès refusé" in forged.text
    assert (ASSISTANT, "operation", 4, "review") in await office.trail("review")
    for changes, status in (
        ({"csrf": "of-somebody-else"}, 403),
        ({"csrf": ""}, 403),
        ({"decision": "link"}, 400),
        ({"seen": "now"}, 400),
        ({"reason": "because"}, 400),
        ({"note": "\0"}, 400),
        ({"patient": "\0"}, 400),
        ({"note": "x" * 1001}, 400),
        ({"note": "x" * 70_000}, 413),
        ({"patient": "nobody"}, 404),
    ):
        answer = await opened.send("attach", **changes)
        assert answer.status_code == status, changes
        assert ("Formulaire périmé" in answer.text) == (status == 403)
    url = f"{opened.folder}/decisions"
    assert (await assistant.http.post(url, json=opened.fields("attach"))).status_code == 400
    twice = [*opened.fields("attach").items(), ("patient", "b")]
    body = str(httpx.QueryParams(twice))
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await assistant.http.post(url, content=body, headers=form)).status_code == 400
    assert (await assistant.http.get("/console/dossiers/made-up")).status_code == 404
    assert set((await states(office)).values()) == {"to-review"}
    noted = await opened.send("ask-second-opinion", patient="", note="<b>deux</b> sœurs ?")
    assert noted.status_code == 303
    await office.parts.review.decide(
        a_doctor(), *await place_of(office, "100000107"), Decision("disagree", note="épilepsie connue")
    )
    again = (await assistant.open("100000107")).text
    assert "&lt;b&gt;deux&lt;/b&gt; sœurs ?" in again, "his own note"
    assert "épilepsie" not in again, "a doctor's note may tell of health"
    assert "épilepsie" in (await nurse.open("100000107")).text


def a_doctor() -> Caller:
    return Caller("person:doctor", "Dr", "medecin-travail", ("system/*.cruds",), "TREAT", professional=DOCTOR)


async def place_of(office: Office, barcode: str) -> tuple[str, str]:
    ((lot,),) = await office.server.rows("select lot from scan_folder where barcode = %s", barcode)
    return lot, barcode


async def test_nothing_is_told_to_logs_and_addresses(office: Office, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a name, nor a number of a worker, nor a sealed word."""
    nurse = await office.person(NURSE)
    opened = await nurse.open("100000107")
    await nurse.get(f"{opened.href}&doc=2&page=1")
    sent = await opened.send("not-this-worker")
    assert not any(one in sent.headers["location"] for one in ("JUMELET", "100000107", "LINA"))
    assert parse_qs(urlsplit(sent.headers["location"]).query).keys() == {"file", "fait"}
    logged = "".join(capfd.readouterr())
    assert '"interaction":"console"' in logged.replace(" ", "")
    assert not any(one in logged for one in ("JUMELET", "100000107", opened.folder.rpartition("/")[2], NURSE))
