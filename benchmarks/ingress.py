"""
The ingress beside what bounds it: how many registrations a second it answers, and how many passwords these cores can hash.

Arrivals do not wait for answers: each has its moment, whatever became of those before. First the hash alone, in as many
threads as the ingress has; then the ingress at that pace; then at half of it, for the times.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import httpx
from rich.console import Console

from benchmarks.rest import CREATED, PATH, bodies, dev
from benchmarks.servers import FailedRunError
from worker.config import Settings

HASHES_FOR_S: Final = 6.0
LOAD_FOR_S: Final = 12
WARM_REQUESTS: Final = 60
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
        hashes_per_s: of the hash alone.
        registrations_per_s: 201s, while as many requests arrive as can be hashed.
        ratio: of these two.
        refused: requests answered otherwise meanwhile, by status.
        half_median_ms: at half the hashes' pace.
        half_p99_ms: likewise.
        half_ratio: of these two.
    """

    hashes_per_s: float
    registrations_per_s: float
    ratio: float
    refused: dict[str, int]
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
        folder: takes the log.
        console: shows the progress.
    Raises:
        FailedRunError: the stack did not start, or refused at half the pace.
    """
    threads = Settings.model_fields["hash_threads"].default
    console.print("hashing alone")
    hashes = float(subprocess.check_output([sys.executable, "-c", _HASHING, str(threads), str(HASHES_FOR_S)]))  # noqa: S603, ASYNC221
    async with dev(folder, console, connections=None) as client:
        people = bodies(1_000_000)
        await _load(client, people, hashes / 4, WARM_REQUESTS)
        console.print(f"{hashes:.0f} requests a second")
        full = await _load(client, people, hashes, int(hashes * LOAD_FOR_S))
        console.print(f"{hashes / 2:.0f} requests a second")
        half = await _load(client, people, hashes / 2, int(hashes / 2 * LOAD_FOR_S))
    if set(half.statuses) != {CREATED}:
        msg = f"at half the pace: {half.statuses}"
        raise FailedRunError(msg)
    created = full.statuses[CREATED] / full.took_s
    p99 = quantiles(half.took_ms, n=100)[-1]
    return Paces(
        hashes_per_s=round(hashes, 1),
        registrations_per_s=round(created, 1),
        ratio=round(created / hashes, 3),
        refused={str(status): count for status, count in full.statuses.items() if status != CREATED},
        half_median_ms=round(median(half.took_ms), 1),
        half_p99_ms=round(p99, 1),
        half_ratio=round(p99 / median(half.took_ms), 2),
    )


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
