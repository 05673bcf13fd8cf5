"""
The ingress beside what bounds it: how many registrations a second it answers, and how many passwords its core can hash.

The ingress has a core of its own; Kafka, PostgreSQL, the worker and the clients share the others, as they would have
machines of their own. First the hash alone on that core, in as many threads as the ingress has, then the ingress at that
pace, three times over; then at half of it, for the times. Arrivals do not wait for answers: each has its moment, whatever
became of those before.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import httpx
from rich.console import Console

from benchmarks.processes import Processes, wait
from benchmarks.rest import CREATED, PATH, READY_WITHIN_S, Dev, bodies, dev
from benchmarks.servers import FailedRunError, cpu_s
from worker.config import Settings
from worker.dev.logins import INGRESS, login
from worker.dev.process import Child

CORES_MIN: Final = 2
ROUNDS: Final = 3
HASHES_FOR_S: Final = 4.0
LOAD_FOR_S: Final = 12.0
WARM_FOR_S: Final = 20.0
_HASHING: Final = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from worker.ingress.passwords import PHC
threads, for_s = int(sys.argv[1]), float(sys.argv[2])
def hash_until(end):
    done = 0
    while time.monotonic() < end:
        PHC.hash("Lantern-Orchard-41")
        done += 1
    return done
PHC.hash("warm")
with ThreadPoolExecutor(threads) as pool:
    began = time.monotonic()
    print(sum(pool.map(hash_until, [began + for_s] * threads)) / (time.monotonic() - began))
"""


@dataclass(frozen=True, slots=True)
class Paces:
    """
    What was seen, per second and in milliseconds.

    Args:
        hashes_per_s: of the hash alone, before each round of the ingress; the median, as of the next two.
        registrations_per_s: 201s, while as many requests arrive as can be hashed.
        ratio: of these two.
        ratios: of each round.
        refused: requests answered otherwise meanwhile, by status.
        cpu_ms: the ingress's processor time for one of these registrations, its hash and the refusals beside it included.
        half_median_ms: at half the hashes' pace.
        half_p99_ms: likewise.
        half_ratio: of these two.
    """

    hashes_per_s: float
    registrations_per_s: float
    ratio: float
    ratios: list[float]
    refused: dict[str, int]
    cpu_ms: float
    half_median_ms: float
    half_p99_ms: float
    half_ratio: float

    def document(self) -> dict[str, object]:
        """Return it for the JSON line."""
        return asdict(self)


