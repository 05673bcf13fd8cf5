"""The stack of the story: `registration dev`, or its commands one by one beside servers in containers; both say where all is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from tests.boundary.conditions import until
from tests.conftest import SEALING_KEYS
from tests.servers import started
from worker.dev.process import free_port
from worker.dev.stack import CATALOGUE
from worker.dev.tokens import ADMIN_ROLE, ISSUER, make_keys, make_token

READY_S: Final = 60.0
DEADLINE_S: Final = 30.0
TENANT: Final = "7c6f0f52-9d4e-4b1a-8f0e-2a5d9b3c1e47"
"""That of the development catalogue."""


@asynccontextmanager
async def developing(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    """Run `registration dev` for the length of a block; return its ready line."""
    async with command(folder, os.environ, "dev", "--ephemeral", "--port", "0") as process:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), READY_S)
        assert line, (folder / "log").read_text()
        yield json.loads(line)


@asynccontextmanager
async def beside_containers(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    """Run ingress and worker beside Kafka and PostgreSQL in containers; return what `registration dev` would say."""
    keys = folder / "keys"
    async with AsyncExitStack() as ending:
        servers = await ending.enter_async_context(started())
        environment = {
            "REGISTRATION_KAFKA_BOOTSTRAP": servers.kafka.bootstrap,
            "REGISTRATION_DATABASE_URL": servers.postgres.url,
            "REGISTRATION_SEALING_KEYS": SEALING_KEYS,
            "REGISTRATION_JWKS_FILE": str(make_keys(keys)),
            "REGISTRATION_JWT_ISSUER": ISSUER,
            "REGISTRATION_DEVELOPMENT": "true",
        }
        for arguments in (["migrate"], ["catalogue", "apply", str(CATALOGUE), "--yes"]):
            async with command(folder, {**os.environ, **environment}, *arguments) as process:
                assert await asyncio.wait_for(process.wait(), READY_S) == 0, (folder / "log").read_text()
        http, admin, worker_admin = free_port(), free_port(), free_port()
        own = {"REGISTRATION_HTTP_PORT": str(http), "REGISTRATION_ADMIN_PORT": str(admin)}
        await ending.enter_async_context(command(folder, {**os.environ, **environment, **own}, "ingress"))
        own = {"REGISTRATION_ADMIN_PORT": str(worker_admin)}
        await ending.enter_async_context(command(folder, {**os.environ, **environment, **own}, "worker"))
        for port in (admin, worker_admin):
            await until(partial(is_ready, port), "the process is ready", READY_S)
        yield {
            "http": f"http://127.0.0.1:{http}",
            "admin": f"http://127.0.0.1:{admin}",
            "kafka": servers.kafka.bootstrap,
            "database": servers.postgres.url,
            "tenant": TENANT,
            "token": make_token(keys, ADMIN_ROLE, TENANT, 3600),
            "environment": environment,
        }


@asynccontextmanager
async def command(folder: Path, environment: Mapping[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `registration …` for the length of a block, at most; it logs to the folder's log."""
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker", *arguments), env=environment, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), DEADLINE_S)


async def is_ready(port: int) -> bool:
    """Whether the process with that admin port says so."""
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
