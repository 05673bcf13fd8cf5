"""The table for people, and the JSON line for scripts."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any, Final

import psutil
from rich.table import Table

from benchmarks.bench import Standing
from benchmarks.contenders import WORKER, WORKER_MIXED

GROUPS: Final = ("python", "postgres", "kafka")
_OURS: Final = frozenset({WORKER.name, WORKER_MIXED.name})


def ratios(standings: Sequence[Standing]) -> dict[str, float]:
    """Return how many times as fast the worker is as each of the others."""
    paces = {each.contender.name: each.per_s for each in standings}
    mine = paces.get(WORKER.name)
    if mine is None:
        return {}
    found = {f"{WORKER.name}/{name}": round(mine / pace, 3) for name, pace in paces.items() if name not in _OURS}
    mixed = paces.get(WORKER_MIXED.name)
    return found if mixed is None else {**found, "mixed/clean": round(mixed / mine, 3)}


def table(standings: Sequence[Standing]) -> Table:
    """Lay out the medians."""
    shown = Table(title="Registrations, medians of the rounds", title_justify="left")
    shown.add_column("contender")
    shown.add_column("processes", justify="right")
    shown.add_column("registrations/s", justify="right")
    shown.add_column("slowest to fastest", justify="right")
    shown.add_column("worker is", justify="right")
    for group in ("Python µs", "PostgreSQL µs", "Kafka µs"):
        shown.add_column(group, justify="right")
    shown.add_column("what it is")
    times = ratios(standings)
    for each in standings:
        name = each.contender.name
        ratio = times.get(f"{WORKER.name}/{name}")
        shown.add_row(
            name,
            str(each.processes),
            f"{each.per_s:,.0f}",
            f"{min(each.runs_per_s):,.0f} to {max(each.runs_per_s):,.0f}",
            "" if ratio is None else f"{ratio:.2f} x",
            *(f"{each.cpu_us[group]:,.0f}" for group in GROUPS),
            each.contender.about,
        )
    return shown


def document(standings: Sequence[Standing]) -> dict[str, object]:
    """Return the result for the JSON line."""
    return {**{each.contender.name: _document(each) for each in standings}, **ratios(standings), "machine": _machine()}


def _document(one: Standing) -> dict[str, Any]:
    return {
        "registrations_per_s": round(one.per_s, 1),
        "cpu_us_per_registration": {group: round(one.cpu_us[group], 1) for group in GROUPS},
        "processes": one.processes,
        "records": one.records,
        "runs_per_s": [round(pace, 1) for pace in one.runs_per_s],
        "with_other_processes_per_s": {str(processes): round(pace, 1) for processes, pace in one.others_per_s.items()},
    }


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
