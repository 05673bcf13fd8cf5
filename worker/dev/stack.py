"""`registration dev`: Kafka, PostgreSQL, ingress and worker in one foreground process, for people and for black-box tests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from worker import app, ingress, logs
from worker.config import PREFIX, Settings, load
from worker.dev.embedded import TEMPORARY_PREFIX, embedded_stack
from worker.dev.logins import INGRESS, WORKER, login
from worker.dev.process import StartError, temporary_folder
from worker.dev.tokens import ADMIN_ROLE, AUDIENCE, ISSUER, make_keys, make_token
from worker.errors import EXIT_FAILED
from worker.ingress import Ports
from worker.metrics import Metrics
from worker.operate import catalogue

DATA: Final = Path(".registration")
CATALOGUE: Final = Path(__file__).with_name("catalogue") / "development.yaml"
TOKEN_TTL_S: Final = 12 * 3600
_KEY_BYTES: Final = 32
_PLAIN: Final = ("kafka_security_", "http_tls_", "jwks_url", "jwks_ca_file")
"""Settings of encryption and of an identity provider, which nothing in this stack has: it is all on this machine."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Where everything is, once it answers; `environment` is what joins another command to this stack."""

    http: str
    admin: str
    kafka: str
    database: str
    tenant: str
    token: str
    environment: Mapping[str, str]

    def line(self) -> str:
        """Return the ready line: one JSON document."""
        return json.dumps(asdict(self))


def run_dev(*, data: Path | None, port: int | None, ephemeral: bool, with_worker: bool) -> int:
    """
    Run the stack until Ctrl-C or SIGTERM.

    Args:
        data: where the servers keep their data.
        port: of HTTP; 0 picks one.
        ephemeral: keep nothing.
        with_worker: false leaves commands on the topic.
    Returns:
        The exit code.
    """

    async def for_ever() -> int:
        folder = None if ephemeral else (data or DATA).absolute()
        async with running(folder, port=port, with_worker=with_worker) as (ready, working):
            print(ready.line(), flush=True)
            await working
        return EXIT_FAILED

    logs.configure("INFO", "console" if sys.stderr.isatty() else "json")
    try:
        return app.run_until_signalled(for_ever())
    except StartError as error:
        print(f"registration: {error}", file=sys.stderr)
        return EXIT_FAILED


@asynccontextmanager
async def running(
    folder: Path | None, *, port: int | None = None, with_worker: bool = True
) -> AsyncIterator[tuple[Ready, asyncio.Task[None]]]:
    """
    Run the stack for the length of a block.

    Args:
        folder: of the servers' data and the development keys; None is a temporary one.
        port: of HTTP; 0 picks one, None takes the setting.
        with_worker: false leaves commands on the topic.
    Returns:
        Where everything is, and a task that ends only if a part fails.
    Raises:
        StartError: a server did not start.
    """
    with ExitStack() as ending:
        keys = folder / "keys" if folder else ending.enter_context(temporary_folder(TEMPORARY_PREFIX))
        async with embedded_stack(folder) as servers:
            environment = _environment(servers.kafka.bootstrap, servers.postgres.url, keys)
            settings = _settings(environment, port)
            await app.prepare(settings)
            tenant_id = await _catalogue(servers.postgres.url)
            async with _serving(await _at_work(settings), with_worker=with_worker) as (ports, working):
                yield (
                    Ready(
                        http=f"http://{settings.http_host}:{ports.http}",
                        admin=f"http://{settings.admin_host}:{ports.admin}",
                        kafka=servers.kafka.bootstrap,
                        database=servers.postgres.url,
                        tenant=tenant_id,
                        token=make_token(keys, ADMIN_ROLE, tenant_id, TOKEN_TTL_S),
                        environment=environment,
                    ),
                    working,
                )


async def _catalogue(database_url: str) -> str:
    """Publish the development tenant's catalogue, if it has changed; return the tenant's id."""
    applied = await catalogue.apply(database_url, CATALOGUE, by="registration dev", yes=True)
    if not isinstance(applied, catalogue.Applied):
        raise StartError("; ".join(map(str, applied)))
    return applied.tenant_id


@dataclass(frozen=True, slots=True)
class _AtWork:
    """The settings of each process, with a login of its own: the environment that is printed is an operator's."""

    ingress: Settings
    worker: Settings


async def _at_work(settings: Settings) -> _AtWork:
    url = settings.database_url.get_secret_value()
    ingress_url = await login(url, INGRESS, "development_ingress")
    worker_url = await login(url, WORKER, "development_worker")
    return _AtWork(
        settings.model_copy(update={"database_url": SecretStr(ingress_url)}),
        settings.model_copy(update={"database_url": SecretStr(worker_url)}),
    )


@asynccontextmanager
async def _serving(settings: _AtWork, *, with_worker: bool) -> AsyncIterator[tuple[Ports, asyncio.Task[None]]]:
    """Run ingress and worker in this loop, under one admin port; at the end both drain."""
    stop, metrics, worker = asyncio.Event(), Metrics(), app.Starting()
    ports: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
    beside = [worker] if with_worker else []
    parts = [ingress.serve(settings.ingress, stop, ready=ports.set_result, metrics=metrics, beside=beside)]
    if with_worker:
        parts.append(app.consume(settings.worker, stop, metrics, worker.become))
    working = asyncio.ensure_future(_all_of(parts))
    try:
        waiting: list[asyncio.Future[Any]] = [working, ports]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not ports.done():
            await working
        yield ports.result(), working
    finally:
        stop.set()
        await asyncio.wait({working})


async def _all_of(parts: Sequence[Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(part)


def _environment(bootstrap: str, database_url: str, keys: Path) -> dict[str, str]:
    """Return the settings with which every other command joins this stack."""
    sealing_keys = _sealing_keys(keys)
    return {
        "REGISTRATION_KAFKA_BOOTSTRAP": bootstrap,
        "REGISTRATION_DATABASE_URL": database_url,
        "REGISTRATION_SEALING_KEYS": sealing_keys,
        "REGISTRATION_PUBLISH_KEY": hashlib.sha256(f"publish {sealing_keys}".encode()).hexdigest(),
        "REGISTRATION_JWKS_FILE": str(make_keys(keys)),
        "REGISTRATION_JWT_ISSUER": ISSUER,
        "REGISTRATION_JWT_AUDIENCE": AUDIENCE,
        "REGISTRATION_DEVELOPMENT": "true",
        "REGISTRATION_HTTP_PORT": "0",
        "REGISTRATION_ADMIN_PORT": "0",
    }


def _settings(environment: Mapping[str, str], port: int | None) -> Settings:
    """Read the settings of the stack's own processes: its servers, whatever else the caller's environment says."""
    own = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items()}
    own |= {name: field.get_default() for name, field in Settings.model_fields.items() if name.startswith(_PLAIN)}
    own["http_port"] = os.environ.get(f"{PREFIX}HTTP_PORT", "8080") if port is None else str(port)
    settings = load(**own)
    logs.logger().info("settings.read", **settings.printable())
    return settings


def _sealing_keys(folder: Path) -> str:
    """Return this stack's sealing key, made at the first start."""
    path = folder / "sealing-keys"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"development:{base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()}")
    return path.read_text()
