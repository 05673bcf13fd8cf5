"""Servers for the tests: real Kafka and PostgreSQL, started once a run; a database and a topic of its own for each test."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.servers import Servers, started
from worker import app, logs
from worker.config import Settings, load
from worker.dev.stack import CATALOGUE
from worker.operate import catalogue
from worker.postgres import Connection, connect

SEALING_KEYS: Final = f"test:{base64.b64encode(bytes(32)).decode()}"
TEMPLATE: Final = "registration_template"


@pytest.fixture(scope="session", autouse=True)
def _logs() -> None:
    """Log like a process does, and show it where a test fails."""
    logs.configure("INFO", "json")


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    """Both servers, for the whole run."""
    async with started() as running:
        yield running


@pytest.fixture(scope="session")
async def template(servers: Servers) -> str:
    """Topics, and a database with schema and catalogue that the others are copied from; return its name."""
    admin = await connect(servers.postgres.url, "tests")
    try:
        await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    finally:
        await admin.close()
    url = url_of(servers, TEMPLATE)
    await app.prepare(settings_of(servers, url))
    await catalogue.apply(url, CATALOGUE, by="tests", yes=True)
    return TEMPLATE


@dataclass(frozen=True, slots=True)
class World:
    """What a test gets: settings of a database of its own, and a connection to it."""

    settings: Settings
    connection: Connection
    topic: str


@pytest.fixture
async def world(servers: Servers, template: str) -> AsyncIterator[World]:
    """A fresh database, and the name of a topic that no other test uses."""
    name = f"test_{os.urandom(6).hex()}"
    admin = await connect(servers.postgres.url, "tests")
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        connection = await connect(url_of(servers, name), "tests")
        try:
            yield World(settings_of(servers, url_of(servers, name)), connection, f"commands.{name}")
        finally:
            await connection.close()
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


def url_of(servers: Servers, database: str) -> str:
    """Return the URL of a database of the server."""
    return servers.postgres.url.rsplit("/", 1)[0] + f"/{database}"


def settings_of(servers: Servers, url: str, **changed: object) -> Settings:
    """Return settings for the servers, with the short times that tests want."""
    return load(
        **{
            "kafka_bootstrap": servers.kafka.bootstrap,
            "database_url": url,
            "sealing_keys": SEALING_KEYS,
            "session_timeout_s": 3,
            "heartbeat_interval_s": 0.3,
            "rebalance_timeout_s": 6,
            "look_interval_s": 0.3,
            "produce_timeout_s": 3,
            "http_port": 0,
            "admin_port": 0,
            "topic_partitions": 4,
            **changed,
        }
    )
