"""
The command line of the benchmarks; README.md in this folder says what the figures mean.

    python -m benchmarks [--quick] [--records N] [--only a,b] [--profile | --growth | --diff | --verify | --ingress | --rest]
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer
from rich.console import Console

from benchmarks.bench import Plan, measure, prepare
from benchmarks.contenders import CONTENDERS, ON_DEMAND, Contender
from benchmarks.decide import decide
from benchmarks.decide import table as decide_table
from benchmarks.diff import CUSTOMERS, Compared, diff
from benchmarks.growth import BACKLOG_RECORDS, Growth, growth
from benchmarks.ingress import ingress
from benchmarks.profile import Profile, profile
from benchmarks.report import document, table
from benchmarks.rest import rest
from benchmarks.servers import POSTGRES_SETTINGS, FailedRunError, Servers
from benchmarks.verify import REGISTRATIONS, Verified
from benchmarks.verify import verify as verify_many
from worker.core.catalogue import Catalogue
from worker.dev.embedded import StartError, embedded_stack
from worker.dev.process import ending_in_order, temporary_folder
from worker.dev.stack import CATALOGUE
from worker.operate.catalogue_file import validate

RECORDS: Final = 20_000
ROUNDS: Final = 4
QUICK_RECORDS: Final = 6_000
QUICK_ROUNDS: Final = 1
QUICK_PROCESSES: Final = (2,)
REST_REQUESTS: Final = 100
DECIDE: Final = "decide"
DEFAULT_ONLY: Final = ",".join((DECIDE, *(contender.name for contender in CONTENDERS)))
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
FOLDER_PREFIX: Final = "registration-worker-benchmarks-"


def main(  # noqa: PLR0917 - options, each named
    quick: Annotated[bool, typer.Option("--quick", help="One short round: to see that it works, not to compare.")] = False,  # noqa: FBT002
    records: Annotated[int | None, typer.Option(min=20, max=1_000_000, help="Of the fastest; the others get a share.")] = None,
    only: Annotated[str, typer.Option(help="Contenders, comma-separated.")] = DEFAULT_ONLY,
    profiled: Annotated[bool, typer.Option("--profile", help="By stage, batch size and load instead, with charts.")] = False,  # noqa: FBT002
    grow: Annotated[bool, typer.Option("--growth", help="Memory of one worker process over a backlog instead.")] = False,  # noqa: FBT002
    compare: Annotated[bool, typer.Option("--diff", help="`catalogue diff` over many customers instead.")] = False,  # noqa: FBT002
    check: Annotated[bool, typer.Option("--verify", help="`verify` over many registrations instead.")] = False,  # noqa: FBT002
    front_door: Annotated[bool, typer.Option("--ingress", help="The ingress beside its password hash instead.")] = False,  # noqa: FBT002
    at_rest: Annotated[bool, typer.Option("--rest", help="POST to 201, one at a time, instead.")] = False,  # noqa: FBT002
) -> None:
    """Measure on this machine; the last line of stdout is one JSON object."""
    try:
        if at_rest:
            found = asyncio.run(_rest(records or REST_REQUESTS))
        elif front_door:
            found = asyncio.run(_ingress())
        elif profiled:
            found = asyncio.run(_alone("profile", profile, records or RECORDS))
        elif grow:
            found = asyncio.run(_alone("growth", growth, records or BACKLOG_RECORDS))
        elif check:
            found = asyncio.run(_alone("verify", verify_many, records or REGISTRATIONS))
        elif compare:
            found = asyncio.run(_alone("diff", diff, records or CUSTOMERS))
        else:
            found = json.dumps(_measured(_chosen(only), records, quick=quick))
    except (FailedRunError, StartError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    print(found)


def _plan(contenders: list[Contender], records: int | None, *, quick: bool) -> Plan:
    if quick:
        return Plan(contenders, records or QUICK_RECORDS, QUICK_ROUNDS, QUICK_PROCESSES)
    return Plan(contenders, records or RECORDS, ROUNDS)


def _chosen(only: str) -> set[str]:
    known = (DECIDE, *(each.name for each in (*CONTENDERS, *ON_DEMAND)))
    named = {name.strip() for name in only.split(",") if name.strip()}
    if not named or named - set(known):
        msg = f"--only: one or more of {', '.join(known)}"
        raise typer.BadParameter(msg)
    return named


def _measured(names: set[str], records: int | None, *, quick: bool) -> dict[str, object]:
    decided = _decide() if DECIDE in names else {}
    contenders = [each for each in (*CONTENDERS, *ON_DEMAND) if each.name in names]
    return (asyncio.run(_bench(_plan(contenders, records, quick=quick))) if contenders else {}) | decided


def _decide() -> dict[str, object]:
    catalogue = validate(CATALOGUE)
    assert isinstance(catalogue, Catalogue), catalogue  # noqa: S101 - held by a test
    decided = decide(catalogue)
    _console().print(decide_table(decided))
    return {DECIDE: decided.document()}


async def _bench(plan: Plan) -> dict[str, object]:
    progress = Console(stderr=True)
    with ending_in_order(), temporary_folder(FOLDER_PREFIX) as folder:
        progress.print("starting Kafka and PostgreSQL")
        async with embedded_stack(None, postgres_settings=POSTGRES_SETTINGS) as stack:
            servers = await Servers.of(stack, folder)
            try:
                await prepare(servers, plan.contenders)
                standings = await measure(servers, plan, progress)
            finally:
                await servers.close()
    _console().print(table(standings))
    return document(standings)


def _console() -> Console:
    return Console(width=180 if not sys.stdout.isatty() else None)


async def _alone(
    name: str, measurement: Callable[[Servers, int, Console], Awaitable[Growth | Compared | Verified | Profile]], count: int
) -> str:
    progress = Console(stderr=True)
    with ending_in_order(), temporary_folder(FOLDER_PREFIX) as folder:
        progress.print("starting Kafka and PostgreSQL")
        async with embedded_stack(None, postgres_settings=POSTGRES_SETTINGS) as stack:
            servers = await Servers.of(stack, folder)
            try:
                found = await measurement(servers, count, progress)
            finally:
                await servers.close()
    return json.dumps({name: found.document()})


async def _rest(requests: int) -> str:
    with ending_in_order(), temporary_folder(FOLDER_PREFIX) as folder:
        return json.dumps({"rest": (await rest(requests, folder, Console(stderr=True))).document()})


async def _ingress() -> str:
    with ending_in_order(), temporary_folder(FOLDER_PREFIX) as folder:
        return json.dumps({"ingress": (await ingress(folder, Console(stderr=True))).document()})


if __name__ == "__main__":
    typer.run(main)
