"""
Half of the load that two workers can take, for half an hour, and a fault each minute: what a process holds must not grow.

    python -m tests.fault.soak [--minutes 30] [--chart soak.svg]

One worker lives through all of it, and is watched: memory, tasks, descriptors. At the end `verify` looks at everything.
The last line of stdout is one JSON object; exit code 1 where something grew or does not hold.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import linear_regression
from typing import Annotated, Any, Final

import httpx
import pygal
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.fault.cluster import Cluster, cluster
from worker.dev.process import Child
from worker.errors import UnavailableError

FAULT_EVERY_S: Final = 60.0
SAMPLE_EVERY_S: Final = 5.0
PACE_FOR_S: Final = 20.0
CHUNK: Final = 100
WARM_SHARE: Final = 1 / 3
"""Of the time, at the beginning, in which pools and caches fill: it is shown, and not judged."""
DRAIN_WITHIN_S: Final = 180.0
VERIFY_WITHIN_S: Final = 1200.0
EXIT_FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Watched:
    """A figure of the process. `noise`: by how much it may differ between two moments without having grown."""

    metric: str
    unit: float
    noise: float


WATCHED: Final = {
    "memory_mib": Watched("process_resident_memory_bytes", 2**20, 8),
    "tasks": Watched("registration_tasks", 1, 6),
    "descriptors": Watched("process_open_fds", 1, 6),
}


@dataclass(slots=True)
class Samples:
    """What the watched process held, and when, in seconds since the soak began; and the faults of that time."""

    at_s: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in WATCHED})
    faults: list[tuple[float, str]] = field(default_factory=list)

    def grown(self, name: str, minutes: float) -> float:
        """Return by how much a figure grew over the time that is judged, by the line through its samples."""
        first = next((i for i, at in enumerate(self.at_s) if at >= minutes * 60 * WARM_SHARE), 0)
        at, values = self.at_s[first:], self.values[name][first:]
        return linear_regression(at, values).slope * (at[-1] - at[0])


@dataclass(frozen=True, slots=True)
class Soaked:
    """The result. `grown`: over the last two thirds, by the line through the samples; `flat`: not beyond the noise."""

    minutes: float
    per_s: float
    sent: int
    faults: int
    grown: dict[str, float]
    last: dict[str, float]
    flat: bool
    verified: bool
    counts: dict[str, int]


async def soak(minutes: float, chart: Path, progress: Progress) -> Soaked:
    """
    Run it.

    Args:
        minutes: how long under load.
        chart: where the chart goes (SVG).
        progress: shows how far it is.
    Raises:
        AssertionError: the workers ended, or did not get done.
    """
    task = progress.add_task("starting", total=minutes * 60)
    async with cluster() as running:
        watched, other = running.start_worker(), running.start_worker()
        await running.send(CHUNK)
        await running.done()
        progress.update(task, description="finding the pace")
        per_s = await _pace(running) / 2
        samples = Samples()
        stop = asyncio.Event()
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(_load(running, per_s, stop))
            group.create_task(_watch(watched, samples, began, stop, lambda at: progress.update(task, completed=at)))
            await _faults(
                running,
                (watched, other),
                samples,
                began=began,
                minutes=minutes,
                told=lambda what: progress.update(task, description=what),
            )
            stop.set()
        progress.update(task, description="draining")
        await running.done(DRAIN_WITHIN_S)
        progress.update(task, description="verifying")
        report = await running.report(within_s=VERIFY_WITHIN_S)
    await asyncio.to_thread(chart.write_bytes, _chart(samples))
    grown = {name: round(samples.grown(name, minutes), 2) for name in WATCHED}
    return Soaked(
        minutes=minutes,
        per_s=round(per_s),
        sent=running.sent,
        faults=len(samples.faults),
        grown=grown,
        last={name: round(values[-1], 1) for name, values in samples.values.items()},
        flat=all(grown[name] <= each.noise for name, each in WATCHED.items()),
        verified=report["ok"],
        counts=report["counts"],
    )


async def _pace(running: Cluster) -> float:
    """Return how many commands a second the workers do while as many are sent as go."""
    stop = asyncio.Event()
    sending = asyncio.create_task(running.stream(stop, CHUNK, 0))
    await running.progress(CHUNK)
    began, before = time.monotonic(), await running.done_count()
    await asyncio.sleep(PACE_FOR_S)
    done, took_s = await running.done_count() - before, time.monotonic() - began
    stop.set()
    await sending
    await running.done(DRAIN_WITHIN_S)
    return done / took_s


async def _load(running: Cluster, per_s: float, stop: asyncio.Event) -> None:
    """Send at a pace, each chunk at its moment; while Kafka is away nothing is sent, and nothing made up for later."""
    moment = time.monotonic()
    while not stop.is_set():
        moment = max(moment + CHUNK / per_s, time.monotonic() - 1)
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        try:
            await running.send(CHUNK)
        except UnavailableError:
            continue


async def _watch(child: Child, samples: Samples, began: float, stop: asyncio.Event, told: Callable[[float], None]) -> None:
    """Sample the watched process until the end; while it is frozen it does not answer, and that is no sample."""
    port = next(json.loads(line)["admin_port"] for line in child.output().splitlines() if '"worker.started"' in line)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=SAMPLE_EVERY_S) as client:
        while not stop.is_set():
            await asyncio.sleep(SAMPLE_EVERY_S)
            try:
                text = (await client.get("/metrics")).text
            except httpx.TransportError:
                continue
            found = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
            samples.at_s.append(time.monotonic() - began)
            for name, each in WATCHED.items():
                samples.values[name].append(found[each.metric] / each.unit)
            told(samples.at_s[-1])


async def _faults(
    running: Cluster, pair: tuple[Child, Child], samples: Samples, *, began: float, minutes: float, told: Callable[[str], None]
) -> None:
    """Break something each minute, in turn."""
    watched, other = pair

    async def kill() -> None:
        nonlocal other
        running.kill_worker(other)
        other = running.start_worker()

    async def freeze() -> None:
        watched.signal(signal.SIGSTOP)
        await asyncio.sleep(5)
        watched.signal(signal.SIGCONT)

    kinds: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("a worker killed", kill),
        ("PostgreSQL killed", lambda: _restart(running.servers.postgres)),
        ("the watched worker frozen", freeze),
        ("Kafka killed", lambda: _restart(running.servers.kafka)),
    ]
    number = 0
    while (ahead := began + (number + 1) * FAULT_EVERY_S) < began + minutes * 60:
        await asyncio.sleep(max(0.0, ahead - time.monotonic()))
        what, fault = kinds[number % len(kinds)]
        samples.faults.append((time.monotonic() - began, what))
        told(what)
        await fault()
        number += 1
    await asyncio.sleep(max(0.0, began + minutes * 60 - time.monotonic()))


async def _restart(server: Any) -> None:  # noqa: ANN401 - either of two
    await server.kill()
    await asyncio.sleep(1)
    await server.start()


def _chart(samples: Samples) -> bytes:
    """Draw each figure as a part of its largest value, so that one chart shows them all."""
    chart = pygal.XY(
        title="What the watched worker held, relative to its most",
        x_title="minutes",
        range=(0, 1.05),
        js=[],
        dots_size=1,
        legend_at_bottom=True,
        width=1000,
        height=480,
    )
    for name, values in samples.values.items():
        most = max(values)
        chart.add(f"{name} (most {most:.0f})", _points(samples.at_s, [value / most for value in values]))
    for what in dict.fromkeys(what for _, what in samples.faults):
        chart.add(what, [(at / 60, 0.02) for at, each in samples.faults if each == what], stroke=False, dots_size=4)
    drawn: bytes = chart.render()
    return drawn


def _points(at_s: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    return [(at / 60, value) for at, value in zip(at_s, values, strict=True)]


def main(
    minutes: Annotated[float, typer.Option(min=2, max=240, help="How long under load.")] = 30,
    chart: Annotated[Path, typer.Option(help="Where the chart goes.")] = Path("soak.svg"),
) -> None:
    """Soak."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what its clients say while Kafka is away is no concern of a reader
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        found = asyncio.run(soak(minutes, chart, progress))
    typer.echo(json.dumps(asdict(found)))
    if not (found.flat and found.verified):
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    typer.run(main)
