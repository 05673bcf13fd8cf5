"""The command line: `registration …`, the same as `python -m worker …`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.progress import Progress, TaskID

from worker import app as processes
from worker import logs, transport
from worker.config import Settings, load
from worker.core.catalogue import Catalogue
from worker.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    ConfigurationError,
    DeniedError,
    UnavailableError,
)
from worker.operate import catalogue, catalogue_diff, catalogue_file, explain, partitions, status, tail, verify, verify_report
from worker.operate.catalogue_file import CatalogueFault

T = TypeVar("T")

cli = typer.Typer(
    name="registration",
    help="Onboards private customers: HTTP to Kafka to PostgreSQL to events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
catalogue_cli = typer.Typer(help="The rules of a tenant: validate, diff, apply, show, history, schema.", no_args_is_help=True)
cli.add_typer(catalogue_cli, name="catalogue")
partitions_cli = typer.Typer(help="Where each partition stands; orders for one that is stopped.", invoke_without_command=True)
cli.add_typer(partitions_cli, name="partitions")

DRAIN_MARGIN_S = 30
"""What leaving the group and closing clients may take beyond the drain."""

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for scripts.")]


def main() -> None:
    """Run a command; errors that people can act on are one line on stderr."""
    try:
        code = cli(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except typer.Abort:
        code = EXIT_INTERRUPTED
    except ConfigurationError as error:
        code = _say(str(error), EXIT_USAGE)
    except UnavailableError as error:
        code = _say(f"{error.service} is unavailable: {error.reason}", EXIT_UNAVAILABLE)
    except DeniedError as error:
        code = _say(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last one to hear of it
        usage = getattr(error, "format_message", None)
        if usage is not None:
            code = _say(usage(), EXIT_USAGE)
        else:  # its text may hold a row or a body
            logs.logger().error("process.crashed", exc_info=error)
            code = EXIT_FAILED
    sys.exit(code or EXIT_DONE)


def _say(line: str, code: int) -> int:
    print(f"registration: {line}", file=sys.stderr)
    return code


def _settings(**overrides: Any) -> Settings:  # noqa: ANN401 - pydantic checks each
    settings = load(**{name: value for name, value in overrides.items() if value is not None})
    logs.configure(settings.log_level, settings.log_format)
    logs.logger().info("settings.read", **settings.printable())
    transport.warn(settings)
    return settings


def _quiet() -> Settings:
    """Settings for a command that a person runs: only warnings are logged."""
    settings = load()
    logs.configure("WARNING", "console")
    return settings


def _result(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show bars on stderr for the length of a block: called with a bar's name, how much is done, and how much there is."""
    # What is printed meanwhile goes above the bars where both are on a terminal, and else where it was sent.
    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=sys.stdout.isatty(), disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            task = tasks[what] if what in tasks else tasks.setdefault(what, bar.add_task(what))
            bar.update(task, completed=done, total=total)

        yield progress


@cli.command()
def dev(
    data: Annotated[Path | None, typer.Option(help="Folder of the servers' data; by default .registration here.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="HTTP port; 0 picks one.")] = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Keep nothing: a temporary folder that goes at the end.")] = False,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Without the worker: commands wait on the topic.")] = False,
) -> None:
    """Run everything in the foreground: embedded Kafka and PostgreSQL, ingress, worker. Prints one JSON line when ready."""
    from worker.dev.stack import run_dev

    raise typer.Exit(run_dev(data=data, port=port, ephemeral=ephemeral, with_worker=not no_worker))


@cli.command()
def demo() -> None:
    """Show the whole path on real servers: two registrations, a refused one, a bad one."""
    from worker.dev.demo import run_demo

    raise typer.Exit(run_demo())


@cli.command()
def ingress(port: Annotated[int | None, typer.Option(min=0, max=65535, help="HTTP port; 0 picks one.")] = None) -> None:
    """Take registrations in over HTTP."""
    from worker.ingress import serve

    settings = _settings(http_port=port)

    async def until(stop: asyncio.Event) -> int:
        await serve(settings, stop)
        return EXIT_DONE

    raise typer.Exit(processes.run(until))


@cli.command()
def worker(
    processes_: Annotated[int | None, typer.Option("--processes", min=1, max=64, help="How many worker processes.")] = None,
) -> None:
    """Take commands from Kafka into PostgreSQL, and publish the events."""
    settings = _settings(processes=processes_)
    if settings.processes == 1:
        raise typer.Exit(processes.run(lambda stop: processes.work(settings, stop)))
    supervisor = processes.Supervisor(["worker"], settings.processes, settings.admin_port)
    raise typer.Exit(processes.run(lambda stop: supervisor.run(stop, settings.drain_timeout_s + DRAIN_MARGIN_S)))


