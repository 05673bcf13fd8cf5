"""Real processes on servers of their own, used well and badly by people made of canaries; then everything they left is searched."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from schemas.commands import COMMANDS_TOPIC
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC
from tests.boundary.conditions import until
from tests.boundary.rings.canary import Canaries, files_below
from tests.conftest import SEALING_KEYS
from worker import app
from worker.config import Settings, load
from worker.core.catalogue import parse
from worker.dev.embedded import Stack
from worker.dev.logins import INGRESS, WORKER, login
from worker.dev.stack import CATALOGUE
from worker.dev.tokens import ADMIN_ROLE, AUDIENCE, ISSUER, make_keys, make_token
from worker.kafka import OutMessage, Producer, Reader
from worker.operate import catalogue
from worker.postgres import Connection, connect

TENANT: Final = parse(yaml.safe_load(CATALOGUE.read_text())).tenant
ENDS_WITHIN_S: Final = 20.0
LOGINS: Final = {"ingress": (INGRESS, "my_ingress"), "worker": (WORKER, "my_worker")}
PLACES: Final = {COMMANDS_TOPIC: "commands", DEAD_LETTERS_TOPIC: "dead letters", EVENTS_TOPIC: "events"}
_TRIES_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process of ours, its log at DEBUG, and what it printed."""

    running: asyncio.subprocess.Process
    log: Path

    async def told(self, event: str, member: str) -> Any:  # noqa: ANN401 - whatever a line holds
        """Wait for a line of its log, and return a member of it."""

        async def line() -> dict[str, Any] | None:
            lines = self.log.read_text().splitlines()
            assert self.running.returncode is None, "\n".join(lines[-5:])
            return next((found for each in lines if (found := _parsed(each)).get("event") == event), None)

        return (await until(line, f"{event} in {self.log.name}", _TRIES_S))[member]  # type: ignore[index]  # until it is there

    async def end(self) -> None:
        """End it as an operator does."""
        if self.running.returncode is None:
            self.running.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.running.wait(), ENDS_WITHIN_S)
        except TimeoutError:
            self.running.kill()
            await self.running.wait()


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(slots=True)
class Watched:
    """
    Servers, an ingress and a worker, each a process of its own, and what callers were told.

    Attributes:
        folder: of logs and keys.
        answers, problems: headers and body of each.
        outputs: what commands printed, by their words.
    """

    canaries: Canaries
    servers: Stack
    folder: Path
    settings: Settings
    connection: Connection
    producer: Producer
    token: str
    environment: Mapping[str, str]
    http: str = ""
    admin: Sequence[str] = ()
    answers: list[bytes] = field(default_factory=list)
    problems: list[bytes] = field(default_factory=list)
    outputs: dict[str, bytes] = field(default_factory=dict)

    async def ask(self, method: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
        """Ask the ingress; a header may be replaced, its name with underscores."""
        sent = {
            "authorization": f"Bearer {self.token}",
            "x-tenant-id": TENANT.id,
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        async with httpx.AsyncClient(base_url=self.http, timeout=30) as client:
            answer = await client.request(method, path, content=content or None, headers=sent)
        told = self.answers if answer.is_success else self.problems
        told.append(b"\n".join((repr(answer.headers.raw).encode(), answer.content)))
        return answer

    async def send(self, *messages: OutMessage) -> None:
        """Send records as an upstream service does."""
        await self.producer.send_all(messages)

    async def done(self) -> None:
        """Wait until every command has its outcome, and every message has left the outbox."""

        async def is_done() -> bool:
            rows = await self.connection.fetch("SELECT partition, next_offset FROM kafka_offsets WHERE topic = $1", COMMANDS_TOPIC)
            positions = {row["partition"]: row["next_offset"] for row in rows}
            async with Reader(self.settings.kafka_bootstrap, client_id="tests") as reader:
                ends = await reader.bounds(COMMANDS_TOPIC)
            left = await self.connection.fetchval("SELECT count(*) FROM outbox")
            return left == 0 and all(positions.get(number, 0) >= end for number, (_, end) in ends.items())

        await until(is_done, f"all is done; {self.folder / 'worker.log'}", _TRIES_S)

    async def waiting_for_lock(self, count: int) -> None:
        """Wait until so many of the worker's sessions wait for a lock."""

        async def are() -> bool:
            found: int = await self.connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'registration-worker'"
            )
            return found >= count

        await until(are, f"{count} sessions wait for a lock")

    async def reconnect(self) -> None:
        """Connect anew, after the server was killed."""
        self.connection.terminate()
        self.connection = await connect(self.servers.postgres.url, "tests")

    async def run(self, *words: str, interrupt_after: bytes | None = None) -> None:
        """Run a command of an operator; keep what it prints, on both channels."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker", *words),
            env={**self.environment, "REGISTRATION_DATABASE_URL": self.servers.postgres.url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_TRIES_S):
                printed = b""
                while interrupt_after is not None and interrupt_after not in printed:
                    printed += await process.stdout.readline()
                if interrupt_after is not None:
                    process.send_signal(signal.SIGINT)
                printed += await process.stdout.read()
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self.outputs[" ".join(words)] = printed

    async def places(self) -> dict[str, set[str]]:
        """Return who and what is found, by where: a topic, a table, a log, an output. Kafka and PostgreSQL by their files."""
        found: dict[str, set[str]] = {}

        def look(place: str, content: bytes) -> None:
            if who := self.canaries.found_in(content):
                found.setdefault(place, set()).update(who)

        for log in sorted(self.folder.glob("*.log")):
            look(log.name, log.read_bytes())
        for words, printed in self.outputs.items():
            look(f"registration {words}", printed)
        look("answers", b"\n".join(self.answers))
        look("problems", b"\n".join(self.problems))
        async with httpx.AsyncClient() as client:
            for admin in self.admin:
                for path in ("metrics", "readyz", "livez"):
                    look(path, (await client.get(f"{admin}/{path}")).content)
        for path, content in files_below(self.servers.kafka.log.parent):
            topic = next((topic for topic in PLACES if path.startswith(f"log/{topic}-")), None)
            look(PLACES[topic] if topic else f"kafka/{path}", content)
        await self.connection.execute("CHECKPOINT")
        owners = await self._owners()
        for path, content in files_below(self.servers.postgres.log.parent):
            inside = path.removeprefix("cluster/")
            relation = owners.get(inside.partition(".")[0].partition("_")[0])
            look("wal" if inside.startswith("pg_wal/") else f"table {relation}" if relation else f"postgres/{inside}", content)
        return found

    async def _owners(self) -> dict[str, str]:
        """Return the table that each file of the database belongs to: as itself, as an index, or as what is too long for a row."""
        rows = await self.connection.fetch("""
            SELECT pg_relation_filepath(c.oid) AS path,
              coalesce(long.relname, indexed_long.relname, indexed.relname, c.relname) AS name
            FROM pg_class AS c
            LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
            LEFT JOIN pg_class AS indexed ON indexed.oid = i.indrelid
            LEFT JOIN pg_class AS long ON long.reltoastrelid = c.oid
            LEFT JOIN pg_class AS indexed_long ON indexed_long.reltoastrelid = i.indrelid
        """)
        return {row["path"]: row["name"] for row in rows if row["path"]}


@asynccontextmanager
async def watched(servers: Stack, folder: Path, privacy: str) -> AsyncIterator[Watched]:
    """
    Run an ingress and a worker at log level DEBUG for the length of a block.

    Args:
        servers: of their own.
        folder: for logs and keys.
        privacy: SQL that an administrator runs for their logins.
    """
    canaries, url = Canaries(), servers.postgres.url
    settings = load(kafka_bootstrap=servers.kafka.bootstrap, database_url=url, topic_partitions=3)
    await app.prepare(settings)
    applied = await catalogue.apply(url, CATALOGUE, by="tests", yes=True)
    assert isinstance(applied, catalogue.Applied)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("REGISTRATION_")},
        "REGISTRATION_KAFKA_BOOTSTRAP": servers.kafka.bootstrap,
        "REGISTRATION_SEALING_KEYS": SEALING_KEYS,
        "REGISTRATION_JWKS_FILE": str(make_keys(folder)),
        "REGISTRATION_JWT_ISSUER": ISSUER,
        "REGISTRATION_JWT_AUDIENCE": AUDIENCE,
        "REGISTRATION_DEVELOPMENT": "true",
        "REGISTRATION_HTTP_PORT": "0",
        "REGISTRATION_ADMIN_PORT": "0",
        "REGISTRATION_LOG_LEVEL": "DEBUG",
        "REGISTRATION_SESSION_TIMEOUT_S": "3",
        "REGISTRATION_HEARTBEAT_INTERVAL_S": "0.3",
        "REGISTRATION_REBALANCE_TIMEOUT_S": "6",
        "REGISTRATION_PRODUCE_TIMEOUT_S": "2",
    }
    urls = {name: await login(url, group, role) for name, (group, role) in LOGINS.items()}
    connection = await connect(url, "tests")
    await connection.execute(privacy or "SELECT")
    producer = app.producer_of(settings, "tests")
    token = make_token(folder, ADMIN_ROLE, TENANT.slug, 600)
    opened = Watched(canaries, servers, folder, settings, connection, producer, token, environment)
    async with AsyncExitStack() as ending:
        ending.push_async_callback(producer.stop)
        started = {}
        for name in LOGINS:
            started[name] = await _started(name, folder, {**environment, "REGISTRATION_DATABASE_URL": urls[name]})
            ending.push_async_callback(started[name].end)
        opened.http = f"http://127.0.0.1:{await started['ingress'].told('ingress.started', 'http_port')}"
        opened.admin = [
            f"http://127.0.0.1:{await process.told(f'{name}.started', 'admin_port')}" for name, process in started.items()
        ]
        yield opened
    opened.connection.terminate()


async def _started(name: str, folder: Path, environment: Mapping[str, str]) -> Process:
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker", name), env=environment, stdout=output, stderr=output
        )
    return Process(process, log)
