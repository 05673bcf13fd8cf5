"""
Kill real processes at every await, before and after, and see that nothing is lost and nothing doubled. `make faults` runs it.

    python -m tests.fault.crashpoints [--only PREFIX] [--limit N] [--json]

First each scene (`scenes.py`) is played once, to see which points it leads to. Then each point is killed in a scene that
leads to it with something in flight, where there is one. What a process leaves behind, the next one finds; after some
kills a whole worker finishes everything, and all is checked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tests.fault.arena import Account, Arena, Victim, arena
from tests.fault.launcher import Met, Orders
from tests.fault.points import EXCLUDED, Point, points
from tests.fault.scene import Scene
from tests.fault.scenes import SCENES
from worker import logs

WHENS: Final = ("before", "after")
ENDS_WITHIN_S: Final = 10.0
SCENE_WITHIN_S: Final = 40.0
NTH_MAX: Final = 3
TRIES_MORE: Final = 4
GROUP: Final = 40
NEVER_SUSPENDED: Final = "it was come to and never suspended there: what it awaits was done at once"
NOT_COME_TO: Final = "no scene leads there"
NOT_KILLED: Final = "a scene leads there, and no kill was asked for or came about"


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill that is planned: `nth` and `flight` as in `Orders`."""

    point: Point
    when: str
    scene: Scene
    nth: int
    flight: bool

    def __str__(self) -> str:
        """Name it for people."""
        return f"{self.point} {self.when} ({self.scene.name})"


