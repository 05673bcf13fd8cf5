"""How many records a batch takes: what waits, and no more than is done within the latency goal."""

from __future__ import annotations

from collections import deque
from statistics import linear_regression
from typing import Final

REMEMBERED_BATCHES: Final = 32
SMALL: Final = 8
"""Beyond the goal, another size is tried to learn more: a smaller one, and from here on down a larger one."""
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
        wanted = self._by_line() if min(self._seen)[0] < max(self._seen)[0] else self._by_trial(*max(self._seen))
        self.records = max(1, min(self._most, wanted))

    def _by_line(self) -> int:
        """Return the size whose time is the goal."""
        line = linear_regression(*zip(*self._seen, strict=True))
        fixed_s, each_s = max(line.intercept, 0.0), max(line.slope, SLOPE_MIN_S)
        return int(max(self._goal_s - fixed_s, fixed_s) / each_s)

    def _by_trial(self, records: int, took_s: float) -> int:
        """Return a size to try after one size alone: what would fit if the time were all the records', else what tells more."""
        fits = int(self._goal_s * records / max(took_s, SLOPE_MIN_S))
        if fits >= records:
            return fits
        return records // 2 if records > SMALL else records * 2
