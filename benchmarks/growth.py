"""Memory over a long backlog: one worker process, sampled from its first batch to its last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks.bench import prepare_worker
from benchmarks.contenders import PARTITIONS
from benchmarks.frozen.backlog import commands
from benchmarks.preload import Preload
from benchmarks.processes import Processes, registration, wait, worker_environment
from benchmarks.run import READY_WITHIN_S, WORKER_TEMPLATE, WORKER_TOPICS
from benchmarks.servers import Servers

DATABASE: Final = "growth"
BACKLOG_RECORDS: Final = 200_000
WARM_RECORDS: Final = 600
SAMPLE_S: Final = 0.25
SLOWEST_PER_S: Final = 500
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory in bytes, sample by sample, and how long the backlog took in seconds."""

    records: int
    duration_s: float
    resident_bytes: list[int]

    @property
    def grown_bytes(self) -> int:
        """What the largest sample has more than the first."""
        return max(self.resident_bytes) - self.resident_bytes[0]

    def document(self) -> dict[str, object]:
        """Return it for the JSON line."""
        return {
            "records": self.records,
            "registrations_per_s": round(self.records / self.duration_s, 1),
            "resident_first_mib": round(self.resident_bytes[0] / MIB, 1),
            "resident_most_mib": round(max(self.resident_bytes) / MIB, 1),
            "resident_last_mib": round(self.resident_bytes[-1] / MIB, 1),
            "growth_mib": round(self.grown_bytes / MIB, 1),
        }


async def growth(servers: Servers, records: int, console: Console) -> Growth:
    """
    Let one worker process work off a backlog.

    Args:
        servers: running.
        records: size of the backlog.
        console: shows the progress.
    Raises:
        FailedRunError: it did not.
    """
    name = DATABASE
    await prepare_worker(servers)
    await servers.make_database(name, WORKER_TEMPLATE)
    await registration(servers, name, "migrate")
    processes = Processes()
    try:
        async with servers.reader() as reader, Preload(servers.kafka, WORKER_TOPICS[0], PARTITIONS) as preload:
            console.print(f"putting {records:,} commands on the topic")
            await preload.load(commands(0, WARM_RECORDS), commands(WARM_RECORDS, records))
            arguments = ["worker", "worker", "--processes", "1"]
            child = processes.start(arguments, worker_environment(servers, name), servers.log(arguments))

            async def told() -> bool:
                return await reader.count(WORKER_TOPICS[1]) >= WARM_RECORDS

            await preload.show_warm()
            await wait(told, READY_WITHIN_S, processes, "the first records done")
            began_at = await preload.show_backlog()
            samples = await _sample(lambda: reader.count(WORKER_TOPICS[1]), records, processes, child.pid, console)
            return Growth(records, time.time() - began_at, samples)
    finally:
        await processes.stop()


async def _sample(count: Callable[[], Awaitable[int]], records: int, processes: Processes, pid: int, console: Console) -> list[int]:
    """Look at a process from the first of its events beyond the warm ones to the last."""
    samples: list[int] = []
    done = 0

    async def ended() -> bool:
        nonlocal done
        done = await count() - WARM_RECORDS
        if done > 0:
            samples.append(psutil.Process(pid).memory_info().rss)
            progress.update(task, completed=done)
            await asyncio.sleep(SAMPLE_S)
        return done >= records

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("one worker process", total=records)
        await wait(ended, records / SLOWEST_PER_S, processes, "the backlog done")
    return samples
