"""The door to Kafka: what readers read."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.boundary import topics
from tests.boundary.conditions import until
from tests.boundary.topics import make, out, records, values
from worker.errors import UnavailableError
from worker.kafka import OutMessage, Partition, Producer, Reader


async def test_a_reader_sees_committed_records_between_two_offsets(producer: Producer, bootstrap: str, topic: str) -> None:
    """What was aborted is not there, markers of transactions are no records, and the end is not included."""
    await make(bootstrap, topic)
    await producer.send_all([out(topic, b"0"), out(topic, b"1")])
    await topics.transact(bootstrap, topic, [out(topic, b"2"), out(topic, b"3")], commit=False)
    await topics.transact(bootstrap, topic, [out(topic, b"5")], commit=True)
    await producer.send_all([out(topic, b"7")])

    assert await topics.bounds(bootstrap, topic) == {0: (0, 8)}
    assert [(r.offset, r.value) for r in await records(bootstrap, topic)] == [(0, b"0"), (1, b"1"), (5, b"5"), (7, b"7")]
    assert await read(bootstrap, topic, 1, 7) == [b"1", b"5"]
    assert await read(bootstrap, topic, 2, 5) == []
    assert await read(bootstrap, topic, 3, 3) == []


async def read(bootstrap: str, topic: str, start: int, end: int) -> list[bytes | None]:
    """Return the values between two offsets."""
    async with Reader(bootstrap, client_id="tests") as reader:
        return [r.value async for some in reader.read(Partition(topic, 0), start, end) for r in some]


@pytest.mark.usefixtures("fast_parser")
async def test_a_reader_reads_what_the_clients_parser_can_not(producer: Producer, bootstrap: str, topic: str) -> None:
    """A header's name that is no UTF-8 is shown as Java's client shows it; all else is as it was sent, aborted records too."""
    await make(bootstrap, topic)
    headers = (("a", b"\xff"), ("b", None))
    await producer.send_all([OutMessage(topic, b"k", b"0", headers), OutMessage(topic, None, None, headers)])
    await topics.send_undecodable(bootstrap, Partition(topic, 0), b"2")
    await topics.transact(bootstrap, topic, [out(topic, b"3")], commit=False)
    await topics.transact(bootstrap, topic, [out(topic, b"5")], commit=True)
    found = await records(bootstrap, topic)

    assert [(r.offset, r.key, r.value) for r in found] == [(0, b"k", b"0"), (1, None, None), (2, None, b"2"), (5, b"key", b"5")]
    assert [tuple(r.headers) for r in found[:3]] == [headers, headers, (("\ufffd\ufffd", b""),)]
    assert found[0].timestamp > 1_700_000_000_000


async def test_a_reader_ends_before_an_open_transaction(producer: Producer, bootstrap: str, topic: str) -> None:
    """What may still be aborted is not yet said."""
    await make(bootstrap, topic)
    await producer.send_all([out(topic, b"0")])
    async with topics.producing(bootstrap, transactional_id=f"tests-{os.urandom(6).hex()}") as upstream:
        await upstream.begin_transaction()
        await upstream.send_and_wait(topic, b"1")
        await producer.send_all([out(topic, b"2")])

        assert await topics.bounds(bootstrap, topic) == {0: (0, 1)}
        assert values(await records(bootstrap, topic)) == [b"0"]
        await upstream.abort_transaction()


async def test_a_reader_leaves_out_what_retention_removed(producer: Producer, bootstrap: str, topic: str) -> None:
    """Also where it began before the log does."""
    await make(bootstrap, topic)
    await producer.send_all([out(topic, str(number).encode()) for number in range(6)])
    await topics.forget_before(bootstrap, Partition(topic, 0), 4)

    assert await topics.bounds(bootstrap, topic) == {0: (4, 6)}
    assert await read(bootstrap, topic, 1, 6) == [b"4", b"5"]
    assert await read(bootstrap, topic, 1, 3) == []


async def test_a_reader_of_a_topic_that_is_not_there_says_how_to_make_it(bootstrap: str, topic: str) -> None:
    """`registration migrate` was forgotten."""
    async with Reader(bootstrap, client_id="tests") as reader:
        with pytest.raises(UnavailableError, match="registration migrate"):
            await reader.bounds(topic)


@pytest.mark.parametrize("from_start", [True, False])
async def test_a_follower_sees_what_comes(producer: Producer, bootstrap: str, topic: str, *, from_start: bool) -> None:
    """From all partitions, with what is there already or without, until it is told to stop."""
    await make(bootstrap, topic, partitions=2)
    await producer.send_all([out(topic, b"old", bytes([number])) for number in range(4)])
    seen: list[bytes | None] = []
    stop, following = asyncio.Event(), asyncio.Event()

    async def follow() -> None:
        async with Reader(bootstrap, client_id="tests") as reader:
            following.set()
            async for found in reader.follow(topic, stop, from_start=from_start):
                seen.append(found.value)  # noqa: PERF401 - others look at it meanwhile

    task = asyncio.create_task(follow())
    await following.wait()

    async def arrived() -> bool:
        await producer.send_all([out(topic, b"new", bytes([number])) for number in range(4)])
        return b"new" in seen

    await until(arrived, "the follower sees a record")
    stop.set()
    await asyncio.wait_for(task, 5)

    assert seen.count(b"old") == (4 if from_start else 0)
