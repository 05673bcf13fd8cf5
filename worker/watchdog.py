"""
Liveness: which partitions stand still with commands to do, and with no wait of a name that explains it.

Then only a restart can help, and `/livez` says so. How far the log reaches is told by Kafka, not by what the lane has
fetched: a client that has ceased to fetch sees no lag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker import logs

CHECKS: Final = 4
"""How often a partition is looked at in the time after which it counts as stalled."""


@dataclass(slots=True)
class _Standing:
    position: int
    since_s: float
    told: bool = False


class Watchdog:
    """
    Remembers since when each partition stands where it does.

    Args:
        stall_s: seconds after which standing still is no pause any more.
    """

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._standing: dict[int, _Standing] = {}

    @property
    def interval_s(self) -> float:
        """How often to look, in seconds."""
        return self._stall_s / CHECKS

    @property
    def stalled(self) -> list[int]:
        """The partitions that stand still for too long."""
        return sorted(partition for partition, standing in self._standing.items() if standing.told)

    def moved(self, partition: int, position: int) -> bool:
        """Say whether a partition stands elsewhere than when it was last seen at work."""
        standing = self._standing.get(partition)
        return standing is None or standing.position != position

    def excuse(self, partition: int) -> None:
        """Take note that it has nothing to do, or waits for something that has a name, or is another's."""
        self._standing.pop(partition, None)

    def at_work(self, partition: int, position: int, now_s: float) -> None:
        """Take note of where a partition stands that has commands to do and no reason to wait."""
        if self.moved(partition, position):
            self._standing[partition] = _Standing(position, now_s)
            return
        standing = self._standing[partition]
        stood_s = now_s - standing.since_s
        if stood_s >= self._stall_s and not standing.told:
            standing.told = True
            logs.logger(partition=partition).error("lane.stalled", next_offset=position, stood_still_s=round(stood_s, 1))

    def keep(self, partitions: set[int]) -> None:
        """Forget all but these."""
        for partition in self._standing.keys() - partitions:
            self.excuse(partition)
