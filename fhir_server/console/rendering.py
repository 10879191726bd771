"""Templates become answers, with the headers under which a browser keeps nothing and runs nothing of others.

Content Security Policy Level 3 (W3C): no inline code, nothing from elsewhere. Static files are named by their hash, so
that they may be kept for ever, and hold nothing about anybody.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from fhir_server.caller import ROLES

TYPES: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
PRIVATE: Final = {
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_TURNING: Final = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")
"""Embeddings, overrides and isolates of direction (UAX 9): in a name they could make `différent` read otherwise."""


@cache
def static(name: str) -> tuple[str, bytes]:
    """The hash and the bytes of a static file."""
    content = (files("fhir_server.console") / "static" / name).read_bytes()
    return hashlib.sha256(content).hexdigest()[:16], content


def static_href(name: str) -> str:
    return f"/console/static/{static(name)[0]}/{name}"


def static_answer(digest: str, name: str) -> Response | None:
    """A static file under its hash; None for any other name or hash."""
    if name not in TYPES or static(name)[0] != digest:
        return None
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(static(name)[1], headers=headers, media_type=TYPES[name])


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("fhir_server.console"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_upright,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    told: dict[str, Any] = {"static": static_href, "roles": ROLES}
    environment.globals |= told
    return environment


def _upright(told: object) -> object:
    """What a template shows, without the characters that turn what stands beside them around."""
    return told.translate(_TURNING) if type(told) is str else told


def policy(form_targets: str) -> str:
    """The Content-Security-Policy. `form_targets`: where a form may lead beside here (the logout at the provider)."""
    return (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action 'self' {form_targets}".rstrip()
    )


def page(template: str, form_targets: str, status: int = 200, **told: Any) -> Response:
    """An answer made of a template."""
    html = _templates().get_template(template).render(**told)
    return HTMLResponse(html, status, {**PRIVATE, "Content-Security-Policy": policy(form_targets)})


def picture(content: bytes, media_type: str) -> Response:
    """A picture of a page: not kept by the browser."""
    headers: Mapping[str, str] = {**PRIVATE, "Content-Security-Policy": "default-src 'none'; sandbox"}
    return Response(content, headers=dict(headers), media_type=media_type)
