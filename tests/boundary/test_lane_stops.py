"""What stops a lane: a bug, lost input, a run of dead letters, a key or a rule that is not there yet; and what lets it go on."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from schemas.commands import INGRESS_SOURCE
from tests import commands
from tests.boundary import topics
from tests.boundary.conditions import until
from tests.boundary.tracks import Track, publish, working
from tests.commands import registration_id
from tests.conftest import World
from worker.catalogues import COMPLETE_FOR
from worker.kafka import Partition


async def test_lost_input_stops_a_partition_until_an_operator_goes_on(track: Track) -> None:
    """Commands that retention removed unprocessed are not passed over in silence; what is left is done after the order."""
    await track.make(partitions=2)
    await track.send(track.command(), track.command())
    async with working(track):
        await track.at(2)
    await track.send(*(track.command() for _ in range(4)))
    await topics.forget_before(track.bootstrap, Partition(track.world.topic, 0), 4)
    await track.send(track.command(), partition=1)
    async with working(track) as worker:
        await worker.waits_for("input_lost")
        await track.at(1, partition=1)

        assert (await track.row())["next_offset"] == 2
        assert len(await track.outcomes()) == 3
        await track.set("resume_at_offset = 4")
        await track.at(6)
        await worker.waits_for(None)

    assert len(await track.outcomes()) == 5
    assert track.said("lane.input_lost")
    assert (await track.row())["resume_at_offset"] is None


async def test_an_order_for_a_breaker_gives_up_no_lost_input(track: Track) -> None:
    """It was given before anything was lost, or by a script: only one that names an offset beyond the position is a consent."""
    await track.make()
    await track.send(track.command(), track.command())
    async with working(track):
        await track.at(2)
    await track.send(*(track.command() for _ in range(4)))
    await topics.forget_before(track.bootstrap, Partition(track.world.topic, 0), 4)
    await track.set("resume_at_offset = 2")
    async with working(track, look_interval_s=0.1) as worker:
        await worker.waits_for("input_lost")
        await looked(track.world)
        await track.set("resume_at_offset = 1")
        await looked(track.world)

        assert (await track.row())["next_offset"] == 2
        assert len(track.said("lane.input_lost")) == 1
        assert not track.said("lane.input_given_up")
        await track.set("resume_at_offset = 4")
        await track.at(6)
        await worker.waits_for(None)

    assert len(track.said("lane.input_given_up")) == 1
    assert (await track.row())["resume_at_offset"] is None


async def looked(world: World, times: int = 2) -> None:
    """Wait until a worker has looked at its partitions so many times from now on."""
    query = (
        "SELECT max(query_start) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'registration-worker' AND query LIKE '-- look:%'"
    )
    last = await world.connection.fetchval("SELECT clock_timestamp()")

    async def again() -> Any:  # noqa: ANN401 - a time
        found = await world.connection.fetchval(query)
        return found if found is not None and found > last else None

    for _ in range(times):
        last = await until(again, "a lane looks at its partition")


async def test_a_bug_stops_its_lane_and_skip_makes_a_dead_letter_of_its_record(track: Track) -> None:
    """A catalogue that no rule foresaw: what came before is stored, other partitions go on, and only that record is skipped."""
    await publish(track.world, "tenant-of-nowhere", time_zone="Nowhere/City")
    before, met, after, beside = (registration_id() for _ in range(4))
    fatal = track.command(met, tenantId="tenant-of-nowhere")
    await track.make(partitions=2)
    await track.send(track.command(before), fatal, track.command(after))
    await track.send(track.command(beside), partition=1)
    async with working(track) as worker:
        await worker.waits_for("stopped_by_bug")
        await track.at(1)
        await track.at(1, partition=1)

        assert await track.outcomes() == dict.fromkeys((before, beside), "REGISTRATION_COMPLETE")
        [line] = track.said("lane.stopped")
        assert (line["offset"], line["partition"], line["error"]) == (1, 0, "ZoneInfoNotFoundError")
        await track.send(track.command(), partition=1)
        await track.at(2, partition=1)
        await track.set("skip_offset = 0")
        await track.set("skip_offset = 1")
        await track.at(3)
        await worker.waits_for(None)

    assert await track.letters() == [("operator.skipped", 1, fatal.value)]
    outcomes = await track.outcomes()
    assert (outcomes[met], outcomes[after]) == ("FAILED", "REGISTRATION_COMPLETE")
    assert (await track.row())["skip_offset"] is None
    assert len(track.said("lane.stopped")) == 1


async def test_a_fixed_deploy_goes_on_where_a_bug_stopped(track: Track) -> None:
    """Nobody has to skip anything: the record is decided again."""
    await publish(track.world, "tenant-of-nowhere", time_zone="Nowhere/City")
    met = registration_id()
    await track.make()
    await track.send(track.command(met, tenantId="tenant-of-nowhere"), track.command())
    async with working(track) as worker:
        await worker.waits_for("stopped_by_bug")
    await publish(track.world, "tenant-of-nowhere", time_zone="Europe/Vilnius")
    async with working(track):
        await track.at(2)

    assert (await track.outcomes())[met] == "REGISTRATION_COMPLETE"
    assert await track.letters() == []


async def test_a_catalogue_of_a_later_release_is_waited_for(track: Track) -> None:
    """In a rolling deploy the old workers neither end nor guess: they say what they wait for, and go on when they can."""
    await publish(track.world, "tenant-later", of_a_later_release=True)
    await track.make()
    await track.send(track.command())
    async with working(track) as worker:
        try:
            await worker.waits_for("catalogue")
            assert await track.outcomes() == {}
        finally:
            await publish(track.world, "tenant-later")
        await track.at(1)
        await worker.waits_for(None)


async def test_a_record_of_the_future_is_waited_for(track: Track) -> None:
    """A broker's clock runs ahead: its catalogue may not be decided yet, so the partition says so until the time has come."""
    await topics.make(track.bootstrap, track.world.topic, settings={**topics.COMMANDS, "message.timestamp.type": "CreateTime"})
    sent = track.command()
    later_ms = int((time.time() + COMPLETE_FOR.total_seconds() + 1.5) * 1000)
    async with topics.producing(track.bootstrap) as upstream:
        await upstream.send_and_wait(track.world.topic, sent.value, headers=list(sent.headers), timestamp_ms=later_ms)
    async with working(track) as worker:
        await worker.waits_for("catalogue")
        assert await track.outcomes() == {}
        await track.at(1)
        await worker.waits_for(None)

    assert track.said("catalogue.ahead")


