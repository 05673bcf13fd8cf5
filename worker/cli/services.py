"""`registration dev | demo | ingress | worker | migrate | token`: processes, and what they need to start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from worker import app as processes
from worker.cli.terminal import quiet, result_of, settings_of
from worker.errors import EXIT_DONE, ConfigurationError

cli = typer.Typer()

DRAIN_MARGIN_S = 30
"""What leaving the group and closing clients may take beyond the drain."""


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

    settings = settings_of(http_port=port)

    async def until(stop: asyncio.Event) -> int:
        await serve(settings, stop)
        return EXIT_DONE

    raise typer.Exit(processes.run(until))


@cli.command()
def worker(
    processes_: Annotated[int | None, typer.Option("--processes", min=1, max=64, help="How many worker processes.")] = None,
) -> None:
    """Take commands from Kafka into PostgreSQL, and publish the events."""
    settings = settings_of(processes=processes_)
    if settings.processes == 1:
        raise typer.Exit(processes.run(lambda stop: processes.work(settings, stop)))
    supervisor = processes.Supervisor(["worker"], settings.processes, settings.admin_port)
    raise typer.Exit(processes.run(lambda stop: supervisor.run(stop, settings.drain_timeout_s + DRAIN_MARGIN_S)))


@cli.command()
def migrate() -> None:
    """Bring the database's schema and Kafka's topics up to date."""
    for name in result_of(processes.prepare(settings_of())):
        print(name)


@cli.command()
def token(
    role: Annotated[str, typer.Option(help="The role that it gives.")] = "registration-admin",
    tenant: Annotated[str, typer.Option(help="The tenant, by id or slug.")] = "development",
    ttl_s: Annotated[int, typer.Option("--ttl-s", min=1, help="Seconds until it expires.")] = 3600,
) -> None:
    """Make an access token for development; only an ingress of `registration dev` accepts it."""
    from worker.dev.tokens import make_token

    settings = quiet()
    if not settings.development or settings.jwks_file is None:
        raise ConfigurationError("REGISTRATION_DEVELOPMENT: tokens are made only beside `registration dev`")
    print(make_token(settings.jwks_file.parent, role, tenant, ttl_s))
