"""The one module that knows which HTTP client we use, and which of its failures mean "try later"."""

import httpx

Client = httpx.AsyncClient
Response = httpx.Response
NetworkFailure = httpx.TransportError

LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


def make_client(*, timeout: float, transport: httpx.AsyncBaseTransport | None = None) -> Client:
    """A client that follows no redirect (a document is never sent where it was not meant to go)."""
    return httpx.AsyncClient(timeout=httpx.Timeout(timeout), follow_redirects=False, transport=transport)


def retry_after(response: Response) -> float | None:
    """Seconds of a Retry-After header, where it is a number (RFC 9110 section 10.2.3)."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
