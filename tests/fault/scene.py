"""A scene: what happens to a process before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from tests.fault.arena import Arena, Victim
from tests.fault.launcher import Orders
from worker.dev.process import until

WITHIN_S: Final = 12.0
NOWHERE: Final = "127.0.0.1:1"
PEOPLE: Final = 24
T = TypeVar("T")
Act: TypeAlias = Callable[[Arena, Victim], Coroutine[Any, Any, None]]


async def _nothing(_arena: Arena, _victim: Victim) -> None:
    """Nothing more."""


@dataclass(frozen=True, slots=True)
class Scene:
    """
    A way to lead a process.

    Attributes:
        name: for `--scene` and reports.
        orders: what the process is, made anew for each.
        act: what is done with it once it was started; afterwards it gets SIGTERM.
        after: what must hold when it has ended, however it did.
        beside: a worker runs beside it.
    """

    name: str
    orders: Callable[[Arena], Awaitable[Orders]]
    act: Act
    after: Act = _nothing
    beside: bool = False


async def told(victim: Victim, event: str, times: int = 1) -> None:
    """Wait until a process has logged an event so often."""
    was_told = await until(lambda: victim.told(event) >= times, WITHIN_S)
    assert was_told, f"{event} was not told {times} times:\n{victim.output()[-6000:]}"


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that connects, to its end even where the scene is over: cut off, it would leave a socket behind."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    finally:
        await asyncio.wait({task})
