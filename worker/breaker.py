"""
The breaker of a partition: a long run of nothing but dead letters means a bad deploy, not bad data.

Neither may it drain the topic into dead letters nor let it outlast its retention: after a pause one batch is tried,
then after ever longer ones; the first success closes it, and an operator's order does at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from worker import logs
from worker.config import Settings
from worker.registration import Verdict, counts_for_breaker


class Breaker:
    """
    Counts dead letters in a row. The count lives in the partition's row, so that it survives its owners.

    Args:
        settings: how long a run trips it, and its pauses.
        clock: seconds, from anywhere; it never goes back.
    Attributes:
        run: dead letters in a row, up to the position.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.run = 0
        self._settings = settings
        self._clock = clock
        self._pause_s = 0.0
        self._closed_until = 0.0

    @property
    def tripped(self) -> bool:
        """The run is so long that the partition pauses between batches."""
        return self.run >= self._settings.breaker_run

    @property
    def open(self) -> bool:
        """The partition pauses now."""
        return self.tripped and self._clock() < self._closed_until

    def claimed(self, run: int, *, resumed: bool) -> None:
        """Take over the count of the partition's row."""
        was_tripped, self.run = self.tripped, 0 if resumed else run
        if self.tripped and not self._pause_s:
            self._pause()
        elif was_tripped and not self.tripped:
            self._close()

    def most_records(self) -> int:
        """Return how many records the next batch may hold."""
        most = self._settings.batch_max_records
        return min(self._settings.breaker_run, most) if self.tripped else most

    def cuts(self, run: int) -> bool:
        """Say whether a batch ends at a record up to which `run` dead letters stand in a row."""
        return not self.tripped and run >= self._settings.breaker_run

    def after(self, verdicts: Sequence[Verdict]) -> int:
        """Return the run after these verdicts."""
        run = self.run
        for verdict in verdicts:
            run = run + 1 if counts_for_breaker(verdict) else 0
        return run

    def moved(self, run: int) -> None:
        """Take note of the run after a batch that was committed."""
        was_tripped, self.run = self.tripped, run
        if self.tripped:
            self._pause()
        elif was_tripped:
            self._close()

    def resumed(self) -> None:
        """An operator said: go on."""
        if self.tripped:
            self._close()
        self.run = 0

    def _pause(self) -> None:
        first, most = self._settings.breaker_pause_s, self._settings.breaker_pause_max_s
        self._pause_s = min(self._pause_s * 2, most) if self._pause_s else first
        self._closed_until = self._clock() + self._pause_s
        logs.logger().error("breaker.opened", dead_letters_in_a_row=self.run, next_try_in_s=self._pause_s)

    def _close(self) -> None:
        self._pause_s = self._closed_until = 0.0
        logs.logger().warning("breaker.closed")
