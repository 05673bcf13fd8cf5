"""What every command does with its settings and with whoever reads: results on stdout, all else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from getpass import getuser
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import typer
import uvloop
from rich.console import Console, RenderableType
from rich.progress import Progress, TaskID

from worker import logs, transport
from worker.config import Settings, load

T = TypeVar("T")


def _user() -> str:
    """Return who runs this; a container's user may have no name."""
    try:
        return getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


USER: Final = _user()
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for scripts.")]


def settings_of(**overrides: Any) -> Settings:  # noqa: ANN401 - pydantic checks each
    """Return the settings of a process, which logs them at its start."""
    settings = load(**{name: value for name, value in overrides.items() if value is not None})
    logs.configure(settings.log_level, settings.log_format)
    logs.logger().info("settings.read", **settings.printable())
    transport.warn(settings)
    return settings


def quiet() -> Settings:
    """Return settings for a command that a person runs: only warnings are logged."""
    settings = load()
    logs.configure("WARNING", "console")
    return settings


def result_of(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end what needs no signals of its own."""
    return uvloop.run(work)


def say(line: str, code: int) -> int:
    """Tell a person one line; return the code that it ends with."""
    print(f"registration: {line}", file=sys.stderr)
    return code


def show(what: RenderableType) -> None:
    """Print for whoever reads: text as it is, so that a script gets whole lines; the rest as rich draws it."""
    if isinstance(what, str):
        print(what, flush=True)
    else:
        Console(soft_wrap=True).print(what)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show bars on stderr for the length of a block: called with a bar's name, how much is done, and how much there is."""
    # What is printed meanwhile goes above the bars where both are on a terminal, and else where it was sent.
    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=sys.stdout.isatty(), disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            task = tasks[what] if what in tasks else tasks.setdefault(what, bar.add_task(what))
            bar.update(task, completed=done, total=total)

        yield progress
