"""Spans of batches: nothing where tracing is off, all in the right trace where it is on, and never for long at a time."""

from __future__ import annotations

import asyncio
import os

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC
from tests import commands
from tests.records import SNAPSHOT, record
from tracing import parent_in
from tracing.sdk import exporting
from worker import messages
from worker.errors import UnavailableError
from worker.examining import Examined
from worker.messages import Outgoing
from worker.registration import Accepted, examine, refuse
from worker.traces import TELLING_MAX, YIELD_EVERY, BatchSpans


def batch(count: int, flags: str = "01") -> tuple[list[Examined], list[Outgoing]]:
    """Return commands that were decided, each in a trace of its own, and their events."""
    part = []
    for offset in range(count):
        headers = [*commands.headers(), ("traceparent", f"00-{os.urandom(16).hex()}-b7ad6b7169203331-{flags}".encode())]
        read = record(commands.data(f"p{offset}@example.com"), headers=headers, offset=offset)
        part.append(Examined(read, examine(read, SNAPSHOT, fresh=True)))
    return part, [messages.registered(item.verdict) for item in part if isinstance(item.verdict, Accepted)]


async def told(part: list[Examined], outgoing: list[Outgoing], sending: asyncio.Task[object] | None) -> list[ReadableSpan]:
    """Return the spans of a batch."""
    memory = InMemorySpanExporter()
    traces = exporting([memory], "any")
    spans = BatchSpans(traces, "group")
    spans.stored(part, outgoing, 0.1, sending)
    await spans.finish()
    traces.stop()
    return list(memory.get_finished_spans())


async def acknowledge(error: Exception | None = None) -> object:
    """Be a producer."""
    await asyncio.sleep(0)
    if error is not None:
        raise error
    return None


async def test_where_tracing_is_off_nothing_is_begun() -> None:
    """Not even a task."""
    before = asyncio.all_tasks()
    BatchSpans().stored(*batch(1), 0.1, None)

    assert asyncio.all_tasks() == before


async def test_the_span_of_an_events_sending_is_the_one_that_the_event_names() -> None:
    """Each below the span of its command's processing, which is below the command's own."""
    part, outgoing = batch(3)
    spans = await told(part, outgoing, asyncio.ensure_future(acknowledge()))
    sends = {span.context.span_id: span for span in spans if span.name == f"send {EVENTS_TOPIC}"}
    processes = {span.context.span_id: span for span in spans if span.name == f"process {part[0].record.topic}"}

    assert len(spans) == 1 + 3 + 3
    assert {f"00-{span.context.trace_id:032x}-{number:016x}-01" for number, span in sends.items()} == {
        parent_in(sent.message.headers) for sent in outgoing
    }
    assert all(span.parent is not None and span.parent.span_id in processes for span in sends.values())
    assert all(span.end_time is not None and span.start_time is not None and span.end_time >= span.start_time for span in spans)


async def test_of_traces_that_are_not_sampled_the_batch_alone_is_recorded() -> None:
    """Most of them are not."""
    part, outgoing = batch(3, flags="00")
    (span,) = await told(part, outgoing, asyncio.ensure_future(acknowledge()))

    assert dict(span.attributes or {})["messaging.batch.message_count"] == 3
    assert span.links == ()


async def test_a_command_that_was_done_before_has_no_span_of_a_sending() -> None:
    """Nothing is sent."""
    part, _ = batch(1)
    spans = await told(part, [], None)

    assert [span.name for span in spans] == [f"process {part[0].record.topic}"] * 2


async def test_a_dead_letter_is_in_the_trace_of_its_command() -> None:
    """Its headers are the command's, so that nothing names its span, which has an id of its own."""
    part, _ = batch(1)
    letter = refuse(part[0].record, "store.refused", SNAPSHOT)
    spans = await told([Examined(part[0].record, letter)], [messages.letter(letter)], asyncio.ensure_future(acknowledge()))
    (sent,) = [span for span in spans if span.name == f"send {DEAD_LETTERS_TOPIC}"]

    assert f"{sent.context.trace_id:032x}" in (parent_in(part[0].record.headers) or "")
    assert sent.context.span_id != int("b7ad6b7169203331", 16)


async def test_a_sending_that_failed_is_an_error_of_that_kind() -> None:
    """It is sent again by whoever claims the partition next."""
    part, outgoing = batch(1)
    sending = asyncio.ensure_future(acknowledge(UnavailableError("kafka", "away")))
    spans = await told(part, outgoing, sending)
    (sent,) = [span for span in spans if span.name == f"send {EVENTS_TOPIC}"]

    assert dict(sent.attributes or {})["error.type"] == "UnavailableError"
    assert not sent.status.is_ok
    with pytest.raises(UnavailableError):
        sending.result()


async def test_a_large_batch_is_told_in_pieces() -> None:
    """Heartbeats run on the same loop."""
    part, outgoing = batch(4 * YIELD_EVERY)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    spans = await told(part, outgoing, None)
    counting.cancel()

    assert len(spans) == 1 + 2 * len(part)
    assert turns > 4


async def test_where_telling_can_not_keep_up_spans_are_lost_and_not_memory() -> None:
    """A Kafka that acknowledges nothing holds no more than a bounded number of batches."""
    memory, never = InMemorySpanExporter(), asyncio.ensure_future(asyncio.Event().wait())
    traces = exporting([memory], "any")
    spans = BatchSpans(traces, "group")
    before = len(asyncio.all_tasks())
    for _ in range(TELLING_MAX + 5):
        spans.stored(*batch(1), 0.1, never)

    assert len(asyncio.all_tasks()) == before + TELLING_MAX
    never.cancel()
    await spans.finish()
    traces.stop()
    assert len([span for span in memory.get_finished_spans() if span.name.startswith("send")]) == TELLING_MAX
