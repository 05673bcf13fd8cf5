"""Processes of the product, killed at their awaits: nothing is lost, and a fault that is put in is seen."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import CoroutineType
from typing import Any, Final

import pytest

from schemas.commands import COMMANDS_TOPIC
from tests.fault.arena import BY_HAND, Account, Arena, arena
from tests.fault.crashpoints import Campaign, Shown, Surveyed
from tests.fault.launcher import suspended
from tests.fault.points import EXCLUDED, PACKAGE, Point, points
from tests.fault.scene import PEOPLE
from tests.fault.scenes import SCENES
from worker.postgres import connect

RING: Final = ("settlement", "claiming", "relay", "store", "postgres", "lane")
"""The modules in which a batch is committed, published and taken over."""
KILLS: Final = int(os.environ.get("FAULT_POINTS", "40"))
SCENE: Final = tuple(scene for scene in SCENES if scene.name == "worker")
QUIET: Final = Shown(quiet=True)

NEW_CODE: Final = """
from contextlib import asynccontextmanager

class Step:
    def __await__(self):
        yield self.__class__

@asynccontextmanager
async def block():
    await Step()
    try:
        yield
    finally:
        await Step()

async def each():
    yield await Step()

async def all_kinds():
    async with block():
        async for _ in each():
            await Step()
"""
NEW_POINTS: Final = {
    "all_kinds enter", "block await", "all_kinds next", "each await", "all_kinds await", "all_kinds exit",
}  # fmt: skip


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that somebody has just written."""
    folder = tmp_path / "just_written"
    folder.mkdir()
    (folder / "__init__.py").write_text(NEW_CODE)
    return folder


def test_an_await_that_is_added_is_a_point_and_is_told_where_it_suspends(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody lists it: what the compiler made of the code has it, and a frame that is suspended there says so."""
    monkeypatch.syspath_prepend(package.parent)
    listed = points(package, {})
    coroutine: CoroutineType[Any, Any, Any] = importlib.import_module(package.name).all_kinds()
    told: set[Point] = set()
    with suppress(StopIteration):
        while coroutine.send(None):
            told |= {wait.point for _, wait in suspended(coroutine, package)}
    del sys.modules[package.name]

    assert told == set(listed)
    assert {f"{point.where} {point.kind}" for point in listed} == NEW_POINTS


def test_what_is_left_out_is_there() -> None:
    """A reason for leaving out what has gone would hide what comes in its place."""
    names = [path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py")]

    assert all(any(name.startswith(prefix) for name in names) for prefix in EXCLUDED)


@pytest.fixture(scope="module")
async def whole() -> AsyncIterator[Arena]:
    """Servers for the product as it is."""
    async with arena() as where:
        yield where


@pytest.fixture(scope="module")
async def surveyed(whole: Arena) -> Surveyed:
    """Which points a worker is led to."""
    campaign = Campaign(whole, points(), SCENE)
    await campaign.survey(QUIET)
    return campaign.surveyed


@pytest.fixture(scope="module")
async def spoilt() -> AsyncIterator[Arena]:
    """Servers for what is broken on purpose, after some work that was done well."""
    async with arena() as where:
        await where.send(PEOPLE)
        assert await where.settle() == Account()
        yield where


async def test_a_worker_killed_at_any_await_loses_and_doubles_nothing(whole: Arena, surveyed: Surveyed) -> None:
    """A share of what `make faults` does: before and after awaits of a commit, a publish and a claim."""
    chosen = [point for point in points() if Path(point.file).stem in RING]
    campaign = Campaign(whole, chosen, SCENE, surveyed=surveyed)
    kills = campaign.some(KILLS)
    await campaign.run(kills, QUIET)

    assert campaign.account == Account()
    assert not campaign.stuck
    assert campaign.kills >= 0.9 * len(kills) > 0
    assert campaign.in_flight >= 0.5 * campaign.kills, f"{campaign.in_flight} of {campaign.kills}"


@pytest.mark.parametrize(("broken", "where"), [("move_first", "_settle_pass"), ("delete_first", "Producer._ready")])
async def test_a_fault_that_is_put_in_is_seen(spoilt: Arena, surveyed: Surveyed, broken: str, where: str) -> None:
    """A position that is moved before its batch, an outbox that forgets too soon: the same kills then lose something."""
    before = await spoilt.account()
    campaign = Campaign(spoilt, [point for point in points() if point.where == where], SCENE, broken, surveyed=surveyed)
    await campaign.run(campaign.some(3), QUIET)

    assert campaign.kills > 0
    assert campaign.account.lost > before.lost


async def test_a_commit_under_a_superseded_claim_is_seen(spoilt: Arena) -> None:
    """One owner claims, then another; what the first one still writes is counted."""
    before = await spoilt.unfenced()
    claim = "UPDATE kafka_offsets SET owner = $2, claimed_at = clock_timestamp() WHERE topic = $1 AND partition = 0"
    stale = "UPDATE kafka_offsets SET owner = $2, claimed_at = $3 WHERE topic = $1 AND partition = 0"
    row = await spoilt.connection.fetchrow(
        "SELECT owner, claimed_at FROM kafka_offsets WHERE topic = $1 AND partition = 0", COMMANDS_TOPIC
    )
    assert row is not None
    await spoilt.connection.execute(claim, COMMANDS_TOPIC, "00000000-0000-4000-8000-000000000002")
    assert await spoilt.unfenced() == before
    await spoilt.connection.execute(stale, COMMANDS_TOPIC, row["owner"], row["claimed_at"])

    assert await spoilt.unfenced() == before + 1


async def test_a_position_that_falls_is_seen(spoilt: Arena) -> None:
    """Not by a hand that says so, and not to the start of a log that was made anew."""
    before = await spoilt.unfenced()
    fall = "UPDATE kafka_offsets SET next_offset = next_offset - 1 WHERE topic = $1 AND partition = 1"
    await spoilt.connection.execute(fall, COMMANDS_TOPIC)
    assert await spoilt.unfenced() == before
    stranger = await connect(spoilt.cluster.servers.postgres.url, f"not {BY_HAND}")
    await stranger.execute(fall, COMMANDS_TOPIC)
    await stranger.close()

    assert await spoilt.unfenced() == before + 1
