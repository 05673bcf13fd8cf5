"""Killed, frozen, cut off: nothing is lost and nothing doubled, and nobody has to help."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fault.cluster import SESSION_S, Cluster, cluster
from worker.operate.catalogue import AHEAD_S

KILLS = int(os.environ.get("FAULT_KILLS", "6"))
RECOVERY_S = SESSION_S + 5
RESTART_RECOVERY_S = 10.0


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Cluster]:
    """
    Servers for all of these tests: each one adds to the history that the next one's `verify` checks too.

    New rules are published at once, and hold a minute later, in the middle of what these tests break; one worker sleeps
    from before that on.
    """
    async with cluster() as running:
        sleeper = running.start_worker()
        await running.send(100)
        await running.done()
        sleeper.signal(signal.SIGSTOP)
        running.workers.remove(sleeper)
        running.sleeper = sleeper
        try:
            await running.publish_rules("day: 5000, month: 25000", "day: 4000, month: 25000")
            yield running
        finally:
            sleeper.kill()


@pytest.fixture
async def broken(shared: Cluster) -> AsyncIterator[Cluster]:
    """A cluster to break, without workers."""
    try:
        yield shared
    finally:
        shared.end_workers()


@asynccontextmanager
async def load(running: Cluster) -> AsyncIterator[None]:
    """Send commands for the length of a block."""
    stop = asyncio.Event()
    sending = asyncio.create_task(running.stream(stop))
    try:
        yield
    finally:
        stop.set()
        await sending


async def test_workers_killed_in_mid_stream_lose_and_double_nothing(broken: Cluster) -> None:
    """Two run; one after the other dies at a random moment, and another takes its place."""
    chance = random.Random(20261124)
    broken.start_worker()
    broken.start_worker()
    async with load(broken):
        await broken.progress()
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.1, 0.9))
            broken.kill_worker(chance.choice(broken.workers))
            broken.start_worker()
            await broken.progress()
    await broken.done()

    report = await broken.verify()
    assert report["counts"]["accepted"] > 0


async def test_work_goes_on_within_the_session_and_five_seconds_after_a_kill(broken: Cluster) -> None:
    """The group notices a dead worker by its silence; the other one takes its partitions."""
    victim = broken.start_worker()
    await broken.send(200)
    await broken.done()
    broken.start_worker()
    await broken.eventually(lambda: _said(victim.output(), "consumer.joined", 2), "the two share the partitions")
    broken.kill_worker(victim)
    await broken.send(200)
    took = await broken.done(within_s=30)

    assert took <= RECOVERY_S
    await broken.verify()


async def test_a_frozen_worker_is_fenced_when_it_wakes(broken: Cluster) -> None:
    """It slept for longer than its session: what it then does is refused by the database, and it joins anew."""
    sleeper = broken.start_worker()
    async with load(broken):
        await broken.progress()
        sleeper.signal(signal.SIGSTOP)
        other = broken.start_worker()
        await broken.progress(100)
        sleeper.signal(signal.SIGCONT)
        await broken.eventually(lambda: _said(sleeper.output(), "consumer.joined", 2), "the sleeper joins anew")
        await broken.progress(100)
    await broken.done()

    assert other.running
    assert sleeper.running
    await broken.verify()


async def test_a_change_of_rules_holds_from_its_moment_also_for_a_worker_that_slept_over_it(broken: Cluster) -> None:
    """One worker goes on through the moment, one wakes after it with the rules of before: each record has its own version."""
    sleeper = broken.sleeper
    assert sleeper is not None
    broken.start_worker()
    async with load(broken):
        await broken.progress()
        await broken.eventually(broken.new_rules_hold, "the new rules hold", AHEAD_S + 5)
        broken.workers.append(sleeper)
        sleeper.signal(signal.SIGCONT)
        await broken.eventually(lambda: _said(sleeper.output(), "consumer.joined", 2), "the sleeper joins anew")
        await broken.progress(200)
    await broken.done()

    assert sleeper.output().count('"event": "batch.stored"') > 1
    assert set(await broken.versions()) == {1, 2}
    await broken.verify()


async def test_postgres_killed_and_started_is_only_a_pause(broken: Cluster) -> None:
    """The worker stays in its group, waits, and goes on by itself."""
    broken.start_worker()
    async with load(broken):
        await broken.progress()
        for _ in range(2):
            await broken.servers.postgres.kill()
            await asyncio.sleep(1)
            await broken.servers.postgres.start()
            took = await broken.progress()
            assert took <= RESTART_RECOVERY_S
    await broken.done()

    await broken.verify()


async def test_kafka_killed_and_started_is_only_a_pause(broken: Cluster) -> None:
    """What was committed and not yet published is in the outbox, and is published when the broker is back."""
    broken.start_worker()
    async with load(broken):
        await broken.progress()
        await broken.servers.kafka.kill()
        await asyncio.sleep(1)
        await broken.servers.kafka.start()
        await broken.send(100)
        await broken.progress(100, within_s=30)
    await broken.done()

    await broken.verify()


async def test_sigterm_finishes_what_is_in_flight_and_ends_with_zero(broken: Cluster) -> None:
    """A rolling deploy leaves no message in the outbox."""
    worker = broken.start_worker()
    async with load(broken):
        await broken.progress()
        worker.signal(signal.SIGTERM)
        ended = await worker.ended(20)
    broken.workers.remove(worker)

    assert ended
    assert worker.exit_code == 0
    _, rows = await broken._progress()
    assert rows == 0
    broken.start_worker()
    await broken.done()
    await broken.verify()


async def _said(output: str, event: str, times: int) -> bool:
    return output.count(f'"event": "{event}"') >= times
