"""Scenes of a worker: each leads it past other awaits, with something in flight where it can be."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import psutil

from schemas.commands import COMMANDS_TOPIC
from tests import commands
from tests.boundary import topics
from tests.conftest import settings_of
from tests.fault.arena import Arena, Victim
from tests.fault.launcher import Orders
from tests.fault.scene import NOWHERE, PEOPLE, WITHIN_S, Scene, told, whole
from worker.dev.process import until
from worker.kafka import Partition
from worker.operate import partitions

CHILDREN_END_WITHIN_S: Final = 20.0


def _worker(*arguments: str, **settings: object) -> Callable[[Arena], Awaitable[Orders]]:
    """Return how to order a worker that finds commands waiting."""

    async def orders(arena: Arena) -> Orders:
        await arena.send(PEOPLE)
        return Orders(("worker", *arguments), {f"REGISTRATION_{name.upper()}": str(value) for name, value in settings.items()})

    return orders


async def _idle(arena: Arena) -> None:
    """Wait until all is done, and what was published is deleted."""
    await arena.done(WITHIN_S)


async def _busy(arena: Arena, victim: Victim) -> None:
    """Wait until a process has taken a part of many more commands."""
    before = victim.told("batch.stored")
    await arena.send(PEOPLE)
    await told(victim, "batch.stored", before + 2)


async def _plain(arena: Arena, victim: Victim) -> None:
    """Take what waits, come to rest, take more, and be told to end in the middle of it."""
    await told(victim, "batch.stored")
    await _idle(arena)
    await asyncio.sleep(0.5)  # long enough for the looks of lanes at rest, which nothing tells
    await _busy(arena, victim)


async def _markers(arena: Arena, victim: Victim) -> None:
    """Pass what is no record: the rest of a transaction that was aborted."""
    await told(victim, "batch.stored")
    await _idle(arena)
    gone = commands.message(b"of a transaction that is aborted")
    await whole(topics.transact(arena.cluster.servers.kafka.bootstrap, COMMANDS_TOPIC, [gone], commit=False))
    await _idle(arena)


async def _fenced(arena: Arena, victim: Victim) -> None:
    """Lose every partition to another owner; claim it back; lose it again, and join anew."""
    await told(victim, "batch.stored")
    for event in ("lane.fenced", "consumer.rejoining"):
        await arena.send(PEOPLE)
        await arena.connection.execute("UPDATE kafka_offsets SET owner = gen_random_uuid(), claimed_at = clock_timestamp()")
        before = victim.told("lane.claimed")
        await told(victim, event)
        await told(victim, "lane.claimed", before + 1)
    await _busy(arena, victim)


async def _shared(arena: Arena, victim: Victim) -> None:
    """Give partitions to another worker that joins, and take them back when that one has died."""
    await told(victim, "batch.stored")
    group = {"REGISTRATION_GROUP": victim.orders.environment["REGISTRATION_GROUP"]}
    with arena.started(Orders(("worker",), group)) as other:
        await arena.send(PEOPLE)
        await told(victim, "consumer.joined", 2)
        await told(other, "consumer.joined")
    await arena.send(PEOPLE)
    await told(victim, "consumer.joined", 3)
    await _busy(arena, victim)


async def _cut(arena: Arena, victim: Victim) -> None:
    """Lose the connections to the database, again and again, in the middle of batches."""
    await told(victim, "batch.stored")
    for _ in range(3):
        before = victim.told("lane.claimed")
        await arena.send(PEOPLE)
        await arena.connection.execute(_CUT)
        await until(lambda before=before: victim.told("lane.claimed") > before, 3)  # type: ignore[misc]
    await _busy(arena, victim)


_CUT: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'registration-worker'"


async def _letters(arena: Arena, victim: Victim) -> None:
    """Meet nothing but dead letters on one partition, until an operator says go on."""
    await told(victim, "lane.claimed")
    await arena.put([(None, commands.message(b"not a command")) for _ in range(12)])
    await told(victim, "breaker.opened")
    await asyncio.sleep(0.3)  # a lane that stands still looks, which nothing tells
    await _resume(arena)
    await told(victim, "breaker.closed")
    await _busy(arena, victim)


async def _paused(arena: Arena, victim: Victim) -> None:
    """Have Kafka stand still while messages are on their way, and lose every partition meanwhile."""
    await told(victim, "batch.stored")
    kafka = arena.cluster.servers.kafka.pid
    await _busy(arena, victim)
    os.kill(kafka, signal.SIGSTOP)
    try:
        await asyncio.sleep(0.6)  # lanes look while they wait, which nothing tells
        await arena.connection.execute("UPDATE kafka_offsets SET owner = gen_random_uuid(), claimed_at = clock_timestamp()")
        await told(victim, "lane.fenced")
        await asyncio.sleep(0.3)  # they wait for what is on its way
    finally:
        os.kill(kafka, signal.SIGCONT)
    await _busy(arena, victim)


async def _resume(arena: Arena, *, from_log_start: bool = False) -> None:
    settings = settings_of(arena.cluster.servers, arena.cluster.servers.postgres.url)
    await whole(partitions.resume(settings, None, from_log_start=from_log_start))


async def _slow(arena: Arena, victim: Victim) -> None:
    """Meet a database that takes longer than a batch may, also at the end."""
    await told(victim, "batch.stored")
    await arena.send(PEOPLE)
    await arena.connection.execute("INSERT INTO fault_delay VALUES (1.2)")
    await until(lambda: victim.told("batch.halved") > 0 and victim.told("lane.waiting") > 0, WITHIN_S)
    victim.signal(signal.SIGTERM)
    await victim.ended(WITHIN_S)


async def _quick_again(arena: Arena, _victim: Victim) -> None:
    """Let the database be as quick as it was."""
    await arena.connection.execute("DELETE FROM fault_delay")


async def _anew(arena: Arena, victim: Victim) -> None:
    """Find the position beyond the log, then another record where the last one was: each time it begins anew."""
    await told(victim, "batch.stored")
    await _idle(arena)
    place = "WHERE topic = $1 AND partition = $2"
    before = victim.told("lane.topic_anew")
    await arena.connection.execute(f"UPDATE kafka_offsets SET next_offset = next_offset + 1000000 {place}", COMMANDS_TOPIC, 1)
    await told(victim, "lane.topic_anew", before + 1)
    await _idle(arena)
    await arena.connection.execute(
        f"UPDATE kafka_offsets SET last_digest = '\\x00', next_offset = next_offset - 1 {place}", COMMANDS_TOPIC, 2
    )
    await told(victim, "lane.topic_anew", before + 2)
    await _busy(arena, victim)


async def _lost(arena: Arena, victim: Victim) -> None:
    """Find the position before the log's start, and wait for an operator."""
    await told(victim, "batch.stored")
    await _idle(arena)
    end = (await arena.positions())[3]
    await whole(topics.forget_before(arena.cluster.servers.kafka.bootstrap, Partition(COMMANDS_TOPIC, 3), end))
    arena.starts.add(end)
    arena.give_up(3, end)
    await arena.connection.execute(
        "UPDATE kafka_offsets SET next_offset = $3 WHERE topic = $1 AND partition = $2", COMMANDS_TOPIC, 3, end - 1
    )
    await told(victim, "lane.input_lost")
    await arena.send(PEOPLE)
    await asyncio.sleep(0.5)  # it looks for an order, which nothing tells
    await _resume(arena, from_log_start=True)
    await told(victim, "lane.input_given_up")
    await _busy(arena, victim)


