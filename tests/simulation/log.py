"""
A simulated Kafka: partitions of the command topic, what was published, and a group with members that may be wrong.

It is cut at `worker.kafka.Member` and `worker.kafka.Producer`: the classes here have their methods and raise their errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from schemas.base import header
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from tests.records import AT_MS
from tests.simulation.faults import Faults
from tests.simulation.loop import Process, SeededLoop, current
from worker.errors import LostPartitionError, RejoinError, UnavailableError
from worker.kafka import Assignments, Membership, OutMessage, Partition, PlainRecord, Record

Fact = tuple[str, ...]
"""What a message is about: an event's id, or a dead letter's origin."""
FETCH_MOST: Final = 6
"""Records that one fetch returns of a partition at most."""


class Hearing(Protocol):
    """Hears what Kafka gets, and what it grants."""

    def published(self, message: OutMessage) -> None:
        """A message is on its topic."""

    def acknowledged(self, process: Process, messages: Sequence[OutMessage]) -> None:
        """A worker was told that Kafka has these."""

    def entitled(self, process: Process, partitions: Sequence[Partition]) -> None:
        """The group has told a worker that these are its own."""


@dataclass(slots=True)
class Log:
    """
    One partition of the command topic.

    Attributes:
        end: the offset after the last record; markers of transactions count.
    """

    partition: Partition
    records: list[PlainRecord] = field(default_factory=list)
    end: int = 0

    def append(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> None:
        """Put a command behind the others."""
        topic, number = self.partition
        self.records.append(PlainRecord(topic, number, self.end, AT_MS, key, value, headers))
        self.end += 1

    def pass_over(self, count: int) -> None:
        """Leave a gap: offsets that hold no record."""
        self.end += count


class Broker:
    """The cluster, with one group on one topic."""

    def __init__(self, loop: SeededLoop, faults: Faults, hearing: Hearing, partitions: Sequence[Partition]) -> None:
        self.loop = loop
        self.faults = faults
        self.hearing = hearing
        self.logs = {each: Log(each) for each in partitions}
        self.published: list[OutMessage] = []
        self._arrival: list[asyncio.Future[None]] = []

    def arrived(self) -> None:
        """Wake who waits for records."""
        waiting, self._arrival = self._arrival, []
        for each in waiting:
            _wake(each)

    async def arrival(self, timeout_s: float) -> None:
        """Wait for records, but not longer."""
        waiting: asyncio.Future[None] = self.loop.create_future()
        self._arrival = [each for each in self._arrival if not each.done()] + [waiting]
        self.loop.outside_later(timeout_s, _wake, waiting)
        await waiting

    async def call(self, what: str) -> None:
        """Be on the way to the cluster and back."""
        faults = self.faults
        delay_s = faults.between(0.2, 4) if faults.happens("call.slow") else faults.delay_s()
        back: asyncio.Future[None] = self.loop.create_future()
        self.loop.outside_later(delay_s, _wake, back)
        await back
        if faults.happens("call.failed"):
            raise UnavailableError("kafka", f"{what}: no answer")

    def take(self, messages: Sequence[OutMessage]) -> None:
        """Append messages to their topics."""
        for message in messages:
            self.published.append(message)
            self.hearing.published(message)


class Group:
    """The coordinator: who is a member, and which partitions are whose."""

    def __init__(self, broker: Broker, how: Membership) -> None:
        self.members: list[Member] = []
        self.generation = 0
        self._broker = broker
        self._how = how
        self._round = 0
        self._preparing = False
        self._waiting: dict[Member, asyncio.Future[list[Partition]]] = {}

    def rejoined(self, member: Member) -> asyncio.Future[list[Partition]]:
        """Take a member into the next generation; the answer has its partitions."""
        answer: asyncio.Future[list[Partition]] = self._broker.loop.create_future()
        if member not in self.members:
            self.members.append(member)
        self._waiting[member] = answer
        self._prepare()
        self._complete_if_all()
        return answer

    def remove(self, member: Member) -> None:
        """Let a member go, or count it as dead; it may learn that late."""
        if member in self.members:
            self.members.remove(member)
            self._waiting.pop(member, None)
            self._broker.loop.outside_later(self._broker.faults.between(0, 4), member.learn)
            self._prepare()
            self._complete_if_all()

    def knows(self, member: Member) -> bool:
        """Say whether it is a member of the present generation."""
        return member in self.members and member.generation == self.generation

    def _prepare(self) -> None:
        if self._preparing:
            return
        self._preparing = True
        self._round += 1
        for member in self.members:
            if member not in self._waiting:
                self._broker.loop.outside_later(self._broker.faults.between(0, self._how.heartbeat_interval_s), member.learn)
        self._broker.loop.outside_later(self._how.rebalance_timeout_s, self._expire, self._round)

    def _expire(self, number: int) -> None:
        if self._preparing and number == self._round:
            for member in [each for each in self.members if each not in self._waiting]:
                self.members.remove(member)
                self._broker.loop.outside_later(self._broker.faults.between(0, 4), member.learn)
            self._complete_if_all()

    def _complete_if_all(self) -> None:
        if not self._preparing or any(each not in self._waiting for each in self.members):
            return
        self._preparing = False
        self.generation += 1
        shares: dict[Member, list[Partition]] = {member: [] for member in self.members}
        if self.members:
            first = int(self._broker.faults.chance.random() * len(self.members))
            for index, partition in enumerate(self._broker.logs):
                shares[self.members[(first + index) % len(self.members)]].append(partition)
        waiting, self._waiting = self._waiting, {}
        for member, share in shares.items():
            self._broker.loop.outside_later(self._broker.faults.delay_s(), member.synced, waiting[member], self.generation, share)


class Member:
    """One membership: `worker.kafka.Member` on the simulated group."""

    def __init__(self, group: Group, broker: Broker, owner: Assignments) -> None:
        self.generation = -1
        self.process = current()
        self.positions: dict[Partition, int | None] = {}
        self._group = group
        self._broker = broker
        self._owner = owner
        self._told = asyncio.Event()
        self._coordinating: asyncio.Task[None] | None = None

    # --- what the group tells ------------------------------------------------------------------------------------

    def learn(self) -> None:
        """Hear, with a heartbeat, that the group begins anew."""
        self._told.set()

    def synced(self, answer: asyncio.Future[list[Partition]], generation: int, share: list[Partition]) -> None:
        """Get a share of the partitions."""
        if not answer.done():
            self.generation = generation
            answer.set_result(share)

    async def _coordinate(self) -> None:
        while True:
            await self._told.wait()
            await self._owner.on_revoked(self.positions.keys())  # type: ignore[arg-type]  # a set, but in order
            self._told.clear()
            self.positions = {}
            self.positions = dict.fromkeys(await self._group.rejoined(self))
            self._broker.hearing.entitled(self.process, list(self.positions))
            await self._owner.on_assigned(self, self.positions.keys())  # type: ignore[arg-type]  # a set, but in order

    # --- what the worker calls -----------------------------------------------------------------------------------

    async def join(self) -> None:
        """Connect and ask for partitions."""
        await self._broker.call("connect")
        self._told.set()
        self._coordinating = asyncio.create_task(self._coordinate())

    def check(self) -> None:
        """See whether the client's own task lives."""
        if self._coordinating is None or self._coordinating.done():
            raise RejoinError

    async def leave(self) -> None:
        """Leave the group."""
        if self._coordinating is not None:
            self._coordinating.cancel()
            with suppress(asyncio.CancelledError):
                await self._coordinating
        with suppress(UnavailableError):
            await self._broker.call("leave")
        self._group.remove(self)

    async def poll(self, partitions: Sequence[Partition], timeout_s: float) -> Mapping[Partition, list[Record]]:
        """Take what there is of these partitions; where it fails, what was drained beside is dropped."""
        faults = self._broker.faults
        fetched = self._fetch(partitions)
        if not fetched:
            await self._broker.arrival(timeout_s)
            fetched = self._fetch(partitions)
        if faults.happens("poll.failed"):
            raise UnavailableError("kafka", "poll: no answer")
        if fetched and faults.happens("poll.slow_return"):
            await asyncio.sleep(faults.between(0, 0.1))  # other lanes have the processor
        return fetched

    def knows_topic(self) -> bool:
        """It is there."""
        return True

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return the log's first offset, and the one after its last record."""
        await self._broker.call("bounds")
        return 0, self._broker.logs[partition].end

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from here."""
        if partition not in self.positions:
            raise LostPartitionError(str(partition))
        self.positions[partition] = offset

    async def position(self, partition: Partition) -> int:
        """Return what will be read next."""
        position = self.positions.get(partition)
        if position is None:
            raise LostPartitionError(str(partition))
        await asyncio.sleep(0)
        return position

    def log_end(self, partition: Partition) -> int | None:
        """Return where the log ends."""
        return self._broker.logs[partition].end

    async def tell(self, offsets: Mapping[Partition, int]) -> None:
        """Commit positions, for dashboards."""
        await self._commit(list(offsets))

    async def prove(self, partition: Partition, offset: int) -> None:  # noqa: ARG002 - the worker's
        """Tell the group where this partition stands, which only a member of the present generation may."""
        await self._commit([partition])
        self._broker.hearing.entitled(self.process, [partition])

    async def _commit(self, partitions: Sequence[Partition]) -> None:
        await self._broker.call("commit")
        if not self._group.knows(self) or any(each not in self.positions for each in partitions):
            raise LostPartitionError(str(partitions))

    def _fetch(self, partitions: Sequence[Partition]) -> dict[Partition, list[Record]]:
        fetched: dict[Partition, list[Record]] = {}
        for partition in partitions:
            position = self.positions.get(partition)
            if position is None:
                continue
            log = self._broker.logs[partition]
            most = 1 + int(self._broker.faults.chance.random() * FETCH_MOST)
            found: list[Record] = [*[record for record in log.records if record.offset >= position][:most]]
            if found:
                fetched[partition] = found
                self.positions[partition] = found[-1].offset + 1
            else:
                self.positions[partition] = max(position, log.end)
        return fetched


class Producer:
    """`worker.kafka.Producer` of one process, on the simulated cluster."""

    def __init__(self, broker: Broker, timeout_s: float) -> None:
        self._broker = broker
        self._timeout_s = timeout_s

    async def send_all(self, messages: Sequence[OutMessage]) -> None:
        """Send messages in order; raises where not all are known to be there, though some or all may be."""
        broker, faults, process = self._broker, self._broker.faults, current()
        delay_s = faults.delay_s()
        answered, landing = True, list(messages)
        if faults.happens("produce.failed"):
            answered, landing = False, []
        elif faults.happens("produce.in_part"):
            answered, landing = False, landing[: int(faults.between(0, len(landing)))]
        elif faults.happens("produce.ack_lost"):
            answered = False
        elif faults.happens("produce.twice"):
            landing = landing * 2
        elif faults.happens("produce.slow"):
            delay_s = faults.between(0.2, 2) * self._timeout_s
        answer: asyncio.Future[None] = broker.loop.create_future()
        broker.loop.outside_later(delay_s, _land, broker, landing, answer)
        try:
            async with asyncio.timeout(self._timeout_s):
                await answer
        except TimeoutError:
            raise UnavailableError("kafka", "produce: no answer in time") from None
        if not answered:
            raise UnavailableError("kafka", "produce: the connection was lost")
        broker.hearing.acknowledged(process, messages)


def fact_of(message: OutMessage) -> Fact:
    """Return what a message is about."""
    if message.topic != DEAD_LETTERS_TOPIC:
        return ("event", str(header(message.headers, "ce_id")))
    added = dict(message.headers[-5:])
    return ("letter", *((added[name] or b"").decode() for name in ("dl_topic", "dl_partition", "dl_offset")))


def _land(broker: Broker, messages: Sequence[OutMessage], answer: asyncio.Future[None]) -> None:
    broker.take(messages)
    _wake(answer)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
