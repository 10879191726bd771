"""The review queue in a real browser: cleared by the keyboard alone, measured by axe, looked at in pictures.

Chromium of Debian, driven by Playwright; axe-core (WCAG 2.1 A and AA). Pictures go to DMST_PICTURES where that is set.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn
from psycopg.types.json import Jsonb

from fhir_server.intake.register import patient_id_of
from tests.console.support import DOCTOR, NURSE, ORIGIN, Office
from tests.support import free_port

api = pytest.importorskip("playwright.async_api", reason="Playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")

CHROMIUM = shutil.which("chromium")
AXE = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
PICTURES = os.environ.get("DMST_PICTURES")
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="the system has no chromium (Debian package chromium)")


@contextlib.asynccontextmanager
async def listening(office: Office, folder: Path) -> AsyncGenerator[int]:
    """The application on a port of this machine, over TLS: its cookies are for that alone."""
    certificate = trustme.CA().issue_cert("test").private_key_and_cert_chain_pem
    certificate.write_to_path(folder / "server.pem")
    config = uvicorn.Config(
        office.server.app, port=free_port(), lifespan="off", log_config=None, ssl_certfile=folder / "server.pem"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield config.port
    finally:
        server.should_exit = True
        await serving


@pytest.fixture
async def page(office: Office, tmp_path: Path) -> AsyncIterator[Any]:
    """A window of 1280 x 800. What a page may not run, or asks elsewhere, fails the test."""
    async with listening(office, tmp_path) as port, api.async_playwright() as playwright:
        rules = f"MAP test:443 127.0.0.1:{port}"
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", f"--host-resolver-rules={rules}"]
        )
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": 1280, "height": 800}, locale="fr-FR"
        )
        window = await context.new_page()
        complaints: list[str] = []
        window.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        window.on("pageerror", lambda error: complaints.append(str(error)))
        yield window
        await browser.close()
        assert [one for one in complaints if "(not found)" not in one.casefold()] == []


async def log_in(office: Office, page: Any, who: str) -> None:
    office.people.claims = {"sub": who, "SubjectNameID": who, "amr": ["otp"]}
    await page.goto(f"{ORIGIN}/console")
    assert page.url == f"{ORIGIN}/console"


async def picture(page: Any, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=f"{PICTURES}/{name}.png", full_page=name.endswith("100000107"))


async def accessible(page: Any) -> None:
    """No finding of axe, and nothing wider than the window."""
    await page.evaluate(AXE)
    found = await page.evaluate("rules => axe.run(document, rules)", RULES)
    told = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found["violations"]]
    assert told == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


async def keys(page: Any, *names: str) -> None:
    for name in names:
        await page.keyboard.press(name)


async def weigh(office: Office, number: str) -> None:
    """Evidence as the scorer gives it, with bits, for a folder that waits."""
    names = {"family": "same", "given": "same", "born": "same", "sex": "same", "place": "nothing", "nir": "nothing"}
    bits = {"family": (11.4, 2.1), "given": (7.1, -1.3), "born": (13.9, 0.0), "sex": (1.0, 0.0)}

    def candidate(folder: str, score: float, guards: list[str], **other: tuple[str, str, float]) -> dict[str, Any]:
        steps = [
            {
                "field": field,
                "level": other.get(field, (level,))[0],
                "says": other[field][1] if field in other else "nothing" if level == "nothing" else "agree",
                "bits": other[field][2] if field in other else bits.get(field, (0.0, 0.0))[0],
                "rarity_bits": 0.0 if field in other else bits.get(field, (0.0, 0.0))[1],
            }
            for field, level in names.items()
        ]
        total = sum(step["bits"] + step["rarity_bits"] for step in steps)
        return {
            "patient": patient_id_of(folder),
            "grade": "possible",
            "score": score,
            "odds": total,
            "steps": steps,
            "guards": guards,
        }

    evidence = {
        "reasons": ["traits-conflict", "G1-same-family"],
        "barcodes": ["100000107"],
        "read": [
            {"name": "given_names", "value": "LEA", "confidence": 0.93},
            {"name": "birth_date", "value": "1996-12-05", "confidence": 0.4},
        ],
        "candidates": [
            candidate("100000108", 0.871, ["G6-rival"]),
            candidate("100000107", 0.127, ["G1-same-family"], given=("other", "against", -6.6)),
            candidate(
                "100000106",
                0.001,
                ["other-birth-name"],
                family=("other", "against", -5.0),
                given=("other", "against", -6.6),
                born=("other", "against", -7.9),
            ),
        ],
    }
    async with office.parts.database.connection() as connection:
        statement = b"update scan_folder set evidence = %s where barcode = %s"
        await connection.execute(statement, (Jsonb(evidence), number))


async def opened(page: Any, number: str) -> None:
    await page.wait_for_selector(f"h1:has-text('{number}')")
    await page.wait_for_load_state()


async def said(page: Any, text: str) -> None:
    await page.wait_for_selector(f".done:has-text('{text}')")
    await page.wait_for_load_state()


async def test_the_queue_is_cleared_by_the_keyboard_alone(office: Office, page: Any) -> None:
    """Nobody touches a mouse: filters aside, every decision is a letter and Enter, and can be taken back."""
    await weigh(office, "100000107")
    await log_in(office, page, NURSE)
    await picture(page, "queue")
    await accessible(page)
    order = await page.eval_on_selector_all("[data-line]", "all => all.map(one => one.textContent)")
    await keys(page, "j", "j", "k", "j")
    assert await page.evaluate("document.activeElement.textContent") == order[1]
    await keys(page, "k", "Enter")
    await opened(page, order[0])
    await accessible(page)
    decided = {"100000104": ("d", "E13"), "100000106": ("r", "deuxième avis"), "100000107": ("2", "deuxième avis")}
    for number in order:
        await opened(page, number)
        await picture(page, f"item-{number}")
        key, told = decided[number]
        if key == "2":
            side = await page.inner_text(".side")
            assert "lu : LEA" in side
            assert "lu : 05/12/1996 (incertain)" in side
            await whole_page(page)
            await keys(page, "r", "2")
            await picture(page, "item-attach")
            await accessible(page)
        else:
            await keys(page, key)
        await keys(page, "Enter")
        await said(page, told)
    await accessible(page)
    await picture(page, "queue-done")
    rows = await office.server.rows("select barcode, state from scan_folder order by 1")
    assert [row[1] for row in rows] == ["rejected", "second-opinion", "second-opinion"]

    await page.context.clear_cookies()
    await log_in(office, page, DOCTOR)
    for number in [one for one in order if one != "100000104"]:
        await page.wait_for_load_state()
        if number == "100000106" or not await page.query_selector("h1:has-text('Dossier')"):
            await page.goto(f"{ORIGIN}/console")
            await keys(page, "j", "Enter")
            await page.wait_for_selector(".proposal")
        await picture(page, "item-second")
        await keys(page, "c", "Enter")
        await said(page, "Rattachement confirmé")
    await page.goto(f"{ORIGIN}/console")
    assert "Tout est rattaché" in await page.inner_text("main")
    await picture(page, "queue-empty")
    await accessible(page)
    rows = await office.server.rows("select barcode, state from scan_folder order by 1")
    assert [row[1] for row in rows] == ["rejected", "accepted", "accepted"]
    ((owner,),) = await office.server.rows("select patient_id from scan_folder where barcode = '100000107'")
    assert owner == patient_id_of("100000107"), "the second candidate, chosen by his number"


async def whole_page(page: Any) -> None:
    """The page beside the candidates, and at 200 % of zoom."""
    await keys(page, "f")
    await page.wait_for_url("**&doc=1&page=1")
    await page.wait_for_load_state()
    await keys(page, "z")
    assert await page.get_attribute("[data-zoom]", "aria-pressed") == "true"
    await picture(page, "item-whole")
    await accessible(page)
    await page.set_viewport_size({"width": 640, "height": 400})
    await picture(page, "item-200")
    await accessible(page)
    await page.set_viewport_size({"width": 1280, "height": 800})
    await keys(page, "m")
    await page.wait_for_selector(".zone")
    await page.wait_for_load_state()


async def test_shortcuts_can_be_switched_off_and_refusals_are_pages(office: Office, page: Any) -> None:
    """WCAG 2.1.4; what is typed into a note is no shortcut; the last decision is taken back by `u`."""
    await log_in(office, page, NURSE)
    await keys(page, "j", "Enter")
    await page.wait_for_selector(".compare")
    await keys(page, "p")
    # the panel puts the focus on its first field when the browser says that it is open, a moment after it is
    await page.wait_for_function("document.activeElement?.matches('details[open] :is(input, .go)')")
    await page.focus("details[open] input[name=note]")
    await page.keyboard.type("pas lui, voir jumeau r")
    assert await page.input_value("details[open] input[name=note]") == "pas lui, voir jumeau r"
    await keys(page, "Enter")
    await said(page, "Salarié écarté")
    await keys(page, "u")
    await said(page, "Décision annulée")
    await picture(page, "item-undone")
    await accessible(page)
    await page.goto(f"{ORIGIN}/console/decisions")
    await picture(page, "decisions")
    await accessible(page)
    await page.go_back()
    await page.focus("#raccourcis")
    await keys(page, "Space", "r")
    assert not await page.query_selector("details[open]")
    await page.reload()
    await keys(page, "r")
    assert not await page.query_selector("details[open]"), "it is remembered"
    await keys(page, "Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    assert (await page.goto(page.url.partition("?")[0] + "/pages/1/9")).status == 404
    await picture(page, "refused")
    await accessible(page)
    await page.focus("text=Se déconnecter")
    await keys(page, "Enter")
    await page.wait_for_url(f"{office.people.url}/leave**")
    assert office.people.left[0]["post_logout_redirect_uri"] == f"{ORIGIN}/"
    assert not [one for one in await page.context.cookies() if "session" in one["name"]]
    await page.goto(f"{ORIGIN}/")
    await accessible(page)
    await keys(page, "Tab", "Enter")
    await page.wait_for_selector("h1:has-text('File de rattachement')")
