"""The protocol keeps its laws in thousands of drawn runs, and a broken one does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from random import Random
from typing import Final

import pytest

from tests.simulation import run, workload
from tests.simulation.faults import AT_THE_DOORS, WHOLE
from tests.simulation.mutations import MUTATIONS, SEEDS_MOST, Mutation, caught
from tests.simulation.plan import Plan
from tests.simulation.world import World

SEEDS: Final = 5_000
OFTEN: Final = 5
WAYS_BACK: Final = (
    "batch.bisected",
    "batch.halved",
    "breaker.closed",
    "breaker.opened",
    "commit.unknown",
    "consumer.rejoining",
    "lane.fenced",
    "lane.recovered",
)
"""What the workers log when they have to help themselves: each must have happened, and not once only."""
CALM: Final = Plan(workers=2, partitions=2, commands=10, batch_most=4, breaker_run=100, at=(), rates={}, calm_step=0)


@pytest.mark.timeout(600)
def test_the_laws_hold_whatever_goes_wrong() -> None:
    """Each run: one outcome a command, no event without its row, no commit under a superseded claim, an outbox that drains."""
    outcomes = list(run.many(range(SEEDS)))
    broken = [f"python -m tests.simulation --seed {each.seed}: {', '.join(each.broken)}" for each in outcomes if each.broken]
    counts = run.counted(outcomes)

    assert not broken, "\n".join(broken)
    assert [name for name in (*AT_THE_DOORS, *WHOLE, *WAYS_BACK) if counts[name] < OFTEN] == []


def test_nothing_goes_wrong_by_itself() -> None:
    """Without faults no lane waits, is fenced or claims a partition more often than the group gives it."""
    outcomes = [World(seed, plan=CALM).run() for seed in range(50)]
    counts = run.counted(outcomes)

    assert [each.broken for each in outcomes if each.broken] == []
    assert [name for name in (*AT_THE_DOORS, *WHOLE, "lane.waiting", "lane.fenced", "commit.unknown") if counts[name]] == []
    assert counts["batch.stored"] > len(outcomes)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[each.name for each in MUTATIONS])
def test_each_mutation_of_the_protocol_is_caught(mutation: Mutation) -> None:
    """The same seed holds every law again as soon as the worker is what it was."""
    outcome = caught(mutation, range(SEEDS_MOST))

    assert outcome is not None
    assert mutation.run(outcome.seed).broken == ()


def test_a_seed_replays_exactly() -> None:
    """In another process too, whatever order its sets have."""
    assert _told("1") == _told("2") != ""


def test_every_kind_of_command_is_drawn() -> None:
    """New ones and repeats, of one email and of several, good and not."""
    chance = Random(0)
    drawn = [workload.draw(chance, number) for number in range(500)]
    registrations = Counter((each.registration, each.email) for each in drawn if each.registration)

    assert {each.kind for each in drawn} == set(workload.KINDS)
    assert max(registrations.values()) > 1
    assert len({email for _, email in registrations}) < len({registration for registration, _ in registrations})


def _told(hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "40", "--each"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.check_output(command, env=environment, text=True, timeout=200)  # noqa: S603 - the command is ours
