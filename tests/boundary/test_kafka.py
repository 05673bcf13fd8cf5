"""The door to Kafka: what may be sent, what is refused, and the topics."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from schemas.commands import COMMANDS_TOPIC
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC
from tests.boundary import topics
from tests.boundary.topics import COMMANDS, make, out, records, values
from worker.app import RETENTION_DAYS
from worker.errors import UnavailableError
from worker.kafka import (
    DEAD_LETTER_MAX_BYTES,
    MESSAGE_MAX_BYTES,
    OutMessage,
    Producer,
    Sent,
    create_topics,
    topic_settings,
)

NOBODY: Final = "127.0.0.1:1"

DAY_MS: Final = 86_400_000

PLAIN: Final = {"retention.ms": str(DAY_MS)}


async def test_what_is_sent_arrives_bit_for_bit(producer: Producer, bootstrap: str, topic: str) -> None:
    """Key and value may be null, both; headers repeat, in order, and may be null or any bytes."""
    await make(bootstrap, topic)
    headers = (("b", b"\x00\xff"), ("a", None), ("b", b""), ("\u00e9", b"1"))
    messages = [
        OutMessage(topic, None, None, headers),
        OutMessage(topic, b"", b"", ()),
        OutMessage(topic, None, b"value", ()),
        OutMessage(topic, b"\x00\xff", None, headers),
    ]
    sent = await producer.send_all(messages)
    found = await records(bootstrap, topic)

    assert sent == [Sent(0, offset) for offset in range(4)]
    assert [OutMessage(topic, r.key, r.value, r.headers) for r in found] == messages


async def test_messages_of_a_partition_keep_their_order_and_their_places_are_told(
    producer: Producer, bootstrap: str, topic: str
) -> None:
    """Over batches, over calls, over partitions; one key is always on one partition."""
    await make(bootstrap, topic, partitions=3)
    sent: dict[bytes, Sent] = {}
    for call in range(3):
        batch = [out(topic, f"{call}/{number}".encode() + bytes(3000), f"k{number % 7}".encode()) for number in range(600)]
        places = await producer.send_all(batch)
        sent.update((message.value or b"", place) for message, place in zip(batch, places, strict=True))
    found = await records(bootstrap, topic)

    assert len(found) == 1800
    assert {r.value: Sent(r.partition, r.offset) for r in found} == sent
    for key in {r.key for r in found}:
        mine = [r for r in found if r.key == key]
        numbers = [tuple(map(int, (r.value or b"").rstrip(b"\0").split(b"/"))) for r in mine]
        assert len({r.partition for r in mine}) == 1
        assert numbers == sorted(numbers)


async def test_nothing_to_send_is_nothing_sent(producer: Producer) -> None:
    """An empty batch asks for no server's answer."""
    assert await producer.send_all([]) == []


async def test_the_largest_command_fits_as_a_dead_letter(producer: Producer, bootstrap: str, topic: str) -> None:
    """With all that is added to it: else one letter would block its lane."""
    await make(bootstrap, topic, settings=topic_settings({DEAD_LETTERS_TOPIC: 14}, 1)[DEAD_LETTERS_TOPIC])
    value = os.urandom(1_900_000)
    assert MESSAGE_MAX_BYTES < len(value) < DEAD_LETTER_MAX_BYTES
    await producer.send_all([out(topic, b"before"), out(topic, value), out(topic, b"after")])

    assert values(await records(bootstrap, topic)) == [b"before", value, b"after"]


async def test_what_is_too_large_is_unavailable_and_spoils_nothing(producer: Producer, bootstrap: str, topic: str) -> None:
    """The producer is replaced, and the next message goes through."""
    await make(bootstrap, topic)
    with pytest.raises(UnavailableError, match="produce"):
        await producer.send_all([out(topic, os.urandom(1_500_000))])
    await producer.send_all([out(topic, b"next")])

    assert values(await records(bootstrap, topic)) == [b"next"]


async def test_a_send_that_was_given_up_spoils_nothing(producer: Producer, bootstrap: str, topic: str) -> None:
    """A lane that ends in the middle of a batch leaves a producer that works."""
    await make(bootstrap, topic)
    await producer.connect()
    task = asyncio.create_task(producer.send_all([out(topic, bytes(400_000)) for _ in range(20)]))  # noqa: RUF006 - it is awaited
    await asyncio.sleep(0)  # it has begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [place] = await producer.send_all([out(topic, b"next")])

    assert values(await records(bootstrap, topic, {0: place.offset}))[0] == b"next"


async def test_many_send_at_once(producer: Producer, bootstrap: str, topic: str) -> None:
    """Lanes share one producer; single messages and whole batches go side by side."""
    await make(bootstrap, topic, partitions=2)
    batches = [[out(topic, f"{call}/{number}".encode(), bytes([number])) for number in range(50)] for call in range(8)]
    singles = [out(topic, f"single/{number}".encode()) for number in range(20)]
    await asyncio.gather(*map(producer.send_all, batches), *map(producer.send, singles))

    sent = {message.value for batch in (*batches, singles) for message in batch}
    found = values(await records(bootstrap, topic))
    assert len(found) == len(sent)
    assert set(found) == sent


