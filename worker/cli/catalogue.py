"""`registration catalogue`: the rules of a tenant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from worker.cli.terminal import USER, Json, progress_bars, quiet, result_of, say, show
from worker.core.catalogue import Catalogue
from worker.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from worker.operate import catalogue, catalogue_diff, catalogue_file
from worker.operate.catalogue_file import CatalogueFault

cli = typer.Typer(help="The rules of a tenant: validate, diff, apply, show, history, schema.", no_args_is_help=True)


@cli.command(name="validate")
def catalogue_validate(file: Path) -> None:
    """Check a file without a server."""
    found = catalogue_file.validate(file)
    if not isinstance(found, Catalogue):
        raise typer.Exit(_faults(found))
    show(f"{file}: tenant {found.tenant.slug}, {len(found.categories)} categories, {len(found.features)} features; valid")


@cli.command(name="diff")
def catalogue_diff_command(file: Path, as_json: Json = False) -> None:
    """Say what a file would change, in the rules and for whom; exit 1 where protection falls, 2 where the file is wrong."""
    found = _diff(quiet().database_url.get_secret_value(), file)
    if not isinstance(found, catalogue_diff.Diff):
        _faults(found)
        raise typer.Exit(EXIT_USAGE)
    show(found.to_json() if as_json else catalogue_diff.render(found))
    raise typer.Exit(EXIT_FAILED if found.protects_less else EXIT_DONE)


@cli.command(name="apply")
def catalogue_apply(
    file: Path,
    yes: Annotated[bool, typer.Option("--yes", help="Also where it protects somebody less, without asking.")] = False,
    by: Annotated[str, typer.Option(help="Who does it, for the history.")] = USER,
    as_json: Json = False,
) -> None:
    """Publish a tenant's catalogue as a new version; asks where it would protect somebody less."""
    url = quiet().database_url.get_secret_value()
    found = None if yes else _diff(url, file)
    if isinstance(found, tuple):
        raise typer.Exit(_faults(found))
    if found is not None and found.protects_less and not _agreed(found):
        applied: catalogue.Applied | tuple[CatalogueFault, ...] = catalogue.not_applied(found)
    else:
        applied = result_of(catalogue.apply(url, file, by=by, yes=yes, looked_at=found))
    if not isinstance(applied, catalogue.Applied):
        raise typer.Exit(_faults(applied))
    show(applied.to_json() if as_json else catalogue.render_applied(applied))
    raise typer.Exit(EXIT_DONE if applied.committed else EXIT_FAILED)


def _diff(url: str, file: Path) -> catalogue_diff.Diff | tuple[CatalogueFault, ...]:
    with progress_bars() as progress:
        return result_of(catalogue_diff.diff(url, file, partial(progress, "customers")))


def _agreed(found: catalogue_diff.Diff) -> bool:
    if not sys.stdin.isatty():
        return False
    Console(stderr=True).print(catalogue_diff.render(found))
    return typer.confirm("Publish it?", err=True)


@cli.command(name="schema")
def catalogue_schema() -> None:
    """Print the JSON Schema of a catalogue's file, for editors."""
    show(catalogue_file.schema())


@cli.command(name="show")
def catalogueshow(tenant: str, version: Annotated[int | None, typer.Option(min=1)] = None) -> None:
    """Print a stored catalogue as JSON; the one in force unless a version is named."""
    found = result_of(catalogue.show(quiet().database_url.get_secret_value(), tenant, version))
    if found is None:
        raise typer.Exit(say("there is no such catalogue", EXIT_FAILED))
    show(found.to_json().decode())


@cli.command(name="history")
def catalogue_history(tenant: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """List versions, newest first."""
    versions = result_of(catalogue.history(quiet().database_url.get_secret_value(), tenant))
    if as_json:
        show("\n".join(each.to_json() for each in versions))
    else:
        show(catalogue.render_history(versions))


def _faults(faults: Sequence[object]) -> int:
    for fault in faults:
        print(fault, file=sys.stderr)
    return EXIT_FAILED
