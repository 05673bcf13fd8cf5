"""Workers that come, go and freeze under load."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from functools import partial

import pytest

from tests.fault.cluster import Cluster, cluster_on
from tests.fault.conftest import Recovered
from tests.fault.network import traffic
from tests.fault.test_faults import RECOVERY_S
from worker.dev.embedded import embedded_stack
from worker.dev.process import Child

FROZEN_S = 20
FEW, MANY = 2, 8


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Cluster]:
    """Servers whose topic has a partition for each of many workers."""
    async with embedded_stack(None) as servers, cluster_on(servers, partitions=MANY) as running:
        yield running


@pytest.fixture
async def cluster(shared: Cluster) -> AsyncIterator[Cluster]:
    """A cluster to break, without workers."""
    try:
        yield shared
    finally:
        shared.end_workers()


async def test_two_workers_become_eight_and_two_again_under_load(cluster: Cluster, recovered: Recovered) -> None:
    """Each comes and goes while the others work; of those that go, half are told to and half are killed."""
    for _ in range(FEW):
        cluster.start_worker()
    async with traffic(cluster):
        await cluster.progress()
        while len(cluster.workers) < MANY:
            child = cluster.start_worker()
            await cluster.eventually(partial(_has_joined, child), "it has joined")
            recovered(f"{len(cluster.workers)} workers, one more", await cluster.progress(100), RECOVERY_S)
        while len(cluster.workers) > FEW:
            child = cluster.workers[0]
            if len(cluster.workers) % 2:
                cluster.kill_worker(child)
            else:
                child.signal(signal.SIGTERM)
                cluster.workers.remove(child)
                assert await child.ended(20)
                assert child.exit_code == 0
            recovered(f"{len(cluster.workers)} workers, one less", await cluster.progress(100), RECOVERY_S)
    await cluster.done()

    await cluster.verify()


@pytest.mark.parametrize("others", [0, 1])
async def test_a_worker_frozen_for_long_goes_on_when_it_wakes(cluster: Cluster, recovered: Recovered, others: int) -> None:
    """It was counted out long ago, and may sleep in the middle of a transaction: whoever else is there does its work."""
    sleeper = cluster.start_worker()
    async with traffic(cluster):
        await cluster.progress()
        for _ in range(others):
            await cluster.eventually(partial(_has_joined, cluster.start_worker()), "it has joined")
        sleeper.signal(signal.SIGSTOP)
        waking = asyncio.create_task(asyncio.sleep(FROZEN_S))
        if others:
            recovered("a worker frozen, another one there", await cluster.progress(500), RECOVERY_S)
        await waking
        joined = sleeper.output().count("consumer.joined")
        sleeper.signal(signal.SIGCONT)
        took = await cluster.progress(500)
        await cluster.eventually(partial(_joins_anew, sleeper, joined), "the sleeper joins anew")
        recovered(f"a worker woke after {FROZEN_S} s, {others} others there", took, RECOVERY_S)
    await cluster.done()

    assert sleeper.running
    await cluster.verify()


async def _has_joined(child: Child) -> bool:
    return "consumer.joined" in child.output()


async def _joins_anew(child: Child, before: int) -> bool:
    return child.output().count("consumer.joined") > before
