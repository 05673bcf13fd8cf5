"""The ingress as a running thing: its parts, its port, what keeps it fresh, and its end."""

from __future__ import annotations

import asyncio
import os
import resource
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from worker import logs
from worker.admin import Health, admin, http_server, listening, port_of
from worker.config import Settings
from worker.connections import Limits, Room
from worker.errors import UnavailableError
from worker.ingress.app import create_app
from worker.ingress.keys import Clock, Keys
from worker.ingress.parts import Parts
from worker.ingress.passwords import Hasher
from worker.ingress.tenants import Tenants
from worker.ingress.tokens import Tokens
from worker.ingress.waiting import Waiting
from worker.kafka import Producer, security_of
from worker.metrics import Metrics
from worker.postgres import Database
from worker.tls import Pem, server_context
from worker.traces import INGRESS, exported

NAME: Final = "registration-ingress"
DATABASE_TIMEOUT_S: Final = 5.0
FIRST_TRY_TIMEOUT_S: Final = 2.0
PROBE_INTERVAL_S: Final = 1.0
FILES_BESIDE: Final = 1024
"""What the process opens beside its callers' connections, those that are refused among them."""
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
async def serving(settings: Settings, metrics: Metrics, *, clock: Clock = time.monotonic) -> AsyncIterator[tuple[int, Health]]:
    """
    Serve the API for the length of a block.

    It begins whether or not Kafka, the database and the identity provider answer; until they do, callers are told so, and
    it is not ready. At the end it takes no more connections, and lets what is in flight end within the time to drain.

    Args:
        settings: of this process.
        metrics: of this process.
        clock: by which keys grow old.
    Returns:
        The port, and what the ingress says of itself.
    Raises:
        ConfigurationError: a setting is wrong, or the port can't be had.
    """
    tokens, tls = Tokens(settings, Keys.from_settings(settings, metrics, clock)), _tls(settings)
    with listening(settings.http_host, settings.http_port, "REGISTRATION_HTTP_PORT") as listener:
        async with (
            _parts(settings, tokens, metrics) as parts,
            _kept_fresh(parts),
            http_server(create_app(parts), listener, _room(settings, metrics), drain_s=settings.drain_timeout_s, tls=tls),
        ):
            try:
                yield port_of(listener), parts.health
            finally:
                parts.health.is_stopping = True
                parts.waiting.end_within(settings.drain_timeout_s * WAIT_SHARE)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Return what HTTPS is answered with; None where the ingress speaks plain HTTP."""
    cert, key = settings.http_tls_cert_file, settings.http_tls_key_file
    if cert is None or key is None:
        return None
    return server_context(Pem("REGISTRATION_HTTP_TLS_CERT_FILE", cert), Pem("REGISTRATION_HTTP_TLS_KEY_FILE", key))


def _room(settings: Settings, metrics: Metrics) -> Room:
    """Return the room for connections; where the system gives fewer files than they need, it is smaller."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.connections_max + FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files = max(soft - FILES_BESIDE, soft // 2)
    limits = Limits(
        connections_max=settings.connections_max if soft == resource.RLIM_INFINITY else min(settings.connections_max, files),
        head_max_bytes=settings.headers_max_bytes,
        header_max_bytes=settings.header_max_bytes,
        head_timeout_s=settings.headers_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        answer_timeout_s=settings.answer_timeout_s,
    )
    return Room(limits, lambda reason: metrics.connections_ended.labels(reason).inc())


@asynccontextmanager
async def _parts(settings: Settings, tokens: Tokens, metrics: Metrics) -> AsyncIterator[Parts]:
    """Make the parts, and close them at the end."""
    url = settings.database_url.get_secret_value()
    database = Database(url, connections=settings.database_connections, timeout_s=DATABASE_TIMEOUT_S, name=NAME)
    client_id = f"{NAME}-{os.getpid()}"
    producer = Producer(
        settings.kafka_bootstrap,
        timeout_s=settings.produce_timeout_s,
        client_id=client_id,
        security=security_of(settings),
    )
    hasher = Hasher(settings.hash_threads, settings.hash_queue_max, metrics)
    waiting = Waiting(database, metrics)
    with exported(INGRESS) as traces:
        parts = Parts(settings, database, producer, metrics, tokens, Tenants(database, metrics), hasher, waiting, traces)
        try:
            yield parts
        finally:
            await waiting.close()
            hasher.close()
            parts.reader.close()
            await producer.stop()
            await database.close()


@asynccontextmanager
async def _kept_fresh(parts: Parts) -> AsyncIterator[None]:
    """Keep catalogues, keys and connections fresh for the length of a block, which begins after a first try of each."""
    keys, health = parts.tokens.keys, parts.health
    tasks = [asyncio.create_task(work) for work in (parts.tenants.run(), keys.run(), _watch_kafka(parts))]
    for task in tasks:
        task.add_done_callback(health.has_ended)
    tried = asyncio.gather(parts.tenants.tried.wait(), keys.tried.wait(), health.kafka_tried.wait())
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
