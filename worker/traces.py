"""
What a batch looks like in the traces of its commands.

Spans are made afterwards, from times that were taken once a batch: nothing is done for a record unless traces are
exported and its sender's trace is sampled.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeGuard

from opentelemetry.trace import Span, SpanContext, SpanKind

from schemas.base import header
from tracing import OFF, Traces, TracingError, failed, parent_in, start, traceparent_of
from tracing.spans import Attributes, kafka, span_context_of
from worker import logs
from worker.examining import Examined
from worker.messages import EVENT, Outgoing
from worker.registration import Accepted, Rejected

WORKER: Final = "registration-worker"
INGRESS: Final = "registration-ingress"
_SAMPLED: Final = frozenset("13579bdf")
YIELD_EVERY: Final = 50
"""Records whose spans are made before the loop may send a heartbeat: some 8 ms."""
TELLING_MAX: Final = 16
"""Batches that wait to be told; beyond, spans are lost and not memory."""
FINISH_TIMEOUT_S: Final = 1.0
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


class BatchSpans:
    """
    Records batches that were committed: a span for each, and one in each sampled trace.

    Args:
        traces: where spans go.
        group: the consumer group.
    """

    def __init__(self, traces: Traces = OFF, group: str = "") -> None:
        self._traces = traces
        self._group = group
        self._telling: set[asyncio.Task[None]] = set()

    def stored(
        self, part: Sequence[Examined], outgoing: Sequence[Outgoing], duration_s: float, sending: asyncio.Task[object] | None
    ) -> None:
        """
        Take note of a batch that was committed just now; its spans are made beside the work.

        Args:
            part: the batch, at least one record.
            outgoing: its messages.
            duration_s: seconds since its work began.
            sending: what sends them; None where there are none.
        """
        if not self._traces.is_on or len(self._telling) >= TELLING_MAX:
            return
        now = time.time_ns()
        batch = _Batch(part, outgoing, now - int(duration_s * 1e9), now)
        if sending is not None:
            sending.add_done_callback(batch.was_sent)
        task = asyncio.create_task(self._tell(batch, sending), name="batch spans")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def finish(self) -> None:
        """Wait, for a second at most, until all is told."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=FINISH_TIMEOUT_S)

    async def _tell(self, batch: _Batch, sending: asyncio.Task[object] | None) -> None:
        if sending is not None:
            await asyncio.wait({sending})
        first = batch.part[0].record
        shared: Attributes = {
            **kafka(first.topic, "process"),
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": self._group,
            "messaging.destination.partition.id": str(first.partition),
        }
        whole = self._whole(batch, shared)
        by_offset = {each.offset: each for each in batch.outgoing}
        for index, (item, parent) in enumerate(batch.sampled):
            if index % YIELD_EVERY == YIELD_EVERY - 1:
                await asyncio.sleep(0)
            span = self._process(batch, item, parent, shared, whole)
            if (sent := by_offset.get(item.record.offset)) is not None:
                self._send(batch, sent, traceparent_of(span))

    def _whole(self, batch: _Batch, shared: Attributes) -> SpanContext:
        attributes: Attributes = {**shared, "messaging.batch.message_count": len(batch.part)}
        links = [span_context_of(parent) for _, parent in batch.sampled[:LINKS_MAX]]
        name, start_ns = f"process {batch.part[0].record.topic}", batch.start_ns
        span = self._traces.span(name, SpanKind.CONSUMER, None, attributes=attributes, links=links, start_ns=start_ns)
        span.end(batch.stored_ns)
        return span.get_span_context()

    def _process(self, batch: _Batch, item: Examined, parent: str, shared: Attributes, whole: SpanContext) -> Span:
        attributes: Attributes = {
            **shared,
            "messaging.kafka.offset": item.record.offset,
            "registration.verdict": _verdict(item),
        }
        name, start_ns = f"process {item.record.topic}", batch.start_ns
        span = self._traces.span(name, SpanKind.CONSUMER, parent, attributes=attributes, links=[whole], start_ns=start_ns)
        span.end(batch.stored_ns)
        return span

    def _send(self, batch: _Batch, sent: Outgoing, parent: str | None) -> None:
        """Record the sending of a message; the span of an event's has the id which the event already names."""
        topic, headers, span_id = sent.message.topic, sent.message.headers, None
        attributes: Attributes = {**kafka(topic, "send"), "messaging.operation.type": "send"}
        if sent.kind == EVENT:
            span_id = span_context_of(parent_in(headers)).span_id
            attributes["messaging.message.id"] = header(headers, "ce_id") or ""
        name, start_ns = f"send {topic}", batch.stored_ns
        span = self._traces.span(name, SpanKind.PRODUCER, parent, attributes=attributes, start_ns=start_ns, span_id=span_id)
        if batch.error is not None:
            failed(span, batch.error)
        span.end(batch.sent_ns)


class _Batch:
    """A batch and its times, in nanoseconds since 1970."""

    def __init__(self, part: Sequence[Examined], outgoing: Sequence[Outgoing], start_ns: int, stored_ns: int) -> None:
        self.part = part
        self.outgoing = outgoing
        self.start_ns = start_ns
        self.stored_ns = self.sent_ns = stored_ns
        self.error: BaseException | None = None
        self.sampled = [(item, parent) for item in part if is_sampled(parent := parent_in(item.record.headers))]

    def was_sent(self, task: asyncio.Task[object]) -> None:
        """Take note of when, and of what went wrong."""
        self.sent_ns = time.time_ns()
        self.error = asyncio.CancelledError() if task.cancelled() else task.exception()


def is_sampled(parent: str | None) -> TypeGuard[str]:
    """Say whether a `traceparent` asks for its trace to be recorded; one that is none does not, as its last digit says at once."""
    return parent is not None and parent[-1:] in _SAMPLED and span_context_of(parent).trace_flags.sampled


def _verdict(item: Examined) -> str:
    """Return what was decided; whether it was decided before only the database knows, and then nothing is sent."""
    if isinstance(item.verdict, Accepted):
        return "accepted"
    return "rejected" if isinstance(item.verdict, Rejected) else "dead_letter"
