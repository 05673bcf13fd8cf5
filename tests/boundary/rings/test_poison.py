"""Poison: whatever lies on a partition, good records on the others, and those between the bad ones, go on; nothing is dropped."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest

from tests import commands
from tests.boundary import topics
from tests.boundary.conditions import until
from tests.boundary.tracks import Track, Worker, working
from worker.kafka import MESSAGE_MAX_BYTES, OutMessage

GOOD = 2_000
SHARE = 0.5
WITHIN_S = 120.0
BREAKER_RUN = 100
HEADROOM_BYTES = 2_048
"""What a record of the largest size leaves for its key, headers and frame."""


@dataclass
class Paced:
    """A partition of good records, and when its position moved for the first and for the last time."""

    track: Track
    end: int
    partition: int = 0

    async def per_s(self) -> float:
        """Wait until the partition is done; return the records a second between the first move and the last."""
        first = await until(self._position, "the first batch", WITHIN_S)
        began = time.monotonic()

        async def is_done() -> bool:
            return await self._position() == self.end

        await until(is_done, "the partition done", WITHIN_S)
        return (self.end - first) / (time.monotonic() - began)

    async def _position(self) -> int:
        row = await self.track.row(self.partition)
        return int(row["next_offset"]) if row else 0


def garbage(topic: str, count: int) -> list[OutMessage]:
    """Return records that can never be processed, of every kind, in turn."""
    data = commands.data(commands.email_of("poison"))
    kinds: list[bytes | dict[str, object] | None] = [
        b"",
        None,
        b"{",
        os.urandom(2_000),
        b"[" * 2_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
        {**data, "tenantId": "nobody"},
        {**data, "password": "plain"},
        {**data, "registrationId": "none"},
    ]
    return [commands.message(kinds[number % len(kinds)], topic) for number in range(count)]


async def paused(worker: Worker, partition: int) -> bool:
    """Say whether a partition's breaker is open."""
    return f"partition {partition}: breaker_open" in worker.consumer.reasons()


def goods(track: Track, count: int = GOOD) -> list[OutMessage]:
    """Return good commands, each of another person."""
    return [track.command(customer=commands.customer(commands.email_of(number))) for number in range(count)]


def mixed(good: Sequence[OutMessage], bad: Sequence[OutMessage]) -> list[OutMessage]:
    """Return two good ones and a bad one, and so on."""
    pairs = zip(good[::2], good[1::2], bad, strict=True)
    return [message for pair in pairs for message in pair]


@pytest.fixture
async def normal(track: Track) -> float:
    """The pace without poison, on the same servers, just before: records a second."""
    own = Track(replace(track.world, topic=f"{track.world.topic}.normal"), track.producer, track.lines)
    await own.make()
    await own.send(*goods(own))
    async with working(own):
        return await Paced(own, GOOD).per_s()


async def test_a_bad_one_in_three_slows_the_good_ones_by_less_than_half(track: Track, normal: float) -> None:
    """On one partition, and every bad one becomes a dead letter."""
    bad = garbage(track.world.topic, GOOD // 2)
    await track.make()
    await track.begin()
    await track.send(*mixed(goods(track), bad))
    async with working(track):
        per_s = await Paced(track, GOOD + len(bad)).per_s() * GOOD / (GOOD + len(bad))
        await track.done()

    assert len(await track.letters()) == len(bad)
    assert await track.customers() == GOOD
    assert per_s >= SHARE * normal, (per_s, normal)


async def test_a_storm_of_garbage_on_other_partitions_slows_the_good_ones_by_less_than_half(track: Track, normal: float) -> None:
    """Small ones, the largest that the broker takes, and compressed ones: each partition pauses after a hundred, and says so."""
    largest = os.urandom(MESSAGE_MAX_BYTES - HEADROOM_BYTES)
    await track.make(4)
    await track.begin()
    await track.send(*goods(track))
    await track.send(*garbage(track.world.topic, 2_000), partition=1)
    for _ in range(13):
        await track.send(*(commands.message(largest, track.world.topic) for _ in range(10)), partition=2)
    async with topics.producing(track.bootstrap, compression_type="gzip") as compressing:
        await asyncio.gather(*[await compressing.send(track.world.topic, bytes(900_000), partition=3) for _ in range(130)])
    async with working(track) as worker:
        per_s = await Paced(track, GOOD).per_s()
        for partition in (1, 2, 3):
            await until(partial(paused, worker, partition), "the partition pauses", WITHIN_S)
        letters = await track.letters()

    assert await track.customers() == GOOD
    assert len(letters) >= 3 * BREAKER_RUN
    assert len(track.said("breaker.opened")) >= 3
    assert per_s >= SHARE * normal, (per_s, normal)


async def test_behind_an_open_breaker_everything_waits_and_nothing_is_dropped(track: Track) -> None:
    """Good ones after five hundred bad ones are done after the trials that get there."""
    bad = garbage(track.world.topic, 500)
    await track.make()
    await track.begin()
    await track.send(*bad, *goods(track, 50))
    async with working(track, breaker_pause_s=0.1, breaker_pause_max_s=0.2):
        await track.at(550)

    assert len(await track.letters()) == len(bad)
    assert await track.customers() == 50
    assert track.said("breaker.opened")
    assert track.said("breaker.closed")
