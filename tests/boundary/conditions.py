"""Waiting for what another process does: a condition and a deadline, never a pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

WITHIN_S: Final = 15.0
_POLL_S: Final = 0.02


async def until(condition: Callable[[], Awaitable[T]], what: str, within_s: float = WITHIN_S) -> T:
    """
    Ask again and again until the answer is true; return it.

    Raises:
        AssertionError: it was not in time; `what` says what was waited for.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(_POLL_S)
