"""The door to PostgreSQL: what a deadline does, and what a transaction is."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import asyncpg
import pytest

from tests.boundary.conditions import until
from tests.boundary.databases import Home
from tests.boundary.sessions import INSERT, executing, of, sessions, tenant
from worker import postgres
from worker.errors import CommitUnknownError, TooSlowError, UnavailableError
from worker.postgres import Connection, Database

LATE: Final = "INSERT INTO tenants SELECT $1, $1, $1 FROM pg_sleep(1)"


async def test_a_deadline_closes_the_socket_and_sends_no_cancel(home: Home, database: Database, name: str) -> None:
    """A statement that commits by itself is done all the same: a cancel would have undone it, or said so of a COMMIT."""
    with pytest.raises(TooSlowError):
        await database.run(executing(LATE, name), timeout_s=0.2)

    assert not await tenant(home.connection, name)
    await until(lambda: tenant(home.connection, name), "the statement ends by itself")


async def test_being_cancelled_closes_the_socket_and_sends_no_cancel(home: Home, database: Database, name: str) -> None:
    """A lane that is closed while it waits leaves the truth to the database."""
    task = asyncio.create_task(database.run(executing(LATE, name)))

    async def running() -> bool:
        return any(row["wait_event"] == "PgSleep" for row in await sessions(home.connection, name))

    await until(running, "the statement runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: tenant(home.connection, name), "the statement ends by itself")


async def test_a_transaction_past_its_deadline_is_rolled_back(home: Home, database: Database, name: str) -> None:
    """It was not committing: nothing of it is there, and its session is gone from the server by itself."""

    async def work(connection: Connection) -> None:
        await connection.execute(INSERT, "slow")
        await connection.execute("SELECT pg_sleep(60)")

    with pytest.raises(TooSlowError):
        await database.transact(work, timeout_s=0.3)

    async def gone() -> bool:
        return not await sessions(home.connection, name)

    await until(gone, "the server ends the session after its own limit")
    assert not await tenant(home.connection, "slow")


async def test_the_next_one_is_not_affected_by_a_deadline(database: Database) -> None:
    """It gets a connection of its own; a pool of dead ones would be used up."""
    for _ in range(4):
        with pytest.raises(TooSlowError):
            await database.run(executing("SELECT pg_sleep(60)"), timeout_s=0.05)

    assert await database.run(lambda c: c.fetchval("SELECT 1")) == 1


async def test_a_frozen_client_cannot_hold_a_row(home: Home, database: Database, name: str) -> None:
    """The server ends a transaction whose client is silent, before that client's own deadline."""
    asleep = asyncio.Event()

    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE tenants SET name = 'held' WHERE slug = 'development'")
        await asleep.wait()

    task = asyncio.create_task(database.transact(work, timeout_s=30))

    async def locked() -> bool:
        return any(row["state"] == "idle in transaction" for row in await sessions(home.connection, name))

    await until(locked, "the row is held")
    started = time.monotonic()
    await home.connection.execute("UPDATE tenants SET name = 'free' WHERE slug = 'development'")
    assert time.monotonic() - started < 2
    asleep.set()
    with pytest.raises((UnavailableError, CommitUnknownError)):
        await task
    assert await home.connection.fetchval("SELECT name FROM tenants WHERE slug = 'development'") == "free"


async def test_every_session_knows_its_limits(database: Database) -> None:
    """The server's limits are near our own deadline of a second, so that it does not wait for who is gone."""
    limits = await database.run(
        lambda c: c.fetch("SELECT name, setting::int AS ms FROM pg_settings WHERE name = ANY($1)", list(EXPECTED_MS))
    )

    assert {row["name"]: row["ms"] for row in limits} == EXPECTED_MS


EXPECTED_MS: Final = {"transaction_timeout": 2000, "lock_timeout": 500, "idle_in_transaction_session_timeout": 500}


async def test_closing_does_not_wait_for_ever(home: Home, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that hangs is cut off."""
    monkeypatch.setattr(postgres, "CLOSE_TIMEOUT_S", 0.3)
    database = of(home.url, name, timeout_s=60)
    hanging = asyncio.create_task(database.run(executing("SELECT pg_sleep(60)")))

    async def running() -> bool:
        return bool(await sessions(home.connection, name))

    await until(running, "the statement runs")
    started = time.monotonic()
    await database.close()

    assert time.monotonic() - started < 3
    with pytest.raises((UnavailableError, asyncio.CancelledError)):
        await hanging


async def test_a_transaction_is_read_committed_whatever_the_database_says(home: Home, database: Database) -> None:
    """The protocol's second statements must see what the first ones waited for."""
    own = await home.connection.fetchval("SELECT current_database()")
    await home.connection.execute(f"ALTER DATABASE {own} SET default_transaction_isolation = 'serializable'")
    try:
        assert await database.run(lambda c: c.fetchval("SHOW default_transaction_isolation")) == "serializable"
        assert await database.transact(lambda c: c.fetchval("SHOW transaction_isolation")) == "read committed"
    finally:
        await home.connection.execute(f"ALTER DATABASE {own} RESET default_transaction_isolation")


async def test_work_that_raises_is_rolled_back_and_leaves_a_clean_session(home: Home, database: Database, name: str) -> None:
    """What it raised is what its caller gets."""

    async def work(connection: Connection) -> None:
        await connection.execute(INSERT, "half")
        raise KeyError("half")

    with pytest.raises(KeyError):
        await database.transact(work)

    assert not await tenant(home.connection, "half")
    assert await database.run(lambda c: c.fetchval("SELECT pg_current_xact_id_if_assigned()")) is None
    assert [row["state"] for row in await sessions(home.connection, name)] == ["idle"]


async def test_a_transaction_that_was_aborted_is_never_taken_for_committed(home: Home, database: Database) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK there, and no error."""

    async def work(connection: Connection) -> None:
        await connection.execute(INSERT, "aborted")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.execute("SELECT 1 / 0")

    with pytest.raises((UnavailableError, CommitUnknownError)):
        await database.transact(work)
    assert not await tenant(home.connection, "aborted")


async def test_many_may_begin_at_once(database: Database) -> None:
    """All lanes of a process claim at the same moment, on a pool that is not open yet."""
    found = await asyncio.gather(*(database.run(lambda c: c.fetchval("SELECT 1")) for _ in range(12)))

    assert found == [1] * 12


async def test_the_pool_recovers_from_sessions_that_were_terminated(home: Home, database: Database, name: str) -> None:
    """Each broken connection costs at most one attempt, and each attempt is a plain `UnavailableError`."""
    await asyncio.gather(*(database.run(executing("SELECT pg_sleep(0.1)")) for _ in range(3)))
    pids = [row["pid"] for row in await sessions(home.connection, name)]
    assert len(pids) == 3
    await home.connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::int[]) AS pid", pids)
    failures = 0
    for _ in range(6):
        try:
            assert await database.transact(lambda c: c.fetchval("SELECT 1")) == 1
        except UnavailableError:
            failures += 1

    assert failures <= 3
    assert await database.transact(lambda c: c.fetchval("SELECT 1")) == 1


async def test_a_session_terminated_in_a_transaction_is_unavailable_and_nothing_is_stored(home: Home, database: Database) -> None:
    """Whichever of the driver's errors it ends with."""

    async def work(connection: Connection) -> None:
        await connection.execute(INSERT, "cut")
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await home.connection.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        await connection.execute("SELECT 1")

    with pytest.raises(UnavailableError):
        await database.transact(work)
    assert not await tenant(home.connection, "cut")
