"""Ingresses for the tests: with a worker, and without."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.boundary.ingress_door import Door, opened
from tests.conftest import World, settings_of, url_of
from worker import app, logs
from worker.dev.embedded import Stack
from worker.postgres import connect


@pytest.fixture(scope="module")
async def door(servers: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """An ingress and a worker, on a database of their own."""
    name = f"ingress_{os.urandom(6).hex()}"
    own = await connect(servers.postgres.url, "tests")
    try:
        await own.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        settings = settings_of(servers, url_of(servers, name), group=name)
        stop = asyncio.Event()
        async with opened(settings, tmp_path_factory.mktemp("keys")) as running:
            working = asyncio.create_task(app.consume(settings, stop, running.metrics, lambda _health: None))
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
