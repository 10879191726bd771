"""A time-stamping authority of the test: RFC 3161 over HTTP, on loopback, with certificates of its own."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from asn1crypto import tsp
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.sign.timestamps import DummyTimeStamper

from fhir_server.scans.seal import DemoAuthority, _asn1, _asn1_key

POLICY = "1.3.6.1.4.1.4146.2.2"
"""What the library writes into its tokens."""


@dataclass
class Tsa:
    """Where it listens, whose roots to trust, what it was asked; `status` other than 200 is its answer to anything."""

    url: str
    authority: DemoAuthority
    asked: list[tsp.TimeStampReq] = field(default_factory=list)
    status: int = 200
    of_somebody_else: bytes | None = None
    """An answer to another question, which it gives instead."""

    def trust(self, folder: Path) -> Path:
        path = folder / "tsa-trust.pem"
        path.write_bytes(b"".join(root.public_bytes(Encoding.PEM) for root in self.authority.roots))
        return path


@contextlib.contextmanager
def running_tsa(authority: DemoAuthority) -> Iterator[Tsa]:
    """The authority, while the context lasts."""
    tsa = Tsa("", authority)
    stamper = DummyTimeStamper(_asn1(authority.tsa_certificate), _asn1_key(authority.tsa_key))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = tsp.TimeStampReq.load(self.rfile.read(int(self.headers["content-length"])), strict=True)
            tsa.asked.append(asked)
            answer = tsa.of_somebody_else or stamper.request_tsa_response(asked).dump()
            self.send_response(tsa.status if self.headers["content-type"] == "application/timestamp-query" else 415)
            self.send_header("content-type", "application/timestamp-reply")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        tsa.url = f"http://127.0.0.1:{server.server_address[1]}/tsa"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield tsa
        finally:
            server.shutdown()
            thread.join()
