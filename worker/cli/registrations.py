"""`registration publish | status | explain | tail | verify`: registrations sent, told about, and checked."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from worker import app as processes
from worker import logs
from worker.cli.terminal import Json, progress_bars, quiet, result_of, say, show
from worker.config import load
from worker.errors import EXIT_DONE, EXIT_FAILED, EXIT_UNAVAILABLE
from worker.operate import explain, status, tail, verify, verify_report

cli = typer.Typer()


@cli.command(name="publish")
def publish_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="JSON Lines; `-` is standard input.")],
    tenant: Annotated[str | None, typer.Option(help="Of lines without `tenantId`: the tenant, by id or slug.")] = None,
    source: Annotated[str, typer.Option(help="Who sends: `ce_source`, and `requestedBy` of lines without it.")] = "/upstream",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the lines.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result of each line as JSON.")] = False,
) -> None:
    """
    Send registrations to Kafka, as an upstream service does; passwords are hashed here.

    Each line is one JSON object: a registration as HTTP takes it, with its password; or a command with `customer` and
    `passwordHash` (argon2id), and no password anywhere. Beside either may stand `tenantId`, `registrationId`, `idempotencyKey`.

    Without a `registrationId`, it derives from REGISTRATION_PUBLISH_KEY, the tenant, and the `idempotencyKey`, or else the
    customer's data without passwords. So a file can be sent again, whole, whatever happened before: what was sent is recognized.

    Exit codes: 0 all were acknowledged, 1 some were refused, 2 usage, 3 Kafka is unavailable, 130 interrupted.
    """
    from worker.operate import publish
    from worker.operate.publish_lines import Publisher

    nowhere = {"kafka_bootstrap": "127.0.0.1:1"} if dry_run else {}
    settings = load(database_url="postgresql://127.0.0.1/none", **nowhere)  # an upstream service has no database of ours
    logs.configure("WARNING", "console")
    publisher = Publisher(publish.key_of(settings), tenant, source)

    async def send(stop: asyncio.Event) -> int:
        producer = None if dry_run else processes.producer_of(settings, "publish")
        try:
            with progress_bars() as progress:
                summary = await publish.publish(
                    settings,
                    files,
                    publisher,
                    stop,
                    producer=producer,
                    told=lambda result: show(result.to_json() if as_json else result.text()),
                    progress=progress,
                )
        finally:
            if producer is not None:
                await producer.stop()
        if summary.unavailable:
            say(f"kafka is unavailable: {summary.unavailable}", EXIT_UNAVAILABLE)
        return say(summary.text(), summary.exit_code)

    raise typer.Exit(processes.run(send))


@cli.command(name="status")
def status_command(
    registration_id: Annotated[str, typer.Argument(metavar="REG_ID")],
    tenant: Annotated[str | None, typer.Option(help="The tenant, by id or slug; all of them where it is left out.")] = None,
    as_json: Json = False,
) -> None:
    """Say what became of a registration."""
    found = result_of(status.status(quiet(), registration_id, tenant))
    for each in found:
        show(each.to_json() if as_json else status.render(each))
    if not found:
        raise typer.Exit(say("no outcome of that registration is stored", EXIT_FAILED))


@cli.command(name="explain")
def explain_command(
    id_: Annotated[str, typer.Argument(metavar="ID", help="`cust_…` or `reg_…`")],
    tenant: Annotated[str | None, typer.Option(help="The tenant, by id or slug; all of them where it is left out.")] = None,
    at_version: Annotated[int | None, typer.Option("--at-version", min=1, help="Also what this version would decide.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Decide again; exit 1 where it is not what is stored.")] = False,
    as_json: Json = False,
) -> None:
    """Tell why a customer was decided about as they were, in plain language."""
    try:
        found = result_of(explain.explain(quiet(), id_, tenant=tenant, at_version=at_version, check=check))
    except explain.NoSuchVersionError as error:
        raise typer.Exit(say(str(error), EXIT_FAILED)) from None
    for each in found:
        show(each.to_json() if as_json else explain.render(each))
    if not found:
        raise typer.Exit(say("no customer or registration of that id is stored", EXIT_FAILED))
    raise typer.Exit(EXIT_FAILED if any(each.same is False for each in found) else EXIT_DONE)


@cli.command(name="tail")
def tail_command(
    from_start: Annotated[bool, typer.Option("--from-start", help="All that is kept, then what comes.")] = False,
    as_json: Json = False,
) -> None:
    """Show the events as they come, one line each, until Ctrl-C."""
    settings = quiet()

    async def follow(stop: asyncio.Event) -> int:
        async for seen in tail.tail(settings, stop, from_start=from_start):
            show(seen.to_json() if as_json else tail.line(seen))
        return EXIT_DONE

    raise typer.Exit(processes.run(follow))


@cli.command(name="verify")
def verify_command(
    as_json: Json = False,
    settle_s: Annotated[float, typer.Option("--settle-s", min=0, help="Longest wait for the outbox to drain.")] = verify.SETTLE_S,
    sample: Annotated[int, typer.Option(min=0, help="Customers, chosen at random, to decide again.")] = verify.SAMPLE_ROWS,
) -> None:
    """Check the promises over the whole history that is still kept; exit 1 with the ids where one does not hold."""
    settings = quiet()
    with progress_bars() as progress:
        report = result_of(verify.verify(settings, progress=progress, settle_s=settle_s, sample=sample))
    show(report.to_json() if as_json else verify_report.render(report))
    raise typer.Exit(EXIT_DONE if report.ok else EXIT_FAILED)
