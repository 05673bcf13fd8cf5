"""What a contender's process is told, and what it stores with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeAlias

import asyncpg

from benchmarks.frozen.registration import Registration, Row

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connected: TypeAlias = "Connection | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

GATE: Final = 2_026
"""Advisory lock that is held until the limit's processes may go."""
_SQL: Final = Path(__file__).with_name("sql")
_SERVER_SETTINGS: Final = {"jit": "off", "timezone": "UTC"}


@dataclass(frozen=True, slots=True)
class Contest:
    """
    Where a contender works; its consumer group is named as its topic. The rest is for the limit, which takes `warm` and then
    `records` commands from number `first` on, over `connections`; `process` counts from 0.
    """

    kafka: str
    database: str
    commands_topic: str
    events_topic: str
    first: int = 0
    warm: int = 0
    records: int = 0
    process: int = 0
    connections: int = 0

    @classmethod
    def from_environment(cls) -> Contest:
        """Read what `environment` wrote."""
        return cls(**json.loads(os.environ["BENCHMARK_CONTEST"]))

    def environment(self) -> dict[str, str]:
        """Return the variable that tells it to a process."""
        return {"BENCHMARK_CONTEST": json.dumps(asdict(self))}


@cache
def statement(name: str) -> str:
    """Return the statement in `sql/<name>.sql`."""
    return (_SQL / f"{name}.sql").read_text()


async def connect(url: str) -> Connection:
    """Open one connection, set as the worker sets its own."""
    return await asyncpg.connect(url, server_settings=_SERVER_SETTINGS)


async def open_pool(url: str, connections: int) -> Pool:
    """Open a pool; giving a connection back asks the server nothing, which saves the peers a round trip a transaction."""

    async def leave(_connection: Connection) -> None:
        """Nothing to reset."""

    return await asyncpg.create_pool(url, min_size=connections, max_size=connections, reset=leave, server_settings=_SERVER_SETTINGS)


async def insert(connection: Connected, new: Registration) -> None:
    """Write one registration, a statement a table; it is there once, however often its command comes."""
    for name, row_of in _INSERTS:
        await connection.execute(statement(name), *row_of(new))


async def insert_many(connection: Connected, new: list[Registration]) -> None:
    """Write many registrations, a pipelined statement a table."""
    for name, row_of in _INSERTS:
        await connection.executemany(statement(name), list(map(row_of, new)))


_INSERTS: Final[tuple[tuple[str, Callable[[Registration], Row]], ...]] = (
    ("registration_insert", attrgetter("registration")),
    ("customer_insert", attrgetter("customer")),
    ("person_insert", attrgetter("person")),
    ("user_insert", attrgetter("user")),
    ("decision_insert", attrgetter("decision")),
    ("outbox_insert", attrgetter("outbox")),
)
