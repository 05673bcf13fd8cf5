"""
A process of the product that ends itself by SIGKILL at one of its awaits, or tells which awaits it met.

    python -m tests.fault.launcher --at worker/lane.py:298:19:await --when after --nth 2 -- worker

Nothing of the product is changed for it: a task factory wraps each task's coroutine, and after every step looks at which
awaits its frames are suspended. All of them count, not the innermost alone: while a batch's COMMIT is under way, each
caller up to the lane's loop waits too.

- `before`: the await is suspended, and the loop has gone on once, so that what was begun is on its way to the server.
- `after`: what was awaited is there, or has failed, and not one instruction of the coroutine has followed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from ctypes import CDLL
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final, TypeAlias, TypeVar

import uvloop

from tests.fault.broken import BROKEN
from tests.fault.points import PACKAGE, Wait, wait_at, waits_of
from worker import __main__ as command_line
from worker.app import SUPERVISOR
from worker.kafka import Record
from worker.lane import Lane

Place: TypeAlias = tuple[FrameType, Wait]
Trace: TypeAlias = Callable[[FrameType, str, Any], Any]
Loop = TypeVar("Loop", bound=asyncio.AbstractEventLoop)

_SUSPENDABLE: Final = (CoroutineType, AsyncGeneratorType, GeneratorType)
_WRAPPERS: Final = frozenset({"coroutine_wrapper", "async_generator_asend", "async_generator_athrow"})
_PR_SET_PDEATHSIG: Final = 1
_REQUEST: Final = "RequestResponseCycle.run_asgi"


@dataclass(frozen=True, slots=True)
class Orders:
    """
    What a process is to do.

    Attributes:
        command: of `registration`, with its arguments.
        environment: variables that are set.
        log: where its output goes, appended; empty: where ours goes.
        report: where one line of JSON goes before it kills itself, or at its end; empty: nowhere.
        at: name of the point to end at; empty: it only tells what it met.
        when: `before` or `after`.
        nth: which of the occasions, from 1.
        flight: whether only those count at which something is in flight.
        broken: name of a deliberate fault (`broken.py`); empty: the product as it is.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: str = ""
    report: str = ""
    at: str = ""
    when: str = "before"
    nth: int = 1
    flight: bool = False
    broken: str = ""


@dataclass(slots=True)
class Met:
    """How often a process was suspended at a point, and how often that ended; of each, with something in flight."""

    suspended: int = 0
    ended: int = 0
    suspended_in_flight: int = 0
    ended_in_flight: int = 0


class InFlight:
    """What a process has taken and not done: records that a lane was offered, and requests that are not answered."""

    def __init__(self) -> None:
        self._fetched: dict[Lane, int] = {}
        self.requests = 0

    def follow(self) -> None:
        """Take note of what lanes are offered from now on."""
        offer = Lane.offer

        def noting(lane: Lane, records: list[Record]) -> None:
            offer(lane, records)
            if records:
                self._fetched[lane] = records[-1].offset + 1

        Lane.offer = noting  # type: ignore[method-assign,assignment]

    def fetched(self) -> dict[int, int]:
        """Return for each partition the offset after the last record that was fetched."""
        return {lane.partition.partition: end for lane, end in self._fetched.items()}

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return self.requests > 0 or any(end > lane.next_offset for lane, end in self._fetched.items())


