"""Where the time goes, with charts: a registration by stage, pace by batch size, latency by load, memory over a backlog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import pygal
from rich.console import Console
from rich.table import Table

from benchmarks.bench import prepare_worker
from benchmarks.contenders import WORKER
from benchmarks.growth import MIB, SAMPLE_S, Growth, growth
from benchmarks.load import Loaded, loads
from benchmarks.run import Entry, Result, run
from benchmarks.servers import Servers

CHARTS: Final = Path(__file__).parent / "charts"
BATCH_RECORDS: Final = (1, 10, 50, 100, 250, 500, 1000)
SHARES_OF_MOST: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 1.1)
HALF: Final = 0.5
LOAD_S: Final = 8.0
ROUNDS: Final = 3
SMALL_RECORDS: Final = 50
"""Below this size of a batch a fifth of the records is enough."""


@dataclass(frozen=True, slots=True)
class Profile:
    """
    What was found.

    Attributes:
        stages_us: processor time of one registration in µs: Python's by stage, then the servers'.
        by_batch_per_s: registrations a second, by the most records of a batch.
        by_load: latency at several paces of arrival.
        memory: resident memory over a backlog.
    """

    stages_us: Mapping[str, float]
    by_batch_per_s: Mapping[int, float]
    by_load: Sequence[Loaded]
    memory: Growth

    def document(self) -> dict[str, Any]:
        """Return it for the JSON line."""
        half = next(each for share, each in zip(SHARES_OF_MOST, self.by_load, strict=True) if share == HALF)
        return {
            "stages_us": {stage: round(spent, 1) for stage, spent in self.stages_us.items()},
            "by_batch_per_s": {str(size): round(pace) for size, pace in self.by_batch_per_s.items()},
            "by_load": [each.document() for each in self.by_load],
            "accept_to_event_p99_ms": round(half.p99_ms, 1),
            "memory": self.memory.document(),
        }

    def table(self) -> Table:
        """Lay out the stages."""
        shown = Table(title="Processor time of one registration", title_justify="left")
        shown.add_column("stage")
        shown.add_column("µs", justify="right")
        for stage, spent in self.stages_us.items():
            shown.add_row(stage, f"{spent:,.1f}")
        return shown


async def profile(servers: Servers, records: int, console: Console) -> Profile:
    """
    Measure, and draw the charts into `benchmarks/charts`.

    Args:
        servers: running.
        records: of each run; the memory's backlog has ten times as many.
        console: shows the progress.
    Raises:
        FailedRunError: a run did not do all its work.
    """
    await prepare_worker(servers)
    console.print("by stage")
    sampled = [await run(servers, Entry(WORKER, 1, records, is_sampled=True)) for _ in range(ROUNDS)]
    by_batch = {}
    for size in BATCH_RECORDS:
        console.print(f"batches of {size} at most")
        count = records if size >= SMALL_RECORDS else max(records // 5, 200)
        result = await run(servers, Entry(WORKER, 1, count, {"REGISTRATION_BATCH_MAX_RECORDS": str(size)}))
        by_batch[size] = result.per_s
    most = max(by_batch.values())
    console.print(f"by load, up to {most * SHARES_OF_MOST[-1]:,.0f} a second")
    by_load = await loads(servers, [most * share for share in SHARES_OF_MOST], LOAD_S, 1)
    found = Profile(_stages(sampled), by_batch, by_load, await growth(servers, 10 * records, console))
    _draw(found)
    return found


def _stages(results: Sequence[Result]) -> dict[str, float]:
    """Divide Python's processor time as the samples were; beside it the servers'."""
    stages: dict[str, list[float]] = {}
    for result in results:
        spent, total = result.cpu_us(), sum(result.samples.values())
        for stage, count in result.samples.items():
            stages.setdefault(stage, []).append(count / total * spent["python"])
        for group in ("postgres", "kafka"):
            stages.setdefault(group, []).append(spent[group])
    return {stage: median(each) for stage, each in stages.items()}


def _draw(found: Profile) -> None:
    CHARTS.mkdir(exist_ok=True)
    bars = pygal.HorizontalBar(title="Processor time of one registration, µs", show_legend=False, print_values=True, **_LOOK)
    bars.x_labels = list(found.stages_us)[::-1]
    bars.add("µs", [round(spent, 1) for spent in found.stages_us.values()][::-1])
    bars.render_to_file(CHARTS / "stages.svg")

    sizes = pygal.Line(title="Registrations a second, by the most records of a batch", show_legend=False, **_LOOK)
    sizes.x_labels = [str(size) for size in found.by_batch_per_s]
    sizes.add("registrations/s", [round(pace) for pace in found.by_batch_per_s.values()])
    sizes.render_to_file(CHARTS / "batch-size.svg")

    load = pygal.XY(title="From command to event, ms, by arrivals a second", logarithmic=True, **_LOOK)
    load.add("median", [(each.arrivals_per_s, each.median_ms) for each in found.by_load])
    load.add("99th percentile", [(each.arrivals_per_s, each.p99_ms) for each in found.by_load])
    load.render_to_file(CHARTS / "latency.svg")

    memory = pygal.XY(title="Resident memory over a backlog, MiB, by seconds", show_legend=False, dots_size=1, **_LOOK)
    memory.add("MiB", [(at * SAMPLE_S, held / MIB) for at, held in enumerate(found.memory.resident_bytes)])
    memory.render_to_file(CHARTS / "memory.svg")


_LOOK: Final = {"js": [], "width": 800, "height": 400, "legend_at_bottom": True}
