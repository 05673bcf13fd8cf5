"""
Child processes that never outlive us, the ports they listen on, and folders that go with their owner.

Every child has a session of its own, so that Ctrl-C in a terminal reaches us first and we end it in order; where even SIGKILL
ends us, the kernel ends the child (`launch.py`). Nothing here ever looks for a process by its name.
"""

import asyncio
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

LAUNCH = Path(__file__).with_name("launch.py")
POLL_S = 0.02
LAST_LINES = 12
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
# What a developer's shell may hold and must not change a server: JVM options, libpq's defaults.
NOT_INHERITED = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "PGDATA", "PGPORT", "PGHOST", "PGOPTIONS")


class StartError(Exception):
    """A server did not start: it says which, why as far as we know, and the last lines of its log."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom a child runs as. `passes_folders` lets that user through folders that only root may enter."""

    id: int
    group: int
    passes_folders: bool = False


class Child:
    """
    One running child process.

    Args:
        command: program (a whole path) and arguments.
        log: where its output goes, appended; None shows it where ours goes.
        death_signal: what the kernel sends it when the thread that called this ends.
        user: whom it becomes; None stays as we are.
        text: what it reads on its standard input, up to a page.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | None,
        death_signal: signal.Signals,
        user: User | None = None,
        text: str = "",
    ) -> None:
        self.name = Path(command[0]).name
        self._log = log
        become = (user.id, user.group, int(user.passes_folders)) if user else (-1, -1, 0)
        launch = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(death_signal)), *map(str, become)]
        environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        with log.open("ab") if log else nullcontext() as output:
            self._log_start = output.tell() if output else 0
            self._process = subprocess.Popen(  # noqa: S603 -- the command is ours
                [*launch, *command],
                stdin=subprocess.PIPE if text else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        if self._process.stdin:
            with suppress(BrokenPipeError), self._process.stdin as pipe:
                pipe.write(text.encode())
        self.pid = self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """Return what it has written since it was started."""
        if self._log is None:
            return ""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def last_lines(self) -> str:
        """Return the end of what it has written."""
        return "\n".join(self.output().splitlines()[-LAST_LINES:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it still runs."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it and its process group by SIGKILL, and wait for it: a killed process takes milliseconds."""
        if self.running:  # else the group's number may be another's by now
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended, or for so long, without an event loop."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    async def ended(self, timeout_s: float) -> bool:
        """Wait until it has ended; False if it did not in time."""
        return await until(lambda: not self.running, timeout_s)


async def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a condition; False if it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


async def run(command: Sequence[str], *, log: Path | None, timeout_s: float, user: User | None = None, text: str = "") -> str:
    """
    Run a command to its end and return what it wrote; nothing of it is left, however we are interrupted.

    Raises:
        StartError: it failed or did not end in time.
    """
    child = Child(command, log=log, death_signal=signal.SIGKILL, user=user, text=text)
    try:
        in_time = await child.ended(timeout_s)
    finally:
        child.kill()
    if not in_time or child.exit_code:
        why = f"failed with exit code {child.exit_code}" if in_time else f"did not end within {timeout_s:g} s"
        msg = f"{child.name} {why}" + (f":\n{child.last_lines()}" if log else "")
        raise StartError(msg)
    return child.output()


async def until_ready(child: Child, is_ready: Callable[[], bool], within_s: float) -> str | None:
    """Wait until a server is ready; else return why it is not (it may still run)."""
    if not await until(lambda: not child.running or is_ready(), within_s):
        return f"was not ready within {within_s:g} s"
    return None if child.running else f"ended with exit code {child.exit_code}"


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(taken: Iterable[int] = ()) -> int:
    """
    Pick a free port of 127.0.0.1 below those that the kernel gives to outgoing connections.

    One from the kernel's own range would be free only until some client connects anywhere: a server that is stopped for a moment
    could not come back on it.
    """
    for _ in range(1000):
        port = random.randint(15000, 32000)  # noqa: S311 -- no secret
        if port not in taken and is_free(port):
            return port
    msg = "no free port on 127.0.0.1 between 15000 and 32000"
    raise StartError(msg)


@contextmanager
def owned(folder: Path) -> Iterator[Path]:
    """
    Make a folder ours as long as we live, whatever ends us.

    Raises:
        StartError: another process has it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        msg = f"cannot use {folder}: {error.strerror}"
        raise StartError(msg) from error
    try:
        if not _claim(descriptor):
            msg = f"{folder} is in use by another process"
            raise StartError(msg)
        yield folder
    finally:
        os.close(descriptor)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """
    Make a folder that is removed at the end; those that killed owners could not remove are removed now.

    Raises:
        StartError: there is no room or permission for it.
    """
    remove_leftovers(prefix)
    try:
        folder, descriptor = _new_folder(prefix)
    except OSError as error:
        msg = f"cannot make a temporary folder: {error.strerror}"
        raise StartError(msg) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _new_folder(prefix: str) -> tuple[Path, int]:
    """Make and claim a folder. Another process may remove it before it is claimed, hence the loop."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            if _claim(descriptor) and folder.exists():
                folder.chmod(0o711)  # a server that runs as another user passes through; what is inside is closed to others
                return folder, descriptor
            os.close(descriptor)


def remove_leftovers(prefix: str) -> None:
    """Remove the temporary folders of this user whose owner is dead: the kernel let go of their lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if _claim(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _claim(descriptor: int) -> bool:
    """Take the lock of an open folder; False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def ending_in_order() -> Iterator[None]:
    """
    Let SIGTERM and SIGHUP end the block as Ctrl-C does, then the process as they always do.

    Only where nobody has said otherwise: a process with handlers of its own keeps them.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)

    mine = []
    if threading.current_thread() is threading.main_thread():
        mine = [number for number in ENDING_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in mine:
            if signal.getsignal(number) is interrupt:
                signal.signal(number, signal.SIG_DFL)
        if received:
            os.kill(os.getpid(), received[0])
