"""A database for the tests of a module, where each test writes what no other one reads."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.conftest import url_of
from tests.servers import Servers
from worker.postgres import Connection, connect


@dataclass(frozen=True, slots=True)
class Home:
    """Where it is, and a connection to it."""

    url: str
    connection: Connection


@asynccontextmanager
async def copied(servers: Servers, template: str | None) -> AsyncIterator[Home]:
    """Make a database for the length of a block: a copy of the template, or an empty one."""
    name = f"test_{os.urandom(6).hex()}"
    admin = await connect(servers.postgres.url, "tests")
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}")
        connection = await connect(url_of(servers, name), "tests")
        try:
            yield Home(url_of(servers, name), connection)
        finally:
            await connection.close()  # the database itself goes with its server
    finally:
        await admin.close()
