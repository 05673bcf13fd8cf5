"""The ingress as a running thing: its parts, its port, what keeps it fresh, and its end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from worker import logs
from worker.admin import Health, admin, http_server, listening, port_of
from worker.config import Settings
from worker.errors import UnavailableError
from worker.ingress.app import create_app
from worker.ingress.parts import Parts
from worker.ingress.passwords import Hasher
from worker.ingress.tenants import Tenants
from worker.ingress.tokens import Keys, Tokens
from worker.ingress.waiting import Waiting
from worker.kafka import Producer
from worker.metrics import Metrics
from worker.postgres import Database

NAME: Final = "registration-ingress"
DATABASE_TIMEOUT_S: Final = 5.0
FIRST_TRY_TIMEOUT_S: Final = 2.0
PROBE_INTERVAL_S: Final = 1.0
WAIT_SHARE: Final = 0.8
"""Of the time to drain: then whoever still waits is answered 202, and the rest is for the answers."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the ingress listens."""

    http: int
    admin: int


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    ready: Callable[[Ports], None] | None = None,
    metrics: Metrics | None = None,
    beside: Sequence[Health] = (),
) -> None:
    """
    Serve the API and the admin port until told to stop.

    Args:
        settings: of this process.
        stop: ends it; what is in flight ends within the time to drain.
        ready: called once it answers.
        metrics: of this process, where it has them already.
        beside: what else runs in this process and is shown on the admin port.
    Raises:
        ConfigurationError: a setting is wrong, or a port can't be had.
    """
    log, shown, health = logs.logger(), metrics or Metrics(), _Process(beside)
    async with (
        admin(settings.admin_host, settings.admin_port, health, shown) as admin_port,
        serving(settings, shown) as (http_port, health.ingress),
    ):
        log.info("ingress.started", http_port=http_port, admin_port=admin_port)
        if ready is not None:
            ready(Ports(http_port, admin_port))
        await stop.wait()
    log.info("ingress.stopped")


@dataclass(slots=True)
class _Process:
    """What the ingress, once it is there, and what runs beside it say of themselves."""

    beside: Sequence[Health]
    ingress: Health | None = None

    def alive(self) -> bool:
        """Every part is."""
        return all(part.alive() for part in self._parts())

    def reasons(self) -> list[str]:
        """The reasons of all."""
        own = ["starting"] if self.ingress is None else []
        return own + [reason for part in self._parts() for reason in part.reasons()]

    def _parts(self) -> list[Health]:
        return [*([] if self.ingress is None else [self.ingress]), *self.beside]


@asynccontextmanager
async def serving(settings: Settings, metrics: Metrics) -> AsyncIterator[tuple[int, Health]]:
    """
    Serve the API for the length of a block.

    It begins whether or not Kafka and the database answer; until they do, callers are told so, and it is not ready. At
    the end it takes no more connections, and lets what is in flight end within the time to drain.

    Args:
        settings: of this process.
        metrics: of this process.
    Returns:
        The port, and what the ingress says of itself.
    Raises:
        ConfigurationError: a setting is wrong, or the port can't be had.
    """
    tokens = Tokens(settings, Keys.from_settings(settings))
    with listening(settings.http_host, settings.http_port, "REGISTRATION_HTTP_PORT") as listener:
        async with (
            _parts(settings, tokens, metrics) as parts,
            _kept_fresh(parts),
            http_server(create_app(parts), listener, drain_s=settings.drain_timeout_s),
        ):
            try:
                yield port_of(listener), parts.health
            finally:
                parts.health.is_stopping = True
                parts.waiting.end_within(settings.drain_timeout_s * WAIT_SHARE)


@asynccontextmanager
async def _parts(settings: Settings, tokens: Tokens, metrics: Metrics) -> AsyncIterator[Parts]:
    """Make the parts, and close them at the end."""
    url = settings.database_url.get_secret_value()
    database = Database(url, connections=settings.database_connections, timeout_s=DATABASE_TIMEOUT_S, name=NAME)
    client_id = f"{NAME}-{os.getpid()}"
    producer = Producer(settings.kafka_bootstrap, timeout_s=settings.produce_timeout_s, client_id=client_id)
    hasher = Hasher(settings.hash_threads, settings.hash_queue_max, metrics)
    waiting = Waiting(database, metrics)
    try:
        yield Parts(settings, database, producer, metrics, tokens, Tenants(database, metrics), hasher, waiting)
    finally:
        await waiting.close()
        hasher.close()
        await producer.stop()
        await database.close()


@asynccontextmanager
async def _kept_fresh(parts: Parts) -> AsyncIterator[None]:
    """Keep catalogues and connections fresh for the length of a block, which begins after a first try of both."""
    tasks = [asyncio.create_task(parts.tenants.run()), asyncio.create_task(_watch_kafka(parts))]
    tried = asyncio.gather(parts.tenants.tried.wait(), parts.health.kafka_tried.wait())
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(tried, FIRST_TRY_TIMEOUT_S)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _watch_kafka(parts: Parts) -> None:
    """Connect at start, and again after a failure: a process that is not ready gets no traffic that would find out."""
    while True:
        if not parts.health.kafka_answers:
            with suppress(UnavailableError):
                await parts.producer.connect()
                parts.health.kafka_answers = True
            parts.health.kafka_tried.set()
        await asyncio.sleep(PROBE_INTERVAL_S)
