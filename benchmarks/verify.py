"""How long `registration verify` takes over many registrations, and its memory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console

from benchmarks.growth import DATABASE, growth
from benchmarks.processes import command, worker_environment
from benchmarks.servers import FailedRunError, Servers

REGISTRATIONS: Final = 200_000
WITHIN_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Verified:
    """What the command looked at, and what it took; memory is that of its own process, not the database's."""

    registrations: int
    events: int
    duration_s: float
    cpu_s: float
    resident_most_mib: float

    def document(self) -> dict[str, object]:
        """Return it for the JSON line."""
        return asdict(self)


async def verify(servers: Servers, registrations: int, console: Console) -> Verified:
    """
    Let a worker store registrations, and the command check them.

    Args:
        servers: running.
        registrations: how many.
        console: shows the progress.
    Raises:
        FailedRunError: the worker did not do them, or the command found a breach.
    """
    await growth(servers, registrations, console)
    await servers.execute("ANALYZE", DATABASE)
    console.print("verifying")
    output = servers.folder / "verify.json"
    used = await command(["verify", "--json"], worker_environment(servers, DATABASE), output, WITHIN_S)
    said: dict[str, Any] = json.loads(used.said.splitlines()[-1])
    if used.exit_code or said["counts"]["accepted"] < registrations:
        msg = f"verify ended with {used.exit_code}: {said['totals']}"
        raise FailedRunError(msg)
    counts = said["counts"]
    return Verified(counts["accepted"], counts["events"], used.duration_s, used.cpu_s, used.resident_most_mib)
