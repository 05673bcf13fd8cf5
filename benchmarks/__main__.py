"""
The command line of the benchmarks; README.md in this folder says what the figures mean.

    python -m benchmarks [--quick] [--records N] [--only a,b] [--growth | --rest]
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Final

import typer
from rich.console import Console

from benchmarks.bench import Plan, measure, prepare
from benchmarks.contenders import CONTENDERS, ON_DEMAND, Contender
from benchmarks.growth import BACKLOG_RECORDS, growth
from benchmarks.report import line, table
from benchmarks.rest import rest
from benchmarks.servers import POSTGRES_SETTINGS, FailedRunError, Servers
from worker.dev.embedded import StartError, embedded_stack
from worker.dev.process import ending_in_order, temporary_folder

RECORDS: Final = 20_000
ROUNDS: Final = 4
QUICK_RECORDS: Final = 6_000
QUICK_ROUNDS: Final = 1
QUICK_PROCESSES: Final = (2,)
REST_REQUESTS: Final = 100
DEFAULT_ONLY: Final = ",".join(contender.name for contender in CONTENDERS)
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
FOLDER_PREFIX: Final = "registration-worker-benchmarks-"


def main(
    quick: Annotated[bool, typer.Option("--quick", help="One short round: to see that it works, not to compare.")] = False,  # noqa: FBT002
    records: Annotated[int | None, typer.Option(min=20, max=1_000_000, help="Of the fastest; the others get a share.")] = None,
    only: Annotated[str, typer.Option(help="Contenders, comma-separated.")] = DEFAULT_ONLY,
    grow: Annotated[bool, typer.Option("--growth", help="Memory of one worker process over a backlog instead.")] = False,  # noqa: FBT002
    at_rest: Annotated[bool, typer.Option("--rest", help="POST to 201, one at a time, instead.")] = False,  # noqa: FBT002
) -> None:
    """Measure on this machine; the last line of stdout is one JSON object."""
    try:
        if at_rest:
            found = asyncio.run(_rest(records or REST_REQUESTS))
        elif grow:
            found = asyncio.run(_growth(records or BACKLOG_RECORDS))
        else:
            found = asyncio.run(_bench(_plan(_chosen(only), records, quick=quick)))
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


def _chosen(only: str) -> list[Contender]:
    known = (*CONTENDERS, *ON_DEMAND)
    named = {name.strip() for name in only.split(",") if name.strip()}
    if not named or named - {each.name for each in known}:
        msg = f"--only: one or more of {', '.join(each.name for each in known)}"
        raise typer.BadParameter(msg)
    return [each for each in known if each.name in named]


async def _bench(plan: Plan) -> str:
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
    Console(width=180 if not sys.stdout.isatty() else None).print(table(standings))
    return line(standings)


async def _growth(records: int) -> str:
    progress = Console(stderr=True)
    with ending_in_order(), temporary_folder(FOLDER_PREFIX) as folder:
        progress.print("starting Kafka and PostgreSQL")
        async with embedded_stack(None, postgres_settings=POSTGRES_SETTINGS) as stack:
            servers = await Servers.of(stack, folder)
            try:
                found = await growth(servers, records, progress)
            finally:
                await servers.close()
    return json.dumps({"growth": found.document()})


async def _rest(requests: int) -> str:
    with ending_in_order(), temporary_folder(FOLDER_PREFIX) as folder:
        return json.dumps({"rest": (await rest(requests, folder, Console(stderr=True))).document()})


if __name__ == "__main__":
    typer.run(main)
