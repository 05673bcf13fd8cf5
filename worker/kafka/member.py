"""
One member of the workers' group: joins, polls, seeks, and proves that it still belongs.

Every await has a deadline: aiokafka's can block without end when the broker is gone (README, D-6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalGenerationError, IllegalStateError, UnknownMemberIdError

from worker.errors import LostPartitionError, RejoinError, UnavailableError
from worker.kafka.lenient import read_leniently
from worker.kafka.records import CALL_TIMEOUT_S, CLIENT_ERRORS, MESSAGE_MAX_BYTES, Partition, Record, bounded, stop_client
from worker.kafka.security import PLAINTEXT, Security

_DAY_MS: Final = 86_400_000


class Assignments(Protocol):
    """What a member tells its owner about partitions; awaited inside the rebalance."""

    async def on_revoked(self, partitions: set[Partition]) -> None:
        """These partitions are no longer ours when this returns."""

    async def on_assigned(self, member: Member, partitions: set[Partition]) -> None:
        """These partitions are that member's."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, owner: Assignments, member: Member) -> None:
        self._owner = owner
        self._member = member

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._owner.on_revoked({Partition(*each) for each in revoked})

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._owner.on_assigned(self._member, {Partition(*each) for each in assigned})


@dataclass(frozen=True, slots=True)
class Membership:
    """
    How a worker takes part in its group.

    Attributes:
        fetch_max_wait_s: how long a broker holds a fetch that finds nothing; a claim's seek waits for the one under way.
    """

    bootstrap: str
    group: str
    topic: str
    client_id: str
    session_timeout_s: float
    heartbeat_interval_s: float
    rebalance_timeout_s: float
    metadata_max_age_s: float
    fetch_max_wait_s: float = 0.5
    security: Security = PLAINTEXT


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
            fetch_max_wait_ms=int(how.fetch_max_wait_s * 1000),
            **how.security.arguments(),
        )
        self._owner = owner

    async def join(self) -> None:
        """
        Connect and ask for partitions; they arrive by `Assignments`.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        await bounded(self._consumer.start(), CALL_TIMEOUT_S, "connect")
        self._consumer.subscribe([self._how.topic], listener=_Listener(self._owner, self))

    def check(self) -> None:
        """
        See whether the client's own tasks still live; they end silently, and some errors wait until somebody asks.

        Raises:
            RejoinError: one has ended: this membership does nothing any more.
            UnavailableError: the group has trouble.
        """
        consumer, coordinator = self._consumer, self._consumer._coordinator  # noqa: SLF001 - nothing public tells
        metadata, group = consumer._client._sync_task, coordinator._coordination_task  # noqa: SLF001
        if consumer._fetcher.error_future.done() or group.done() or metadata is None or metadata.done():  # noqa: SLF001
            raise RejoinError
        try:
            coordinator.check_errors()
        except CLIENT_ERRORS as error:
            raise UnavailableError("kafka", f"group: {type(error).__name__}") from None

    async def leave(self) -> None:
        """Leave the group, within a bound."""
        await stop_client(self._consumer)

    async def poll(self, partitions: Sequence[Partition], timeout_s: float) -> Mapping[Partition, list[Record]]:
        """
        Take what was fetched of these partitions, waiting up to `timeout_s` for something.

        Raises:
            UnavailableError: the group or the fetch has trouble; call again later.
        """
        call = self._consumer.getmany(*partitions, timeout_ms=int(timeout_s * 1000))
        try:
            result: Mapping[Partition, list[Record]] = await bounded(call, timeout_s + CALL_TIMEOUT_S, "poll")
        except UnicodeDecodeError:
            read_leniently()
            raise UnavailableError("kafka", "poll: a header's name is no UTF-8") from None
        return result

    def knows_topic(self) -> bool:
        """Say whether the topic is there, as of the last metadata."""
        return bool(self._consumer.partitions_for_topic(self._how.topic))

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

    async def tell(self, offsets: Mapping[Partition, int]) -> None:
        """Commit positions to Kafka, for lag dashboards only; raises as `prove` does."""
        await self._commit(dict(offsets))

    async def prove(self, partition: Partition, offset: int) -> None:
        """
        Tell the group where this partition stands, which a member of an older generation may not.

        Raises:
            LostPartitionError: the group no longer counts this partition as ours.
            UnavailableError: Kafka does not answer.
        """
        await self._commit({partition: offset})

    async def _commit(self, offsets: dict[Partition, int]) -> None:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError, IllegalGenerationError, UnknownMemberIdError):
            raise LostPartitionError(", ".join(map(str, offsets))) from None
        except TimeoutError:
            raise UnavailableError("kafka", "commit: no answer") from None
        except CLIENT_ERRORS as error:
            raise UnavailableError("kafka", f"commit: {type(error).__name__}") from None
