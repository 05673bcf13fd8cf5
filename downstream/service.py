"""
The loop of a consumer: `run` loops over `run_once`, which takes one batch from the topic into the inbox.

The order is what counts: first the inbox's transaction, then the offset's commit. The other way round a kill between the two
loses events; this way it delivers them again, and the inbox knows them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from downstream.inbox import Inbox, Request
from schemas import CustomerRegistered, UnknownEventError, parse_event
from schemas.base import header
from schemas.events import EVENTS_TOPIC
from tracing import OFF, Traces

POLL_S: Final = 1.0
CALL_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 2.0
BATCH_MAX: Final = 200

__all__ = ["Ask", "Request", "Service", "UnreadableError", "handle"]


class UnreadableError(Exception):
    """
    An event of a known type that these schemas can't read, named by where it stands.

    Its offset is not committed, so that a newer release goes on from there: to skip it would lose a customer silently.
    """


@dataclass(frozen=True, slots=True)
class Ask:
    """What a service is about: the name of its log line, and what it asks of a customer who was registered."""

    name: str
    of: Callable[[CustomerRegistered], Request]


def handle(record: ConsumerRecord[bytes, bytes], ask: Ask) -> tuple[str, Request] | None:
    """
    Read one record, and say what it means for this service. All that happens to a record happens here, and is pure.

    Args:
        record: of the events' topic. Its header `traceparent`, where there is one, is that of the registration.
        ask: what the service is about.
    Returns:
        The fact's `ce_id` and what to ask; None for what this service does not act on.
    Raises:
        UnreadableError: a known type that these schemas can't read.
    """
    ce_id = header(record.headers, "ce_id")
    if ce_id is None or record.value is None:
        return None
    try:
        event = parse_event(record.headers, record.value)
    except UnknownEventError:
        return None
    except ValidationError:
        raise UnreadableError(f"{record.topic}, partition {record.partition}, offset {record.offset}") from None
    return (ce_id, ask.of(event)) if isinstance(event, CustomerRegistered) else None


class Service:
    """
    One consumer.

    Args:
        name: of the service, and of its consumer group.
        ask: what it is about.
        inbox: where it keeps what it has acted on.
        kafka: bootstrap servers, `host:port,host:port`.
        topic: where the events are.
        alive: a file that is touched after each batch, also an empty one; None touches none.
        traces: where each event that it acts on becomes a span, in the trace of its registration.
    """

    def __init__(
        self,
        name: str,
        ask: Ask,
        inbox: Inbox,
        kafka: str,
        *,
        topic: str = EVENTS_TOPIC,
        alive: Path | None = None,
        traces: Traces = OFF,
    ) -> None:
        self._name = name
        self._traces = traces
        self._ask = ask
        self._inbox = inbox
        self._alive = alive
        self._log: Any = structlog.get_logger().bind(service=name)
        self._consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            topic,
            bootstrap_servers=kafka,
            group_id=name,
            enable_auto_commit=False,  # it would commit what was delivered, not what was acted on
            auto_offset_reset="earliest",  # a new group acts on all that is kept
        )

    async def run(self, stop: asyncio.Event) -> None:
        """
        Work until told to stop. Kafka may come and go meanwhile.

        Raises:
            UnreadableError: see there.
        """
        await self._start(stop)
        try:
            while not stop.is_set():
                try:
                    await self.run_once()
                except (KafkaError, TimeoutError) as error:
                    self._log.warning("kafka.unavailable", reason=type(error).__name__)
                    await _pause(stop)
        finally:
            await self.close()

    async def run_once(self) -> int:
        """Take one batch from the topic into the inbox; return how many customers were new."""
        batches = await self._consumer.getmany(timeout_ms=int(POLL_S * 1000), max_records=BATCH_MAX)
        records = [record for batch in batches.values() for record in batch]
        fresh = await self._take(records) if records else []
        for request in fresh:
            self._log.info(self._ask.name, tenant_id=request.tenant_id, customer_id=request.customer_id, **request.asked)
        if records:
            await asyncio.wait_for(self._consumer.commit(), CALL_TIMEOUT_S)
        if self._alive is not None:
            self._alive.touch()
        return len(fresh)

    async def start(self) -> None:
        """
        Join the group.

        Raises:
            KafkaError, TimeoutError: no broker answers.
        """
        await asyncio.wait_for(self._consumer.start(), CALL_TIMEOUT_S)

    async def close(self) -> None:
        """Leave the group; a broker that is gone can't hold the end up."""
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(self._consumer.stop(), CALL_TIMEOUT_S)

    async def _take(self, records: Iterable[ConsumerRecord[bytes, bytes]]) -> list[Request]:
        began_ns = time.time_ns()
        acted_on = [(record, fact) for record in records if (fact := handle(record, self._ask)) is not None]
        fresh = await asyncio.to_thread(self._inbox.take, [fact for _, fact in acted_on])  # heartbeats run on this loop
        for record, _ in acted_on:
            self._traces.processed(record.topic, record.headers, self._name, began_ns)
        return fresh

    async def _start(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                return await self.start()
            except (KafkaError, TimeoutError) as error:
                self._log.warning("kafka.unavailable", reason=type(error).__name__)
                await _pause(stop)
        return None


async def _pause(stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), RETRY_S)
