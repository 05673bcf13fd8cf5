"""The contenders' processes: started with what they must know, watched, and ended whatever happens."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.contenders import PARTITIONS
from benchmarks.servers import POLL_S, FailedRunError, Servers, cpu_s
from worker.dev.process import Child

COMMAND_WITHIN_S: Final = 45.0
STOP_WITHIN_S: Final = 20.0


class Processes:
    """A contender's processes; none is left when the block ends."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> Child:
        """Start one of them."""
        with _environment(environment):
            child = Child([sys.executable, "-m", *arguments], log=log, death_signal=signal.SIGKILL)
        self._children.append(child)
        return child

    def cpu_s(self) -> float:
        """Return their processor time so far, their own children's too."""
        return sum(cpu_s(child.pid) for child in self._children)

    def signal(self, number: signal.Signals) -> None:
        """Send all of them a signal."""
        for child in self._children:
            child.signal(number)

    def check(self) -> None:
        """
        See that all of them run.

        Raises:
            FailedRunError: one has ended.
        """
        for child in self._children:
            if not child.running:
                msg = f"{child.name} ended with exit code {child.exit_code}:\n{child.last_lines()}"
                raise FailedRunError(msg)

    def last_lines(self) -> str:
        """Return the ends of their logs."""
        return "\n".join(child.last_lines() for child in self._children)

    async def stop(self) -> None:
        """End them in order, and by force what does not end."""
        try:
            for child in self._children:
                child.signal(signal.SIGTERM)
            for child in self._children:
                await child.ended(STOP_WITHIN_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """End them at once, with what they have started."""
        below = []
        for child in self._children:
            with suppress(psutil.NoSuchProcess):
                if child.running:
                    below += psutil.Process(child.pid).children(recursive=True)
            child.kill()
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """Have variables in our own environment while a child inherits it."""
    before = dict(os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def wait(condition: Callable[[], Awaitable[bool]], within_s: float, processes: Processes, what: str) -> None:
    """
    Wait for a condition while all processes run.

    Raises:
        FailedRunError: it does not come true in time.
    """
    deadline = time.monotonic() + within_s
    while not await condition():
        processes.check()
        if time.monotonic() > deadline:
            msg = f"{what}: not in {within_s:g} s; the last lines:\n{processes.last_lines()}"
            raise FailedRunError(msg)
        await asyncio.sleep(POLL_S)


def worker_environment(servers: Servers, database: str) -> dict[str, str]:
    """Return the settings with which the worker's commands join these servers."""
    return {
        "REGISTRATION_KAFKA_BOOTSTRAP": servers.kafka,
        "REGISTRATION_DATABASE_URL": servers.url(database),
        "REGISTRATION_GROUP": database,
        "REGISTRATION_SEALING_KEYS": f"benchmark:{base64.b64encode(bytes(range(32))).decode()}",
        "REGISTRATION_TOPIC_PARTITIONS": str(PARTITIONS),
        "REGISTRATION_ADMIN_PORT": "0",
    }


async def registration(servers: Servers, database: str, *arguments: str) -> None:
    """
    Run one of the worker's commands to its end.

    Raises:
        FailedRunError: it failed.
    """
    processes = Processes()
    try:
        child = processes.start(["worker", *arguments], worker_environment(servers, database), servers.log(arguments))
        ended = await child.ended(COMMAND_WITHIN_S)
    finally:
        processes.kill()
    if not ended or child.exit_code:
        msg = f"registration {' '.join(arguments)} failed:\n{child.last_lines()}"
        raise FailedRunError(msg)


@dataclass(frozen=True, slots=True)
class Used:
    """What a command that has ended said on stdout, and what the kernel counted for it."""

    said: str
    exit_code: int
    duration_s: float
    cpu_s: float
    resident_most_mib: float


async def command(arguments: list[str], environment: Mapping[str, str], output: Path, within_s: float) -> Used:
    """
    Run one of the worker's commands to its end.

    Args:
        arguments: of `registration`.
        environment: added to ours.
        output: takes its stdout.
        within_s: the longest that it may take.
    Raises:
        FailedRunError: it did not end.
    """
    return await asyncio.to_thread(_command, arguments, environment, output, within_s)


def _command(arguments: list[str], environment: Mapping[str, str], output: Path, within_s: float) -> Used:
    began = time.monotonic()
    with output.open("wb") as out:
        line = [sys.executable, "-m", "worker", *arguments]
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        pid = os.posix_spawn(sys.executable, line, {**os.environ, **environment}, file_actions=actions)
        while (ended := os.wait4(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() - began > within_s:
                os.kill(pid, signal.SIGKILL)
                os.wait4(pid, 0)
                msg = f"registration {' '.join(arguments)} did not end in {within_s:g} s"
                raise FailedRunError(msg)
            time.sleep(POLL_S)
    _, status, used = ended
    return Used(
        output.read_text(),
        os.waitstatus_to_exitcode(status),
        round(time.monotonic() - began, 2),
        round(used.ru_utime + used.ru_stime, 2),
        round(used.ru_maxrss / 1024, 1),
    )
