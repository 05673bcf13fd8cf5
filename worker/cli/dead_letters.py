"""`registration dead-letters`: which there are, what one holds, and sending them again."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import timedelta
from typing import Annotated, Final

import typer

from worker import app as processes
from worker.cli.terminal import USER, Json, progress_bars, quiet, result_of, say, show
from worker.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from worker.operate import dead_letters, dead_letters_redrive
from worker.operate.dead_letters import LetterId
from worker.operate.dead_letters_redrive import BusyError, Choice, NothingChosenError, Plan

cli = typer.Typer(help="What could not be processed: list, show, redrive.", no_args_is_help=True)

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(r"([0-9]{1,6})([smhdw])")


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text)
    if found is None:
        raise typer.BadParameter("an age is a number with s, m, h, d or w, such as 12h")
    return timedelta(seconds=int(found[1]) * _UNITS_S[found[2]])


def _id(text: str) -> LetterId:
    found = LetterId.parse(text)
    if found is None:
        raise typer.BadParameter("an id is <topic>-<partition>-<offset> of the command, as `dead-letters list` shows it")
    return found


Code = Annotated[str | None, typer.Option(help="Why they are dead, such as `schema.invalid`.")]
Tenant = Annotated[str | None, typer.Option(help="The tenant, by id or slug; leaves out letters whose tenant can't be read.")]
By = Annotated[str, typer.Option(help="Who does it, for the record.")]


@cli.command(name="list")
def list_command(
    *,
    code: Code = None,
    tenant: Tenant = None,
    older_than: Annotated[timedelta | None, typer.Option(parser=_age, metavar="AGE", help="Such as 30m, 12h, 7d.")] = None,
    newer_than: Annotated[timedelta | None, typer.Option(parser=_age, metavar="AGE", help="Such as 30m, 12h, 7d.")] = None,
    most: Annotated[int, typer.Option(min=1, help="How many to list.")] = dead_letters.LIST_ROWS,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each.")] = False,
) -> None:
    """List dead letters, newest first: where, why, whose, when, and whether they were sent again."""
    found = result_of(dead_letters.find(quiet(), code=code, tenant=tenant, older_than=older_than, newer_than=newer_than, most=most))
    if as_json:
        for letter in found.letters:
            show(letter.to_json())
    elif found.letters:
        show(dead_letters.render(found.letters))
    if found.total > len(found.letters) or not as_json:
        say(f"{len(found.letters):,} of {found.total:,} dead letters", EXIT_DONE)


@cli.command(name="show")
def show_command(
    which: Annotated[LetterId, typer.Argument(metavar="ID", parser=_id, help="`<topic>-<partition>-<offset>` of the command.")],
    reveal: Annotated[bool, typer.Option("--reveal", help="What was sent, as it was; noted with your name first.")] = False,
    reason: Annotated[str, typer.Option(help="Why you must see it; needed with --reveal.")] = "",
    by: By = USER,
    as_json: Json = False,
) -> None:
    """Show what one holds: names and lengths only, or with --reveal all of it, after that was noted in the database."""
    if reveal and not reason.strip():
        raise typer.Exit(say("--reveal needs --reason: it is noted who saw what, when and why", EXIT_USAGE))
    work = dead_letters.reveal(quiet(), which, by=by, reason=reason) if reveal else dead_letters.show(quiet(), which)
    found = result_of(work)
    if found is None:
        raise typer.Exit(say(f"there is no dead letter {which}", EXIT_FAILED))
    show(found.to_json() if as_json else dead_letters.render_shown(found))


@cli.command(name="redrive")
def redrive_command(
    *,
    ids: Annotated[list[LetterId] | None, typer.Argument(metavar="[ID]…", parser=_id, help="Only these.")] = None,
    code: Code = None,
    tenant: Tenant = None,
    everything: Annotated[bool, typer.Option("--all", help="All that there are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Without asking; nobody is asked who is on no terminal.")] = False,
    by: By = USER,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for the preview, and one for what was done.")] = False,
) -> None:
    """
    Send dead letters again, as they were sent, for today's rules to decide.

    A preview freezes which, and says what would become of them. Each is noted before and after it is sent, so that running it
    again sends nothing twice; one whose fate is unknown is sent again, which changes nothing where its registration has an
    outcome. What carried a password was never kept, and can't be sent.

    Exit codes: 0 done, 1 a letter that was named, or that no key opens, can't be sent, 2 usage, 3 a server is unavailable,
    130 interrupted.
    """
    try:
        choice = Choice(tuple(ids or ()), code, tenant, everything)
    except NothingChosenError:
        raise typer.Exit(say("say which: an id, --code, --tenant, or --all", EXIT_USAGE)) from None
    settings, made = quiet(), Plan()

    async def look(stop: asyncio.Event) -> int:
        nonlocal made
        with progress_bars() as progress:
            made = await dead_letters_redrive.plan(settings, choice, stop, progress)
        return EXIT_DONE

    async def send(stop: asyncio.Event) -> int:
        producer = processes.producer_of(settings, "redrive")
        try:
            with progress_bars() as progress:
                done = await dead_letters_redrive.redrive(settings, made, stop, by=by, producer=producer, progress=progress)
        except BusyError:
            return say("another redrive is at work", EXIT_FAILED)
        finally:
            await producer.stop()
        show(done.to_json() if as_json else done.text())
        return done.exit_code or made.exit_code

    processes.run(look)
    show(made.to_json() if as_json else made.text())
    if dry_run or not made.is_whole or not made.letters:
        raise typer.Exit(made.exit_code)
    if not yes and sys.stdin.isatty() and not typer.confirm("Send them?", err=True):
        raise typer.Exit(EXIT_FAILED)
    raise typer.Exit(processes.run(send))
