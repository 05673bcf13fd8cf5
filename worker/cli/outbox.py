"""`registration outbox`: messages that are committed and not published."""

from __future__ import annotations

import asyncio

import typer

from worker import app as processes
from worker.cli.terminal import Json, progress_bars, quiet, say, show
from worker.errors import EXIT_DONE, EXIT_FAILED
from worker.operate import outbox

cli = typer.Typer(help="Messages that are committed and not published: drain.", no_args_is_help=True)


@cli.callback()
def outbox_group() -> None:
    """Look after messages that nobody publishes."""


@cli.command(name="drain")
def drain_command(as_json: Json = False) -> None:
    """
    Publish messages older than 60 s of partitions that no worker has; those of a worker are left to it.

    Exit codes: 0 nothing old is left, 1 a partition was left as it is, 2 usage, 3 a server is unavailable.
    """
    settings = quiet()

    async def sweep(stop: asyncio.Event) -> int:
        producer = processes.producer_of(settings, "outbox")
        try:
            with progress_bars() as progress:
                drained = await outbox.drain(settings, stop, producer=producer, progress=progress)
        finally:
            await producer.stop()
        for each in drained:
            show(each.to_json() if as_json else f"partition {each.partition}: {each.text}")
        if not drained:
            say("no partition has messages older than 60 s", EXIT_DONE)
        return EXIT_DONE if all(each.done for each in drained) else EXIT_FAILED

    raise typer.Exit(processes.run(sweep))
