"""One run of one contender: fresh database and topics, started and warm, then the gate opens; afterwards all is counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import asyncpg

from benchmarks import sampled
from benchmarks.contenders import PARTITIONS, Contender
from benchmarks.frozen.backlog import commands
from benchmarks.frozen.contest import GATE, Contest
from benchmarks.mixed import Outcomes, mixed, outcomes
from benchmarks.preload import Preload
from benchmarks.processes import Processes, registration, wait, worker_environment
from benchmarks.servers import FailedRunError, Reader, Servers
from worker.dev.process import Child

READY_WITHIN_S: Final = 45.0
DONE_WITHIN_S: Final = 240.0
SETTLE_S: Final = 0.3
FROZEN_TEMPLATE: Final = "benchmark_frozen"
WORKER_TEMPLATE: Final = "benchmark_worker"
WORKER_TOPICS: Final = (
    "customer.registration.commands.v1",
    "customer.registration.events.v1",
    "customer.registration.dead-letters.v1",
)
LIMIT_CONNECTIONS: Final = 2
Cpu: TypeAlias = tuple[float, float, float]
"""Processor time in seconds: of the contender, of PostgreSQL, of Kafka."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is run: who, in how many processes, with how many records; the worker with more settings, and looked at by `sampled`."""

    contender: Contender
    processes: int
    records: int
    settings: Mapping[str, str] = field(default_factory=dict)
    is_sampled: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What one run showed. Times in seconds; processor time is that between the gate and the last record."""

    entry: Entry
    duration_s: float
    python_s: float
    postgres_s: float
    kafka_s: float
    samples: Mapping[str, int] = field(default_factory=dict)
    """By stage, where it was sampled."""

    @property
    def per_s(self) -> float:
        """Registrations a second."""
        return self.entry.records / self.duration_s

    def cpu_us(self) -> dict[str, float]:
        """Return the processor time for one registration in µs, by group of processes."""
        spent = {"python": self.python_s, "postgres": self.postgres_s, "kafka": self.kafka_s}
        return {group: seconds / self.entry.records * 1e6 for group, seconds in spent.items()}


async def run(servers: Servers, entry: Entry) -> Result:
    """
    Measure one contender once.

    Raises:
        FailedRunError: it did not store and tell every registration, each once.
    """
    name = f"run_{servers.number()}"
    worker = entry.contender.is_worker
    try:
        await servers.make_database(name, WORKER_TEMPLATE if worker else FROZEN_TEMPLATE)
        if not entry.contender.consumes:
            return await _run_from_memory(servers, entry, name)
        return await _run_from_topic(servers, entry, name)
    finally:
        with suppress(asyncpg.PostgresError, OSError):
            await servers.drop_database(name)


async def _run_from_topic(servers: Servers, entry: Entry, name: str) -> Result:
    """Measure one that consumes: from the commit that shows the backlog to the last event's append."""
    warm, records = entry.contender.warm, entry.records
    async with AsyncExitStack() as ending:
        topics = await _topics(servers, entry, name)
        ending.push_async_callback(servers.drop_topics, topics)
        reader = await ending.enter_async_context(servers.reader())
        preload = await ending.enter_async_context(Preload(servers.kafka, topics[0], PARTITIONS))
        make = mixed if entry.contender.is_mixed else commands
        await preload.load(make(0, warm), make(warm, records))
        processes = Processes()
        ending.callback(processes.kill)
        _start(servers, entry, name, topics, processes)
        group = name if entry.contender.is_worker else topics[0]

        async def assigned() -> bool:
            return await servers.members(group) == entry.processes

        async def told(count: int) -> bool:
            return await reader.count(topics[1]) >= _expected(entry, count).registrations

        await wait(assigned, READY_WITHIN_S, processes, "partitions assigned")
        await preload.show_warm()
        await wait(lambda: told(warm), READY_WITHIN_S, processes, "the first records done")
        await servers.execute("CHECKPOINT")
        await asyncio.sleep(SETTLE_S)
        before = _cpu(servers, processes)
        if entry.is_sampled:
            processes.signal(sampled.BEGIN)
        began_at = await preload.show_backlog()
        await wait(lambda: told(warm + records), DONE_WITHIN_S, processes, "all records done")
        spent = _spent(before, _cpu(servers, processes))
        if entry.is_sampled:
            processes.signal(sampled.END)
        await processes.stop()
        expected = _expected(entry, warm + records)
        ended_at = await _check_events(reader, topics[1], expected.registrations)
        await _check_rows(servers, entry, name, expected)
        samples = sampled.read(_samples_of(servers, name)) if entry.is_sampled else {}
        return Result(entry, ended_at - began_at, *spent, samples=samples)


