"""Latency by load: commands arrive at a steady pace, each at its own moment, whatever became of those before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from statistics import quantiles
from typing import Any, Final

import asyncpg

from benchmarks.frozen.backlog import Command, commands
from benchmarks.processes import Processes, registration, wait, worker_environment
from benchmarks.run import READY_WITHIN_S, WORKER_TEMPLATE, WORKER_TOPICS
from benchmarks.servers import Servers
from worker.kafka import OutMessage, Producer

TICK_S: Final = 0.01
WARM_RECORDS: Final = 2000
DONE_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a pace of arrivals showed: from the command's to the event's LogAppendTime, in milliseconds."""

    arrivals_per_s: float
    median_ms: float
    p99_ms: float
    slowest_ms: float

    def document(self) -> dict[str, float]:
        """Return it for the JSON line."""
        figures = {"median_ms": self.median_ms, "p99_ms": self.p99_ms, "slowest_ms": self.slowest_ms}
        return {"arrivals_per_s": round(self.arrivals_per_s), **{name: round(value, 1) for name, value in figures.items()}}


async def loads(servers: Servers, paces_per_s: Sequence[float], seconds: float, processes: int) -> list[Loaded]:
    """
    Let commands arrive at several paces, one after the other, at one running worker.

    Args:
        servers: prepared for the worker.
        paces_per_s: commands a second; above what the worker can do, the latency is that of a queue that grows.
        seconds: how long each pace is kept.
        processes: of the worker.
    Raises:
        FailedRunError: the worker did not do them.
    """
    name = f"load_{servers.number()}"
    async with AsyncExitStack() as ending:
        await servers.make_database(name, WORKER_TEMPLATE)
        ending.push_async_callback(_drop, servers, name)
        await servers.drop_topics(WORKER_TOPICS)
        await registration(servers, name, "migrate")
        ending.push_async_callback(servers.drop_topics, WORKER_TOPICS)
        running = Processes()
        ending.callback(running.kill)
        arguments = ["worker", "worker", "--processes", str(processes)]
        running.start(arguments, worker_environment(servers, name), servers.log(arguments))
        reader = await ending.enter_async_context(servers.reader())
        producer = Producer(servers.kafka, timeout_s=30, client_id="benchmark-load")
        ending.push_async_callback(producer.stop)
        sent, found = 0, []

        async def done() -> bool:
            return await reader.count(WORKER_TOPICS[1]) >= sent

        async def assigned() -> bool:
            return await servers.members(name) == processes

        await wait(assigned, READY_WITHIN_S, running, "partitions assigned")
        for pace_per_s, count in [(0.0, WARM_RECORDS), *((pace, int(pace * seconds)) for pace in paces_per_s)]:
            arriving = [_message(each) for each in commands(sent, count)]
            sent += count
            await _arrive(producer, arriving, pace_per_s)
            await wait(done, DONE_WITHIN_S, running, "all records done")
            found.append(count)
        times = _times(await reader.records(WORKER_TOPICS[1]))
        await running.stop()
    each = iter(times)
    list(islice(each, found[0]))
    return [_loaded(pace, list(islice(each, count))) for pace, count in zip(paces_per_s, found[1:], strict=True)]


async def _arrive(producer: Producer, messages: Sequence[OutMessage], pace_per_s: float) -> None:
    """Send what is due each hundredth of a second; without a pace, all at once."""
    began, at, sending = time.monotonic(), 0, set()
    while at < len(messages):
        due = int((time.monotonic() - began) * pace_per_s) + 1 if pace_per_s else len(messages)
        if due > at:
            task = asyncio.create_task(producer.send_all(messages[at:due]))
            sending.add(task)
            at = due
        await asyncio.sleep(TICK_S)
    await asyncio.gather(*sending)


def _message(command: Command) -> OutMessage:
    return OutMessage(WORKER_TOPICS[0], command.key, command.value, command.headers)


def _times(events: Sequence[Any]) -> list[float]:
    """Return in milliseconds how long each command waited for its event, in the order in which the commands came."""
    pairs = []
    for event in events:
        came_ms = datetime.fromisoformat(dict(event.headers)["ce_time"].decode()).timestamp() * 1000
        pairs.append((came_ms, event.timestamp - came_ms))
    return [took_ms for _, took_ms in sorted(pairs)]


def _loaded(pace_per_s: float, times_ms: list[float]) -> Loaded:
    cuts = quantiles(times_ms, n=100)
    return Loaded(pace_per_s, cuts[49], cuts[98], max(times_ms))


async def _drop(servers: Servers, name: str) -> None:
    with suppress(asyncpg.PostgresError, OSError):
        await servers.drop_database(name)
