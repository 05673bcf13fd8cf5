"""A small cluster of real processes that a test may break: Kafka, PostgreSQL, workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.commands import COMMANDS_TOPIC
from tests import commands
from tests.conftest import SEALING_KEYS, settings_of
from worker import app
from worker.dev.embedded import Stack, embedded_stack
from worker.dev.process import Child, temporary_folder
from worker.dev.stack import CATALOGUE
from worker.errors import UnavailableError
from worker.kafka import OutMessage, Producer
from worker.operate import catalogue
from worker.postgres import connect

DEADLINE_S: Final = 60.0
PARTITIONS: Final = 4
SESSION_S: Final = 3.0
POLL_S: Final = 0.05
LOG_LINES: Final = 60
NONE: Final[Mapping[str, str]] = MappingProxyType({})
_SETTINGS: Final = {
    "REGISTRATION_SEALING_KEYS": SEALING_KEYS,
    "REGISTRATION_SESSION_TIMEOUT_S": str(SESSION_S),
    "REGISTRATION_HEARTBEAT_INTERVAL_S": "0.3",
    "REGISTRATION_REBALANCE_TIMEOUT_S": "6",
    "REGISTRATION_LOOK_INTERVAL_S": "0.3",
    "REGISTRATION_PRODUCE_TIMEOUT_S": "3",
    "REGISTRATION_BATCH_TIMEOUT_S": "4",
    "REGISTRATION_BATCH_MAX_RECORDS": "50",
    "REGISTRATION_ADMIN_PORT": "0",
}


@dataclass(slots=True)
class Cluster:
    """
    The servers, the workers that run, and how many commands were sent.

    Whoever promotes a standby or puts a proxy before a server replaces `servers` and `environment`: the first is how this
    process reaches them, the second how workers do that are started from then on.
    """

    servers: Stack
    folder: Path
    environment: Mapping[str, str]
    producer: Producer
    workers: list[Child] = field(default_factory=list)
    partitions: int = PARTITIONS
    sent: int = 0
    started: int = 0
    sleeper: Child | None = None
    new_rules_at: datetime | None = None

    def start_worker(self) -> Child:
        """Start a worker process; its log is `worker-N.log`."""
        self.started += 1
        child = self._run("worker", log=self.folder / f"worker-{self.started}.log")
        self.workers.append(child)
        return child

    def kill_worker(self, child: Child) -> None:
        """End a worker as a power cut would."""
        child.kill()
        self.workers.remove(child)

    def end_workers(self) -> None:
        """Kill every worker that runs."""
        for child in list(self.workers):
            self.kill_worker(child)

    async def send(self, count: int) -> None:
        """Send commands of new people, with some repeats and some emails that are taken, as often as Kafka takes."""
        messages: list[OutMessage] = []
        for number in range(count):
            email = commands.email_of(number)
            data = commands.data(email)
            messages.append(commands.message(data))
            if number % 10 == 0:
                messages.append(commands.message(data))
            if number % 15 == 0:
                messages.append(commands.message({**commands.data(email)}))
            if number % 40 == 0:
                messages.append(commands.message(b"not a command"))
        await self.producer.send_all(messages)
        self.sent += len(messages)

    async def stream(self, stop: asyncio.Event, chunk: int = 40, pause_s: float = 0.05) -> None:
        """Send until told to stop; what Kafka did not acknowledge is not sent again, whoever has it counts it."""
        while not stop.is_set():
            try:
                await self.send(chunk)
            except UnavailableError:
                continue
            await asyncio.sleep(pause_s)

    async def done(self, within_s: float = DEADLINE_S) -> float:
        """Wait until every command on the topic is done and the outbox is empty; return the seconds that it took."""
        begun = time.monotonic()

        async def is_done() -> bool:
            done, rows = await self._progress()
            return done >= await self._log_end() and rows == 0

        await self.eventually(is_done, "all commands done and the outbox empty", within_s)
        return time.monotonic() - begun

    async def progress(self, commands_more: int = 1, within_s: float = DEADLINE_S) -> float:
        """Wait until so many more commands are done than now; return the seconds that it took."""
        begun, offset_sum = time.monotonic(), await self.done_count() + commands_more

        async def has_moved() -> bool:
            done, _ = await self._progress()
            return done >= offset_sum

        await self.eventually(has_moved, "work goes on", within_s)
        return time.monotonic() - begun

    async def done_count(self) -> int:
        """Return how many records are done, over all partitions."""
        done, _ = await self._progress()
        return done

    async def eventually(self, condition: Callable[[], Awaitable[bool]], what: str, within_s: float = DEADLINE_S) -> None:
        """Wait for a condition; a server that is away just now is no failure."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                if await condition():
                    return
            except UnavailableError:
                pass
            if time.monotonic() > deadline or not all(child.running for child in self.workers):
                raise AssertionError(f"not in {within_s:g} s, or a worker ended: {what}\n{self.logs()}")
            await asyncio.sleep(POLL_S)

    async def publish_rules(self, before: str, after: str) -> None:
        """Publish the development catalogue with a change; it holds later."""
        file = self.folder / "changed.yaml"
        text = CATALOGUE.read_text()
        assert before in text
        file.write_text(text.replace(before, after))
        applied = await catalogue.apply(self.servers.postgres.url, file, by="tests", yes=True)
        assert isinstance(applied, catalogue.Applied)
        self.new_rules_at = applied.effective_at

    async def new_rules_hold(self) -> bool:
        """Say whether they hold by now."""
        return bool((await self._row("SELECT clock_timestamp() > $1 AS hold", self.new_rules_at))["hold"])

    async def versions(self) -> list[int]:
        """Return the versions that decided anything."""
        row = await self._row("SELECT array_agg(DISTINCT catalogue_version ORDER BY catalogue_version) AS all FROM registrations")
        return list(row["all"])

    async def verify(self) -> dict[str, Any]:
        """Return the report of `registration verify`; fail where a promise does not hold."""
        report = await self.report()
        assert report["ok"], json.dumps(report, indent=1)
        return report

    async def report(self, settle_s: float = 10, within_s: float = DEADLINE_S) -> dict[str, Any]:
        """Return the report of `registration verify`, whatever it found; as an operator, so by the owner of the tables."""
        own = {"REGISTRATION_DATABASE_URL": self.servers.postgres.url}
        child = self._run("verify", "--json", "--settle-s", str(settle_s), log=self.folder / "verify.log", own=own)
        try:
            ended = await child.ended(within_s)
        finally:
            child.kill()
        assert ended, f"verify did not end:\n{child.last_lines()}"
        assert child.exit_code in {0, 1}, child.output()
        report: dict[str, Any] = json.loads(child.output().splitlines()[-1])
        assert report["ok"] is (child.exit_code == 0), child.output()
        return report

    def logs(self) -> str:
        """Return what every worker that runs has said, its batches left out."""
        return "\n".join(f"--- worker {child.pid}\n{_telling(child.output())}" for child in self.workers)

    def _run(self, *arguments: str, log: Path, own: Mapping[str, str] = NONE) -> Child:
        variables = [f"{name}={value}" for name, value in {**self.environment, **own}.items()]
        command = ["/usr/bin/env", *variables, sys.executable, "-m", "worker", *arguments]
        return Child(command, log=log, death_signal=signal.SIGKILL)

    async def _progress(self) -> tuple[int, int]:
        row = await self._row(
            "SELECT (SELECT coalesce(sum(next_offset), 0) FROM kafka_offsets) AS done, (SELECT count(*) FROM outbox) AS rows"
        )
        return int(row["done"]), int(row["rows"])

    async def _row(self, query: str, *parameters: object) -> Any:  # noqa: ANN401 - a row
        connection = await connect(self.servers.postgres.url, "tests")
        try:
            row = await asyncio.wait_for(connection.fetchrow(query, *parameters), DEADLINE_S)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise UnavailableError("database", type(error).__name__) from None
        finally:
            connection.terminate()
        assert row is not None
        return row

    async def _log_end(self) -> int:
        return await _log_end(self.servers.kafka.bootstrap, self.partitions)


