"""What a lane notices of a database that went back and of other owners, and that it never writes what is not its to write."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

from schemas.base import header
from tests.boundary.conditions import until
from tests.boundary.tracks import Track, blocked, exist, leave_in_outbox, lose, working
from tests.commands import registration_id
from worker import app
from worker.catalogues import Rules
from worker.kafka import Member, Partition
from worker.lane import Lane
from worker.metrics import Metrics
from worker.parts import Parts
from worker.postgres import connect
from worker.sealing import Sealer


async def test_an_idle_lane_notices_a_database_that_went_back(track: Track) -> None:
    """A failover lost the newest commits: without any traffic they are done again, with the same ids and the same event."""
    registrations = [registration_id() for _ in range(3)]
    await track.make()
    async with working(track) as worker:
        rows = []
        for number, each in enumerate(registrations):
            await track.send(track.command(each))
            await track.at(number + 1)
            rows.append(await track.row())
        before = {header(event.headers, "ce_id"): event.value for event in await track.events()}
        await lose(track.world, registrations[1:], rows[0])
        await until(lambda: exist(track, 3), "all are registered again", within_s=5)
        await track.at(3)
        await worker.waits_for(None)

    found = await track.events()
    assert {header(event.headers, "ce_id"): event.value for event in found} == before
    assert len(found) == 5
    assert not track.said("lane.topic_anew")


async def test_a_message_that_is_back_in_the_outbox_is_published_again(track: Track) -> None:
    """Its delete was lost: the idle lane sees a row that it had removed, and nobody has to send a command first."""
    await track.make()
    await track.send(track.command(), track.command())
    async with working(track):
        await track.at(2)
        event = (await track.events())[0]
        await leave_in_outbox(track.world, track.world.topic, event)
        await track.at(2)

    assert [each.value for each in await track.events()].count(event.value) == 2


async def test_another_owner_in_the_row_is_a_lost_fence(track: Track) -> None:
    """The lane drops everything, waits, proves by a commit that the group still counts it, and claims the partition back."""
    await track.make()
    await track.send(track.command())
    async with working(track) as worker:
        await track.at(1)
        thief = uuid4()
        await track.set("owner = $3", thief)
        await track.says("lane.fenced")
        await track.send(track.command())
        await track.at(2)
        await worker.waits_for(None)
        owner = (await track.row())["owner"]

    assert owner != thief
    assert len(track.said("lane.fenced")) == 1
    assert len(track.said("lane.claimed")) == 2
    assert not track.said("consumer.rejoining")


async def test_who_is_fenced_twice_leaves_the_group_and_joins_anew(track: Track) -> None:
    """Something is wrong with that membership; a new one begins with its own claims."""
    await track.make()
    async with working(track) as worker:
        await track.send(track.command())
        await track.at(1)
        for times in (1, 2):
            await track.says("lane.claimed", times)
            await track.set("owner = $3", uuid4())
            await track.says("lane.fenced", times)
        await track.says("consumer.joined", 2)
        await track.send(track.command())
        await track.at(2)
        await worker.waits_for(None)

    assert len(track.said("consumer.rejoining")) == 1
    assert len(await track.outcomes()) == 2


async def test_who_the_group_no_longer_counts_claims_nothing_back(track: Track) -> None:
    """Two lanes of a member that slept through a rebalance are fenced: one partition is still its own, the other is given up."""
    await track.make(partitions=2)
    settings, topic = track.world.settings, track.world.topic
    database, sealer = app.database_of(settings, "worker"), Sealer(settings.sealing_keys.get_secret_value())
    parts = Parts(settings, database, track.producer, sealer, Rules(database), Metrics())
    how = replace(app.membership(settings), topic=topic, group=topic)
    sleeper, newcomer = Asleep(), Asleep()
    old, new = Member(how, sleeper), Member(how, newcomer)
    tasks: dict[Partition, asyncio.Task[None]] = {}
    try:
        await old.join()
        await until(lambda: sleeper.has(2), "the first has both partitions")
        tasks = {each: asyncio.create_task(Lane(each, old, parts, lambda: None).run()) for each in sleeper.mine}
        await track.says("lane.claimed", 2)
        await new.join()
        await until(lambda: newcomer.has(1), "each has one partition")
        await until(lambda: sleeper.has(1), "each has one partition")
        [kept], [lost] = sleeper.mine, newcomer.mine
        thief = uuid4()
        for each in (kept, lost):
            await track.set("owner = $3", thief, partition=each.partition)
        await asyncio.wait_for(tasks[lost], 10)
        await track.says("lane.claimed", 3)

        assert (await track.row(lost.partition))["owner"] == thief
        assert (await track.row(kept.partition))["owner"] != thief
        assert not tasks[kept].done()
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await new.leave()
        await old.leave()
        await database.close()


class Asleep:
    """Hears what the group says of its partitions, and tells no lane."""

    def __init__(self) -> None:
        self.mine: set[Partition] = set()

    async def on_revoked(self, partitions: set[Partition]) -> None:
        """Lose partitions."""
        self.mine -= partitions

    async def on_assigned(self, _member: Member, partitions: set[Partition]) -> None:
        """Get partitions."""
        self.mine |= partitions

    async def has(self, count: int) -> bool:
        """Say whether that many are mine."""
        return len(self.mine) == count


async def test_a_stale_owner_never_writes(track: Track) -> None:
    """Another took over while this one waited for the row: its batch is gone whole, and done again by who owns it then."""
    await track.make()
    await track.send(track.command())
    thief = await connect(track.world.settings.database_url.get_secret_value(), "tests")
    try:
        async with working(track):
            await track.at(1)
            await thief.execute("BEGIN")
            await thief.execute("UPDATE kafka_offsets SET owner = $2 WHERE topic = $1", track.world.topic, uuid4())
            await track.send(track.command(), track.bad())
            await until(lambda: blocked(track.world), "the batch waits for the row")
            await thief.execute("COMMIT")
            await track.says("lane.fenced")
            assert len(await track.outcomes()) == 1
            assert await track.count("dead_letters", "topic") == 0
            await track.at(3)
    finally:
        await thief.close()

    assert len(await track.outcomes()) == 2
    assert len(await track.letters()) == 1


async def test_a_former_owner_that_moves_on_during_a_claim_makes_no_topic_anew(track: Track) -> None:
    """The log's end of before the claim is behind the position that the claim finds: only one asked afterwards may judge it."""
    await track.make()
    await track.send(track.command())
    async with working(track):
        await track.at(1)
    former = await connect(track.world.settings.database_url.get_secret_value(), "tests")
    try:
        await former.execute("BEGIN")
        await former.execute("UPDATE kafka_offsets SET next_offset = 3 WHERE topic = $1", track.world.topic)
        async with working(track) as worker:
            await until(lambda: blocked(track.world), "the claim waits for the row")
            await track.send(track.command(), track.command())
            await former.execute("COMMIT")
            await track.says("lane.claimed", 2)
            await track.send(track.command())
            await track.at(4)
            await worker.waits_for(None)
    finally:
        await former.close()

    assert not track.said("lane.topic_anew")
    assert [(line["next_offset"], line["log_end"]) for line in track.said("lane.claimed")] == [(0, 1), (3, 3)]
    assert len(await track.outcomes()) == 2


