"""
The door to Kafka: a producer that is replaced when it breaks, a member of the group, readers, and topics.

aiokafka's calls can block without end when the broker is gone, so each has a deadline here (README, D-6).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Protocol, Self, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.partitioner import DefaultPartitioner

from worker import logs
from worker.errors import LostPartitionError, UnavailableError

T = TypeVar("T")

STOP_TIMEOUT_S: Final = 5.0
CALL_TIMEOUT_S: Final = 10.0
MESSAGE_MAX_BYTES: Final = 1_048_576
DEAD_LETTER_MAX_BYTES: Final = 2 * MESSAGE_MAX_BYTES
READ_RECORDS: Final = 1000
_DAY_MS: Final = 86_400_000
_PARTITIONER: Final = DefaultPartitioner()


class Partition(TopicPartition):  # type: ignore[misc]  # aiokafka has no types
    """A partition of a topic: aiokafka's own, with types. It equals and hashes as the tuple that it is."""

    __slots__ = ()
    topic: str
    partition: int

    def __new__(cls, topic: str, partition: int) -> Self:
        """Name a partition."""
        new: Self = super().__new__(cls, topic, partition)
        return new


class Record(Protocol):
    """A record as it was read. `timestamp` in milliseconds since 1970."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A record to be sent. `headers` in the order in which they go."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Sent:
    """Where Kafka put a record."""

    partition: int
    offset: int


async def bounded(call: Awaitable[T], timeout_s: float, what: str) -> T:
    """
    Wait for a call to Kafka, not longer than its deadline.

    Raises:
        UnavailableError: no answer in time, or Kafka says that it can't.
    """
    try:
        return await asyncio.wait_for(call, timeout_s)
    except TimeoutError:
        raise UnavailableError("kafka", f"{what}: no answer in {timeout_s:g} s") from None
    except (KafkaError, OSError) as error:
        raise UnavailableError("kafka", f"{what}: {type(error).__name__}") from None


class UnacknowledgedError(UnavailableError):
    """It was sent and not acknowledged: the topic may have it or not."""


class Producer:
    """
    An idempotent producer for one process.

    After a failure it may stay broken (out of order sequence numbers), so it is discarded and the next call makes
    another; whoever sent must send again what was not acknowledged.
    """

    def __init__(self, bootstrap: str, *, timeout_s: float, client_id: str) -> None:
        self._bootstrap = bootstrap
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
            UnavailableError: not all are acknowledged; some may be on the topic all the same.
        """
        producer = await self._ready()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await _send_batches(producer, messages)
        except (KafkaError, OSError, TimeoutError) as error:
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
        producer = await self._ready()
        try:
            async with asyncio.timeout(self._timeout_s):
                future = await producer.send(
                    message.topic, key=message.key, value=message.value, headers=list(message.headers)
                )
                meta = await future
        except (KafkaError, OSError, TimeoutError) as error:
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
            await _stop(producer)
        await asyncio.gather(*self._stopping)

    async def _ready(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=MESSAGE_MAX_BYTES // 2,
                    max_request_size=DEAD_LETTER_MAX_BYTES,
                    request_timeout_ms=int(self._timeout_s * 1000),
                    retry_backoff_ms=50,
                )
                try:
                    await bounded(producer.start(), self._timeout_s, "connect")
                except BaseException:
                    await _stop(producer)
                    raise
                self._producer = producer
            return self._producer

    def _discard(self, producer: AIOKafkaProducer, reason: str) -> None:
        if self._producer is producer:
            self._producer = None
            logs.logger().warning("producer.replaced", reason=reason)
            task = asyncio.create_task(_stop(producer))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


async def _send_batches(producer: AIOKafkaProducer, messages: Sequence[OutMessage]) -> list[Sent]:
    """Build each partition's batches whole: a future for a batch instead of one for a message, and null may be sent."""
    by_partition: dict[Partition, list[int]] = {}
    for index, message in enumerate(messages):
        partitions = sorted(await producer.partitions_for(message.topic))
        chosen = _PARTITIONER(message.key, partitions, partitions)
        by_partition.setdefault(Partition(message.topic, chosen), []).append(index)
    sent: dict[int, Sent] = {}
    waiting = []
    for partition, indexes in by_partition.items():
        for batch, first, count in _batches(producer, messages, indexes):
            future = await producer.send_batch(batch, partition.topic, partition=partition.partition)
            waiting.append((future, indexes[first : first + count]))
    for future, indexes in waiting:
        meta = await future
        sent.update((index, Sent(meta.partition, meta.offset + at)) for at, index in enumerate(indexes))
    return [sent[index] for index in range(len(messages))]


def _batches(
    producer: AIOKafkaProducer, messages: Sequence[OutMessage], indexes: Sequence[int]
) -> Iterator[tuple[Any, int, int]]:
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


