"""
Traces: one registration is one trace, from the caller through HTTP and Kafka into each service that acts on the event.

Real servers, and the SDK's own exporter, which sends to a collector over HTTP.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.base import header
from schemas.commands import COMMANDS_TOPIC
from schemas.events import EVENTS_TOPIC
from tests import commands
from tests.boundary.collector import Collector, Seen, collecting
from tests.boundary.ingress_door import IN_TIME_S, REGISTER, Door, command_of, logged_in, opened
from tests.conftest import World
from tests.trace import downstream
from tests.unit.test_readme import example
from worker import app
from worker.config import Settings
from worker.dev.logins import WORKER
from worker.kafka import Record

SERVICES = ("registration-verification", "registration-consent")
CALLER = "00-{trace}-b7ad6b7169203331-{flags}"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that every process of this test is told of, as an operator tells it."""
    with collecting() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield running


@dataclass(frozen=True, slots=True)
class Traced:
    """Ingress and worker at work, and what they export."""

    door: Door
    collector: Collector

    async def register(self, email: str, flags: str, **changed: object) -> tuple[str, str]:
        """Register somebody in a caller's trace; return its id and that of the customer, or of a registration that is refused."""
        trace_id = os.urandom(16).hex()
        headers = {"traceparent": CALLER.format(trace=trace_id, flags=flags)}
        answer = await self.door.client.post(REGISTER, json=commands.body_of(email, **changed), headers=headers)
        document = answer.json()
        return trace_id, document["data"]["id"] if answer.status_code == 201 else document["registrationId"]


