"""A lane on real servers: from command to event, and where it begins."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Final
from uuid import uuid4

import pytest

from schemas.base import header
from tests import commands
from tests.boundary import topics
from tests.boundary.conditions import until
from tests.boundary.tracks import Track, Worker, blocked, exist, leave_in_outbox, publish, remove, working
from tests.commands import registration_id
from worker.postgres import connect

NUL: Final = "a\0b"
"""A fingerprint that is text to JSON and none to PostgreSQL."""


async def test_each_kind_of_record_ends_as_it_should(track: Track) -> None:
    """Accepted, rejected, repeated, unprocessable, refused by the database: each in its way, and none holds up the next."""
    good, refused, unstorable, odd = (registration_id() for _ in range(4))
    headers = (*commands.headers(ce_type=b"other"), ("x", None), ("traceparent", None))
    await track.make()
    await track.send(
        track.command(good),
        track.command(refused, customer={}),
        track.command(good),
        track.bad(),
        commands.message(None, track.world.topic),
        track.command(unstorable, fingerprint=NUL),
        replace(track.command(odd), headers=headers),
        replace(track.command(good), headers=(*commands.headers(), ("traceparent", None))),
    )
    async with working(track) as worker:
        await track.at(8)
        await worker.waits_for(None)

    assert await track.outcomes() == {good: "REGISTRATION_COMPLETE", refused: "REJECTED", unstorable: "FAILED", odd: "FAILED"}
    assert {header(event.headers, "ce_type") for event in await track.events()} == {
        "customer.registered.v1",
        "customer.registration-rejected.v1",
    }
    assert [(code, offset) for code, offset, _ in await track.letters()] == [
        ("json.malformed", 3),
        ("store.refused", 5),
        ("type.unexpected", 6),
        ("value.null", 4),
    ]
    assert not track.said("lane.stopped")


async def test_what_the_database_refuses_is_found_and_the_others_are_stored(track: Track) -> None:
    """The batch is halved until the record is alone; its payload is kept, sealed, and its registration fails."""
    registrations = [registration_id() for _ in range(16)]
    sent = [track.command(each, fingerprint=NUL if at in {3, 12} else "1:a") for at, each in enumerate(registrations)]
    await track.make()
    await track.send(*sent)
    async with working(track):
        await track.at(16)

    failed = {registrations[3], registrations[12]}
    assert {each for each, status in (await track.outcomes()).items() if status == "FAILED"} == failed
    assert await track.letters() == [("store.refused", 3, sent[3].value), ("store.refused", 12, sent[12].value)]
    assert track.said("batch.bisected")
    assert len(await track.events()) == 14


async def test_a_worker_that_is_told_to_stop_leaves_nothing_behind(track: Track) -> None:
    """What it had committed is published and deleted, and the next one goes on from there."""
    await track.make(partitions=2)
    for partition in (0, 1):
        await track.send(*(track.command() for _ in range(100)), partition=partition)
    async with working(track, batch_max_records=20):
        await track.says("batch.stored", 2)
    left = await track.count("outbox", "command_topic")
    first = len(await track.outcomes())
    async with working(track):
        await track.done()

    assert left == 0
    assert first >= 20
    assert len(await track.outcomes()) == 200
    assert len({header(event.headers, "ce_id") for event in await track.events()}) == len(await track.events()) == 200


async def test_a_tenant_that_came_a_moment_ago_loses_no_command(track: Track) -> None:
    """The catalogues are read afresh before a tenant is called unknown."""
    await track.make()
    await track.send(track.command())
    async with working(track):
        await track.at(1)
        await publish(track.world, "tenant-new")
        known, unknown = registration_id(), registration_id()
        await track.send(track.command(known, tenantId="tenant-new"), track.command(unknown, tenantId="nobody"), track.command())
        await track.at(4)

    assert (await track.outcomes())[known] == "REGISTRATION_COMPLETE"
    assert [(code, offset) for code, offset, _ in await track.letters()] == [("tenant.unknown", 2)]


async def test_nothing_is_done_before_the_partition_is_claimed(track: Track) -> None:
    """A batch of a former owner that is still in flight holds the row: until it ends, no record is touched."""
    await track.make()
    await track.send(track.command(), track.command(), track.command())
    await track.world.connection.execute(
        "INSERT INTO kafka_offsets (topic, partition, next_offset, owner, claimed_at) VALUES ($1, 0, 0, $2, now())",
        track.world.topic,
        uuid4(),
    )
    former = await connect(track.world.settings.database_url.get_secret_value(), "tests")
    try:
        await former.execute("BEGIN")
        await former.execute("UPDATE kafka_offsets SET next_offset = 2 WHERE topic = $1", track.world.topic)
        async with working(track) as worker:
            await worker.waits_for("claiming")
            await until(lambda: blocked(track.world), "the claim waits for the row")

            assert await track.outcomes() == {}
            await former.execute("COMMIT")
            await track.at(3)
    finally:
        await former.close()

    assert len(await track.outcomes()) == 1
    assert [line["next_offset"] for line in track.said("lane.claimed")] == [2]


async def test_what_a_former_owner_left_is_published_first(track: Track) -> None:
    """Committed and not published is published before the partition's next record; a dead letter too, as it was."""
    await track.make()
    await track.send(track.command(), track.bad())
    async with working(track):
        await track.at(2)
    [event], [letter] = await track.events(), await track.letters()
    await leave_in_outbox(track.world, track.world.topic, event)
    await track.send(track.command())
    async with working(track):
        await track.at(3)

    again = await track.events()
    assert [header(each.headers, "ce_id") for each in again].count(header(event.headers, "ce_id")) == 2
    assert {(each.key, each.value) for each in again if each.key == event.key} == {(event.key, event.value)}
    assert await track.letters() == [letter]
    assert track.said("lane.claimed")[-1]["swept"] == 1