async def _stop(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Stop a client within a bound; `stop()` may raise CancelledError of its own, or never end."""
    task = asyncio.ensure_future(client.stop())
    done, _ = await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=1)
    if task.done() and not task.cancelled():
        task.exception()


class Assignments(Protocol):
    """What a member tells its owner about partitions; awaited inside the rebalance."""

    async def on_revoked(self, partitions: set[Partition]) -> None:
        """These partitions are no longer ours when this returns."""

    async def on_assigned(self, partitions: set[Partition]) -> None:
        """These partitions are ours."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, owner: Assignments) -> None:
        self._owner = owner

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._owner.on_revoked({Partition(*each) for each in revoked})

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._owner.on_assigned({Partition(*each) for each in assigned})


@dataclass(frozen=True, slots=True)
class Membership:
    """How a worker takes part in its group."""

    bootstrap: str
    group: str
    topic: str
    client_id: str
    session_timeout_s: float
    heartbeat_interval_s: float
    rebalance_timeout_s: float
    metadata_max_age_s: float


class Member:
    """One membership of the group, from joining to leaving."""

    def __init__(self, how: Membership, owner: Assignments) -> None:
        self._how = how
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=how.bootstrap,
            group_id=how.group,
            client_id=how.client_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=int(how.session_timeout_s * 1000),
            heartbeat_interval_ms=int(how.heartbeat_interval_s * 1000),
            rebalance_timeout_ms=int(how.rebalance_timeout_s * 1000),
            max_poll_interval_ms=_DAY_MS,
            metadata_max_age_ms=int(how.metadata_max_age_s * 1000),
            max_partition_fetch_bytes=MESSAGE_MAX_BYTES,
            fetch_max_wait_ms=500,
        )
        self._owner = owner

    async def join(self) -> None:
        """
        Connect and ask for partitions; they arrive by `Assignments`.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        await bounded(self._consumer.start(), CALL_TIMEOUT_S, "connect")
        self._consumer.subscribe([self._how.topic], listener=_Listener(self._owner))

    async def leave(self) -> None:
        """Leave the group, within a bound."""
        await _stop(self._consumer)

    async def poll(self, partitions: Sequence[Partition], timeout_s: float) -> Mapping[Partition, list[Record]]:
        """
        Take what was fetched of these partitions, waiting up to `timeout_s` for something.

        Raises:
            UnavailableError: the group or the fetch has trouble; call again later.
        """
        call = self._consumer.getmany(*partitions, timeout_ms=int(timeout_s * 1000))
        result: Mapping[Partition, list[Record]] = await bounded(call, timeout_s + CALL_TIMEOUT_S, "poll")
        return result

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return the log's first offset, and the one after its last committed record."""
        of = [partition]
        start: Mapping[Partition, int] = await bounded(self._consumer.beginning_offsets(of), CALL_TIMEOUT_S, "log start")
        end: Mapping[Partition, int] = await bounded(self._consumer.end_offsets(of), CALL_TIMEOUT_S, "log end")
        return start[partition], end[partition]

    def seek(self, partition: Partition, offset: int) -> None:
        """
        Read on from here.

        Raises:
            LostPartitionError: the partition is not assigned to us.
        """
        try:
            self._consumer.seek(partition, offset)
        except IllegalStateError:
            raise LostPartitionError(str(partition)) from None

    async def position(self, partition: Partition) -> int:
        """Return the offset that will be read next; control records that were passed count."""
        try:
            return int(await bounded(self._consumer.position(partition), CALL_TIMEOUT_S, "position"))
        except IllegalStateError:
            raise LostPartitionError(str(partition)) from None

    def log_end(self, partition: Partition) -> int | None:
        """Return the offset after the last record, as of the last fetch; None before it."""
        try:
            end = self._consumer.highwater(partition)
        except (AssertionError, IllegalStateError):
            return None
        return None if end is None else int(end)

    async def prove(self, partition: Partition, offset: int) -> None:
        """
        Tell the group where this partition stands, which a member of an older generation may not.

        Raises:
            LostPartitionError: the group no longer counts this partition as ours.
            UnavailableError: Kafka does not answer.
        """
        try:
            await asyncio.wait_for(self._consumer.commit({partition: offset}), CALL_TIMEOUT_S)
        except (CommitFailedError, IllegalStateError, IllegalGenerationError, UnknownMemberIdError):
            raise LostPartitionError(str(partition)) from None
        except TimeoutError:
            raise UnavailableError("kafka", "commit: no answer") from None
        except (KafkaError, OSError) as error:
            raise UnavailableError("kafka", f"commit: {type(error).__name__}") from None


def topic_settings(name_retention_days: Mapping[str, int], replicas: int) -> dict[str, dict[str, str]]:
    """Return each topic's settings (README, "Topics")."""
    common = {"message.timestamp.type": "LogAppendTime", "min.insync.replicas": "2" if replicas > 2 else "1"}
    return {
        name: {
            **common,
            "retention.ms": str(days * _DAY_MS),
            "compression.type": "uncompressed" if ".commands." in name else "producer",
            "max.message.bytes": str(DEAD_LETTER_MAX_BYTES if ".dead-letters." in name else MESSAGE_MAX_BYTES),
        }
        for name, days in name_retention_days.items()
    }