@pytest.mark.usefixtures("fast_parser")
async def test_a_record_that_the_client_can_not_read_stops_nothing(track: Track) -> None:
    """A header's name that is no UTF-8 makes aiokafka raise for ever: what came before, behind and beside it is done."""
    await track.make(partitions=2)
    await track.send(track.command(), track.command())
    offset = await topics.send_undecodable(track.bootstrap, Partition(track.world.topic, 0), b"no JSON")
    await track.send(track.command())
    await track.send(track.command(), partition=1)
    async with working(track) as worker:
        await track.at(4)
        await track.at(1, partition=1)
        await worker.waits_for(None)
        await track.send(track.command(), track.command(), partition=1)
        await track.at(3, partition=1)

    assert offset == 2
    assert len(await track.outcomes()) == 6
    assert await track.letters() == [("envelope.invalid", 2, b"no JSON")]


async def test_a_run_of_dead_letters_pauses_a_partition(track: Track) -> None:
    """The batch is cut there, the count is in the row, the partition says why; after the pause one small batch is tried."""
    await track.make(partitions=2)
    await track.send(track.command(), *(track.bad() for _ in range(5)), track.command())
    async with working(track, breaker_run=3, breaker_pause_s=1.5) as worker:
        await worker.waits_for("breaker_open")
        await track.at(4)
        assert (await track.row())["dead_letter_run"] == 3
        await track.send(track.command(), partition=1)
        await track.at(1, partition=1)
        assert (await track.row())["next_offset"] == 4
        await track.at(7)
        await worker.waits_for(None)

    assert (await track.row())["dead_letter_run"] == 0
    assert [line["dead_letters_in_a_row"] for line in track.said("breaker.opened")] == [3]
    assert len(track.said("breaker.closed")) == 1
    assert len(await track.letters()) == 5


async def test_an_operator_ends_a_pause_at_once(track: Track) -> None:
    """And a new owner keeps it: neither a restart nor a rebalance is a success."""
    await track.make()
    await track.send(*(track.bad() for _ in range(4)), track.command())
    async with working(track, breaker_run=3, breaker_pause_s=600, breaker_pause_max_s=600) as worker:
        await worker.waits_for("breaker_open")
    async with working(track, breaker_run=3, breaker_pause_s=600, breaker_pause_max_s=600) as worker:
        await worker.waits_for("breaker_open")
        assert (await track.row())["next_offset"] == 3
        await track.set("resume_at_offset = 3")
        await track.at(5)
        await worker.waits_for(None)

    assert (await track.row())["resume_at_offset"] is None


async def test_refusals_of_what_our_ingress_has_validated_pause_a_partition_too(track: Track) -> None:
    """They are outcomes, and a sign that versions disagree; an upstream service's are only outcomes."""
    await track.make(partitions=2)
    ours = [replace(track.command(customer={}), headers=commands.headers(ce_source=INGRESS_SOURCE.encode())) for _ in range(4)]
    await track.send(*ours)
    await track.send(*(track.command(customer={}) for _ in range(4)), partition=1)
    async with working(track, breaker_run=3, breaker_pause_s=600) as worker:
        await worker.waits_for("breaker_open")
        await track.at(3)
        await track.at(4, partition=1)

    assert set((await track.outcomes()).values()) == {"REJECTED"}
    assert await track.letters() == []


async def test_the_trial_of_an_open_breaker_finds_the_one_record_that_the_database_refuses(track: Track) -> None:
    """The batch is halved like any other; put back whole it would fail again, at once and for ever."""
    good = registration_id()
    await track.make()
    await track.send(track.bad(), track.bad(), track.command(good), track.command(fingerprint="\0"))
    async with working(track, breaker_run=2, breaker_pause_s=0.1):
        await track.at(4)

    assert (await track.outcomes())[good] == "REGISTRATION_COMPLETE"
    assert len(await track.letters()) == 3


async def test_a_box_whose_key_is_gone_is_waited_for(track: Track) -> None:
    """A dead letter that was sealed with a key that is no longer there keeps its partition, and says which setting it needs."""
    await track.make()
    await track.send(track.bad())
    async with working(track):
        await track.at(1)
    await track.world.connection.execute(
        "INSERT INTO outbox (command_topic, command_partition, command_offset, kind, value, headers, sealed)"
        " VALUES ($1, 0, 0, 'dead-letter', $2, '[]', true)",
        track.world.topic,
        b"gone\0" + bytes(40),
    )
    async with working(track) as worker:
        await worker.waits_for("sealing")
        [line] = track.said("lane.waiting")
        assert "REGISTRATION_SEALING_KEYS" in line["reason"]
        await track.world.connection.execute("DELETE FROM outbox WHERE command_topic = $1", track.world.topic)
        await worker.waits_for(None)