async def test_markers_of_transactions_are_passed(track: Track) -> None:
    """They are no records: the position passes them, also at the log's end, and a restart finds its place again."""
    committed, last = registration_id(), registration_id()
    await track.make()
    await track.send(track.command())
    await topics.transact(track.bootstrap, track.world.topic, [track.command(), track.command()], commit=False)
    await topics.transact(track.bootstrap, track.world.topic, [track.command(committed)], commit=True)
    async with working(track):
        await track.at(6)
        await topics.transact(track.bootstrap, track.world.topic, [track.command()], commit=False)
        await track.at(8)
    async with working(track):
        await track.send(track.command(last))
        await track.at(9)

    assert len(await track.outcomes()) == 3
    assert {committed, last} <= (await track.outcomes()).keys()
    assert [line["next_offset"] for line in track.said("lane.claimed")] == [0, 8]
    assert not track.said("lane.topic_anew")
    assert sum(line["repeated"] for line in track.said("batch.stored")) == 0


async def test_an_open_transaction_is_waited_for(track: Track) -> None:
    """Nothing behind its first record is read before it ends; then all is, in order."""
    await track.make()
    async with topics.producing(track.bootstrap, transactional_id=f"tests-{os.urandom(6).hex()}") as upstream, working(track):
        inside, behind = track.command(), track.command()
        await track.send(track.command())
        await track.at(1)
        await upstream.begin_transaction()
        await upstream.send_and_wait(track.world.topic, inside.value, headers=list(inside.headers), partition=0)
        await track.send(behind)
        await track.at(1)
        await upstream.commit_transaction()
        await track.at(4)

    assert len(await track.outcomes()) == 3


@pytest.mark.parametrize(
    ("more", "running"), [(4, True), (1, False)], ids=["as long as before, under a worker", "shorter than before, between two"]
)
async def test_a_topic_made_anew_begins_at_its_start(track: Track, more: int, *, running: bool) -> None:
    """Its records are others, whatever their offsets: the inbox removes what was done before, and nothing is passed over."""
    old = [track.command() for _ in range(3)]
    new = [track.command() for _ in range(more)]

    async def anew() -> None:
        await remove(track)
        await track.make()
        await track.send(old[1], *new)

    await track.make()
    await track.send(*old)
    async with working(track) as worker:
        await track.at(3)
        if running:
            await anew()
            await until(lambda: exist(track, len(old) + more), "all are registered")
            await worker.waits_for(None)
    if not running:
        await anew()
        async with working(track):
            await until(lambda: exist(track, len(old) + more), "all are registered")
            await track.at(more + 1)

    assert len(await track.events()) == len({header(event.headers, "ce_id") for event in await track.events()}) == 3 + more
    assert track.said("lane.topic_anew")


async def test_a_worker_without_its_topic_is_not_ready(track: Track) -> None:
    """It says what to do, and begins by itself when the topic is there."""
    async with working(track) as worker:
        await until(lambda: says(worker, "run `registration migrate`"), "it says what is missing")
        await track.make()
        await track.send(track.command())
        await track.at(1)
        await worker.waits_for(None)


async def says(worker: Worker, text: str) -> bool:
    """Say whether a reason of the worker holds a text."""
    return text in " ".join(worker.consumer.reasons())


async def test_a_record_of_the_future_can_be_skipped(track: Track) -> None:
    """Nobody has to wait for an hour until its catalogue may be decided: the order holds at once."""
    await topics.make(track.bootstrap, track.world.topic, settings={**topics.COMMANDS, "message.timestamp.type": "CreateTime"})
    sent = track.command()
    async with topics.producing(track.bootstrap) as upstream:
        for timestamp_ms in (int(time.time() * 1000) + 3_500_000, None):
            await upstream.send_and_wait(track.world.topic, sent.value, headers=list(sent.headers), timestamp_ms=timestamp_ms)
    async with working(track) as worker:
        await worker.waits_for("catalogue")
        await track.set("skip_offset = 0")
        await track.at(2)
        await worker.waits_for(None)

    assert await track.letters() == [("operator.skipped", 0, sent.value)]
    assert track.said("topic.create_time")[0]["topic"] == track.world.topic
