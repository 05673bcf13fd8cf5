"""What a lane makes of bugs and of trouble that lasts: one record's, the schema's; and when it calls itself well again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.boundary.conditions import until
from tests.boundary.tracks import Track, publish, working
from tests.commands import registration_id
from tests.conftest import World
from worker import settlement
from worker.errors import DatabaseBugError
from worker.kafka import Record
from worker.lane import Lane
from worker.registration import Accepted
from worker.rows import decision_row


async def test_a_bug_in_building_rows_stops_its_lane_at_that_record(track: Track, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process that met it would end otherwise, one after the other: the batch is halved, and all before it is stored."""
    registrations = [registration_id() for _ in range(8)]
    fatal, beside = registrations[5], registration_id()

    def buggy(verdict: Accepted) -> tuple[object, ...]:
        if verdict.tie.registration_id == fatal:
            raise ZeroDivisionError
        return decision_row(verdict)

    # no record is known that a row maker raises at: one of them is replaced
    monkeypatch.setitem(settlement._BY_CUSTOMER, "decisions", buggy)
    sent = [track.command(each) for each in registrations]
    await track.make(partitions=2)
    await track.send(*sent)
    await track.send(track.command(beside), partition=1)
    async with working(track) as worker:
        await worker.waits_for("stopped_by_bug")
        await track.at(5)
        await track.at(1, partition=1)

        assert (await track.outcomes()).keys() == {*registrations[:5], beside}
        [line] = track.said("lane.stopped")
        assert (line["offset"], line["partition"], line["error"]) == (5, 0, "ZeroDivisionError")
        assert track.said("batch.bisected")
        await track.set("skip_offset = 5")
        await track.at(8)
        await worker.waits_for(None)
        assert worker.lane()._queued_bytes == 0  # what was put back is counted again

    assert await track.letters() == [("operator.skipped", 5, sent[5].value)]
    assert len(await track.outcomes()) == 9


async def test_a_statement_that_the_database_does_not_know_ends_the_process(track: Track, world: World) -> None:
    """It met no record's bug but all records': halving would stop each lane at some record, and none of them is at fault."""
    track.world = world
    await track.make()
    await track.send(track.command(), track.command(), track.command())
    await world.connection.execute("ALTER TABLE decisions RENAME COLUMN risk_score TO score")
    with pytest.raises(DatabaseBugError, match="42703"):
        async with working(track) as worker:
            await until(worker.ended, "the worker ends")

    assert (await track.row())["next_offset"] == 0
    assert await track.outcomes() == {}
    assert await track.count("outbox", "command_topic") == 0
    assert not track.said("batch.bisected")
    assert not track.said("lane.stopped")
    await world.connection.execute("ALTER TABLE decisions RENAME COLUMN score TO risk_score")
    async with working(track):
        await track.at(3)


async def test_a_lane_that_made_progress_is_well_again(track: Track) -> None:
    """Its reason goes, it says so, and its next trouble is waited for as shortly as the first."""
    await publish(track.world, "tenant-later", of_a_later_release=True)
    await track.make()
    await track.send(track.command())
    async with working(track) as worker:
        try:
            await worker.waits_for("catalogue")
            assert worker.lane()._failures > 0
        finally:
            await publish(track.world, "tenant-later")
        await track.at(1)
        await worker.waits_for(None)
        assert worker.lane()._failures == 0

    assert track.said("lane.recovered")


@pytest.mark.parametrize("look_interval_s", [0.3, 0.01])
async def test_trouble_that_lasts_is_tried_ever_more_rarely(track: Track, look_interval_s: float) -> None:
    """A claim is no progress, nor is the look after it: else each try is a line in the log, and the reason comes and goes."""
    await publish(track.world, "tenant-later", of_a_later_release=True)
    await track.make()
    await track.send(track.command())
    try:
        async with working(track, look_interval_s=look_interval_s) as worker:
            await track.says("lane.claimed", 4)
            failures = worker.lane()._failures
    finally:
        await publish(track.world, "tenant-later")

    assert failures >= 3
    assert len(track.said("lane.waiting")) == 1
    assert not track.said("lane.recovered")


async def test_each_cause_of_a_wait_is_told_once(track: Track) -> None:
    """The one that lasts may not be the first: whoever reads the log looks for it there."""
    await publish(track.world, "tenant-later", of_a_later_release=True)
    await track.make()
    await track.send(track.command())
    try:
        async with working(track):
            await track.says("lane.waiting")
            await publish(track.world, "tenant-latest", of_a_later_release=True)
            await publish(track.world, "tenant-later")
            await track.says("lane.waiting", 2)
            await publish(track.world, "tenant-latest")
            await track.at(1)
    finally:
        await publish(track.world, "tenant-later")
        await publish(track.world, "tenant-latest")

    assert [line["reason"].rpartition(" ")[2] for line in track.said("lane.waiting")] == ["tenant-later", "tenant-latest"]


async def test_a_lane_that_hangs_ends_livez_and_one_that_waits_does_not(track: Track, monkeypatch: pytest.MonkeyPatch) -> None:
    """With commands to do, nothing that explains it, and for long enough; the log says so once."""
    await track.make()
    take, hanging, over = Lane._take, asyncio.Event(), asyncio.Event()

    async def hang(lane: Lane) -> Sequence[Record]:
        hanging.set()
        await over.wait()
        return await take(lane)

    async with working(track, stall_s=0.4) as worker:
        await worker.waits_for(None)
        monkeypatch.setattr(Lane, "_take", hang)
        await hanging.wait()
        await track.send(track.command(), track.command())

        async def is_dead() -> bool:
            return not worker.consumer.alive()

        await until(is_dead, "livez fell")
        reasons = worker.consumer.reasons()
        over.set()
        await track.at(2)

        async def is_alive() -> bool:
            return worker.consumer.alive()

        await until(is_alive, "livez is back")

    assert reasons == []
    assert len(track.said("lane.stalled")) == 1


async def test_a_named_wait_is_no_standstill(track: Track) -> None:
    """However long it lasts, no restart would mend it."""
    await publish(track.world, "tenant-later", of_a_later_release=True)
    await track.make()
    await track.send(track.command())
    try:
        async with working(track, stall_s=0.2) as worker:
            await track.says("lane.claimed", 4)
            alive = worker.consumer.alive()
    finally:
        await publish(track.world, "tenant-later")

    assert alive
    assert not track.said("lane.stalled")
