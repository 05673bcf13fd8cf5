"""`make seed`: a few hundred made-up people, registered over HTTP as a client does it, with a progress bar."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from worker.config import load
from worker.dev.client_script import HIERARCHY, PLURAL
from worker.dev.people import registration
from worker.dev.tokens import ADMIN_ROLE, make_token
from worker.errors import EXIT_DONE, EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_USAGE, ConfigurationError

AT_ONCE: Final = 4
"""Two cores hash some 80 passwords a second."""
TRIES: Final = 8
TIMEOUT_S: Final = 30.0
_BUSY: Final = frozenset({429, 503})
_REFUSED_RIGHTLY: Final = frozenset({"customer-prohibited"})
"""Some of the people are whom no bank takes."""


def seed(
    people: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 300,
    url: Annotated[str, typer.Option(help="Where the ingress is.")] = "http://ingress:8080",
    tenant: Annotated[str, typer.Option(help="The tenant, by id or slug.")] = "development",
) -> None:
    """Register made-up people with a development stack."""
    console = Console(stderr=True)
    try:
        headers = {"Authorization": f"Bearer {_token(tenant)}", "X-Tenant-ID": tenant}
        ended = asyncio.run(_register_all(people, url, headers, console))
    except ConfigurationError as error:
        console.print(f"seed: {error}", style="red")
        raise typer.Exit(EXIT_USAGE) from None
    except httpx.HTTPError as error:
        console.print(f"seed: the ingress does not answer as it should: {type(error).__name__}", style="red")
        raise typer.Exit(EXIT_UNAVAILABLE) from None
    console.print(_table(ended))
    raise typer.Exit(EXIT_DONE if ended.keys() <= {"registered", *_REFUSED_RIGHTLY} else EXIT_FAILED)


def _token(tenant: str) -> str:
    settings = load()
    if not settings.development or settings.jwks_file is None:
        raise ConfigurationError("REGISTRATION_DEVELOPMENT: people are made up only for a development stack")
    return make_token(settings.jwks_file.parent, ADMIN_ROLE, tenant, ttl_s=3600)


async def _register_all(people: int, url: str, headers: Mapping[str, str], console: Console) -> Counter[str]:
    """Register so many people, some at once; return how many ended how."""
    ended: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S) as client:
        hierarchy = (await client.get(HIERARCHY)).raise_for_status().json()["data"]
        with Progress(console=console) as progress:
            bar = progress.add_task("registering", total=people)
            bodies = _bodies(people, hierarchy)

            async def post_rest() -> None:
                for key, body in bodies:  # one iterator for all: each takes the next
                    ended[await _register(client, key, body)] += 1
                    progress.advance(bar)

            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(post_rest())
    return ended


def _bodies(people: int, hierarchy: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    dice, run = random.Random(), os.urandom(3).hex()  # noqa: S311 - nothing is guarded by it
    today = datetime.now(UTC).date()
    for number in range(1, people + 1):
        yield f"seed-{run}-{number}", registration(dice, hierarchy, number, run, today)


async def _register(client: httpx.AsyncClient, key: str, body: Mapping[str, Any]) -> str:
    """Post one, again while the ingress asks for it, which the key makes safe; return how it ended: `registered`, or a code."""
    for _ in range(TRIES):
        answer = await client.post(PLURAL, json=body, headers={"Idempotency-Key": key})
        if answer.status_code not in _BUSY:
            break
        await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
    if answer.status_code == httpx.codes.CREATED:
        return "registered"
    return "pending" if answer.status_code == httpx.codes.ACCEPTED else str(answer.json().get("code", answer.status_code))


def _table(ended: Mapping[str, int]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for how, people in sorted(ended.items(), key=lambda each: -each[1]):
        table.add_row(how, str(people))
    return table


if __name__ == "__main__":
    typer.run(seed)
