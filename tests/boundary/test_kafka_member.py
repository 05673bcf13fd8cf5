"""The door to Kafka: what a member of the group reads, and who still belongs to it."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
from aiokafka import TopicPartition
from aiokafka.client import ConnectionGroup

from tests.boundary import topics
from tests.boundary.conditions import until
from tests.boundary.members import Known, closed, cut, joined, membership
from tests.boundary.topics import make, out, values
from worker.errors import LostPartitionError, RejoinError, UnavailableError
from worker.kafka import Member, Partition, Producer

NOBODY: Final = "127.0.0.1:1"


async def test_a_member_reads_from_where_it_seeks(producer: Producer, bootstrap: str, topic: str) -> None:
    """Positions count what is no record; the log's bounds are told as they are."""
    await make(bootstrap, topic, partitions=2)
    await producer.send_all([out(topic, str(number).encode(), b"key") for number in range(5)])
    member, _ = await joined(bootstrap, topic)
    try:
        [at] = [p for p in (Partition(topic, 0), Partition(topic, 1)) if (await member.bounds(p))[1]]
        member.seek(at, 2)
        fetched = await member.poll([at], 5)

        assert await member.bounds(at) == (0, 5)
        assert values(fetched[at]) == [b"2", b"3", b"4"]
        assert await member.position(at) == 5
        assert member.log_end(at) == 5
    finally:
        await member.leave()


@pytest.mark.parametrize("offset", [0, 9])
async def test_an_offset_that_the_log_has_not_is_an_error_and_no_jump(
    producer: Producer, bootstrap: str, topic: str, offset: int
) -> None:
    """Neither before its start nor past its end are records passed over in silence."""
    await make(bootstrap, topic, partitions=2)
    await producer.send_all([out(topic, b"", b"key") for _ in range(5)])
    member, _ = await joined(bootstrap, topic)
    try:
        [at] = [p for p in (Partition(topic, 0), Partition(topic, 1)) if (await member.bounds(p))[1]]
        await topics.forget_before(bootstrap, at, 3)
        member.seek(at, offset)
        with pytest.raises(UnavailableError, match="OffsetOutOfRange"):
            await member.poll([at], 5)
    finally:
        await member.leave()


async def test_who_lost_a_partition_can_not_prove_that_it_is_its_own(bootstrap: str, topic: str) -> None:
    """The group accepts the word of its present member only."""
    await make(bootstrap, topic, partitions=2)
    first, known = await joined(bootstrap, topic)
    other = Known()
    second = Member(membership(bootstrap, topic), other)
    try:
        for partition in known.mine:
            await first.prove(partition, 0)
        await second.join()
        await until(lambda: other.has(1), "both have one partition")
        await until(lambda: known.has(1), "both have one partition")
        [mine], [theirs] = known.mine, other.mine

        await first.prove(mine, 0)
        await second.prove(theirs, 0)
        for member, partition in ((first, theirs), (second, mine), (second, Partition("another", 0))):
            with pytest.raises(LostPartitionError):
                await member.prove(partition, 0)
            with pytest.raises(LostPartitionError):
                member.seek(partition, 0)
    finally:
        await second.leave()
        await first.leave()


async def test_a_socket_that_was_closed_under_the_client_is_unavailable(bootstrap: str, topic: str) -> None:
    """To uvloop that is a RuntimeError, which no list of Kafka's errors has: a lane has to wait, and not to end its process."""
    await make(bootstrap, topic, partitions=2)
    member, known = await joined(bootstrap, topic)
    at = next(iter(known.mine))
    try:
        for kind in ConnectionGroup:
            cut(member._consumer, kind)
        with pytest.raises(UnavailableError, match="RuntimeError"):
            await member.bounds(at)
        with pytest.raises(UnavailableError, match="RuntimeError"):
            await member.prove(at, 0)
        with pytest.raises(UnavailableError, match="RuntimeError"):
            await member.tell({at: 0})
        await until(lambda: unwell(member), "a look finds the heartbeat that died of it")
    finally:
        await member.leave()
        await closed(member._consumer)


async def test_a_client_that_reads_no_metadata_any_more_is_noticed(bootstrap: str, topic: str) -> None:
    """The same closed socket ends that task too: then no new leader of a partition is ever learned of, and nothing says so."""
    await make(bootstrap, topic, partitions=2)
    member, _ = await joined(bootstrap, topic)
    reading = member._consumer._client._sync_task
    try:
        reading.cancel()
        await asyncio.wait({reading})
        assert await unwell(member)
    finally:
        await member.leave()


async def unwell(member: Member) -> bool:
    """Say whether a look at the client finds that something is wrong."""
    try:
        member.check()
    except (RejoinError, UnavailableError):
        return True
    return False


@pytest.mark.parametrize("kind", ConnectionGroup)
async def test_a_dead_client_leaves_no_socket_open(bootstrap: str, topic: str, kind: ConnectionGroup) -> None:
    """Its own `stop` raises what killed it, half-way: who joins anew a hundred times must not run out of sockets."""
    await make(bootstrap, topic, partitions=2)
    member, known = await joined(bootstrap, topic)
    client = member._consumer
    try:
        for each in known.mine:
            member.seek(each, 0)
        cut(client, kind)
        await until(lambda: unwell(member), "a look finds what died of it")
    finally:
        await member.leave()
        still_open = [each for each in client._client._conns.values() if each.connected()]
        await closed(client)

    assert not still_open


async def test_joining_where_nobody_answers_is_unavailable_in_time() -> None:
    """And leaving afterwards ends."""
    member = Member(membership(NOBODY, "t"), Known())
    async with asyncio.timeout(20):
        with pytest.raises(UnavailableError):
            await member.join()
        await member.leave()


def test_a_partition_is_the_clients_own() -> None:
    """It can be handed to aiokafka as it is."""
    assert Partition("t", 1) == TopicPartition("t", 1)
    assert hash(Partition("t", 1)) == hash(TopicPartition("t", 1))
    assert {TopicPartition("t", 1): "x"}[Partition("t", 1)] == "x"
