"""The review queue in a real browser: cleared by the keyboard alone, measured by axe, looked at in pictures.

Chromium of Debian, driven by Playwright; axe-core (WCAG 2.1 A and AA). Pictures go to DMST_PICTURES where that is set.
"""

import asyncio
import contextlib
import os
import shutil
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn

from tests.console.support import DOCTOR, NURSE, ORIGIN, Office
from tests.support import free_port

api = pytest.importorskip("playwright.async_api", reason="Playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")

CHROMIUM = shutil.which("chromium")
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
        assert complaints == []


async def log_in(office: Office, page: Any, who: str) -> None:
    office.people.claims = {"sub": who, "SubjectNameID": who, "amr": ["otp"]}
    await page.goto(f"{ORIGIN}/console")
    assert page.url == f"{ORIGIN}/console"


async def picture(page: Any, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=f"{PICTURES}/{name}.png")


async def accessible(page: Any) -> None:
    """No finding of axe, and nothing wider than the window."""
    await page.evaluate(axe.AXE_SCRIPT if hasattr(axe, "AXE_SCRIPT") else script())
    found = await page.evaluate("rules => axe.run(document, rules)", RULES)
    told = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found["violations"]]
    assert told == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


def script() -> str:
    return (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


async def keys(page: Any, *names: str) -> None:
    for name in names:
        await page.keyboard.press(name)


async def test_the_queue_is_cleared_by_the_keyboard_alone(office: Office, page: Any) -> None:
    """Nobody touches a mouse."""
    await log_in(office, page, NURSE)
    await picture(page, "queue")
    await accessible(page)
    await keys(page, "j", "j", "j")
    await picture(page, "queue-focus")
    await keys(page, "Enter")
    await page.wait_for_selector(".compare")
    await picture(page, "item")
    await accessible(page)
    await keys(page, "f")
    await page.wait_for_url("**&doc=1&page=1")
    await page.wait_for_load_state()
    await picture(page, "item-whole")
    await accessible(page)
    await keys(page, "r")
    await picture(page, "item-attach")
    await accessible(page)
    await page.set_viewport_size({"width": 640, "height": 400})
    await accessible(page)
    await picture(page, "item-200")
    await page.set_viewport_size({"width": 1280, "height": 800})
    await keys(page, "Escape", "m")
    await page.wait_for_selector(".zone")
    await keys(page, "t", "Space")
    await picture(page, "item-flag")
