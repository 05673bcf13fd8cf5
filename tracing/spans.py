"""
Spans of HTTP and Kafka, with the names, kinds and attributes that every trace viewer knows.

No attribute holds what a caller sent: no path, query, key, or id that somebody else chose.

Source: OpenTelemetry semantic conventions 1.44, "HTTP spans", "Messaging spans" and "Kafka"; W3C Trace Context.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer, use_span
from opentelemetry.trace.propagation import get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

TRACEPARENT: Final = "traceparent"
STOP_TIMEOUT_S: Final = 3.0
_W3C: Final = TraceContextTextMapPropagator()

Attributes: TypeAlias = dict[str, AttributeValue]
Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
"""Of a record of Kafka, as aiokafka has them."""


class Traces:
    """
    Where a process's spans go.

    Args:
        tracer: what makes spans; None: nothing does, and each method below costs next to nothing.
        choose: tells the tracer's provider which id its next span gets.
        shut_down: exports what is left.
    """

    def __init__(
        self,
        tracer: Tracer | None = None,
        choose: Callable[[int], None] = lambda _span_id: None,
        shut_down: Callable[[], None] = lambda: None,
    ) -> None:
        self._tracer = tracer
        self._choose = choose
        self._shut_down = shut_down

    @property
    def is_on(self) -> bool:
        """Spans are made."""
        return self._tracer is not None

    def span(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None,
        *,
        attributes: Attributes | None = None,
        links: Sequence[SpanContext] = (),
        start_ns: int | None = None,
        span_id: int | None = None,
    ) -> Span:
        """
        Begin a span; whoever does ends it.

        Args:
            name: as the conventions have it, of few values.
            kind: which side of an exchange it is.
            parent: the `traceparent` it follows; without a valid one it begins a trace.
            attributes: of few values, or ids of ours.
            links: other spans that it has to do with.
            start_ns: when it began, in nanoseconds since 1970; now where left out.
            span_id: the id that it must have; a random one where left out.
        Returns:
            A span that records nothing where tracing is off, or where this trace is not sampled.
        """
        if self._tracer is None:
            return INVALID_SPAN
        if span_id is not None:
            self._choose(span_id)
        return self._tracer.start_span(
            name,
            context_of(parent),
            kind,
            attributes=attributes,
            links=[Link(link) for link in links],
            start_time=start_ns,
            record_exception=False,  # an exception's text may hold a row or a body
            set_status_on_exception=False,
        )

    @contextmanager
    def sending(self, topic: str, parent: str | None) -> Iterator[Span]:
        """Record the sending of one message, from here to its acknowledgement: put `traceparent_of` the span into its headers."""
        attributes: Attributes = {**kafka(topic, "send"), "messaging.operation.type": "send"}
        with _current(self.span(f"send {topic}", SpanKind.PRODUCER, parent, attributes=attributes)) as span:
            yield span

    @contextmanager
    def processing(self, topic: str, headers: Headers, group: str) -> Iterator[Span]:
        """
        Continue a message's trace while it is processed; spans that other libraries make in the block become its children.

        Args:
            topic: it came from.
            headers: of the message.
            group: the consumer group.
        """
        with _current(self._process(topic, headers, group, None)) as span:
            yield span

    def processed(self, topic: str, headers: Headers, group: str, start_ns: int) -> None:
        """
        Continue a message's trace by a span that ends now: for one that was processed in a batch with others.

        Args:
            topic: it came from.
            headers: of the message.
            group: the consumer group.
            start_ns: when the batch's work began, in nanoseconds since 1970.
        """
        self._process(topic, headers, group, start_ns).end()

    def _process(self, topic: str, headers: Headers, group: str, start_ns: int | None) -> Span:
        attributes: Attributes = {
            **kafka(topic, "process"),
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": group,
        }
        return self.span(f"process {topic}", SpanKind.CONSUMER, parent_in(headers), attributes=attributes, start_ns=start_ns)

    def stop(self) -> None:
        """Export what is left, within 3 s: a collector that is away must not keep a process from ending."""
        thread = threading.Thread(target=self._shut_down, daemon=True)
        thread.start()
        thread.join(STOP_TIMEOUT_S)


OFF: Final = Traces()


def kafka(topic: str, operation: str) -> Attributes:
    """Return what every span of Kafka has."""
    return {"messaging.system": "kafka", "messaging.destination.name": topic, "messaging.operation.name": operation}


def context_of(parent: str | None) -> Context:
    """Return the context that a `traceparent` stands for; an empty one where it is none, whatever span is current here."""
    return _W3C.extract({} if parent is None else {TRACEPARENT: parent}, Context())


def span_context_of(parent: str | None) -> SpanContext:
    """Return the span that a `traceparent` names; an invalid one where it is none."""
    return get_current_span(context_of(parent)).get_span_context()


def traceparent_of(span: Span) -> str | None:
    """Return what the next one down the line gets as `traceparent`; None where tracing is off."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span, Context()))
    return carrier.get(TRACEPARENT)


def parent_in(headers: Headers) -> str | None:
    """Return a message's `traceparent`, which need not be one."""
    for name, value in headers:
        if name == TRACEPARENT:
            return None if value is None else value.decode("latin-1")
    return None


def failed(span: Span, error: BaseException) -> None:
    """Mark a span as failed by a kind of error; its text stays out."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))


@contextmanager
def _current(span: Span) -> Iterator[Span]:
    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except BaseException as error:
            failed(span, error)
            raise