async def _run_from_memory(servers: Servers, entry: Entry, name: str) -> Result:
    """Measure the limit: from the gate's opening to the last commit."""
    processes = Processes()
    gate = await asyncpg.connect(servers.url(name))
    try:
        await gate.execute("SELECT pg_advisory_lock($1)", GATE)
        children = [_start_limit(servers, entry, name, index, processes) for index in range(entry.processes)]

        async def waiting() -> bool:
            count = await gate.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            return bool(count == entry.processes)

        async def ended() -> bool:
            return all("ended_at" in child.output() for child in children)

        await wait(waiting, READY_WITHIN_S, processes, "rows made")
        await gate.execute("CHECKPOINT")
        await asyncio.sleep(SETTLE_S)
        before = _cpu(servers, processes)
        began_at = time.time()
        await gate.execute("SELECT pg_advisory_unlock($1)", GATE)
        await wait(ended, DONE_WITHIN_S, processes, "all rows stored")
        spent = _spent(before, _cpu(servers, processes))
        ended_at = max(json.loads(child.output())["ended_at"] for child in children)
    finally:
        processes.kill()
        gate.terminate()
    await _check_rows(servers, entry, name, _expected(entry, entry.contender.warm + entry.records))
    return Result(entry, ended_at - began_at, *spent)


async def _topics(servers: Servers, entry: Entry, name: str) -> list[str]:
    """Make the topics of a run: the worker's have fixed names and are made by its own command."""
    if not entry.contender.is_worker:
        topics = [f"{name}.commands", f"{name}.events"]
        await servers.make_topics(topics)
        return topics
    await servers.drop_topics(WORKER_TOPICS)
    await registration(servers, name, "migrate")
    return list(WORKER_TOPICS)


def _start(servers: Servers, entry: Entry, name: str, topics: list[str], processes: Processes) -> None:
    module = entry.contender.module
    if module is None:
        program = ["benchmarks.sampled", str(_samples_of(servers, name))] if entry.is_sampled else ["worker"]
        arguments = [*program, "worker", "--processes", str(entry.processes)]
        processes.start(arguments, {**worker_environment(servers, name), **entry.settings}, servers.log(arguments))
        return
    contest = Contest(servers.kafka, servers.url(name), topics[0], topics[1])
    for _ in range(entry.processes):
        processes.start([module], contest.environment(), servers.log([module]))


def _samples_of(servers: Servers, name: str) -> Path:
    return servers.folder / f"{name}.samples.json"


def _start_limit(servers: Servers, entry: Entry, name: str, index: int, processes: Processes) -> Child:
    """Start one of the limit's processes; together they always have the same number of connections."""
    warm, records = entry.contender.warm // entry.processes, entry.records // entry.processes
    contest = Contest(
        servers.kafka,
        servers.url(name),
        "limit.commands",
        "limit.events",
        first=index * (warm + records),
        warm=warm,
        records=records,
        process=index,
        connections=LIMIT_CONNECTIONS // entry.processes,
    )
    arguments = [str(entry.contender.module)]
    return processes.start(arguments, contest.environment(), servers.log(arguments))


def _cpu(servers: Servers, processes: Processes) -> Cpu:
    return processes.cpu_s(), servers.postgres_cpu_s(), servers.kafka_cpu_s()


def _spent(before: Cpu, now: Cpu) -> Cpu:
    return now[0] - before[0], now[1] - before[1], now[2] - before[2]


async def _check_events(reader: Reader, topic: str, expected: int) -> float:
    """Read every event, see that each is there once, and return when the last one was appended, in seconds since 1970."""
    events = await reader.records(topic)
    facts = {dict(event.headers)["ce_id"] for event in events}
    if not len(events) == len(facts) == expected:
        msg = f"{len(events)} events of {len(facts)} registrations were told instead of {expected}"
        raise FailedRunError(msg)
    return float(max(event.timestamp for event in events)) / 1000


async def _check_rows(servers: Servers, entry: Entry, name: str, expected: Outcomes) -> None:
    """See that every table has the rows that it must; the worker's outbox is empty, and its position at the end."""
    counts = dict.fromkeys(("customers", "persons", "users", "decisions"), expected.customers)
    counts["registrations"] = expected.registrations
    if entry.contender.consumes:
        counts["outbox"] = 0 if entry.contender.is_worker else expected.registrations
    for table, count in counts.items():
        found = await servers.fetchval(name, f"SELECT count(*) FROM {table}")
        if found != count:
            msg = f"{table} has {found} rows instead of {count}"
            raise FailedRunError(msg)
    if entry.contender.is_worker:
        moved = await servers.fetchval(name, "SELECT sum(next_offset) FROM kafka_offsets")
        if moved < expected.records:
            msg = f"kafka_offsets stands at {moved} records instead of {expected.records}"
            raise FailedRunError(msg)


def _expected(entry: Entry, count: int) -> Outcomes:
    return outcomes(0, count) if entry.contender.is_mixed else Outcomes(count, count, count)
