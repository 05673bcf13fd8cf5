"""
How fast one caller may ask: a bucket for each tenant and subject, in this process.

It holds what the caller may still ask at once, and fills evenly. Kept as one number for each caller, the time at which
it is full again (the generic cell rate algorithm), so that a request costs a look-up and the past costs nothing.

Source: ITU-T I.371 (the algorithm), draft-ietf-httpapi-ratelimit-headers-10 (what the caller is told).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

Caller: TypeAlias = tuple[str, str]
"""Tenant and subject."""

CALLERS_MAX: Final = 10_000
POLICY: Final = "caller"


@dataclass(frozen=True, slots=True)
class Allowance:
    """
    What a caller may still ask.

    Args:
        is_granted: whether this request may go on.
        remaining: requests that may follow at once.
        full_in_s: seconds until nothing is used any more.
        retry_after_s: whole seconds until one more is granted; 0 where it is at once.
    """

    is_granted: bool
    remaining: int
    full_in_s: int
    retry_after_s: int


class RateLimit:
    """
    The callers of late.

    Args:
        requests: that may come in a window, all at once or spread.
        window_s: seconds.
        callers_max: how many are remembered; beyond, the one is forgotten who has been silent for longest.
    """

    def __init__(self, requests: int, window_s: float, callers_max: int = CALLERS_MAX) -> None:
        self._requests = requests
        self._window_s = window_s
        self._callers_max = callers_max
        self._full_at: dict[Caller, float] = {}
        self.policy = f'"{POLICY}";q={requests};w={math.ceil(window_s)}'

    def take(self, caller: Caller, now_s: float) -> Allowance:
        """
        Count a request, where it is granted.

        Args:
            caller: who asks.
            now_s: the time, on a clock that never goes back.
        """
        step_s = self._window_s / self._requests
        used_s = max(self._full_at.pop(caller, now_s) - now_s, 0.0)
        is_granted = used_s + step_s <= self._window_s + step_s / 2
        if is_granted:
            used_s += step_s
        self._full_at[caller] = now_s + used_s
        if len(self._full_at) > self._callers_max:
            del self._full_at[next(iter(self._full_at))]
        remaining = max(math.floor((self._window_s - used_s) / step_s + 0.5), 0)
        retry_after_s = 0 if remaining else max(math.ceil(used_s + step_s - self._window_s), 1)
        return Allowance(is_granted, remaining, math.ceil(used_s), retry_after_s)

    def __len__(self) -> int:
        """Return how many callers are remembered."""
        return len(self._full_at)


def headers(policy: str, allowance: Allowance) -> tuple[tuple[bytes, bytes], ...]:
    """Return what a caller is told with each answer."""
    told = f'"{POLICY}";r={allowance.remaining};t={allowance.full_in_s}'
    return (b"ratelimit-policy", policy.encode()), (b"ratelimit", told.encode())
