"""The answer at rest: one registration at a time over HTTP, from POST to 201, on `registration dev`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import httpx
from rich.console import Console

from benchmarks.frozen.backlog import commands
from benchmarks.servers import FailedRunError
from worker.dev.process import Child, until

PATH: Final = "/api/v2.1/customers/individual/register"
PASSWORD: Final = "Lantern-Orchard-41"  # noqa: S105 - nobody's
READY_WITHIN_S: Final = 120.0
STOP_WITHIN_S: Final = 30.0
ANSWER_WITHIN_S: Final = 15.0
WARM_REQUESTS: Final = 10
CREATED: Final = 201


@dataclass(frozen=True, slots=True)
class Rest:
    """How long each registration took, in milliseconds."""

    took_ms: list[float]

    def document(self) -> dict[str, object]:
        """Return it for the JSON line."""
        return {
            "requests": len(self.took_ms),
            "median_ms": round(median(self.took_ms), 1),
            "p95_ms": round(quantiles(self.took_ms, n=20)[-1], 1),
            "slowest_ms": round(max(self.took_ms), 1),
        }


async def rest(requests: int, folder: Path, console: Console) -> Rest:
    """
    Register customers one after the other.

    Args:
        requests: how many are measured.
        folder: takes the log.
        console: shows the progress.
    Raises:
        FailedRunError: the stack did not start, or an answer was not 201.
    """
    took_ms = []
    async with dev(folder, console) as stack:
        for body in bodies(WARM_REQUESTS + requests):
            began = time.perf_counter()
            answer = await stack.client.post(PATH, json=body)
            took_ms.append((time.perf_counter() - began) * 1000)
            if answer.status_code != CREATED:
                msg = f"a registration was answered {answer.status_code}: {answer.text[:300]}"
                raise FailedRunError(msg)
    return Rest(took_ms[WARM_REQUESTS:])


@dataclass(frozen=True, slots=True)
class Dev:
    """A running `registration dev`: a client with a good token, and the environment with which other commands join."""

    client: httpx.AsyncClient
    environment: dict[str, str]


@asynccontextmanager
async def dev(folder: Path, console: Console, *, connections: int | None = 100, more: Sequence[str] = ()) -> AsyncIterator[Dev]:
    """
    Run `registration dev` for the length of a block.

    Args:
        folder: takes the log.
        console: shows the progress.
        connections: most that the client opens; None is any number.
        more: options of the command.
    Raises:
        FailedRunError: it did not get ready.
    """
    log = folder / "dev.log"
    child = Child(
        [sys.executable, "-m", "worker", "dev", "--ephemeral", "--port", "0", *more], log=log, death_signal=signal.SIGTERM
    )
    try:
        console.print("starting `registration dev`")
        await until(lambda: ready_line(child) is not None or not child.running, READY_WITHIN_S)
        ready = ready_line(child)
        if ready is None:
            msg = f"`registration dev` did not get ready:\n{child.last_lines()}"
            raise FailedRunError(msg)
        headers = {"Authorization": f"Bearer {ready['token']}", "X-Tenant-ID": ready["tenant"]}
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=200)
        async with httpx.AsyncClient(base_url=ready["http"], headers=headers, timeout=ANSWER_WITHIN_S, limits=limits) as client:
            yield Dev(client, ready["environment"])
    finally:
        child.signal(signal.SIGTERM)
        await asyncio.shield(child.ended(STOP_WITHIN_S))
        child.kill()


def ready_line(child: Child) -> dict[str, Any] | None:
    """Find the one line that says where everything is."""
    for text in child.output().splitlines():
        if text.startswith("{") and '"http"' in text and '"token"' in text:
            found: dict[str, Any] = json.loads(text)
            return found
    return None


def bodies(count: int) -> Iterator[dict[str, Any]]:
    """Yield the backlog's people as HTTP takes them, always the same."""
    for command in commands(0, count):
        body: dict[str, Any] = json.loads(command.value)["customer"]
        body["password"] = body["matchingPassword"] = body["individualCustomer"]["user"]["password"] = PASSWORD
        yield body