@cli.command()
def migrate() -> None:
    """Bring the database's schema and Kafka's topics up to date."""
    for name in _result(processes.prepare(_settings())):
        print(name)


@cli.command()
def token(
    role: Annotated[str, typer.Option(help="The role that it gives.")] = "registration-admin",
    tenant: Annotated[str, typer.Option(help="The tenant, by id or slug.")] = "development",
    ttl_s: Annotated[int, typer.Option("--ttl-s", min=1, help="Seconds until it expires.")] = 3600,
) -> None:
    """Make an access token for development; only an ingress of `registration dev` accepts it."""
    from worker.dev.tokens import make_token

    settings = _quiet()
    if not settings.development or settings.jwks_file is None:
        raise ConfigurationError("REGISTRATION_DEVELOPMENT: tokens are made only beside `registration dev`")
    print(make_token(settings.jwks_file.parent, role, tenant, ttl_s))


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
            with _progress() as progress:
                summary = await publish.publish(
                    settings,
                    files,
                    publisher,
                    stop,
                    producer=producer,
                    told=lambda result: _show(result.to_json() if as_json else result.text()),
                    progress=progress,
                )
        finally:
            if producer is not None:
                await producer.stop()
        if summary.unavailable:
            _say(f"kafka is unavailable: {summary.unavailable}", EXIT_UNAVAILABLE)
        return _say(summary.text(), summary.exit_code)

    raise typer.Exit(processes.run(send))


@cli.command(name="status")
def status_command(
    registration_id: Annotated[str, typer.Argument(metavar="REG_ID")],
    tenant: Annotated[str | None, typer.Option(help="The tenant, by id or slug; all of them where it is left out.")] = None,
    as_json: Json = False,
) -> None:
    """Say what became of a registration."""
    found = _result(status.status(_quiet(), registration_id, tenant))
    for each in found:
        _show(each.to_json() if as_json else status.render(each))
    if not found:
        raise typer.Exit(_say("no outcome of that registration is stored", EXIT_FAILED))


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
        found = _result(explain.explain(_quiet(), id_, tenant=tenant, at_version=at_version, check=check))
    except explain.NoSuchVersionError as error:
        raise typer.Exit(_say(str(error), EXIT_FAILED)) from None
    for each in found:
        _show(each.to_json() if as_json else explain.render(each))
    if not found:
        raise typer.Exit(_say("no customer or registration of that id is stored", EXIT_FAILED))
    raise typer.Exit(EXIT_FAILED if any(each.same is False for each in found) else EXIT_DONE)


@cli.command(name="tail")
def tail_command(
    from_start: Annotated[bool, typer.Option("--from-start", help="All that is kept, then what comes.")] = False,
    as_json: Json = False,
) -> None:
    """Show the events as they come, one line each, until Ctrl-C."""
    settings = _quiet()

    async def follow(stop: asyncio.Event) -> int:
        async for seen in tail.tail(settings, stop, from_start=from_start):
            _show(seen.to_json() if as_json else tail.line(seen))
        return EXIT_DONE

    raise typer.Exit(processes.run(follow))


@cli.command(name="verify")
def verify_command(
    as_json: Json = False,
    settle_s: Annotated[float, typer.Option("--settle-s", min=0, help="Longest wait for the outbox to drain.")] = verify.SETTLE_S,
    sample: Annotated[int, typer.Option(min=0, help="Customers, chosen at random, to decide again.")] = verify.SAMPLE_ROWS,
) -> None:
    """Check the promises over the whole history that is still kept; exit 1 with the ids where one does not hold."""
    settings = _quiet()
    with _progress() as progress:
        report = _result(verify.verify(settings, progress=progress, settle_s=settle_s, sample=sample))
    _show(report.to_json() if as_json else verify_report.render(report))
    raise typer.Exit(EXIT_DONE if report.ok else EXIT_FAILED)


@catalogue_cli.command(name="validate")
def catalogue_validate(file: Path) -> None:
    """Check a file without a server."""
    found = catalogue_file.validate(file)
    if not isinstance(found, Catalogue):
        raise typer.Exit(_faults(found))
    _show(f"{file}: tenant {found.tenant.slug}, {len(found.categories)} categories, {len(found.features)} features; valid")


