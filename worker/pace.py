"""How many records a batch takes: what waits, and no more than is done within the latency goal."""

from __future__ import annotations

from collections import deque
from statistics import linear_regression
from typing import Final

REMEMBERED_BATCHES: Final = 32
LEAST_POINTS: Final = 4
"""Of different sizes: a line through fewer says little."""
SLOPE_MIN_S: Final = 1e-6


class Pace:
    """
    The size of one lane's batches.

    A batch takes a time that it has whatever its size, for round trips and the commit, and a time for each record. Both are
    read off the line through the last batches. Where the first alone is beyond half of the goal, as on a slow disk, smaller
    batches would only give away pace: then a batch may take as long for its records as it takes anyway.

    Args:
        most: records of the largest batch.
        goal_s: how long a batch should take at most, from its first record's check to its commit.
    """

    def __init__(self, most: int, goal_s: float) -> None:
        self.records = most
        self._most = most
        self._goal_s = goal_s
        self._seen: deque[tuple[int, float]] = deque(maxlen=REMEMBERED_BATCHES)

    def took(self, records: int, seconds: float) -> None:
        """Take note of a batch."""
        self._seen.append((records, seconds))
        fixed_s, each_s = self._line()
        within_s = max(self._goal_s - fixed_s, fixed_s)
        self.records = max(1, min(self._most, int(within_s / each_s)))

    def _line(self) -> tuple[float, float]:
        """Return the time of any batch, and that of each record, in seconds."""
        if len({records for records, _ in self._seen}) >= LEAST_POINTS:
            line = linear_regression(*zip(*self._seen, strict=True))
            if line.slope > SLOPE_MIN_S and line.intercept >= 0:
                return line.intercept, line.slope
        total_s, total = sum(seconds for _, seconds in self._seen), sum(records for records, _ in self._seen)
        return 0.0, max(total_s / total, SLOPE_MIN_S)
