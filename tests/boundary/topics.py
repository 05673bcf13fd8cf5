"""Topics for tests, what is on them, and records as hostile producers send them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.record.util import calc_crc32c

from schemas.commands import COMMANDS_TOPIC
from tests.boundary.conditions import until
from worker.kafka import OutMessage, Partition, Reader, Record, create_topics, topic_settings

COMMANDS: Mapping[str, str] = topic_settings({COMMANDS_TOPIC: 7}, 1)[COMMANDS_TOPIC]
"""The settings of the command topic."""
_CRC, _CRC_FROM = 17, 21


async def make(bootstrap: str, topic: str, partitions: int = 1, settings: Mapping[str, str] = COMMANDS) -> None:
    """Make a topic, by default one like that of the commands."""
    assert await create_topics(bootstrap, {topic: dict(settings)}, partitions=partitions, replicas=1) == [topic]


@asynccontextmanager
async def administering(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect as an administrator."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def producing(bootstrap: str, **settings: Any) -> AsyncIterator[AIOKafkaProducer]:  # noqa: ANN401 - aiokafka's
    """Connect as a producer other than ours."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **settings)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def forget_before(bootstrap: str, partition: Partition, offset: int) -> None:
    """Remove records from the start of a log, as retention does."""
    async with administering(bootstrap) as admin:
        await admin.delete_records({partition: RecordsToDelete(before_offset=offset)})


async def bounds(bootstrap: str, topic: str) -> dict[int, tuple[int, int]]:
    """Return first offset and end of each partition."""
    async with Reader(bootstrap, client_id="tests") as reader:
        return await reader.bounds(topic)


async def records(bootstrap: str, topic: str, start: Mapping[int, int] | None = None) -> list[Record]:
    """Return what is on a topic, from the log's start or from these offsets on; by partition and offset."""
    found: list[Record] = []
    async with Reader(bootstrap, client_id="tests") as reader:
        for number, (first, end) in (await reader.bounds(topic)).items():
            async for some in reader.read(Partition(topic, number), max(first, (start or {}).get(number, 0)), end):
                found += some
    return found


async def transact(bootstrap: str, topic: str, messages: Sequence[OutMessage], *, commit: bool) -> None:
    """Send records of partition 0 in one transaction, and end it; return when its marker is on the log."""
    _, before = (await bounds(bootstrap, topic))[0]
    async with producing(bootstrap, transactional_id=f"tests-{os.urandom(6).hex()}") as producer:
        await producer.begin_transaction()
        for message in messages:
            await producer.send_and_wait(topic, key=message.key, value=message.value, headers=list(message.headers), partition=0)
        await (producer.commit_transaction() if commit else producer.abort_transaction())

    async def marked() -> bool:
        return (await bounds(bootstrap, topic))[0][1] == before + len(messages) + 1

    await until(marked, "the transaction's marker is written")


async def send_undecodable(bootstrap: str, partition: Partition, value: bytes) -> int:
    """Send a record with a header whose name is no UTF-8, which the broker takes and our client can't read."""
    async with producing(bootstrap) as producer:
        batch = producer.create_batch()
        batch.append(key=None, value=value, timestamp=None, headers=[("NN", b"")])
        before, _, after = bytes(batch._build()).rpartition(b"NN")
        raw = before + b"\xff\xfe" + after
        batch._buffer = bytearray(raw[:_CRC] + calc_crc32c(raw[_CRC_FROM:]).to_bytes(4) + raw[_CRC_FROM:])
        future = await producer.send_batch(batch, partition.topic, partition=partition.partition)
        offset: int = (await future).offset
        return offset


def values(found: Sequence[Record]) -> list[bytes | None]:
    """Return the values of records."""
    return [record.value for record in found]


def out(topic: str, value: bytes | None, key: bytes | None = b"key") -> OutMessage:
    """Return a message without headers."""
    return OutMessage(topic, key, value, ())
