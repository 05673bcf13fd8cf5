"""The bench: every contender in turn, round after round, so that the machine's noise meets all alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.contenders import FASTSTREAM, Contender
from benchmarks.processes import registration
from benchmarks.run import FROZEN_TEMPLATE, WORKER_TEMPLATE, Entry, Result, run
from benchmarks.servers import Servers

PROCESSES: Final = (1, 2)
EXPLORING_ROUNDS: Final = 2
"""In the first of these each contender runs with every number of processes, in the others with those that may be the best."""
CLOSE: Final = 0.8
"""A number of processes that reaches this part of the best pace may be the best."""
BROKER_WARMING_RECORDS: Final = 1000
_STEP: Final = 4  # the limit divides its records by processes and connections
_HERE: Final = Path(__file__).parent
_CATALOGUE: Final = _HERE.parent / "worker" / "dev" / "catalogue" / "development.yaml"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: the fastest are given `records`, for `rounds` rounds; `processes` are the numbers to choose from."""

    contenders: Sequence[Contender]
    records: int
    rounds: int
    processes: Sequence[int] = PROCESSES

    def records_of(self, contender: Contender) -> int:
        """Return how many records a contender is given."""
        return max(int(self.records * contender.share) // _STEP * _STEP, _STEP)

    def runs_at_most(self) -> int:
        """Return how many runs there may be."""
        exploring = min(self.rounds, EXPLORING_ROUNDS)
        return len(self.contenders) * (exploring * len(self.processes) + self.rounds - exploring)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a contender's runs showed, with the number of processes that suits it best; every figure is a median."""

    contender: Contender
    processes: int
    records: int
    per_s: float
    cpu_us: dict[str, float]
    runs_per_s: list[float]
    others_per_s: dict[int, float]


async def prepare(servers: Servers, contenders: Sequence[Contender]) -> None:
    """Make the databases that each run's is copied from: the frozen schema, and the worker's own with its catalogue."""
    await servers.make_database(FROZEN_TEMPLATE)
    await servers.execute((_HERE / "frozen" / "schema.sql").read_text(), FROZEN_TEMPLATE)
    if any(contender.is_worker for contender in contenders):
        await prepare_worker(servers)


async def prepare_worker(servers: Servers) -> None:
    """Make the database that the worker's are copied from, by its own commands."""
    await servers.make_database(WORKER_TEMPLATE)
    await registration(servers, WORKER_TEMPLATE, "migrate")
    await registration(servers, WORKER_TEMPLATE, "catalogue", "apply", str(_CATALOGUE), "--yes")


async def measure(servers: Servers, plan: Plan, console: Console) -> list[Standing]:
    """
    Run the plan.

    Args:
        servers: prepared.
        plan: what to run.
        console: shows the progress.
    Raises:
        FailedRunError: a run did not do all its work.
    """
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("warming Kafka", total=plan.runs_at_most())
        # A JVM that has just started is slow at everything; the first contender would pay for all.
        await run(servers, Entry(FASTSTREAM, 1, BROKER_WARMING_RECORDS))
        for number in range(plan.rounds):
            for contender in plan.contenders:
                for processes in _choices(results, contender, number, plan.processes):
                    progress.update(task, description=f"round {number + 1} of {plan.rounds}: {contender.name} in {processes}")
                    results.append(await run(servers, Entry(contender, processes, plan.records_of(contender))))
                    progress.advance(task)
                    console.print(_said(number, results[-1]))
    return [standing(results, contender) for contender in plan.contenders]


def _said(number: int, result: Result) -> str:
    processes = result.entry.processes
    how_many = f"{processes} process" + "es" * (processes > 1)
    return f"round {number + 1}  {result.entry.contender.name:16} {how_many:11} {result.per_s:8,.0f}/s"


def _choices(results: Sequence[Result], contender: Contender, number: int, processes: Sequence[int]) -> Sequence[int]:
    """Return the numbers of processes to run with in a round: all at first, then those that are close, then the best."""
    if number == 0:
        return processes
    best = _best(results, contender)
    if number >= EXPLORING_ROUNDS:
        return (best,)
    enough = CLOSE * median(_paces(results, contender, best))
    return [each for each in processes if median(_paces(results, contender, each)) >= enough]


def _best(results: Sequence[Result], contender: Contender) -> int:
    return max(PROCESSES, key=lambda processes: median(_paces(results, contender, processes) or [0.0]))


def _paces(results: Sequence[Result], contender: Contender, processes: int) -> list[float]:
    return [each.per_s for each in _of(results, contender, processes)]


def _of(results: Sequence[Result], contender: Contender, processes: int) -> list[Result]:
    return [each for each in results if each.entry.contender is contender and each.entry.processes == processes]


def standing(results: Sequence[Result], contender: Contender) -> Standing:
    """Sum up a contender's runs."""
    best = _best(results, contender)
    mine = _of(results, contender, best)
    paces = {processes: _paces(results, contender, processes) for processes in PROCESSES if processes != best}
    cpu = [each.cpu_us() for each in mine]
    return Standing(
        contender=contender,
        processes=best,
        records=mine[0].entry.records,
        per_s=median(each.per_s for each in mine),
        cpu_us={group: median(each[group] for each in cpu) for group in cpu[0]},
        runs_per_s=[each.per_s for each in mine],
        others_per_s={processes: median(some) for processes, some in paces.items() if some},
    )