@catalogue_cli.command(name="diff")
def catalogue_diff_command(file: Path, as_json: Json = False) -> None:
    """Say what a file would change, in the rules and for whom; exit 1 where protection falls, 2 where the file is wrong."""
    found = _diff(_quiet().database_url.get_secret_value(), file)
    if not isinstance(found, catalogue_diff.Diff):
        _faults(found)
        raise typer.Exit(EXIT_USAGE)
    _show(found.to_json() if as_json else catalogue_diff.render(found))
    raise typer.Exit(EXIT_FAILED if found.protects_less else EXIT_DONE)


@catalogue_cli.command(name="apply")
def catalogue_apply(
    file: Path,
    yes: Annotated[bool, typer.Option("--yes", help="Also where it protects somebody less, without asking.")] = False,
    by: Annotated[str, typer.Option(help="Who does it, for the history.")] = getuser(),
    as_json: Json = False,
) -> None:
    """Publish a tenant's catalogue as a new version; asks where it would protect somebody less."""
    url = _quiet().database_url.get_secret_value()
    found = None if yes else _diff(url, file)
    if isinstance(found, tuple):
        raise typer.Exit(_faults(found))
    if found is not None and found.protects_less and not _agreed(found):
        applied: catalogue.Applied | tuple[CatalogueFault, ...] = catalogue.not_applied(found)
    else:
        applied = _result(catalogue.apply(url, file, by=by, yes=yes, looked_at=found))
    if not isinstance(applied, catalogue.Applied):
        raise typer.Exit(_faults(applied))
    _show(applied.to_json() if as_json else catalogue.render_applied(applied))
    raise typer.Exit(EXIT_DONE if applied.committed else EXIT_FAILED)


def _diff(url: str, file: Path) -> catalogue_diff.Diff | tuple[CatalogueFault, ...]:
    with _progress() as progress:
        return _result(catalogue_diff.diff(url, file, partial(progress, "customers")))


def _agreed(found: catalogue_diff.Diff) -> bool:
    if not sys.stdin.isatty():
        return False
    Console(stderr=True).print(catalogue_diff.render(found))
    return typer.confirm("Publish it?", err=True)


@catalogue_cli.command(name="schema")
def catalogue_schema() -> None:
    """Print the JSON Schema of a catalogue's file, for editors."""
    _show(catalogue_file.schema())


@catalogue_cli.command(name="show")
def catalogue_show(tenant: str, version: Annotated[int | None, typer.Option(min=1)] = None) -> None:
    """Print a stored catalogue as JSON; the one in force unless a version is named."""
    found = _result(catalogue.show(_quiet().database_url.get_secret_value(), tenant, version))
    if found is None:
        raise typer.Exit(_say("there is no such catalogue", EXIT_FAILED))
    _show(found.to_json().decode())


@catalogue_cli.command(name="history")
def catalogue_history(tenant: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """List versions, newest first."""
    versions = _result(catalogue.history(_quiet().database_url.get_secret_value(), tenant))
    if as_json:
        _show("\n".join(each.to_json() for each in versions))
    else:
        _show(catalogue.render_history(versions))


@partitions_cli.callback()
def partitions_list(context: typer.Context, as_json: Json = False) -> None:
    """Show where each partition stands: position, lag, dead letters in a row, outbox, orders."""
    if context.invoked_subcommand is not None:
        return
    states = _result(partitions.partitions(_quiet()))
    _show("\n".join(each.to_json() for each in states) if as_json else partitions.render(states))


@partitions_cli.command(name="resume")
def partitions_resume(
    partition: Annotated[int | None, typer.Argument(min=0, help="Which; all of them where it is left out.")] = None,
    from_log_start: Annotated[bool, typer.Option("--from-log-start", help="Give up records that the log has lost.")] = False,
) -> None:
    """Let a partition go on: after its breaker opened, or after records were lost."""
    _ordered(_result(partitions.resume(_quiet(), partition, from_log_start=from_log_start)))


@partitions_cli.command(name="skip")
def partitions_skip(
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0, help="Of the record that the partition is stopped at.")],
) -> None:
    """Make a dead letter of the one record that a partition is stopped at."""
    _ordered([_result(partitions.skip(_quiet(), partition, offset))])


def _ordered(orders: Sequence[partitions.Ordered]) -> None:
    for order in orders:
        _show(order.text)
    raise typer.Exit(EXIT_DONE if orders and all(order.done for order in orders) else EXIT_FAILED)


def _faults(faults: Sequence[object]) -> int:
    for fault in faults:
        print(fault, file=sys.stderr)
    return EXIT_FAILED


def _show(what: RenderableType) -> None:
    """Print for whoever reads: text as it is, so that a script gets whole lines; the rest as rich draws it."""
    if isinstance(what, str):
        print(what, flush=True)
    else:
        Console(soft_wrap=True).print(what)


if __name__ == "__main__":
    main()
