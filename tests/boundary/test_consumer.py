"""A worker's part in its group on real servers: a client that dies or hangs, polls that fail, a membership that is leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError

from tests.boundary.conditions import until
from tests.boundary.members import Known, closed, cut, membership
from tests.boundary.tracks import Track, blocked, working
from worker import consumer
from worker.kafka import Member, Partition, Record
from worker.lane import Lane
from worker.postgres import connect

ENDINGS: Final[Mapping[str, Callable[[AIOKafkaConsumer], object]]] = {
    "fetcher cancelled": lambda client: client._fetcher._fetch_task.cancel(),
    "fetcher dies": lambda client: cut(client, ConnectionGroup.DEFAULT),
    "coordination cancelled": lambda client: client._coordinator._coordination_task.cancel(),
    "heartbeat dies": lambda client: cut(client, ConnectionGroup.COORDINATION),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_client_whose_own_task_has_ended_is_replaced(track: Track, ending: str) -> None:
    """It tells nobody: without a look at it the worker would stay in its group, or seem to, and do nothing for ever."""
    await track.make()
    async with working(track, session_timeout_s=1.5) as worker:
        await track.send(track.command())
        await track.at(1)
        dead = worker.client
        try:
            ENDINGS[ending](dead)
            await track.says("consumer.joined", 2)
            await track.send(track.command())
            await track.at(2)
            await worker.waits_for(None)
            assert not worker.task.done()
        finally:
            await closed(dead)

    assert len(track.said("consumer.rejoining")) == (0 if ending == "heartbeat dies" else 1)


class Ill:
    """
    Has a client's polls fail while one partition is among them, from the first that found something of another one on.

    All that was fetched has been taken by then, as it is when aiokafka's parser raises.
    """

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self.partition: Partition | None = None
        self.polls = self.lost = 0
        self.failed: list[set[Partition]] = []
        self._getmany = client.getmany
        client.getmany = self

    async def __call__(self, *partitions: Partition, timeout_ms: int) -> Mapping[Partition, list[Record]]:
        """Poll."""
        self.polls += 1
        found: Mapping[Partition, list[Record]] = await self._getmany(*partitions, timeout_ms=timeout_ms)
        if self.partition in partitions and (found or self.failed):
            self.lost += sum(map(len, found.values()))
            self.failed.append(set(partitions))
            raise KafkaError
        return found

    async def polled(self) -> bool:
        """Say whether all polls come through here."""
        return self.polls > 0

    async def failed_again(self) -> bool:
        """Say whether several polls have failed."""
        return len(self.failed) >= 4


async def test_a_partition_that_can_not_be_read_holds_up_no_other(track: Track) -> None:
    """One poll serves all of them: what was taken beside a failure is read again, and no position passes over it."""
    await track.make(partitions=3)
    async with working(track) as worker:
        await track.says("lane.claimed", 3)
        ill = Ill(worker.client)
        await until(ill.polled, "the worker polls")
        ill.partition = Partition(track.world.topic, 0)
        for partition in (1, 2, 0):
            await track.send(*(track.command() for _ in range(20)), partition=partition)
        await track.at(20, 1)
        await track.at(20, 2)
        await until(ill.failed_again, "the partition is tried again and again")
        assert (await track.row())["next_offset"] == 0
        await worker.waits_for("kafka")
        ill.partition = None
        await track.at(20)
        await worker.waits_for(None)

    assert ill.lost > 0
    assert len(await track.outcomes()) == 60


async def test_only_the_partition_at_fault_is_marked_again(track: Track) -> None:
    """After the first failure each is polled by itself: a healthy one is claimed again once, and not at each try of the ill."""
    await track.make(partitions=2)
    async with working(track) as worker:
        await track.says("lane.claimed", 2)
        ill = Ill(worker.client)
        await until(ill.polled, "the worker polls")
        ill.partition = Partition(track.world.topic, 0)
        await track.send(track.command(), partition=1)
        await until(ill.failed_again, "the partition is tried again and again")

    assert [len(each) for each in ill.failed] == [2] + [1] * (len(ill.failed) - 1)
    assert len([line for line in track.said("lane.claimed") if line["partition"] == 1]) == 2


async def test_a_membership_that_is_leaving_opens_no_lane(track: Track) -> None:
    """The group may still give it partitions: such a lane would be taken over by the next membership, and stand for ever."""
    await track.make(partitions=2)
    other = Known()
    second = Member(membership(track.bootstrap, track.world.topic), other)
    former = await connect(track.world.settings.database_url.get_secret_value(), "tests")
    try:
        async with working(track) as worker:
            await track.says("lane.claimed", 2)
            client, coordinator, lane = worker.client, worker.client._coordinator, worker.lane()

            async def assigned() -> bool:
                return coordinator._heartbeat_task is not None and len(client.assignment()) == 1

            await former.execute("BEGIN")
            await former.execute("SELECT FROM kafka_offsets WHERE topic = $1 FOR UPDATE", track.world.topic)
            await track.send(track.command())
            await until(lambda: blocked(track.world), "a batch is in flight")
            client._fetcher._fetch_task.cancel()
            await until(lambda: closing(lane), "the membership is leaving")
            await second.join()
            await until(assigned, "the membership that is leaving was given a partition")

            assert len(track.said("consumer.joined")) == 1
            assert not worker.consumer._lanes
            await former.execute("COMMIT")
            await track.says("consumer.joined", 2)
            await second.leave()
            await track.send(track.command(), partition=1)
            await track.done()
    finally:
        await second.leave()
        await former.close()

    assert len(await track.outcomes()) == 2


async def closing(lane: Lane) -> bool:
    """Say whether a lane was told to end."""
    return lane._closing


async def test_a_commit_for_dashboards_holds_up_nobody(track: Track, monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator that is away may keep it waiting for ten seconds; PostgreSQL knows the position, so work goes on."""
    monkeypatch.setattr(consumer, "COMMIT_INTERVAL_S", 0.0)
    asked, ended = asyncio.Event(), asyncio.Event()

    async def hang(*_: object) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await track.make()
    async with working(track) as worker:
        await track.says("lane.claimed")
        worker.client.commit = hang
        await asyncio.wait_for(asked.wait(), 5)
        await track.send(track.command())
        await track.at(1)
        assert not ended.is_set()