def _telling(output: str) -> str:
    return "\n".join([line for line in output.splitlines() if "batch.stored" not in line][-LOG_LINES:])


async def _log_end(bootstrap: str, count: int) -> int:
    """Return how many records the command topic has, over all partitions."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await consumer.start()
            partitions = [TopicPartition(COMMANDS_TOPIC, p) for p in range(count)]
            return sum((await consumer.end_offsets(partitions)).values())
    except (KafkaError, OSError, TimeoutError) as error:
        raise UnavailableError("kafka", type(error).__name__) from None
    finally:
        await consumer.stop()


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """Run servers of its own for the length of a block; whatever was started is ended, also when the test fails."""
    async with embedded_stack(None) as servers, cluster_on(servers) as running:
        yield running


@asynccontextmanager
async def cluster_on(servers: Stack, partitions: int = PARTITIONS, replicas: int = 1) -> AsyncIterator[Cluster]:
    """Prepare servers that run, and end the workers when the block ends."""
    with temporary_folder("registration-fault-") as folder:
        url = servers.postgres.url
        await app.prepare(settings_of(servers, url, topic_partitions=partitions, topic_replicas=replicas))
        await catalogue.apply(url, CATALOGUE, by="tests", yes=True)
        environment = {
            **_SETTINGS,
            "REGISTRATION_KAFKA_BOOTSTRAP": servers.kafka.bootstrap,
            "REGISTRATION_DATABASE_URL": url,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        producer = Producer(servers.kafka.bootstrap, timeout_s=5, client_id="upstream")
        running = Cluster(servers, folder, environment, producer, partitions=partitions)
        try:
            yield running
        finally:
            running.end_workers()
            await producer.stop()
