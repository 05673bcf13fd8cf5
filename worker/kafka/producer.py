"""
A producer that is replaced when it breaks.

aiokafka's calls can block without end when the broker is gone, so each has a deadline here (README, D-6).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from aiokafka import AIOKafkaProducer

from worker import logs
from worker.errors import MissingTopicError, UnavailableError
from worker.kafka.records import (
    CLIENT_ERRORS,
    DEAD_LETTER_MAX_BYTES,
    MESSAGE_MAX_BYTES,
    OutMessage,
    Sent,
    bounded,
    stop_client,
)
from worker.kafka.security import PLAINTEXT, Security


class UnacknowledgedError(UnavailableError):
    """It was sent and not acknowledged: the topic may have it or not."""


def partition_of(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
    """
    Choose the partition of a key: by CRC-32, as librdkafka's `consistent` does; any that has a leader where there is no key.

    aiokafka's own choice is murmur2 in Python, which takes longer than all else that is done to send an event.
    """
    if key is None:
        return random.choice(available or partitions)  # noqa: S311 - guards nothing
    return partitions[crc32(key) % len(partitions)]


class Producer:
    """
    An idempotent producer for one process.

    After a failure it may stay broken (out of order sequence numbers), so it is discarded and the next call makes
    another; whoever sent must send again what was not acknowledged.
    """

    def __init__(self, bootstrap: str, *, timeout_s: float, client_id: str, security: Security = PLAINTEXT) -> None:
        self._bootstrap = bootstrap
        self._security = security
        self._timeout_s = timeout_s
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._stopping: set[asyncio.Task[None]] = set()

    async def send_all(self, messages: Sequence[OutMessage]) -> list[Sent]:
        """
        Send messages in order and wait until Kafka has acknowledged every one.

        Returns:
            Where each one is, in the order of the arguments.
        Raises:
            MissingTopicError: a topic does not exist.
            UnavailableError: not all are acknowledged; some may be on the topic all the same.
        """
        producer = await bounded(self._ready(), self._timeout_s, "connect")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await _send_batches(producer, messages)
        except MissingTopicError:
            raise
        except (*CLIENT_ERRORS, TimeoutError) as error:
            self._discard(producer, type(error).__name__)
            raise UnavailableError("kafka", f"produce: {type(error).__name__}") from None
        except BaseException:
            self._discard(producer, "interrupted")
            raise

    async def send(self, message: OutMessage) -> Sent:
        """
        Send one message and wait until Kafka has acknowledged it; many may be on their way at once.

        Raises:
            UnacknowledgedError: it may be on the topic all the same.
            UnavailableError: Kafka does not answer; nothing was sent.
        """
        # Bounded as a whole: beside others, each would else wait for the tries of all before it.
        producer = await bounded(self._ready(), self._timeout_s, "connect")
        try:
            async with asyncio.timeout(self._timeout_s):
                future = await producer.send(message.topic, key=message.key, value=message.value, headers=list(message.headers))
                meta = await future
        except (*CLIENT_ERRORS, TimeoutError) as error:
            self._discard(producer, type(error).__name__)
            raise UnacknowledgedError("kafka", f"produce: {type(error).__name__}") from None
        return Sent(meta.partition, meta.offset)

    async def connect(self) -> None:
        """
        Be ready to send.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        await self._ready()

    async def stop(self) -> None:
        """Flush and close, within a bound."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await stop_client(producer)
        await asyncio.gather(*self._stopping)

    async def _ready(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    partitioner=partition_of,
                    max_batch_size=MESSAGE_MAX_BYTES // 2,
                    max_request_size=DEAD_LETTER_MAX_BYTES,
                    request_timeout_ms=int(self._timeout_s * 1000),
                    retry_backoff_ms=50,
                    **self._security.arguments(),
                )
                try:
                    await bounded(producer.start(), self._timeout_s, "connect")
                except BaseException:
                    await stop_client(producer)
                    raise
                self._producer = producer
            return self._producer

    def _discard(self, producer: AIOKafkaProducer, reason: str) -> None:
        if self._producer is producer:
            self._producer = None
            logs.logger().warning("producer.replaced", reason=reason)
            task = asyncio.create_task(stop_client(producer))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


async def _send_batches(producer: AIOKafkaProducer, messages: Sequence[OutMessage]) -> list[Sent]:
    """Build each partition's batches whole: a future for a batch instead of one for a message, and null may be sent."""
    partitions = {topic: await _partitions(producer, topic) for topic in {message.topic for message in messages}}
    by_partition: dict[tuple[str, int], list[int]] = {}
    for index, message in enumerate(messages):
        all_of_topic = partitions[message.topic]
        chosen = partition_of(message.key, all_of_topic, all_of_topic)
        by_partition.setdefault((message.topic, chosen), []).append(index)
    sent: dict[int, Sent] = {}
    waiting = []
    for (topic, partition), indexes in by_partition.items():
        for batch, first, count in _batches(producer, messages, indexes):
            future = await producer.send_batch(batch, topic, partition=partition)
            waiting.append((future, indexes[first : first + count]))
    for future, indexes in waiting:
        meta = await future
        sent.update((index, Sent(meta.partition, meta.offset + at)) for at, index in enumerate(indexes))
    return [sent[index] for index in range(len(messages))]


async def _partitions(producer: AIOKafkaProducer, topic: str) -> list[int]:
    """
    Return a topic's partitions.

    Raises:
        MissingTopicError: Kafka answers, and has none of that name; aiokafka would wait for it as for a broker that is away.
    """
    client = producer.client
    known: set[int] | None = client.cluster.partitions_for_topic(topic)
    if not known:
        await client.add_topic(topic)
        if await client.force_metadata_update() and not client.cluster.partitions_for_topic(topic):
            raise MissingTopicError(topic)
        known = await producer.partitions_for(topic)
    return sorted(known)


def _batches(producer: AIOKafkaProducer, messages: Sequence[OutMessage], indexes: Sequence[int]) -> Iterator[tuple[Any, int, int]]:
    """Pack messages of one partition; yield each batch, where it begins in `indexes`, and how many it holds."""
    batch, first = producer.create_batch(), 0
    for at, index in enumerate(indexes):
        message = messages[index]
        fields = {"key": message.key, "value": message.value, "headers": list(message.headers), "timestamp": None}
        if batch.append(**fields) is None:
            yield batch, first, at - first
            batch, first = producer.create_batch(), at
            batch.append(**fields)
    batch.close()
    yield batch, first, len(indexes) - first
