"""Traces of OpenTelemetry, where an endpoint is set; nothing of it is imported otherwise.

A span says which interaction on which type and how long; never an id, a query or the text of an exception.
https://opentelemetry.io/docs/specs/otlp/ - over HTTP with protobuf; a trace of the client is continued (traceparent).
"""

import contextlib
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any, Protocol

from fhir_server.outcomes import Unavailable

Attributes = Mapping[str, str | int]


class Span(Protocol):
    """A piece of work that is being timed."""

    def tell(self, name: str, attributes: Attributes) -> None:
        """Give it its name and attributes, once they are known."""
        ...


class Traces(Protocol):
    """Times pieces of work, and tells of them when they end."""

    def span(self, name: str) -> AbstractContextManager[Span]:
        """A piece that has no pieces of its own; it belongs to the request or delivery around it."""
        ...

    def whole(self, name: str, carrier: Callable[[], Mapping[str, str]]) -> AbstractContextManager[Span]:
        """A request or a delivery; `carrier` gives the headers that it came with."""
        ...


class _Nothing:
    """No traces: one object that does nothing, for all."""

    def __enter__(self) -> "_Nothing":
        return self

    def __exit__(self, *_error: object) -> None:
        return

    def tell(self, name: str, attributes: Attributes) -> None:
        return

    def span(self, name: str) -> "_Nothing":
        return self

    def whole(self, name: str, carrier: Callable[[], Mapping[str, str]]) -> "_Nothing":
        return self


NO_TRACES: Traces = _Nothing()


@contextlib.contextmanager
def exporting(endpoint: str | None) -> Generator[Traces]:
    """Traces to an OTLP endpoint such as `http://127.0.0.1:4318`; none without. Leaving it sends what is left.

    Raises Unavailable when an endpoint is set and the extra `otel` is not installed.
    """
    if endpoint is None:
        yield NO_TRACES
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as missing:
        raise Unavailable("An OTLP endpoint is set and OpenTelemetry is not installed (extra 'otel')") from missing
    about = {"service.name": "dmst-fhir", "service.version": version("dmst-fhir")}
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield _Exported(provider.get_tracer("dmst-fhir"))
    finally:
        provider.shutdown()


class _Exported:
    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer

    @contextlib.contextmanager
    def span(self, name: str) -> Generator[Span]:
        span = self._tracer.start_span(name)
        with _ended(span):
            yield _Told(span)

    @contextlib.contextmanager
    def whole(self, name: str, carrier: Callable[[], Mapping[str, str]]) -> Generator[Span]:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        before = TraceContextTextMapPropagator().extract(carrier(), context=context.Context())
        span = self._tracer.start_span(name, context=before, kind=trace.SpanKind.SERVER)
        token = context.attach(trace.set_span_in_context(span, before))
        try:
            with _ended(span):
                yield _Told(span)
        finally:
            context.detach(token)


@contextlib.contextmanager
def _ended(span: Any) -> Generator[None]:
    """An exception is told by its type: its text may hold a name."""
    try:
        yield
    except BaseException as error:
        span.set_attribute("error.type", type(error).__qualname__)
        raise
    finally:
        span.end()


class _Told:
    def __init__(self, span: Any) -> None:
        self._span = span

    def tell(self, name: str, attributes: Attributes) -> None:
        self._span.update_name(name)
        self._span.set_attributes(dict(attributes))