async def ingress(folder: Path, console: Console) -> Paces:
    """
    Measure.

    Args:
        folder: takes the logs.
        console: shows the progress.
    Raises:
        FailedRunError: there is only one core, the stack did not start, or it refused at half the pace.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < CORES_MIN:
        msg = "the ingress needs a core of its own, and there is only one"
        raise FailedRunError(msg)
    with _on(set(cores[1:])):
        async with dev(folder, console, connections=None, more=["--no-worker"]) as stack:
            rounds, half = await _loads(stack, cores[0], folder, console)
    if set(half.statuses) != {CREATED}:
        msg = f"at half the pace: {half.statuses}"
        raise FailedRunError(msg)
    refused = Counter[int]()
    for each in rounds:
        refused.update(each.load.statuses)
    created = refused.pop(CREATED)
    p99 = quantiles(half.took_ms, n=100)[-1]
    return Paces(
        hashes_per_s=round(median(each.hashes_per_s for each in rounds), 1),
        registrations_per_s=round(median(each.created_per_s for each in rounds), 1),
        ratio=round(median(each.ratio for each in rounds), 3),
        ratios=[round(each.ratio, 3) for each in rounds],
        refused={str(status): count for status, count in refused.items()},
        cpu_ms=round(sum(each.spent_s for each in rounds) * 1000 / created, 1),
        half_median_ms=round(median(half.took_ms), 1),
        half_p99_ms=round(p99, 1),
        half_ratio=round(p99 / median(half.took_ms), 2),
    )


async def _loads(stack: Dev, core: int, folder: Path, console: Console) -> tuple[list[_Round], _Load]:
    """Hash alone and then load the ingress as much, time after time; at the end half as much."""
    rounds = []
    async with _processes(stack.environment, folder, {core}) as (door, url):
        stack.client.base_url = httpx.URL(url)
        people = bodies(1_000_000)
        per_s = await _hashes_per_s(core, console)
        await _load(stack.client, people, per_s / 2, int(per_s / 2 * WARM_FOR_S))
        for _ in range(ROUNDS):
            per_s = await _hashes_per_s(core, console)
            console.print(f"{per_s:.0f} requests a second")
            before_s = cpu_s(door.pid)
            load = await _load(stack.client, people, per_s, int(per_s * LOAD_FOR_S))
            rounds.append(_Round(per_s, load, cpu_s(door.pid) - before_s))
        console.print(f"{per_s / 2:.0f} requests a second")
        return rounds, await _load(stack.client, people, per_s / 2, int(per_s / 2 * LOAD_FOR_S))


async def _hashes_per_s(core: int, console: Console) -> float:
    console.print("hashing alone")
    threads = Settings.model_fields["hash_threads"].default
    with _on({core}):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _HASHING, str(threads), str(HASHES_FOR_S), stdout=asyncio.subprocess.PIPE
        )
    said, _ = await process.communicate()
    return float(said)


@contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """Have what starts in a block run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def _processes(environment: Mapping[str, str], folder: Path, cores: set[int]) -> AsyncIterator[tuple[Child, str]]:
    """Run a worker, and on cores of its own an ingress, for the length of a block; return the latter, and where it is."""
    url = await login(environment["REGISTRATION_DATABASE_URL"], INGRESS, "benchmark_ingress")
    processes = Processes()
    try:
        worker = processes.start(["worker", "worker"], environment, folder / "worker.log")
        with _on(cores):
            door = processes.start(["worker", "ingress"], {**environment, "REGISTRATION_DATABASE_URL": url}, folder / "ingress.log")

        async def ready() -> bool:
            return bool(_lines(worker, "consumer.joined")) and bool(_lines(door, "ingress.started"))

        await wait(ready, READY_WITHIN_S, processes, "ingress and worker started")
        yield door, f"http://127.0.0.1:{_lines(door, 'ingress.started')[0]['http_port']}"
    finally:
        await processes.stop()


def _lines(child: Child, event: str) -> list[dict[str, Any]]:
    """Return what a process has logged of an event."""
    lines = [line for line in child.output().splitlines() if f'"{event}"' in line]
    return [json.loads(line) for line in lines]


@dataclass(frozen=True, slots=True)
class _Round:
    """The hash alone, then the ingress at that pace, with its processor time."""

    hashes_per_s: float
    load: _Load
    spent_s: float

    @property
    def created_per_s(self) -> float:
        return self.load.statuses[CREATED] / self.load.took_s

    @property
    def ratio(self) -> float:
        return self.created_per_s / self.hashes_per_s


@dataclass(frozen=True, slots=True)
class _Load:
    statuses: Counter[int]
    took_ms: list[float]
    took_s: float


async def _load(client: httpx.AsyncClient, people: Iterator[dict[str, Any]], per_s: float, count: int) -> _Load:
    """Send so many requests at their moments; return what became of them, from the first to the last answer."""
    statuses: Counter[int] = Counter()
    took_ms: list[float] = []
    contents = [json.dumps(body).encode() for body in itertools.islice(people, count)]
    began = time.perf_counter()

    async def one(number: int, content: bytes) -> None:
        moment = began + number / per_s
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        answer = await client.post(PATH, content=content, headers={"Content-Type": "application/json"})
        took_ms.append((time.perf_counter() - moment) * 1000)
        statuses[answer.status_code] += 1

    await asyncio.gather(*(one(number, content) for number, content in enumerate(contents)))
    return _Load(statuses, took_ms, time.perf_counter() - began)
