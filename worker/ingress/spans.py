"""
The span around each request.

Its path and query stay out, which can hold anything: the route's template says which call it was.

Source: OpenTelemetry semantic conventions 1.44, "HTTP server".
"""

from __future__ import annotations

from typing import Final

from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from starlette.types import Scope

from tracing import Traces, traceparent_of
from worker.ingress.parts import Answer
from worker.ingress.requests import Trace

SERVER_ERROR: Final = 500
UNMATCHED: Final = "unmatched"


def begin(traces: Traces, scope: Scope, caller: Trace) -> Span:
    """Begin a request's span: in the caller's trace, or in one of its own."""
    parent = caller.parent if caller.is_callers else None
    return traces.span("HTTP", SpanKind.SERVER, parent, attributes={"url.scheme": scope["scheme"]})


def trace_of(span: Span, caller: Trace) -> Trace:
    """Return the trace that goes on from here; where there is no span, that of the caller."""
    parent = traceparent_of(span)
    return caller if parent is None else Trace(parent.split("-")[1], parent)


def end(span: Span, method: str, route: str, status: int, answer: Answer) -> None:
    """Name a span by what the request turned out to be, and end it; only our own faults are errors of a server."""
    if span.is_recording():
        span.update_name(method if route == UNMATCHED else f"{method} {route}")
        span.set_attributes({"http.request.method": method, "http.response.status_code": status})
        if route != UNMATCHED:
            span.set_attribute("http.route", route)
        if status >= SERVER_ERROR:
            span.set_attribute("error.type", answer.code or str(status))
            span.set_status(Status(StatusCode.ERROR))
        if answer.registration_id is not None:
            span.set_attribute("registration.id", answer.registration_id)
    span.end()
