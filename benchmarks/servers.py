"""The embedded servers, and in them a database and topics for each run, so that no run inherits anything from another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from benchmarks.contenders import PARTITIONS
from worker.dev.embedded import Stack

POSTGRES_SETTINGS: Final = {"checkpoint_timeout": "1h"}
"""No checkpoint falls into one contender's time and not into another's: each run begins with one."""
TOPIC_SETTINGS: Final = {"message.timestamp.type": "LogAppendTime", "compression.type": "producer"}
TOPIC_WITHIN_S: Final = 20.0
READ_WITHIN_S: Final = 60.0
POLL_S: Final = 0.05


class FailedRunError(Exception):
    """A run did not end as it must; the message says how."""


class Servers:
    """Both servers, with what a run needs of them."""

    def __init__(self, stack: Stack, admin: AIOKafkaAdminClient, folder: Path) -> None:
        self.folder = folder
        self.kafka = stack.kafka.bootstrap
        self._stack = stack
        self._admin = admin
        self._count = 0

    @classmethod
    async def of(cls, stack: Stack, folder: Path) -> Servers:
        """Connect to a running stack; `folder` takes the contenders' logs."""
        # What its clients say while topics come and go is no concern of a reader.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap)
        await admin.start()
        return cls(stack, admin, folder)

    async def close(self) -> None:
        """Let go of the servers."""
        with suppress(Exception, asyncio.CancelledError):
            await asyncio.wait_for(self._admin.close(), 5)

    def number(self) -> int:
        """Return a number that no other run has."""
        self._count += 1
        return self._count

    def log(self, arguments: Sequence[str]) -> Path:
        """Return a file for what a process with these arguments says."""
        return self.folder / f"{self.number():03}-{arguments[-1].rpartition('.')[2]}.log"

    # --- PostgreSQL ----------------------------------------------------------------------------------------------

    def url(self, database: str) -> str:
        """Return where a database is."""
        return urlunsplit(urlsplit(self._stack.postgres.url)._replace(path=f"/{database}"))

    async def make_database(self, name: str, template: str = "template1") -> str:
        """Make a database and return its URL."""
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    async def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        await self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def execute(self, sql: str, database: str = "postgres") -> None:
        """Run statements."""
        connection = await asyncpg.connect(self.url(database))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def fetchval(self, database: str, sql: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever the statement returns
        """Return the one value of a statement."""
        connection = await asyncpg.connect(self.url(database))
        try:
            return await connection.fetchval(sql, *arguments)
        finally:
            await connection.close()

    # --- Kafka ---------------------------------------------------------------------------------------------------

    async def make_topics(self, names: Sequence[str]) -> None:
        """Make topics that do not exist yet."""
        response = await self._admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=TOPIC_SETTINGS) for name in names])
        for name, code, *_ in response.topic_errors:
            if code:
                msg = f"topic {name} could not be made: {for_code(code).__name__}"
                raise FailedRunError(msg)

    async def drop_topics(self, names: Sequence[str]) -> None:
        """Remove topics, and wait until they are gone."""
        response = await self._admin.delete_topics(list(names))
        for name, code in response.topic_error_codes:
            if code and for_code(code) is not UnknownTopicOrPartitionError:
                msg = f"topic {name} could not be removed: {for_code(code).__name__}"
                raise FailedRunError(msg)

        try:
            async with asyncio.timeout(TOPIC_WITHIN_S):
                while set(names) & set(await self._admin.list_topics()):
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            msg = f"topics {', '.join(names)} did not go"
            raise FailedRunError(msg) from None

    async def members(self, group: str) -> int:
        """Return how many members of a group have their partitions; 0 while it is being balanced."""
        try:
            (response,) = await self._admin.describe_consumer_groups([group])
        except (KafkaError, ValueError):
            return 0
        (found,) = response.to_object()["groups"]
        return sum(1 for member in found["members"] if member["member_assignment"]) if found["state"] == "Stable" else 0

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Reader]:
        """Have a reader for the length of a block."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            yield Reader(consumer)
        finally:
            with suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(consumer.stop(), 5)

    # --- processor time ------------------------------------------------------------------------------------------

    def postgres_cpu_s(self) -> float:
        """Return the processor time of PostgreSQL so far, of all its processes."""
        return cpu_s(self._stack.postgres.pid)

    def kafka_cpu_s(self) -> float:
        """Return the processor time of Kafka so far."""
        return cpu_s(self._stack.kafka.pid)


class Reader:
    """Looks at a topic from outside of the contenders."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def count(self, topic: str) -> int:
        """Return how many records of a topic are acknowledged, over all its partitions."""
        return sum((await self._consumer.end_offsets(_partitions(topic))).values())

    async def records(self, topic: str) -> list[Any]:
        """Read all records of a topic."""
        partitions = _partitions(topic)
        ends = await self._consumer.end_offsets(partitions)
        self._consumer.assign(partitions)
        found: list[Any] = []
        async with asyncio.timeout(READ_WITHIN_S):
            while any([await self._consumer.position(partition) < ends[partition] for partition in partitions]):
                for some in (await self._consumer.getmany(timeout_ms=200)).values():
                    found += some
        return found


def _partitions(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in range(PARTITIONS)]


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and its descendants, those that ended and were waited for too, in seconds."""
    total = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
