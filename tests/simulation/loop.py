"""
An event loop with a seeded order and virtual time, shared by several processes that can crash and freeze.

Which process runs next is drawn; within one, callbacks keep their order, as asyncio promises. When nothing is ready the
clock jumps to the next timer. A crash is an await that never resumes: nothing of the process runs any more, no `finally`
either, as after SIGKILL.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final, TypeVar

T = TypeVar("T")

_CLOSES_MOST: Final = 100
"""A coroutine's `finally` may await that often while it is thrown away."""


class Process:
    """
    What crashes and freezes as one.

    Attributes:
        alive: false from its crash on.
        frozen: it runs nothing, and will later (SIGSTOP, a long pause of its machine).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.ready: deque[asyncio.Handle] = deque()
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)


PROCESS: Final[ContextVar[Process]] = ContextVar("PROCESS")
"""Whose code runs: inherited by each task and callback, as contexts are."""


def current() -> Process:
    """Return the process whose code runs now."""
    return PROCESS.get()


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set follows from its number: by its address, a run would differ from its repetition."""

    def __init__(self, coro: Any, number: int, **how: Any) -> None:  # noqa: ANN401 - asyncio's
        self._number = number
        super().__init__(coro, **how)

    def __hash__(self) -> int:
        return self._number


class SeededLoop(asyncio.BaseEventLoop):
    """
    The loop of one run.

    Args:
        chance: draws who runs next; of the run's seed.
    Attributes:
        now_s: virtual time, in seconds.
        steps: callbacks run so far.
        outside: the servers, which never crash with a process.
    """

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self.now_s = 0.0
        self.steps = 0
        self.outside = Process("outside")
        self._chance = chance
        self._runnable: list[Process] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._sequence = count()
        self._made: list[asyncio.Task[Any]] = []

    # --- what asyncio asks of a loop -----------------------------------------------------------------------------

    def time(self) -> float:
        """Return virtual time, in seconds."""
        return self.now_s

    def call_soon(  # type: ignore[override]  # any arguments
        self,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401 - asyncio's
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Run it at this moment, behind what its process has to run already."""
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def call_at(  # type: ignore[override]  # any arguments
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run it at that time."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._sequence), timer))
        return timer

    def call_later(  # type: ignore[override]  # any arguments
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run it in that many seconds."""
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> asyncio.Task[Any]:  # noqa: ANN401
        """Make a task, and keep it: one that is never resumed must not be collected, which would run its `finally`."""
        task = NumberedTask(coro, len(self._made), loop=self, name=name, context=context)
        self._made.append(task)
        return task

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to count: cancelled timers are passed over when their time comes."""

    # --- what a run does with it ---------------------------------------------------------------------------------

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work of a process."""
        return process.context.run(self.create_task, work)

    def outside_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Have a server do something, whatever becomes of who asked."""
        return self.call_at(self.now_s + delay_s, callback, *args, context=self.outside.context)

    def run_while(self, condition: Callable[[], bool], until_s: float) -> bool:
        """Run while a condition holds; return False where the time came first, or nothing was left to do."""
        running = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while condition():
                if not self._step(until_s):
                    return False
            return True
        finally:
            events._set_running_loop(running)

    def crash(self, process: Process) -> None:
        """Stop a process at the await at which it is."""
        process.alive = False

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on: all that came meanwhile comes at once."""
        process.frozen = False
        if process.ready and process not in self._runnable:
            self._runnable.append(process)

    def discard(self) -> None:
        """Throw away what was never resumed. What its `finally` does now reaches nobody."""
        running = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for task in self._made:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # crashed tasks are pending for ever
                    _close(task.get_coro())
        finally:
            events._set_running_loop(running)
        self._made.clear()
        self._runnable.clear()
        self._timers.clear()
        self.close()

    def _enqueue(self, handle: asyncio.Handle) -> None:
        process: Process = _context_of(handle).get(PROCESS) or self.outside
        process.ready.append(handle)
        if len(process.ready) == 1 and not process.frozen and process not in self._runnable:
            self._runnable.append(process)

    def _due(self, timer: asyncio.TimerHandle) -> None:
        """Run a server's timer now: nothing else is ready. A process may have crashed or be frozen."""
        if _context_of(timer).get(PROCESS) is self.outside:
            self.steps += 1
            timer._run()
        else:
            self._enqueue(timer)

    def _step(self, until_s: float) -> bool:
        runnable = self._runnable
        if not runnable:
            return self._advance(until_s)
        at = int(self._chance.random() * len(runnable)) if len(runnable) > 1 else 0
        process = runnable[at]
        if process.alive and not process.frozen:
            handle = process.ready.popleft()
            if not handle._cancelled:
                self.steps += 1
                handle._run()
        if not process.ready or not process.alive or process.frozen:
            runnable.remove(process)
        return True

    def _advance(self, until_s: float) -> bool:
        while self._timers:
            when, _, timer = self._timers[0]
            if when > until_s:
                return False
            heappop(self._timers)
            if not timer._cancelled:
                self.now_s = max(self.now_s, when)
                self._due(timer)
                return True
        return False


def _context_of(handle: asyncio.Handle) -> Context:
    """Return the context that a callback runs in: it knows whose it is."""
    context: Context = handle._context  # type: ignore[attr-defined]  # it is there
    return context


def _close(work: Any) -> None:  # noqa: ANN401 - a coroutine
    for _ in range(_CLOSES_MOST):
        try:
            work.close()
        except BaseException:  # noqa: BLE001, S112 - it awaits in a `finally`, or raises there: nobody hears it
            continue
        return