@dataclass(slots=True)
class Surveyed:
    """What the scenes lead to: of each scene, what was met; the points that were come to at all."""

    met: dict[str, dict[str, Met]] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Campaign:
    """
    All kills of a run, and what came of them.

    Args:
        arena: where.
        points: which.
        scenes: those that are played.
        broken: a deliberate fault of the product (`broken.py`), or none.
        seed: of the choice which of several occasions is taken.
        killed: where a process was killed, and when.
        in_flight: of the kills, those at which the process had taken something that was not done.
        missed: kills that did not come about.
        stuck: scenes that did not go on as they must, with what the process said.
    """

    arena: Arena
    points: Sequence[Point]
    scenes: Sequence[Scene] = SCENES
    broken: str = ""
    seed: int = 1
    surveyed: Surveyed = field(default_factory=Surveyed)
    killed: set[tuple[Point, str]] = field(default_factory=set)
    kills: int = 0
    in_flight: int = 0
    missed: list[Kill] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    account: Account = field(default_factory=Account)

    async def survey(self, progress: Shown) -> None:
        """Play each scene once, and note which points it leads to."""
        for scene in self.scenes:
            progress.say(f"scene {scene.name}")
            with _beside(self.arena, scene):
                orders = await scene.orders(self.arena)
                with self.arena.started(replace(orders, broken=self.broken)) as victim:
                    await _lead(self.arena, scene, victim)
                await scene.after(self.arena, victim)
            report = victim.report()
            assert report, f"scene {scene.name}: the process did not end by itself:\n{victim.output()[-6000:]}"
            self.surveyed.met[scene.name] = {name: Met(**each) for name, each in report["met"].items()}
            self.surveyed.passed.update(report["passed"])
        self.account = await self.arena.settle()

    def plan(self) -> list[Kill]:
        """Choose for each point and moment the first scene that leads there, with something in flight where one does."""
        chance = random.Random(self.seed)
        order = {scene.name: number for number, scene in enumerate(self.scenes)}
        found = [kill for point in self.points for when in WHENS if (kill := self._choose(point, when, chance)) is not None]
        return sorted(found, key=lambda kill: order[kill.scene.name])

    def some(self, limit: int | None) -> list[Kill]:
        """Choose of all that is planned at most so many, at random and the same each time; None is all."""
        kills = self.plan()
        if limit is None or limit >= len(kills):
            return kills
        chosen = set(random.Random(self.seed).sample(range(len(kills)), limit))
        return [kill for number, kill in enumerate(kills) if number in chosen]

    def _choose(self, point: Point, when: str, chance: random.Random) -> Kill | None:
        return next(self._ways(point, when, chance), None)

    def _ways(self, point: Point, when: str, chance: random.Random) -> Iterator[Kill]:
        """Yield the scenes that lead there, those with something in flight first."""
        for flight in (True, False):
            for scene in self.scenes:
                met = self.surveyed.met.get(scene.name, {}).get(str(point))
                if met is not None and (times := _times(met, when, flight=flight)):
                    yield Kill(point, when, scene, chance.randint(1, min(times, NTH_MAX)), flight)

    async def run(self, kills: Sequence[Kill], progress: Shown) -> None:
        """Do all kills, and check everything after every few."""
        progress.total(len(kills))
        for _, of_scene in groupby(kills, key=lambda kill: kill.scene.name):
            waiting = list(of_scene)
            while waiting:
                group, waiting = waiting[:GROUP], waiting[GROUP:]
                with _beside(self.arena, group[0].scene):
                    for kill in group:
                        progress.step(f"{kill}")
                        await self._strike(kill)
                try:
                    self.account = await self.arena.settle()
                except AssertionError as error:
                    self.stuck.append(f"after {group[-1]}: {error}")
                    return
                progress.say(f"{self.kills} kills, {self.in_flight} in flight, {len(self.missed)} missed: {self.account}")

    async def _strike(self, kill: Kill) -> None:
        """Kill; where the occasion does not come, take the first one, or the next scene that leads there."""
        ways = self._ways(kill.point, kill.when, random.Random(self.seed))
        others = [replace(way, nth=1) for way in ways if way.scene.beside == kill.scene.beside]
        for again in (kill, *others[:TRIES_MORE]):
            try:
                struck = await self._struck(again)
            except AssertionError as error:
                self.stuck.append(f"{again}: {error}")
                break
            if struck:
                self.killed.add((kill.point, kill.when))
                return
        self.missed.append(kill)

    async def _struck(self, kill: Kill) -> bool:
        ordered = await kill.scene.orders(self.arena)
        orders = replace(ordered, at=str(kill.point), when=kill.when, nth=kill.nth, flight=kill.flight, broken=self.broken)
        with self.arena.started(orders) as victim:
            await _lead(self.arena, kill.scene, victim)
        report = victim.report()
        struck = victim.exit_code == -signal.SIGKILL and "fetched" in report
        if struck:
            self.kills += 1
            self.in_flight += await self._had_in_flight(report)
        await kill.scene.after(self.arena, victim)
        return struck

    async def _had_in_flight(self, report: Mapping[str, Any]) -> bool:
        """Say whether what the process had taken is not done: requests, records beyond a position, messages of the outbox."""
        positions = await self.arena.positions()
        fetched = {int(partition): end for partition, end in report["fetched"].items()}
        is_taken = any(end > positions.get(partition, 0) for partition, end in fetched.items())
        return bool(report["requests"]) or is_taken or await self.arena.unpublished() > 0

    def not_reached(self) -> dict[str, str]:
        """Return the points at which no process was killed, with why."""
        reached = {point for point, _ in self.killed}
        return {str(point): self._why_not(str(point)) for point in self.points if point not in reached}

    def _why_not(self, point: str) -> str:
        if any(point in met for met in self.surveyed.met.values()):
            return NOT_KILLED
        return NEVER_SUSPENDED if point in self.surveyed.passed else NOT_COME_TO


def _times(met: Met, when: str, *, flight: bool) -> int:
    if when == "before":
        return met.suspended_in_flight if flight else met.suspended
    return met.ended_in_flight if flight else met.ended


