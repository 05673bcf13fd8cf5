"""
FastStream with its conveniences left out: bodies parsed by hand, nothing injected, acknowledgements gathered.

    python -m benchmarks.frozen.faststream_bare

What somebody gets who gives up typed handlers for pace; otherwise as `faststream_batch`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import uvloop
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from benchmarks.frozen.commands import RegisterCustomer
from benchmarks.frozen.contest import Contest, connect, insert_many
from benchmarks.frozen.faststream_batch import BATCH_MAX_RECORDS, BATCH_TIMEOUT_MS, PRODUCER_BATCH_BYTES, SESSION_TIMEOUT_MS
from benchmarks.frozen.registration import Registration, place_of, registration_of

if TYPE_CHECKING:
    from faststream.kafka import KafkaMessage


async def run(contest: Contest) -> None:
    """Work until the process is ended."""
    connection = await connect(contest.database)
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
    return [registration_of(RegisterCustomer.model_validate_json(each.value), place_of(each)) for each in records]


if __name__ == "__main__":
    uvloop.run(run(Contest.from_environment()))
