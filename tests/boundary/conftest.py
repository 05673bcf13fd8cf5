"""What the tests at the boundary begin with: an ingress, a partition, a topic, a database of a module's own."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka.consumer import fetcher

from tests.boundary import sessions
from tests.boundary.databases import Home, copied
from tests.boundary.ingress_door import Door, logged_in, opened
from tests.boundary.places import Place
from tests.boundary.tracks import Track, tracked
from tests.conftest import World, settings_of, url_of
from tests.servers import Servers
from worker import app, logs
from worker.dev.logins import WORKER
from worker.kafka import Producer
from worker.postgres import Database, connect


@pytest.fixture(scope="module")
async def door(servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """An ingress and a worker, on a database of their own."""
    name = f"ingress_{os.urandom(6).hex()}"
    own = await connect(servers.postgres.url, "tests")
    try:
        await own.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        settings = settings_of(servers, url_of(servers, name), group=name)
        stop = asyncio.Event()
        async with opened(settings, tmp_path_factory.mktemp("keys")) as running:
            own_login = await logged_in(settings, WORKER)
            working = asyncio.create_task(app.consume(own_login, stop, running.metrics, lambda _health: None))
            try:
                yield running
            finally:
                stop.set()
                await working
        await own.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await own.close()


@pytest.fixture
async def alone(world: World, tmp_path: Path) -> AsyncIterator[Door]:
    """An ingress without any worker: commands stay on the topic."""
    async with opened(world.settings, tmp_path) as running:
        yield running


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What is logged from here on."""
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    yield stream
    logs.configure("INFO", "json")


# --- the worker's own parts -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def home(servers: Servers, template: str) -> AsyncIterator[Home]:
    """A database for the tests of a module, where each writes what no other one reads."""
    async with copied(servers, template) as made:
        yield made


@pytest.fixture
def name() -> str:
    """What the sessions of one test are called."""
    return f"{sessions.NAME}-{os.urandom(4).hex()}"


@pytest.fixture
async def database(home: Home, name: str) -> AsyncIterator[Database]:
    """A pool with a deadline of a second."""
    opened = sessions.of(home.url, name)
    yield opened
    await opened.close()


@pytest.fixture
async def pool(home: Home) -> AsyncIterator[Database]:
    """A pool as a worker has it."""
    opened = Database(home.url, connections=4, timeout_s=8, name="registration-worker")
    yield opened
    await opened.close()


@pytest.fixture
async def place(pool: Database, home: Home) -> Place:
    """A partition that was claimed."""
    claimed = Place(pool, home)
    await claimed.claim()
    return claimed


@pytest.fixture
async def other(pool: Database, home: Home) -> Place:
    """Another one."""
    claimed = Place(pool, home)
    await claimed.claim()
    return claimed


@pytest.fixture
def bootstrap(servers: Servers) -> str:
    """Where Kafka is."""
    return servers.kafka.bootstrap


@pytest.fixture
def topic() -> str:
    """The name of a topic that no other test uses."""
    return f"test.{os.urandom(6).hex()}"


@pytest.fixture
async def producer(bootstrap: str) -> AsyncIterator[Producer]:
    """Our producer."""
    opened = Producer(bootstrap, timeout_s=5, client_id="tests")
    yield opened
    await opened.stop()


@pytest.fixture
def fast_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client's own parser at a test's start, and give it back at its end: what replaces it stays for a process."""
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)


@pytest.fixture
async def track(servers: Servers, home: Home, logged: io.StringIO) -> AsyncIterator[Track]:
    """A topic of its own, not yet made."""
    world = World(settings_of(servers, home.url), home.connection, f"commands.{os.urandom(6).hex()}")
    async with tracked(world, logged) as made:
        yield made