@pytest.mark.parametrize("send", [lambda p: p.send_all([out("t", b"")]), lambda p: p.send(out("t", b"")), lambda p: p.connect()])
async def test_a_broker_that_is_not_there_is_unavailable_in_time(send: Callable[[Producer], asyncio.Future[object]]) -> None:
    """And a producer that never connected is stopped at once."""
    producer = Producer(NOBODY, timeout_s=0.5, client_id="tests")
    async with asyncio.timeout(8):
        with pytest.raises(UnavailableError) as raised:
            await send(producer)
        await producer.stop()

    assert raised.value.service == "kafka"


async def test_a_topic_that_is_not_there_is_unavailable(bootstrap: str, topic: str) -> None:
    """It may be about to be made; nothing makes it by the way."""
    producer = Producer(bootstrap, timeout_s=0.5, client_id="tests")
    with pytest.raises(UnavailableError):
        await producer.send_all([out(topic, b"")])
    await producer.stop()

    async with topics.administering(bootstrap) as admin:
        assert topic not in await admin.list_topics()


@pytest.mark.usefixtures("template")
async def test_the_topics_are_as_agreed(bootstrap: str) -> None:
    """As `migrate` makes them: kept 7, 30 and 14 days, the broker's time, and the sizes that let every dead letter through."""
    common = {"message.timestamp.type": "LogAppendTime", "min.insync.replicas": "1"}
    assert await settings_of(bootstrap, COMMANDS_TOPIC) == {
        **common, "retention.ms": str(7 * DAY_MS), "compression.type": "uncompressed", "max.message.bytes": "1048576",
    }  # fmt: skip
    assert await settings_of(bootstrap, EVENTS_TOPIC) == {
        **common, "retention.ms": str(30 * DAY_MS), "compression.type": "producer", "max.message.bytes": "1048576",
    }  # fmt: skip
    assert await settings_of(bootstrap, DEAD_LETTERS_TOPIC) == {
        **common, "retention.ms": str(14 * DAY_MS), "compression.type": "producer", "max.message.bytes": "2097152",
    }  # fmt: skip


async def settings_of(bootstrap: str, topic: str) -> dict[str, str]:
    """Return what the broker says of a topic, as far as it is ours to say."""
    async with topics.administering(bootstrap) as admin:
        [response] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    [(_, _, _, _, entries)] = response.resources
    return {name: value for name, value, *_ in entries if name in COMMANDS}


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_in_production_two_replicas_must_have_a_record(replicas: int, in_sync: str) -> None:
    """Three may lose one and go on."""
    for settings in topic_settings(RETENTION_DAYS, replicas).values():
        assert settings["min.insync.replicas"] == in_sync


async def test_without_a_number_of_replicas_the_brokers_default_holds(bootstrap: str, topic: str) -> None:
    """Of the replicas, and of how many must have a record; all else is ours to say."""
    settings = topic_settings({COMMANDS_TOPIC: 7}, 0)[COMMANDS_TOPIC]
    made = await create_topics(bootstrap, {topic: settings}, partitions=2, replicas=0)

    assert "min.insync.replicas" not in settings
    assert made == [topic]
    assert await settings_of(bootstrap, topic) == dict(COMMANDS)


async def test_topics_that_exist_are_left_as_they_are(bootstrap: str, topic: str) -> None:
    """An operator's changes are not undone; what is missing is made."""
    await make(bootstrap, topic, settings={**COMMANDS, "retention.ms": "60000"})
    second = f"{topic}.second"
    made = await create_topics(bootstrap, {topic: dict(COMMANDS), second: dict(COMMANDS)}, partitions=2, replicas=1)

    assert made == [second]
    assert (await settings_of(bootstrap, topic))["retention.ms"] == "60000"
    assert await topics.bounds(bootstrap, second) == {0: (0, 0), 1: (0, 0)}


async def test_a_topic_that_can_not_be_made_is_unavailable(bootstrap: str, topic: str) -> None:
    """The message names it."""
    with pytest.raises(UnavailableError, match=topic):
        await create_topics(bootstrap, {topic: dict(COMMANDS)}, partitions=1, replicas=3)


@pytest.mark.parametrize("compression", ["gzip"])
async def test_a_compressed_command_is_measured_unpacked(bootstrap: str, topic: str, compression: str) -> None:
    """The broker itself refuses what could not be sent on as a dead letter; without that setting it would take it."""
    other = f"{topic}.other"
    await make(bootstrap, topic)
    await make(bootstrap, other, settings={**COMMANDS, "compression.type": "producer"})
    async with topics.producing(bootstrap, compression_type=compression, max_request_size=20_000_000) as compressing:
        with pytest.raises(MessageSizeTooLargeError):
            await compressing.send_and_wait(topic, bytes(10_000_000))
        await compressing.send_and_wait(topic, bytes(900_000))
        await compressing.send_and_wait(other, bytes(10_000_000))

    assert await topics.bounds(bootstrap, topic) == {0: (0, 1)}


async def test_the_brokers_time_counts_and_not_the_senders(bootstrap: str, topic: str) -> None:
    """Else a sender would choose the day and the catalogue that its command is decided by."""
    await make(bootstrap, topic)
    async with topics.producing(bootstrap) as upstream:
        await upstream.send_and_wait(topic, b"", timestamp_ms=1_000)
    [found] = await records(bootstrap, topic)

    assert found.timestamp > 1_700_000_000_000