class Watched(Coroutine[Any, Any, Any]):
    """A task's coroutine that tells a watch about each of its steps; all else is the coroutine's own."""

    def __init__(self, inner: CoroutineType[Any, Any, Any], watch: Watch) -> None:
        self._inner = inner
        self._watch = watch
        self.places: list[Place] = []

    def send(self, value: object) -> object:
        """Take a step."""
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> object:  # noqa: ANN401 - as a coroutine has it
        """Take a step that begins with an exception."""
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        """End it."""
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for it elsewhere than in a task."""
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - asyncio and anyio ask for a coroutine's state
        return getattr(self._inner, name)

    def _step(self, go: Callable[..., object], *arguments: object) -> object:
        self._watch.goes_on(self)
        try:
            result = go(*arguments)
        except BaseException:
            self._watch.stands(self, [])
            raise
        self._watch.stands(self, list(suspended(self._inner)))
        return result


def suspended(coroutine: CoroutineType[Any, Any, Any], package: Path = PACKAGE) -> Iterator[Place]:
    """Yield the frames of a package that a coroutine is suspended in, with what each waits for; the outermost first."""
    each: object = coroutine
    while each is not None:
        frame, inner = _inside(each)
        if frame is not None and (wait := wait_at(frame.f_code, frame.f_lasti, package)) is not None:
            yield frame, wait
        each = inner


def _inside(each: object) -> tuple[FrameType | None, object]:
    if isinstance(each, CoroutineType):
        return each.cr_frame, each.cr_await
    if isinstance(each, AsyncGeneratorType):
        return each.ag_frame, each.ag_await
    if isinstance(each, GeneratorType):
        return each.gi_frame, each.gi_yieldfrom
    if type(each).__name__ in _WRAPPERS:  # they name nothing of what they wrap
        return None, next((found for found in gc.get_referents(each) if isinstance(found, _SUSPENDABLE)), None)
    return None, None


class Watch:
    """
    Sees every step of every task, and acts at the point that was ordered.

    Args:
        orders: which point.
    """

    def __init__(self, orders: Orders) -> None:
        self.flight = InFlight()
        self.met: dict[str, Met] = {}
        self._orders = orders
        self._count = 0

    def factory(self, loop: asyncio.AbstractEventLoop, coroutine: object, **more: Any) -> asyncio.Task[Any]:  # noqa: ANN401
        """Make a task, as a loop's task factory does."""
        if inspect.iscoroutine(coroutine):
            self.flight.requests += coroutine.__qualname__ == _REQUEST
            coroutine = Watched(coroutine, self)
        return asyncio.Task(coroutine, loop=loop, **more)  # type: ignore[arg-type]

    def goes_on(self, task: Watched) -> None:
        """Watch a task that is suspended at the point go on: the end of its wait is no step's end."""
        if self._orders.when == "after" and (place := self._wanted(task.places)) is not None:
            self._follow(*place)

    def stands(self, task: Watched, places: list[Place]) -> None:
        """Take note of where a task stands after a step; nowhere where it has ended."""
        if self._orders.when == "after" and self._orders.at:
            sys.settrace(None)
        if task.cr_frame is None:
            self.flight.requests -= task.__qualname__ == _REQUEST
        if not self._orders.at:
            self._note(task.places, places)
        elif self._orders.when == "before" and self._wanted(places) is not None and self._is_time():
            asyncio.get_running_loop().call_soon(self._kill)
        task.places = places

    def _wanted(self, places: list[Place]) -> Place | None:
        return next((place for place in places if str(place[1].point) == self._orders.at), None)

    def _is_time(self) -> bool:
        self._count += bool(self.flight) or not self._orders.flight
        return self._count == self._orders.nth

    def _follow(self, target: FrameType, wait: Wait) -> None:
        """Trace one frame until its wait is over; it is set by hand, for an exception that is thrown in calls no frame."""

        def within(frame: FrameType, event: str, _what: object) -> Trace | None:
            is_over = event == "exception" or (event == "opcode" and not wait.first <= frame.f_lasti <= wait.last)
            if not is_over:
                return within
            if self._is_time():
                self._kill()
            return None

        target.f_trace, target.f_trace_opcodes = within, True
        sys.settrace(_no_other)

    def _note(self, before: list[Place], now: list[Place]) -> None:
        flight = bool(self.flight)
        for _, wait in now:
            met = self.met.setdefault(str(wait.point), Met())
            met.suspended += 1
            met.suspended_in_flight += flight
        for place in before:
            if place not in now:
                met = self.met[str(place[1].point)]
                met.ended += 1
                met.ended_in_flight += flight

    def _kill(self) -> None:
        _tell(self._orders, {"in_flight": bool(self.flight), "requests": self.flight.requests, "fetched": self.flight.fetched()})
        os.kill(os.getpid(), signal.SIGKILL)


def _no_other(_frame: FrameType, _event: str, _what: object) -> None:
    """Trace no frame that is called."""


class Passed:
    """The awaits that were come to, whether or not they suspended: those whose line ran."""

    def __init__(self) -> None:
        self.points: set[str] = set()
        self._waits: dict[CodeType, dict[int, set[str]]] = {}

    def trace(self, frame: FrameType, event: str, _what: object) -> Trace | None:
        """Follow the lines of coroutines of ours."""
        if event == "call":
            return self.trace if frame.f_code.co_flags & _MAY_AWAIT and self._lines(frame.f_code) else None
        self.points |= self._lines(frame.f_code).get(frame.f_lineno, set())
        return self.trace

    def _lines(self, code: CodeType) -> dict[int, set[str]]:
        if code not in self._waits:
            lines = self._waits.setdefault(code, {})
            for wait in waits_of(code):
                lines.setdefault(wait.point.line, set()).add(str(wait.point))
        return self._waits[code]


_MAY_AWAIT: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class _Policy(asyncio.DefaultEventLoopPolicy):
    """Loops whose tasks are watched, for `asyncio.run`."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Make one."""
        return _watched(super().new_event_loop(), self._watch)


def _watched(loop: Loop, watch: Watch) -> Loop:
    loop.set_task_factory(watch.factory)
    return loop


def launch(orders: Orders) -> None:
    """Become the process that is ordered; this does not return."""
    CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if orders.log:
        output = os.open(orders.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(output, number)
    os.environ.update({SUPERVISOR: str(os.getppid()), **orders.environment})
    watch, passed = Watch(orders), Passed()
    watch.flight.follow()
    if orders.broken:
        BROKEN[orders.broken]()
    asyncio.set_event_loop_policy(_Policy(watch))
    uvloop.run = partial(uvloop.run, loop_factory=lambda: _watched(uvloop.new_event_loop(), watch))
    sys.argv = ["registration", *orders.command]
    if not orders.at:
        sys.settrace(passed.trace)
    try:
        command_line.main()
    except SystemExit as end:
        code = end.code
    sys.settrace(None)
    _tell(orders, {"met": {name: asdict(each) for name, each in watch.met.items()}, "passed": sorted(passed.points)})
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


def _tell(orders: Orders, what: object) -> None:
    if orders.report:
        Path(orders.report).write_text(json.dumps(what))


def main() -> None:
    """Read the orders from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.launcher", description="Run `registration`, killed at an await.")
    parser.add_argument("--at", default="", metavar="FILE:LINE:COL:KIND", help="the point; without it, it only tells what it met")
    parser.add_argument("--when", choices=("before", "after"), default="before")
    parser.add_argument("--nth", type=int, default=1, help="which of the occasions")
    parser.add_argument("--flight", action="store_true", help="count only those with something in flight")
    parser.add_argument("--broken", choices=sorted(BROKEN), default="", help="a deliberate fault of the product")
    parser.add_argument("--report", default="", metavar="FILE", help="where one line of JSON goes")
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="of `registration`")
    given = vars(parser.parse_args())
    launch(Orders(command=tuple(given.pop("command")), **given))


if __name__ == "__main__":
    main()
