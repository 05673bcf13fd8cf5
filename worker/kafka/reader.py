"""Reads topics outside of any group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from itertools import chain
from typing import Final, Self

from aiokafka import AIOKafkaConsumer

from worker.errors import UnavailableError
from worker.kafka.lenient import read_leniently
from worker.kafka.records import CALL_TIMEOUT_S, MESSAGE_MAX_BYTES, Partition, Record, bounded, stop_client
from worker.kafka.security import PLAINTEXT, Security

READ_RECORDS: Final = 1000


class Reader:
    """
    Reads topics outside of any group: it takes nothing from the workers and leaves no trace.

    Only committed records are read. Memory holds one fetch: of one partition (`read`), or of each (`follow`).
    """

    def __init__(self, bootstrap: str, *, client_id: str, security: Security = PLAINTEXT) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=MESSAGE_MAX_BYTES,
            fetch_max_bytes=8 * MESSAGE_MAX_BYTES,
            fetch_max_wait_ms=20,  # whatever is asked next of the same broker waits that long
            **security.arguments(),
        )

    async def __aenter__(self) -> Self:
        """
        Connect.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        try:
            await bounded(self._consumer.start(), CALL_TIMEOUT_S, "connect")
        except BaseException:
            await stop_client(self._consumer)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close, within a bound."""
        await stop_client(self._consumer)

    async def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """
        Return for each partition the log's first offset, and the one after its last committed record.

        Raises:
            UnavailableError: Kafka does not answer, or there is no such topic.
        """
        if topic not in await bounded(self._consumer.topics(), CALL_TIMEOUT_S, "topics"):
            raise UnavailableError("kafka", f"there is no topic {topic}; `registration migrate` makes it")
        await bounded(self._consumer.end_offsets([Partition(topic, 0)]), CALL_TIMEOUT_S, "log end")
        partitions = [Partition(topic, number) for number in sorted(self._consumer.partitions_for_topic(topic) or ())]
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
        if start >= end:
            return
        mine = Partition(*partition)
        self._consumer.assign([mine])
        self._consumer.seek(mine, start)
        position, moved_at = start, time.monotonic()
        while position < end:
            call = self._consumer.getmany(mine, timeout_ms=500, max_records=READ_RECORDS)
            try:
                fetched = await bounded(call, CALL_TIMEOUT_S, "read")
            except UnicodeDecodeError:
                read_leniently()
                self._consumer.seek(mine, position)
                continue
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
        self._consumer.assign([Partition(topic, number) for number in bounds])
        for number, (start, end) in bounds.items():
            self._consumer.seek(Partition(topic, number), start if from_start else end)
        while not stop.is_set():
            call = self._consumer.getmany(timeout_ms=250, max_records=READ_RECORDS)
            fetched = await bounded(call, CALL_TIMEOUT_S, "read")
            for record in sorted(chain.from_iterable(fetched.values()), key=lambda record: record.timestamp):
                yield record
