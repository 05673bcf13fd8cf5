"""What a seed chooses before anything runs: how large, and what goes wrong when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.simulation.faults import AT_THE_DOORS, WHOLE

MEETINGS: Final = (
    ("member.expelled", "database.failed_over_with_loss", "member.expelled"),
    ("member.expelled", "worker.frozen", "database.failed_over_with_loss"),
    ("worker.frozen", "database.failed_over_with_loss", "worker.frozen"),
    ("database.failed_over_with_loss", "worker.crashed", "database.failed_over_with_loss"),
)
"""Faults that are the worst together; by chance alone they would seldom meet."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What a seed chooses before anything runs.

    Attributes:
        at: steps at which something happens to a whole process or server.
        rates: of the faults at the doors.
        calm_step: from here on nothing goes wrong any more.
    """

    workers: int
    partitions: int
    commands: int
    batch_most: int
    breaker_run: int
    at: tuple[tuple[int, str], ...]
    rates: Mapping[str, float]
    calm_step: int

    @classmethod
    def draw(cls, chance: Random) -> Plan:
        """Draw a plan: each run has its own few kinds of faults, so that rare ones meet."""
        kinds = chance.sample(AT_THE_DOORS, chance.randrange(5))
        faults = [chance.choice(WHOLE) for _ in range(chance.choice((0, 1, 1, 2, 2, 3)))]
        if chance.random() < 0.25:
            faults = list(chance.choice(MEETINGS))
        return cls(
            workers=chance.choice((1, 2, 2)),
            partitions=chance.choice((1, 1, 2)),
            commands=chance.randrange(2, 9),
            batch_most=chance.choice((1, 3, 500, 500)),
            breaker_run=chance.choice((2, 100, 100, 100)),
            at=moments(chance, faults),
            rates={kind: chance.choice((0.03, 0.1, 0.3)) for kind in kinds},
            calm_step=chance.randrange(100, 700),
        )


def moments(chance: Random, faults: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """Draw when: half of them shortly after the one before, since what is hard to bear comes together."""
    step, drawn = chance.randrange(20, 500), []
    for fault in faults:
        drawn.append((step, fault))
        step += chance.randrange(40) if chance.random() < 0.5 else chance.randrange(400)
    return tuple(drawn)
