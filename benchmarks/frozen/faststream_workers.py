"""
FastStream: a subscriber with ten workers, one transaction a message, its event published.

    python -m benchmarks.frozen.faststream_workers
"""

from __future__ import annotations

import asyncio
from typing import Final

import uvloop
from faststream.kafka import KafkaBroker

from benchmarks.frozen.commands import RegisterCustomer
from benchmarks.frozen.contest import Contest, insert, open_pool
from benchmarks.frozen.registration import place_of, registration_of

WORKERS: Final = 10
SESSION_TIMEOUT_MS: Final = 30_000


async def run(contest: Contest) -> None:
    """Work until the process is ended."""
    pool = await open_pool(contest.database, WORKERS)
    # No log line a message, as the worker writes none.
    broker = KafkaBroker(contest.kafka, acks="all", logger=None)

    # The message is looked up and not injected, which would take a hop to a thread and back for each message.
    # The acknowledgement policy is FastStream's own, the quicker one: offsets are committed in the background, before the work.
    @broker.subscriber(
        contest.commands_topic,
        group_id=contest.commands_topic,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=SESSION_TIMEOUT_MS,
        max_workers=WORKERS,
    )
    async def register(command: RegisterCustomer) -> None:
        new = registration_of(command, place_of(broker.context.get_local("message").raw_message))
        async with pool.acquire() as connection, connection.transaction():
            await insert(connection, new)
        await broker.publish(
            new.event_value,
            contest.events_topic,
            key=new.event_key,
            headers=new.event_headers,
            correlation_id=new.event_headers["ce_id"],
        )

    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(Contest.from_environment()))
