"""
FastStream: a batch subscriber, one transaction a batch with an `executemany` a table, its events published together.

    python -m benchmarks.frozen.faststream_batch
"""

from __future__ import annotations

import asyncio
from typing import Final

import uvloop
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from benchmarks.frozen.commands import RegisterCustomer
from benchmarks.frozen.contest import Contest, connect, insert_many
from benchmarks.frozen.registration import Registration, place_of, registration_of

BATCH_MAX_RECORDS: Final = 500
BATCH_TIMEOUT_MS: Final = 50
SESSION_TIMEOUT_MS: Final = 30_000
PRODUCER_BATCH_BYTES: Final = 512 * 1024


async def run(contest: Contest) -> None:
    """Work until the process is ended."""
    connection = await connect(contest.database)
    # No log line a batch, and room for a whole batch of events in one request.
    broker = KafkaBroker(contest.kafka, acks="all", logger=None, max_batch_size=PRODUCER_BATCH_BYTES)

    async def publish(new: Registration) -> None:
        await broker.publish(
            new.event_value,
            contest.events_topic,
            key=new.event_key,
            headers=new.event_headers,
            correlation_id=new.event_headers["ce_id"],
        )

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
    )
    async def register(commands: list[RegisterCustomer]) -> None:
        records = broker.context.get_local("message").raw_message
        batch = [registration_of(command, place_of(record)) for command, record in zip(commands, records, strict=True)]
        async with connection.transaction():
            await insert_many(connection, batch)
        await asyncio.gather(*map(publish, batch))

    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(Contest.from_environment()))
