"""
FastStream: a batch subscriber, one transaction a batch with an `executemany` a table, its events published together.

    python -m benchmarks.frozen.faststream_batch
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import uvloop
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from benchmarks.frozen.contest import Contest, connect, insert_many
from benchmarks.frozen.registration import Place, Registration, registration_of

if TYPE_CHECKING:
    from faststream.kafka.annotations import KafkaMessage

BATCH_MAX_RECORDS: Final = 500
BATCH_TIMEOUT_MS: Final = 50
SESSION_TIMEOUT_MS: Final = 30_000
PRODUCER_BATCH_BYTES: Final = 512 * 1024


async def run(contest: Contest) -> None:
    """Work until the process is ended."""
    connection = await connect(contest.database)
    # No log line a batch, no dependency injection, and room for a whole batch of events in one request.
    broker = KafkaBroker(contest.kafka, acks="all", logger=None, apply_types=False, max_batch_size=PRODUCER_BATCH_BYTES)

    @broker.subscriber(
        contest.commands_topic,
        group_id=contest.commands_topic,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=SESSION_TIMEOUT_MS,
        batch=True,
        batch_timeout_ms=BATCH_TIMEOUT_MS,
        max_records=BATCH_MAX_RECORDS,
        ack_policy=AckPolicy.ACK,
        decoder=decode,
    )
    async def register(batch: list[Registration]) -> None:
        async with connection.transaction():
            await insert_many(connection, batch)
        # Handed over one after the other, acknowledged together.
        sent = [
            await broker.publish(
                new.event_value,
                contest.events_topic,
                key=new.event_key,
                headers=new.event_headers,
                correlation_id=new.event_headers["ce_id"],
                no_confirm=True,
            )
            for new in batch
        ]
        await asyncio.gather(*sent)

    await broker.start()
    await asyncio.Event().wait()


async def decode(message: KafkaMessage) -> list[Registration]:
    """Parse each body once, by pydantic's own JSON parser, instead of JSON first and validation then."""
    records: Any = message.raw_message
    return [registration_of(each.value, Place(each.topic, each.partition, each.offset, each.timestamp)) for each in records]


if __name__ == "__main__":
    uvloop.run(run(Contest.from_environment()))
