"""What goes wrong, how often, and how often it really did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

AT_THE_DOORS: Final = (
    "connect.refused",
    "session.lost_before",
    "session.lost_after",
    "statement.slow",
    "commit.lost_before",
    "commit.lost_after",
    "commit.late",
    "produce.failed",
    "produce.ack_lost",
    "produce.in_part",
    "produce.twice",
    "produce.slow",
    "poll.failed",
    "poll.slow_return",
    "call.failed",
    "call.slow",
)
"""Drawn at each call of a worker to a server."""
WHOLE: Final = (
    "worker.crashed",
    "worker.crashed_with_its_machine",
    "worker.frozen",
    "worker.stopped",
    "member.expelled",
    "database.failed_over",
    "database.failed_over_with_loss",
    "database.restarted",
)
"""Planned: each at a step of the run."""


class Faults:
    """
    The faults of one run.

    Args:
        chance: of the run's seed.
        rates: how often each happens at a door; those left out never do.
        tell: takes a line of the trace.
    Attributes:
        counts: what really happened.
        calm: nothing goes wrong any more: the run is to come to its end.
    """

    def __init__(self, chance: Random, rates: Mapping[str, float], tell: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self.calm = False
        self.chance = chance
        self._rates = rates
        self._tell = tell

    def happens(self, name: str) -> bool:
        """Draw whether this one happens now."""
        rate = self._rates.get(name)
        if rate is None or self.calm or self.chance.random() >= rate:
            return False
        self.happened(name)
        return True

    def happened(self, name: str) -> None:
        """Count one that was planned."""
        self.counts[name] += 1
        self._tell(f"fault {name}")

    def delay_s(self) -> float:
        """Return how long a message is on its way: some milliseconds."""
        return 0.0005 + 0.004 * self.chance.random()

    def between(self, least: float, most: float) -> float:
        """Draw a number, or a time in seconds."""
        return least + (most - least) * self.chance.random()