async def test_two_groups_on_one_topic_double_nothing(track: Track) -> None:
    """The position belongs to the partition, whatever the group is called: they take it from each other, and no more."""
    await track.make(partitions=2)
    async with working(track, "one", batch_max_records=5), working(track, "two", batch_max_records=5):
        await track.says("lane.claimed", 4)
        for partition in (0, 1):
            await track.send(*(track.command() for _ in range(60)), partition=partition)
        await until(lambda: exist(track, 120), "all are registered", within_s=30)
    async with working(track):
        await track.done()

    events = await track.events()
    assert track.said("lane.fenced")
    assert len({header(event.headers, "ce_id") for event in events}) == 120
    assert await track.customers() == 120


async def test_sessions_that_die_at_any_moment_double_nothing(track: Track) -> None:
    """Under load, again and again: whatever a COMMIT's answer was, each command has one outcome and one event."""
    await track.make(partitions=2)
    for partition in (0, 1):
        await track.send(*(track.command() for _ in range(200)), partition=partition)
    async with working(track, batch_max_records=20) as worker:
        for times in range(1, 5):
            await track.says("batch.stored", 2 * times)
            await track.world.connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'registration-worker' AND datname = current_database()"
            )
        await until(lambda: exist(track, 400), "all are registered", within_s=30)
        await track.done()
        await worker.waits_for(None)
        assert not worker.task.done()

    events = await track.events()
    assert len({header(event.headers, "ce_id") for event in events}) == 400
    assert await track.customers() == 400
