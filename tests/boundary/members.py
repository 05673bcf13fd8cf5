"""Members of a group, what they were told, and clients that die under them."""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.client import ConnectionGroup

from tests.boundary.conditions import until
from worker.kafka import Member, Membership, Partition

CLOSED: Final = "unable to perform operation on <TCPTransport closed=True reading=False>; the handler is closed"
"""What uvloop says, as a RuntimeError, of a socket that was closed under a client."""


class Known:
    """Knows what a member was told."""

    def __init__(self) -> None:
        self.mine: set[Partition] = set()
        self.changed = asyncio.Event()

    async def on_revoked(self, partitions: set[Partition]) -> None:
        """Lose partitions."""
        self.mine -= partitions
        self.changed.set()

    async def on_assigned(self, _member: Member, partitions: set[Partition]) -> None:
        """Get partitions."""
        self.mine |= partitions
        self.changed.set()

    async def has(self, count: int) -> bool:
        """Say whether that many are mine."""
        return len(self.mine) == count


def membership(bootstrap: str, topic: str) -> Membership:
    """Return how a member of this test's group takes part."""
    return Membership(
        bootstrap=bootstrap,
        group=topic,
        topic=topic,
        client_id="tests",
        session_timeout_s=3,
        heartbeat_interval_s=0.3,
        rebalance_timeout_s=6,
        metadata_max_age_s=60,
    )


async def joined(bootstrap: str, topic: str) -> tuple[Member, Known]:
    """Join a group alone."""
    known = Known()
    member = Member(membership(bootstrap, topic), known)
    await member.join()
    await until(lambda: known.has(2), "the member has both partitions")
    return member, known


def cut(client: AIOKafkaConsumer, group: ConnectionGroup) -> None:
    """Have a client's connections of a kind behave as uvloop's do once their socket is closed."""

    def send(*_: object, **__: object) -> None:
        raise RuntimeError(CLOSED)

    for (_, kind), connection in client._client._conns.items():
        if kind == group:
            connection.send = send


async def closed(client: AIOKafkaConsumer) -> None:
    """Close what a client that died may have left open; its own `stop` and `close` raise what killed it."""
    tasks = [task for task in (client._fetcher._fetch_task, client._client._sync_task) if task]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*filter(None, [each.close() for each in client._client._conns.values()]), return_exceptions=True)
