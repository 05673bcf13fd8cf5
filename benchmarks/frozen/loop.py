"""
The tutorial's loop: one message, one transaction, its event acknowledged, its offset committed; then the next.

    python -m benchmarks.frozen.loop
"""

from __future__ import annotations

from typing import Any, Final

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.frozen.commands import RegisterCustomer
from benchmarks.frozen.contest import Contest, connect, insert
from benchmarks.frozen.registration import kafka_headers, place_of, registration_of

SESSION_TIMEOUT_MS: Final = 30_000


async def run(contest: Contest) -> None:
    """Work until the process is ended."""
    connection = await connect(contest.database)
    producer = AIOKafkaProducer(bootstrap_servers=contest.kafka, acks="all")
    consumer = AIOKafkaConsumer(
        contest.commands_topic,
        bootstrap_servers=contest.kafka,
        group_id=contest.commands_topic,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=SESSION_TIMEOUT_MS,
    )
    await producer.start()
    await consumer.start()
    async for record in consumer:
        await run_once(contest, record, connection, producer)
        await consumer.commit()


async def run_once(contest: Contest, record: Any, connection: Any, producer: AIOKafkaProducer) -> None:  # noqa: ANN401 - aiokafka has no types
    """Take one command from the log to the database and the events' topic."""
    new = registration_of(RegisterCustomer.model_validate_json(record.value), place_of(record))
    async with connection.transaction():
        await insert(connection, new)
    headers = kafka_headers(new.event_headers)
    await producer.send_and_wait(contest.events_topic, key=new.event_key, value=new.event_value, headers=headers)


if __name__ == "__main__":
    uvloop.run(run(Contest.from_environment()))
