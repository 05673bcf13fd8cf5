"""
What a batch looks like in the traces of its commands.

Spans are made afterwards, from times that were taken once a batch: nothing is done for a record unless traces are
exported and its sender's trace is sampled.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry.trace import Span, SpanKind

from schemas.base import header
from tracing import OFF, Traces, TracingError, failed, parent_in, start, traceparent_of
from tracing.spans import Attributes, kafka, span_context_of
from worker import logs
from worker.examining import Examined
from worker.messages import EVENT, Outgoing
from worker.registration import Accepted, Rejected

WORKER: Final = "registration-worker"
INGRESS: Final = "registration-ingress"
LINKS_MAX: Final = 128
"""Most links that the SDK keeps of a span by default."""


@contextmanager
def exported(service: str) -> Iterator[Traces]:
    """Have traces for the length of a block where the environment asks for them; where it can't be done, one line says why."""
    try:
        traces = start(os.environ, service)
    except TracingError as error:
        logs.logger().warning("traces.unavailable", reason=str(error))
        traces = OFF
    try:
        yield traces
    finally:
        traces.stop()


def tell(
    traces: Traces, group: str, part: Sequence[Examined], outgoing: Sequence[Outgoing], duration_s: float
) -> Callable[[asyncio.Task[object]], None] | None:
    """
    Record a batch that was committed just now: a span of its own, and one in each sampled trace.

    Args:
        traces: where spans go.
        group: the consumer group.
        part: the batch, at least one record.
        outgoing: its messages, which are about to be sent.
        duration_s: seconds since its work began.
    Returns:
        What has to be told when they are sent; None where nothing is recorded of it.
    """
    if not traces.is_on:
        return None
    now = time.time_ns()
    began = now - int(duration_s * 1e9)
    first = part[0].record
    sampled = [(item, parent) for item in part if is_sampled(parent := parent_in(item.record.headers))]
    shared: Attributes = {
        **kafka(first.topic, "process"),
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": group,
        "messaging.destination.partition.id": str(first.partition),
    }
    links = [span_context_of(parent) for _, parent in sampled[:LINKS_MAX]]
    attributes: Attributes = {**shared, "messaging.batch.message_count": len(part)}
    name = f"process {first.topic}"
    batch = traces.span(name, SpanKind.CONSUMER, None, attributes=attributes, links=links, start_ns=began)
    batch.end(now)
    by_offset = {each.offset: each for each in outgoing}
    sending = []
    for item, parent in sampled:
        own: Attributes = {**shared, "messaging.kafka.offset": item.record.offset, "registration.verdict": _verdict(item)}
        span = traces.span(name, SpanKind.CONSUMER, parent, attributes=own, links=[batch.get_span_context()], start_ns=began)
        span.end(now)
        if (sent := by_offset.get(item.record.offset)) is not None:
            sending.append(_send(traces, sent, traceparent_of(span), now))
    return (lambda task: _end(sending, task)) if sending else None


def is_sampled(parent: str | None) -> bool:
    """Say whether a `traceparent` asks for its trace to be recorded; one that is none does not."""
    return parent is not None and span_context_of(parent).trace_flags.sampled


def _send(traces: Traces, sent: Outgoing, parent: str | None, start_ns: int) -> Span:
    """Begin the span of a message's sending; that of an event has the id which the event already names."""
    topic, span_id = sent.message.topic, None
    attributes: Attributes = {**kafka(topic, "send"), "messaging.operation.type": "send"}
    if sent.kind == EVENT:
        span_id = span_context_of(parent_in(sent.message.headers)).span_id
        attributes["messaging.message.id"] = header(sent.message.headers, "ce_id") or ""
    return traces.span(f"send {topic}", SpanKind.PRODUCER, parent, attributes=attributes, start_ns=start_ns, span_id=span_id)


def _end(spans: Sequence[Span], task: asyncio.Task[object]) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    for span in spans:
        if error is not None:
            failed(span, error)
        span.end()


def _verdict(item: Examined) -> str:
    """Return what was decided; whether it was decided before only the database knows, and then nothing is sent."""
    if isinstance(item.verdict, Accepted):
        return "accepted"
    return "rejected" if isinstance(item.verdict, Rejected) else "dead_letter"