@pytest.fixture
async def traced(world: World, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    """An ingress and a worker that export their spans."""
    settings = world.settings.model_copy(update={"group": world.topic})
    async with opened(settings, tmp_path_factory.mktemp("keys")) as door, working(settings, door):
        yield Traced(door, collector)


@asynccontextmanager
async def working(settings: Settings, door: Door) -> AsyncIterator[None]:
    """Run a worker."""
    stop = asyncio.Event()
    consuming = asyncio.create_task(app.consume(await logged_in(settings, WORKER), stop, door.metrics, lambda _health: None))
    try:
        yield
    finally:
        stop.set()
        await consuming


async def event_of(settings: Settings, subject: str) -> Record:
    """Return the event about a customer or a registration, as any consumer gets it."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(EVENTS_TOPIC, each) for each in range(settings.topic_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        async with asyncio.timeout(IN_TIME_S):
            while True:
                record: Record = await consumer.getone()
                if header(record.headers, "ce_subject") == subject:
                    return record
    finally:
        await consumer.stop()


def act(service: str, event: Record) -> None:
    """Be a downstream service that acts on an event as the README shows."""
    traces = example("traces_of")(service)
    try:
        example("handle_in_trace")(traces, event.headers, lambda: None)
    finally:
        traces.stop()


def names(spans: list[Seen]) -> list[tuple[str, str, str]]:
    """Return who did what, sorted."""
    return sorted((span.service, span.name, span.kind) for span in spans)


async def test_one_registration_is_one_trace_from_http_to_each_service_that_acts_on_it(traced: Traced) -> None:
    """Every span has the one before it as its parent, and is named by the conventions."""
    trace_id, customer_id = await traced.register(commands.email_of("trace"), "01")
    event = await event_of(traced.door.settings, customer_id)
    for service in SERVICES:
        act(service, event)
    await traced.collector.until(lambda: len(traced.collector.of(trace_id)) >= 6)
    spans = traced.collector.of(trace_id)
    by_id = {span.span_id: span for span in spans}

    assert names(spans) == [
        ("registration-consent", f"process {EVENTS_TOPIC}", "CONSUMER"),
        ("registration-ingress", f"POST {REGISTER}", "SERVER"),
        ("registration-ingress", f"send {COMMANDS_TOPIC}", "PRODUCER"),
        ("registration-verification", f"process {EVENTS_TOPIC}", "CONSUMER"),
        ("registration-worker", f"process {COMMANDS_TOPIC}", "CONSUMER"),
        ("registration-worker", f"send {EVENTS_TOPIC}", "PRODUCER"),
    ]
    ways = sorted(way(span, by_id) for span in spans if span.service in SERVICES)
    assert (
        ways
        == [
            [
                f"process {EVENTS_TOPIC}",
                f"send {EVENTS_TOPIC}",
                f"process {COMMANDS_TOPIC}",
                f"send {COMMANDS_TOPIC}",
                f"POST {REGISTER}",
                "caller",
            ]
        ]
        * 2
    )
    assert not any(span.is_error for span in spans)
    assert {span.attributes["messaging.system"] for span in spans if span.kind != "SERVER"} == {"kafka"}


def way(span: Seen, by_id: dict[str, Seen]) -> list[str]:
    """Return the names of a span and of all above it."""
    above = by_id.get(span.parent)
    if above is not None:
        return [span.name, *way(above, by_id)]
    return [span.name, "caller" if span.parent == CALLER.split("-")[2] else span.parent]


async def test_a_batch_has_a_span_of_its_own_that_is_linked_with_those_of_its_commands(traced: Traced) -> None:
    """So whoever looks at one slow registration finds what was done beside it."""
    trace_id, _ = await traced.register(commands.email_of("batch"), "01")
    await traced.collector.until(lambda: len(traced.collector.of(trace_id)) >= 4)
    process = next(span for span in traced.collector.of(trace_id) if span.name == f"process {COMMANDS_TOPIC}")
    sent = next(span for span in traced.collector.of(trace_id) if span.name == f"send {COMMANDS_TOPIC}")
    await traced.collector.until(lambda: any(span.span_id in process.links for span in traced.collector.spans))
    (batch,) = [span for span in traced.collector.spans if span.span_id in process.links]

    assert batch.name == process.name
    assert batch.trace_id != trace_id
    assert sent.span_id in batch.links
    assert int(batch.attributes["messaging.batch.message_count"]) >= len(batch.links)
    assert batch.attributes["messaging.destination.partition.id"] == sent.attributes["messaging.destination.partition.id"]


async def test_a_trace_that_is_not_sampled_is_passed_on_and_costs_no_span(traced: Traced) -> None:
    """The event names the caller's trace all the same; a sampled one behind it shows that all before it was exported."""
    quiet, quiet_id = await traced.register(commands.email_of("unsampled"), "00")
    loud, _ = await traced.register(commands.email_of("sampled"), "01")
    event = await event_of(traced.door.settings, quiet_id)
    await traced.collector.until(lambda: len(traced.collector.of(loud)) >= 4)

    assert traced.collector.of(quiet) == []
    assert (header(event.headers, "traceparent") or "").startswith(f"00-{quiet}-")
    assert (header(event.headers, "traceparent") or "").endswith("-00")


async def test_a_refusal_and_a_fault_of_a_caller_are_no_errors_of_ours(traced: Traced) -> None:
    """409 is an answer; the event of the refusal is in the trace as well, and no span says who it was about."""
    email = commands.email_of("refused")
    await traced.register(email, "01")
    trace_id, registration_id = await traced.register(email, "01")
    event = await event_of(traced.door.settings, registration_id)
    await traced.collector.until(lambda: len(traced.collector.of(trace_id)) >= 4)
    spans = traced.collector.of(trace_id)
    (sent,) = [span for span in spans if span.name == f"send {EVENTS_TOPIC}"]

    assert not any(span.is_error for span in spans)
    assert {span.attributes["http.response.status_code"] for span in spans if span.kind == "SERVER"} == {409}
    assert header(event.headers, "traceparent") == f"00-{trace_id}-{sent.span_id}-01"
    assert not any(email.encode() in body or b"Bearer" in body for body in traced.collector.bodies)


async def test_each_stage_of_a_batch_is_measured(traced: Traced) -> None:
    """Deciding, the transaction, and publishing."""
    await traced.register(commands.email_of("stages"), "00")
    stages = ("examine", "transaction", "publish")
    await traced.collector.until(lambda: all(traced.door.sample_of("stage_seconds_count", stage=stage) > 0 for stage in stages))

    assert traced.door.sample_of("batch_seconds_count") > 0


async def test_a_trace_begins_at_the_ingress_where_the_caller_has_none(traced: Traced) -> None:
    """The command carries it on."""
    answer = await traced.door.client.post(REGISTER, json=commands.body_of(commands.email_of("begun")))
    sent = await command_of(traced.door.settings, (await stored(traced, answer.headers["location"]))["registrationId"])
    trace_id = sent.headers["traceparent"].decode().split("-")[1]
    await traced.collector.until(lambda: len(traced.collector.of(trace_id)) >= 4)
    (server,) = [span for span in traced.collector.of(trace_id) if span.kind == "SERVER"]

    assert server.parent == ""


async def stored(traced: Traced, location: str) -> dict[str, str]:
    """Return a customer as it is stored."""
    found: dict[str, str] = (await traced.door.client.get(location)).json()["data"]
    return found


async def test_the_services_of_this_project_go_on_in_the_trace(traced: Traced, tmp_path: Path) -> None:
    """As processes of their own: each event that they act on is a span below the one of its sending."""
    async with downstream(traced.door.settings.kafka_bootstrap, tmp_path) as asked:
        trace_id, customer_id = await traced.register(commands.email_of("downstream"), "01")
        await asked(customer_id)
    await traced.collector.until(lambda: len(traced.collector.of(trace_id)) >= 6)
    spans = traced.collector.of(trace_id)
    (sent,) = [span for span in spans if span.name == f"send {EVENTS_TOPIC}"]

    assert sorted(span.service for span in spans if span.parent == sent.span_id) == sorted(SERVICES)
