"""A collector of spans: what OpenTelemetry's exporter sends over HTTP, as protobuf, kept for a test to look at."""

from __future__ import annotations

import asyncio
import base64
import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

IN_TIME_S = 20


@dataclass(frozen=True, slots=True)
class Seen:
    """One span; ids in hexadecimal, `parent` empty where it begins a trace."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, str | int]
    is_error: bool
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class Collector:
    """What has arrived. `bodies` is what a secret could hide in."""

    endpoint: str = ""
    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Seen]:
        """Return the spans of a trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def document(self, trace_id: str) -> dict[str, Any]:
        """Return a trace as OTLP has it in JSON, which trace viewers open as a file: ids are hexadecimal there."""
        resources = []
        for body in self.bodies:
            for each in MessageToDict(ExportTraceServiceRequest.FromString(body))["resourceSpans"]:
                for scope in each["scopeSpans"]:
                    scope["spans"] = [own for span in scope["spans"] if (own := _with_plain_ids(span))["traceId"] == trace_id]
                    resources += [each] if scope["spans"] else []
        return {"resourceSpans": resources}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition on what has arrived."""
        async with asyncio.timeout(IN_TIME_S):
            while not condition():
                await asyncio.sleep(0.01)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listen on a port of its own for the length of a block."""
    collector = Collector()

    class _Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            collector.bodies.append(body)
            collector.spans += [span for each in ExportTraceServiceRequest.FromString(body).resource_spans for span in _seen(each)]
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Door)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _with_plain_ids(span: dict[str, Any]) -> dict[str, Any]:
    """Return a span, and its links, with the ids that protobuf's JSON has in Base64."""
    names = ("traceId", "spanId", "parentSpanId")
    plain = {name: base64.b64decode(value).hex() if name in names else value for name, value in span.items()}
    return plain | {"links": [_with_plain_ids(link) for link in span["links"]]} if "links" in span else plain


def _seen(each: ResourceSpans) -> Iterator[Seen]:
    service = str(_attributes(each.resource.attributes)["service.name"])
    for scope in each.scope_spans:
        for span in scope.spans:
            yield Seen(
                service,
                span.name,
                Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                tuple(link.span_id.hex() for link in span.links),
                _attributes(span.attributes),
                span.status.code == Status.STATUS_CODE_ERROR,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
            )


def _attributes(pairs: Iterator[KeyValue]) -> dict[str, str | int]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in pairs}
