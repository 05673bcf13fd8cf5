"""
FastStream: a subscriber with ten workers, one transaction a message, its event published.

    python -m benchmarks.frozen.faststream_workers
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import uvloop
from faststream.kafka import KafkaBroker

from benchmarks.frozen.contest import Contest, insert, open_pool
from benchmarks.frozen.registration import Place, Registration, registration_of

if TYPE_CHECKING:
    from faststream.kafka.annotations import KafkaMessage

WORKERS: Final = 10
SESSION_TIMEOUT_MS: Final = 30_000


async def run(contest: Contest) -> None:
    """Work until the process is ended."""
    pool = await open_pool(contest.database, WORKERS)
    # No log line a message, and no dependency injection: both cost more than they give here.
    broker = KafkaBroker(contest.kafka, acks="all", logger=None, apply_types=False)

    @broker.subscriber(
        contest.commands_topic,
        group_id=contest.commands_topic,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=SESSION_TIMEOUT_MS,
        max_workers=WORKERS,
        decoder=decode,
    )
    async def register(new: Registration) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await insert(connection, new)
        await broker.publish(
            new.event_value, contest.events_topic, key=new.event_key, headers=new.event_headers, correlation_id=new.event_headers["ce_id"]
        )

    await broker.start()
    await asyncio.Event().wait()


async def decode(message: KafkaMessage) -> Registration:
    """Parse the body once, by pydantic's own JSON parser, instead of JSON first and validation then."""
    record: Any = message.raw_message
    return registration_of(record.value, Place(record.topic, record.partition, record.offset, record.timestamp))


if __name__ == "__main__":
    uvloop.run(run(Contest.from_environment()))
