"""
A backlog that is on the topic and cannot be read yet: it waits in an open transaction, whose commit is the starting gun.

Consumers that read committed records only see all of it at one moment, with their processes started, their partitions assigned
and their connections warm. A few commands before it, in a transaction of their own, warm them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaProducer

from benchmarks.frozen.backlog import Command

BATCH_BYTES: Final = 256 * 1024
TRANSACTION_TIMEOUT_S: Final = 800
COMMIT_WITHIN_S: Final = 20


class Preload:
    """
    Commands for one topic, in two parts: the few that warm, and the backlog.

    Args:
        bootstrap: Kafka.
        topic: the command topic.
        partitions: how many it has.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._topic = topic
        self._partitions = partitions
        self._warm, self._backlog = (
            AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                transactional_id=f"benchmark-{topic}-{part}",
                transaction_timeout_ms=TRANSACTION_TIMEOUT_S * 1000,
                max_batch_size=BATCH_BYTES,
            )
            for part in ("warm", "backlog")
        )

    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            await asyncio.gather(self._warm.start(), self._backlog.start())
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Disconnect; a transaction that is still open then ends with the topic."""
        for producer in (self._warm, self._backlog):
            with suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(producer.stop(), 5)

    async def load(self, warm: Iterable[Command], backlog: Iterable[Command]) -> None:
        """Put both parts on the topic; nobody sees them yet."""
        await self._send(self._warm, warm)
        await self._send(self._backlog, backlog)

    async def show_warm(self) -> None:
        """Let the consumers have the first part."""
        await asyncio.wait_for(self._warm.commit_transaction(), COMMIT_WITHIN_S)

    async def show_backlog(self) -> float:
        """Let the consumers have the backlog; return when that began, in seconds since 1970."""
        began_at = time.time()
        await asyncio.wait_for(self._backlog.commit_transaction(), COMMIT_WITHIN_S)
        return began_at

    async def _send(self, producer: AIOKafkaProducer, commands: Iterable[Command]) -> None:
        await producer.begin_transaction()
        builders = {partition: producer.create_batch() for partition in range(self._partitions)}
        sent: list[asyncio.Future[object]] = []
        for command in commands:
            partition = int(command.key[:8], 16) % self._partitions
            if builders[partition].append(key=command.key, value=command.value, timestamp=None, headers=list(command.headers)):
                continue
            sent.append(await producer.send_batch(builders[partition], self._topic, partition=partition))
            builders[partition] = producer.create_batch()
            builders[partition].append(key=command.key, value=command.value, timestamp=None, headers=list(command.headers))
        for partition, builder in builders.items():
            if builder.record_count():
                sent.append(await producer.send_batch(builder, self._topic, partition=partition))
        await asyncio.gather(*sent)