async def create_topics(bootstrap: str, topics: Mapping[str, dict[str, str]], *, partitions: int, replicas: int) -> list[str]:
    """
    Make the topics that are missing; those that exist are left as they are.

    Returns:
        The names that were made.
    Raises:
        UnavailableError: Kafka does not answer, or refuses.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(CALL_TIMEOUT_S * 1000))
    try:
        await bounded(admin.start(), CALL_TIMEOUT_S, "connect")
        wanted = [NewTopic(name, partitions, replicas, topic_configs=config) for name, config in topics.items()]
        response: Any = await bounded(admin.create_topics(wanted), CALL_TIMEOUT_S, "create topics")
    finally:
        task = asyncio.ensure_future(admin.close())
        await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    made = []
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code == 0:
            made.append(name)
        elif error is not TopicAlreadyExistsError:
            raise UnavailableError("kafka", f"create topic {name}: {error.__name__}")
    return made


class Reader:
    """
    Reads topics outside of any group: it takes nothing from the workers and leaves no trace.

    Only committed records are read. Memory holds one fetch: of one partition (`read`), or of each (`follow`).
    """

    def __init__(self, bootstrap: str, *, client_id: str) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=MESSAGE_MAX_BYTES,
            fetch_max_bytes=8 * MESSAGE_MAX_BYTES,
            fetch_max_wait_ms=250,
        )

    async def __aenter__(self) -> Reader:
        """
        Connect.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        try:
            await bounded(self._consumer.start(), CALL_TIMEOUT_S, "connect")
        except BaseException:
            await _stop(self._consumer)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close, within a bound."""
        await _stop(self._consumer)

    async def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """
        Return for each partition the log's first offset, and the one after its last committed record.

        Raises:
            UnavailableError: Kafka does not answer, or there is no such topic.
        """
        if topic not in await bounded(self._consumer.topics(), CALL_TIMEOUT_S, "topics"):
            raise UnavailableError("kafka", f"there is no topic {topic}; `registration migrate` makes it")
        await bounded(self._consumer.end_offsets([TopicPartition(topic, 0)]), CALL_TIMEOUT_S, "log end")
        partitions = [TopicPartition(topic, number) for number in sorted(self._consumer.partitions_for_topic(topic) or ())]
        starts = await bounded(self._consumer.beginning_offsets(partitions), CALL_TIMEOUT_S, "log start")
        ends = await bounded(self._consumer.end_offsets(partitions), CALL_TIMEOUT_S, "log end")
        return {p.partition: (starts[p], ends[p]) for p in partitions}

    async def read(self, partition: Partition, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """
        Yield the records of a partition from `start` up to, not with, `end`, some at a time.

        What retention removes meanwhile is left out. Only one reading at a time.

        Raises:
            UnavailableError: Kafka gives nothing for `CALL_TIMEOUT_S`.
        """
        mine = TopicPartition(*partition)
        self._consumer.assign([mine])
        self._consumer.seek(mine, start)
        position, moved_at = start, time.monotonic()
        while position < end:
            call = self._consumer.getmany(mine, timeout_ms=500, max_records=READ_RECORDS)
            try:
                fetched = await bounded(call, CALL_TIMEOUT_S, "read")
            except UnavailableError:
                log_start, log_end = (await self.bounds(partition.topic))[partition.partition]
                if position >= log_start or log_end < end:
                    raise
                position = min(log_start, end)
                self._consumer.seek(mine, position)
                continue
            records = [record for record in fetched.get(mine, ()) if record.offset < end]
            if records:
                yield records
            before, position = position, int(await bounded(self._consumer.position(mine), CALL_TIMEOUT_S, "position"))
            if position > before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > CALL_TIMEOUT_S:
                raise UnavailableError("kafka", f"read: nothing in {CALL_TIMEOUT_S:g} s")

    async def follow(self, topic: str, stop: asyncio.Event, *, from_start: bool) -> AsyncIterator[Record]:
        """
        Yield the records of a topic as they come, until told to stop; in order within a partition.

        Args:
            topic: which.
            stop: set it, and no more is yielded.
            from_start: also what is there already.
        Raises:
            UnavailableError: Kafka does not answer at the start.
        """
        bounds = await self.bounds(topic)
        self._consumer.assign([TopicPartition(topic, number) for number in bounds])
        for number, (start, end) in bounds.items():
            self._consumer.seek(TopicPartition(topic, number), start if from_start else end)
        while not stop.is_set():
            call = self._consumer.getmany(timeout_ms=250, max_records=READ_RECORDS)
            fetched = await bounded(call, CALL_TIMEOUT_S, "read")
            for record in sorted(chain.from_iterable(fetched.values()), key=lambda record: record.timestamp):
                yield record
