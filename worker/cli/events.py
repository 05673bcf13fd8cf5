"""`registration events`: facts that are told again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from worker import app as processes
from worker.cli.terminal import Json, progress_bars, quiet, show
from worker.operate import republish

cli = typer.Typer(help="What the worker tells the world: republish.", no_args_is_help=True)


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a time is ISO 8601, such as 2026-01-31T08:00:00Z") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


@cli.callback()
def events() -> None:
    """Tell facts again."""


@cli.command(name="republish")
def republish_command(
    since: Annotated[
        datetime, typer.Option("--from", parser=_time, metavar="TIME", help="First moment, ISO 8601; UTC by default.")
    ],
    until: Annotated[
        datetime | None, typer.Option("--to", parser=_time, metavar="TIME", help="Before this moment; now, where it is left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    as_json: Json = False,
) -> None:
    """
    Send the events of a time again, from what is stored: same key, bytes and `ce_id`, in the order in which they were decided.

    Times are those of the commands on the broker. Only `traceparent` is left out, which is not stored. Consumers that keep the
    `ce_id`s that they acted on see nothing new.

    Exit codes: 0 all were sent, 1 some customers' rows are gone, 2 usage, 3 a server is unavailable, 130 interrupted.
    """
    settings = quiet()

    async def send(stop: asyncio.Event) -> int:
        producer = None if dry_run else processes.producer_of(settings, "republish")
        try:
            with progress_bars() as progress:
                done = await republish.republish(settings, since, until, stop, producer=producer, progress=progress)
        finally:
            if producer is not None:
                await producer.stop()
        show(done.to_json() if as_json else done.text())
        return done.exit_code

    raise typer.Exit(processes.run(send))