async def _found_again(arena: Arena, _victim: Victim) -> None:
    """Give up what the log has lost, where nobody has yet."""
    if (await arena.positions())[3] < max(arena.starts):
        await _resume(arena, from_log_start=True)


async def _supervised(arena: Arena, victim: Victim) -> None:
    """Run two workers; one of them dies."""
    children = psutil.Process(victim.pid).children
    assert await until(lambda: len(children()) == 2, WITHIN_S)
    await told(victim, "batch.stored")
    children()[0].kill()
    await told(victim, "process.ended")
    assert await until(lambda: len(children()) == 2, WITHIN_S)
    await _busy(arena, victim)


async def _alone(_arena: Arena, victim: Victim) -> None:
    """See that no worker outlives its supervisor for long."""
    group = victim.orders.environment["REGISTRATION_GROUP"]
    gone = await until(lambda: not _of_group(group), CHILDREN_END_WITHIN_S)
    assert gone, f"workers outlived their supervisor: {_of_group(group)}"


def _of_group(group: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "worker" in process.cmdline() and process.environ().get("REGISTRATION_GROUP") == group:
                found.append(process)
    return found


async def _waiting(_arena: Arena, victim: Victim) -> None:
    """Wait for a server that is not there."""
    await told(victim, "lane.waiting")
    await asyncio.sleep(1)  # it tries again, without a word


OF_WORKER: Final = (
    Scene("worker", _worker(), _plain),
    Scene("markers", _worker(), _markers),
    Scene("cut", _worker(), _cut),
    Scene("fenced", _worker(), _fenced),
    Scene("shared", _worker(), _shared),
    Scene("letters", _worker(breaker_run=5, breaker_pause_s=2, breaker_pause_max_s=2), _letters),
    Scene("slow", _worker(batch_timeout_s=1, drain_timeout_s=0.3), _slow, _quick_again),
    Scene("paused", _worker(), _paused),
    Scene("anew", _worker(batch_max_records=500), _anew),
    Scene("lost", _worker(), _lost, _found_again),
    Scene("supervised", _worker("--processes", "2"), _supervised, _alone),
    Scene("no-kafka", _worker(kafka_bootstrap=NOWHERE), _waiting),
    Scene("no-database", _worker(database_url=f"postgresql://{NOWHERE}/none"), _waiting),
)
"""The quick ones first: the first that leads to a point is chosen for it."""
