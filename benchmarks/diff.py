"""
How long `registration catalogue diff` takes over many customers, and its memory.

The hardest case: each customer asked for a limit of their own, so that none of them shares a decision with another, and the
file changes a limit, so that no two would change from and to the same.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from rich.console import Console
from rich.progress import Progress

from benchmarks.bench import prepare_worker
from benchmarks.decide import ask_for_own_limit
from benchmarks.frozen.backlog import Command, commands
from benchmarks.processes import command, worker_environment
from benchmarks.run import WORKER_TEMPLATE
from benchmarks.servers import FailedRunError, Servers
from worker import catalogues, settlement, store
from worker.catalogues import Snapshot
from worker.dev.stack import CATALOGUE
from worker.kafka import Partition, PlainRecord
from worker.postgres import Database
from worker.registration import Accepted, examine
from worker.sealing import Sealer
from worker.settlement import Move

CUSTOMERS: Final = 100_000
WITHIN_S: Final = 300.0
BATCH: Final = 500
_NAME: Final = "diff"
_PLACE: Final = Partition("benchmark.diff", 0)
_SEALER: Final = Sealer(f"benchmark:{base64.b64encode(bytes(range(32))).decode()}")
_CHANGES: Final = (("limits: {day: 5000, month: 25000, ", "limits: {day: 6000, month: 12000, "),)


@dataclass(frozen=True, slots=True)
class Compared:
    """What the command did, and what it took."""

    customers: int
    changed: int
    falling: int
    duration_s: float
    cpu_s: float
    resident_most_mib: float

    def document(self) -> dict[str, object]:
        """Return it for the JSON line."""
        return asdict(self)


async def diff(servers: Servers, customers: int, console: Console) -> Compared:
    """
    Store customers, and let the command compare for all of them.

    Args:
        servers: running.
        customers: how many.
        console: shows the progress.
    Raises:
        FailedRunError: the command did not say what it must.
    """
    await prepare_worker(servers)
    await servers.make_database(_NAME, WORKER_TEMPLATE)
    await _store(servers.url(_NAME), customers, console)
    await servers.execute("ANALYZE", _NAME)
    file = servers.folder / "changed.yaml"
    text = CATALOGUE.read_text()
    for before, after in _CHANGES:
        text = text.replace(before, after)
    file.write_text(text)
    return await _run(worker_environment(servers, _NAME), file, servers.folder / "diff.json")


async def _run(environment: dict[str, str], file: Path, output: Path) -> Compared:
    used = await command(["catalogue", "diff", str(file), "--json"], environment, output, WITHIN_S)
    said: dict[str, Any] = json.loads(used.said or "{}")
    if not said.get("changed"):
        msg = f"catalogue diff found nothing, exit code {used.exit_code}"
        raise FailedRunError(msg)
    return Compared(said["customers"], said["changed"], said["falling"], used.duration_s, used.cpu_s, used.resident_most_mib)


async def _store(url: str, customers: int, console: Console) -> None:
    """Store customers as a lane does, without Kafka."""
    database, owner, next_offset = Database(url, connections=2, timeout_s=30, name="benchmark"), uuid4(), 0
    try:
        snapshot, source = await catalogues.read(database), commands(0, customers)
        await store.claim(database, _PLACE, owner, 0)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("storing customers", total=customers)
            while some := list(islice(source, BATCH)):
                verdicts = [_accepted(command, next_offset + number, snapshot) for number, command in enumerate(some)]
                end = next_offset + len(some)
                await settlement.settle(database, Move(_PLACE, owner, next_offset, end, end - 1, b""), verdicts, [], _SEALER)
                next_offset = end
                progress.update(task, completed=end)
    finally:
        await database.close()


def _accepted(command: Command, offset: int, snapshot: Snapshot) -> Accepted:
    verdict = examine(_read(command, offset), snapshot, fresh=True)
    if not isinstance(verdict, Accepted):
        msg = "a customer of the backlog is refused"
        raise FailedRunError(msg)
    return verdict


def _read(command: Command, offset: int) -> PlainRecord:
    document = json.loads(command.value)
    ask_for_own_limit(document["customer"], offset)
    value = json.dumps(document).encode()
    return PlainRecord(_PLACE.topic, 0, offset, time.time_ns() // 1_000_000, command.key, value, command.headers)
