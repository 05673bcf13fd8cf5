"""How much a lane holds in memory: records are counted, and weighed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from tests.boundary.conditions import until
from tests.boundary.tracks import Track, blocked, working
from worker.lane import BATCH_MAX_BYTES, QUEUE_MAX_BYTES, Lane
from worker.postgres import connect

LARGE_BYTES: Final = 1_000_000
"""With its headers as large as the topic takes."""
COUNT: Final = 20


async def test_what_a_lane_holds_is_bounded_in_bytes(track: Track) -> None:
    """A thousand of the largest commands would be a gigabyte: it takes no more than fit, and its batches stay small."""
    await track.make()
    await track.send(track.command())
    holder = await connect(track.world.settings.database_url.get_secret_value(), "tests")
    try:
        async with working(track, batch_goal_s=60) as worker:  # by bytes alone, however long the lock is waited for
            await track.at(1)
            lane = worker.lane()
            await holder.execute("BEGIN")
            await holder.execute("SELECT FROM kafka_offsets WHERE topic = $1 FOR UPDATE", track.world.topic)
            await track.send(track.command())
            await until(lambda: blocked(track.world), "a batch waits, and those behind it queue up")
            for _ in range(COUNT):
                small = track.command()
                await track.send(replace(small, value=(small.value or b"").ljust(LARGE_BYTES)))
            await until(lambda: full(lane), "the lane has no room")
            queued, queued_bytes = len(lane._queue), lane._queued_bytes
            await holder.execute("COMMIT")
            await track.at(2 + COUNT)
            await until(lambda: empty(lane), "the lane has room again")

        assert queued == math.ceil(QUEUE_MAX_BYTES / LARGE_BYTES)
        assert QUEUE_MAX_BYTES <= queued_bytes < QUEUE_MAX_BYTES + LARGE_BYTES + 100
        sizes = [line["records"] for line in track.said("batch.stored")]
        assert max(sizes) == math.ceil(BATCH_MAX_BYTES / LARGE_BYTES)
        assert sum(sizes) == 2 + COUNT
        assert len(await track.outcomes()) == 2 + COUNT
    finally:
        await holder.close()


async def full(lane: Lane) -> bool:
    """Say whether a lane takes nothing more."""
    return not lane.has_room


async def empty(lane: Lane) -> bool:
    """Say whether a lane counts nothing that it does not hold."""
    return lane.has_room and lane._queued_bytes == 0
