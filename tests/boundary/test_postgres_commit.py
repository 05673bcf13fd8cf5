"""A COMMIT without an answer is called unknown, whatever became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.boundary.conditions import until
from tests.boundary.sessions import INSERT, NAME, executing, of, sessions, tenant
from worker.dev.embedded import EmbeddedPostgres
from worker.errors import CommitUnknownError, UnavailableError
from worker.postgres import Connection, Database, connect


@pytest.fixture(scope="module")
async def scratch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A server of its own whose commits wait for a standby that there is not."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("scratch") / "postgres")
    await server.start()
    try:
        admin = await connect(server.url, "tests")
        await admin.execute("CREATE TABLE tenants (tenant_id text, slug text, name text)")
        await admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
        yield server
    finally:
        server.end_now()


@pytest.fixture
async def alone(scratch: EmbeddedPostgres) -> AsyncIterator[tuple[Connection, Database]]:
    """A connection that waits for no standby, and a pool whose commits do."""
    admin = await connect(scratch.url, "tests", synchronous_commit="local")
    database = of(scratch.url)

    async def waits() -> bool:
        return bool(await admin.fetchval("SHOW synchronous_standby_names") == "nobody")

    await until(waits, "the setting is there")
    yield admin, database
    await database.close()
    admin.terminate()
    last = await connect(scratch.url, "tests")
    await last.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1", NAME)
    await last.close()


async def committing(admin: Connection) -> int:
    """Wait for a session that waits in COMMIT; return its process."""

    async def found() -> int | None:
        rows = await sessions(admin)
        return next((row["pid"] for row in rows if row["wait_event"] == "SyncRep"), None)

    return await until(found, "a COMMIT waits for its standby") or 0


async def test_a_commit_that_is_late_is_unknown_and_not_cancelled(alone: tuple[Connection, Database]) -> None:
    """Our deadline closes the socket; the server still waits, and neither side has claimed success."""
    admin, database = alone
    with pytest.raises(CommitUnknownError):
        await database.transact(executing(INSERT, "late"), timeout_s=0.5)

    assert await committing(admin)
    assert not await tenant(admin, "late")


async def test_a_commit_whose_session_is_ended_is_unknown_though_it_is_stored(alone: tuple[Connection, Database]) -> None:
    """Ending the wait for the standby leaves the transaction committed on the primary: only a new claim can tell."""
    admin, database = alone
    task = asyncio.create_task(database.transact(executing(INSERT, "ended"), timeout_s=10))
    await admin.execute("SELECT pg_terminate_backend($1, 5000)", await committing(admin))
    with pytest.raises(CommitUnknownError):
        await task

    assert await tenant(admin, "ended")


async def test_a_commit_that_was_cancelled_from_outside_is_the_servers_word(alone: tuple[Connection, Database]) -> None:
    """The reason why we never send a cancel: this COMMIT reports success, and no standby has it."""
    admin, database = alone
    task = asyncio.create_task(database.transact(executing(INSERT, "cancelled"), timeout_s=10))
    await admin.execute("SELECT pg_cancel_backend($1)", await committing(admin))
    await task

    assert await tenant(admin, "cancelled")


async def test_a_server_killed_in_a_commit_leaves_it_unknown(alone: tuple[Connection, Database], scratch: EmbeddedPostgres) -> None:
    """Until it is back, and then it says what is true."""
    admin, database = alone
    task = asyncio.create_task(database.transact(executing(INSERT, "killed"), timeout_s=10))
    await committing(admin)
    await scratch.kill()
    with pytest.raises(CommitUnknownError):
        await task
    with pytest.raises(UnavailableError):
        await database.run(executing("SELECT 1"))
    await scratch.start()
    again = await connect(scratch.url, "tests")
    try:
        assert await tenant(again, "killed")
    finally:
        await again.close()
    assert await database.run(lambda c: c.fetchval("SELECT 1")) == 1