async def _lead(where: Arena, scene: Scene, victim: Victim) -> None:
    """Play a scene with a process until it dies, or tell it to end when the scene is over."""
    acting = asyncio.create_task(scene.act(where, victim))
    ended = asyncio.create_task(victim.ended(SCENE_WITHIN_S))
    try:
        await asyncio.wait({acting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if acting.done() and victim.running:
            acting.result()
            victim.signal(signal.SIGTERM)
            await victim.ended(ENDS_WITHIN_S)
    finally:
        for task in (acting, ended):
            task.cancel()
        await asyncio.wait({acting, ended})


def _beside(where: Arena, scene: Scene) -> AbstractContextManager[object]:
    """Run a worker beside a scene that wants one."""
    return where.started(Orders(("worker",))) if scene.beside else nullcontext()


class Shown:
    """Progress on stderr: a bar on a terminal, else a line for each group of kills."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        self._bar = Progress(*columns, console=self._console, disable=quiet or not self._console.is_terminal)
        self._task: TaskID = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        """Begin to show."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Show no more."""
        self._bar.stop()

    def total(self, count: int) -> None:
        """Say how much there is."""
        self._bar.update(self._task, total=count, completed=0)

    def step(self, what: str) -> None:
        """Say what is done now."""
        self._bar.update(self._task, advance=1, description=what)

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, highlight=False, soft_wrap=True)


async def campaign(
    found: Sequence[Point], *, scenes: Sequence[Scene] = SCENES, limit: int | None = None, broken: str = "", quiet: bool = False
) -> Campaign:
    """
    Run everything on servers of its own.

    Args:
        found: the points to kill at.
        scenes: those that are played.
        limit: most kills; they are chosen at random, and the same each time.
        broken: a deliberate fault of the product.
        quiet: show nothing.
    """
    with Shown(quiet=quiet) as progress:
        async with arena() as where:
            made = Campaign(where, found, scenes, broken)
            await made.survey(progress)
            await made.run(made.some(limit), progress)
            return made


def main() -> int:
    """Run it from the command line; print what was not reached, and then everything as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.crashpoints", description="Kill at every await.")
    parser.add_argument("--only", default="", metavar="PREFIX", help="points whose name begins so, such as worker/lane.py")
    parser.add_argument("--scene", action="append", choices=[scene.name for scene in SCENES], help="play only this one")
    parser.add_argument("--limit", type=int, metavar="N", help="most kills")
    parser.add_argument("--broken", default="", help="a deliberate fault of the product, which must be found")
    parser.add_argument("--json", action="store_true", help="only the last line")
    given = parser.parse_args()
    logs.configure("WARNING", "console")
    began = time.monotonic()
    found = [point for point in points() if str(point).startswith(given.only)]
    scenes = [scene for scene in SCENES if not given.scene or scene.name in given.scene]
    done = asyncio.run(campaign(found, scenes=scenes, limit=given.limit, broken=given.broken, quiet=given.json))
    lines = [] if given.json else _lines(done)
    summary = {**_summary(done), "duration_s": round(time.monotonic() - began, 1)}
    sys.stdout.write("\n".join([*lines, json.dumps(summary), ""]))
    return 0 if done.account.clean and not done.stuck else 1


def _lines(done: Campaign) -> list[str]:
    return [
        *(f"not reached: {place}: {why}" for place, why in done.not_reached().items()),
        *(f"missed: {kill}" for kill in done.missed),
        *(f"stuck: {stuck}" for stuck in done.stuck),
        *(f"left out: {prefix}: {why}" for prefix, why in EXCLUDED.items()),
    ]


def _summary(done: Campaign) -> dict[str, object]:
    whens = {when: sum(killed == when for _, killed in done.killed) for when in WHENS}
    return {
        "points": len(done.points),
        "reached": len({point for point, _ in done.killed}),
        **whens,
        "kills": done.kills,
        "in_flight": done.in_flight,
        **asdict(done.account),
        "missed": len(done.missed),
        "stuck": len(done.stuck),
        "not_reached": list(done.not_reached()),
    }


if __name__ == "__main__":
    sys.exit(main())
