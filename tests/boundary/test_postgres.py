"""The door to PostgreSQL: what a deadline does, what an error means, and that an unanswered COMMIT is called unknown."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from tests.boundary.conditions import until
from tests.conftest import url_of
from worker import postgres
from worker.dev.embedded import EmbeddedPostgres, Stack
from worker.errors import CommitUnknownError, TooSlowError, UnavailableError, UnstorableError
from worker.postgres import Connection, Database, connect, statement

NAME: Final = "registration-probe"
INSERT: Final = "INSERT INTO tenants VALUES ($1, $1, $1)"
STATEMENTS: Final = sorted(path.stem for path in (Path(postgres.__file__).parent / "sql").glob("*.sql"))


@dataclass(frozen=True, slots=True)
class Home:
    """A database that the tests of this module share, and a connection to it."""

    url: str
    connection: Connection


@pytest.fixture(scope="module")
async def home(servers: Stack, template: str) -> AsyncIterator[Home]:
    """A copy of the schema; each test here writes rows of its own only."""
    name = f"test_{os.urandom(6).hex()}"
    admin = await connect(servers.postgres.url, "tests")
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    url = url_of(servers, name)
    connection = await connect(url, "tests")
    try:
        yield Home(url, connection)
    finally:
        await connection.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


@pytest.fixture
def name() -> str:
    """What the sessions of one test are called."""
    return f"{NAME}-{os.urandom(4).hex()}"


@pytest.fixture
async def database(home: Home, name: str) -> AsyncIterator[Database]:
    """A pool with a deadline of a second."""
    opened = of(home.url, name)
    yield opened
    await opened.close()


def of(url: str, name: str = NAME, timeout_s: float = 1.0, connections: int = 3) -> Database:
    """Return a pool that its server can tell from other sessions."""
    return Database(url, connections=connections, timeout_s=timeout_s, name=name)


async def sessions(connection: Connection, name: str = NAME) -> list[Any]:
    """Return what the sessions of that name do."""
    return await connection.fetch("SELECT pid, state, wait_event FROM pg_stat_activity WHERE application_name = $1", name)


async def tenant(connection: Connection, name: str) -> bool:
    """Say whether a tenant of that name is committed."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM tenants WHERE tenant_id = $1)", name))


def executing(query: str, *parameters: object) -> Callable[[Connection], Awaitable[Any]]:
    """Return work that runs one statement."""
    return lambda connection: connection.execute(query, *parameters)


# --- deadlines -----------------------------------------------------------------------------------------------------------

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


# --- transactions --------------------------------------------------------------------------------------------------------


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


# --- COMMIT without an answer --------------------------------------------------------------------------------------------


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


# --- what an error means -------------------------------------------------------------------------------------------------

UNSTORABLE, SLOW, UNAVAILABLE, BUG = UnstorableError, TooSlowError, UnavailableError, asyncpg.PostgresError
RAISED: Final = {
    "08006": UNAVAILABLE,  # connection_failure
    "08P01": UNAVAILABLE,  # protocol_violation
    "22001": UNSTORABLE,  # string_data_right_truncation
    "22021": UNSTORABLE,  # character_not_in_repertoire
    "22P05": UNSTORABLE,  # untranslatable_character
    "23503": UNSTORABLE,  # foreign_key_violation
    "23P01": UNSTORABLE,  # exclusion_violation
    "25006": UNAVAILABLE,  # read_only_sql_transaction: a standby
    "25P02": BUG,  # in_failed_sql_transaction
    "25P03": UNAVAILABLE,  # idle_in_transaction_session_timeout
    "25P04": SLOW,  # transaction_timeout
    "0A000": UNAVAILABLE,  # feature_not_supported: a cached plan after a migration
    "40001": UNAVAILABLE,  # serialization_failure
    "40003": UNAVAILABLE,  # statement_completion_unknown
    "40P01": UNAVAILABLE,  # deadlock_detected
    "42501": BUG,  # insufficient_privilege
    "42703": BUG,  # undefined_column
    "42P01": BUG,  # undefined_table
    "53100": UNAVAILABLE,  # disk_full
    "53300": UNAVAILABLE,  # too_many_connections
    "54000": UNSTORABLE,  # program_limit_exceeded
    "55000": UNAVAILABLE,  # object_not_in_prerequisite_state
    "55P03": UNAVAILABLE,  # lock_not_available
    "57014": SLOW,  # query_canceled
    "57P01": UNAVAILABLE,  # admin_shutdown
    "57P02": UNAVAILABLE,  # crash_shutdown
    "57P03": UNAVAILABLE,  # cannot_connect_now
    "57P05": UNAVAILABLE,  # idle_session_timeout
    "58030": UNAVAILABLE,  # io_error
    "P0001": BUG,  # raise_exception
    "XX000": BUG,  # internal_error
}


async def test_each_sqlstate_means_what_the_loop_does(database: Database) -> None:
    """Raised by a real server, through the real driver; what is not on the list is a bug of ours and ends the process."""
    found = {}
    for state in RAISED:
        query = f"DO $$ BEGIN RAISE EXCEPTION 'secret row' USING ERRCODE = '{state}'; END $$"
        with pytest.raises((UnstorableError, TooSlowError, UnavailableError, asyncpg.PostgresError)) as raised:
            await database.run(executing(query))
        found[state] = raised.value
        if RAISED[state] is not BUG:
            assert "secret" not in str(raised.value)
            assert raised.value.__suppress_context__

    kinds = (UNSTORABLE, SLOW, UNAVAILABLE, BUG)
    assert {state: next(kind for kind in kinds if isinstance(error, kind)) for state, error in found.items()} == RAISED


INDEXED: Final = "CREATE TEMP TABLE indexed (word text PRIMARY KEY, number int CHECK (number > 0), day date NOT NULL)"
REFUSED: Final[dict[str, tuple[str, tuple[object, ...]]]] = {
    "text with a zero byte": ("SELECT $1::text", ("a\0b",)),
    "text with half a surrogate pair": ("SELECT $1::text", ("\ud800",)),
    "a list with such a text": ("SELECT $1::text[]", (["a", "\ud800"],)),
    "a list with a zero byte": ("SELECT $1::text[]", (["a", "a\0b"],)),
    "a number that is too large for its type": ("SELECT $1::int", (2**40,)),
    "a value of another type": ("SELECT $1::date", ("2026-01-01",)),
    "a time beyond the calendar in UTC": ("SELECT $1::timestamptz", ("later",)),
    "no JSON": ("SELECT $1::json", ("{",)),
    "an indexed text that is too long": ("INSERT INTO indexed VALUES ($1, 1, now())", (os.urandom(9000).hex(),)),
    "a duplicate key": ("INSERT INTO indexed VALUES ($1, 1, now()), ($1, 1, now())", ("a",)),
    "a check": ("INSERT INTO indexed VALUES ($1, -1, now())", ("a",)),
    "nothing where something must be": ("INSERT INTO indexed VALUES ($1, 1, NULL)", ("a",)),
    "a division by zero": ("SELECT 1 / $1::int", (0,)),
}


@pytest.mark.parametrize(("query", "parameters"), REFUSED.values(), ids=REFUSED.keys())
async def test_data_that_can_not_be_stored_is_the_data_s_fault(
    database: Database, query: str, parameters: tuple[object, ...]
) -> None:
    """Whether the server or the driver refuses it; the error names the rule, and never the row."""

    async def work(connection: Connection) -> None:
        await connection.execute(INDEXED)
        await connection.execute(query, *parameters)

    with pytest.raises(UnstorableError) as raised:
        await database.transact(work)
    assert re.fullmatch(r"SQLSTATE [0-9A-Z]{5}(, \w+)?|the driver can't encode a value", str(raised.value))


async def test_copy_refuses_the_same(home: Home, database: Database) -> None:
    """COPY encodes row by row, and reports by other ways."""
    for text in ("a\0b", "\ud800"):
        with pytest.raises(UnstorableError):
            await database.transact(lambda c, text=text: c.copy_records_to_table("tenants", records=[("a", "a", text)]))  # type: ignore[misc]
    assert not await tenant(home.connection, "a")


async def test_a_lock_that_is_not_to_be_had_is_unavailable(home: Home, database: Database) -> None:
    """Another transaction holds it: wait and claim again."""
    async with home.connection.transaction():
        await home.connection.execute("LOCK TABLE tenants")
        with pytest.raises(UnavailableError, match="55P03"):
            await database.transact(executing(INSERT, "locked"))


async def test_a_deadlock_is_unavailable(home: Home, name: str) -> None:
    """One of both is ended by the server, and does its batch again."""
    await home.connection.execute("INSERT INTO tenants VALUES ('a', 'a', 'a'), ('b', 'b', 'b')")
    database, met = of(home.url, name, timeout_s=8), asyncio.Barrier(2)

    async def work(connection: Connection, first: str, second: str) -> None:
        await connection.execute("SET LOCAL deadlock_timeout = '50ms'")
        await connection.execute("UPDATE tenants SET name = 'x' WHERE tenant_id = $1", first)
        await met.wait()
        await connection.execute("UPDATE tenants SET name = 'x' WHERE tenant_id = $1", second)

    done = await asyncio.gather(
        database.transact(lambda c: work(c, "a", "b")), database.transact(lambda c: work(c, "b", "a")), return_exceptions=True
    )
    await database.close()

    assert sorted(type(each).__name__ for each in done) == ["NoneType", "UnavailableError"]


async def test_a_plan_that_a_migration_made_stale_is_unavailable_once(home: Home, name: str) -> None:
    """The next try prepares it anew."""

    async def read(connection: Connection) -> asyncpg.Record | None:
        return await connection.fetchrow("SELECT * FROM planned")

    await home.connection.execute("CREATE TABLE planned (word text); INSERT INTO planned VALUES ('a')")
    database = of(home.url, name, connections=1)
    await database.transact(read)
    await home.connection.execute("ALTER TABLE planned ALTER word TYPE varchar(99), ADD COLUMN added int")
    with pytest.raises(UnavailableError):
        await database.transact(read)
    row = await database.transact(read)
    await database.close()

    assert dict(row or {}) == {"word": "a", "added": None}


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace(url.rsplit("/", 1)[1], "no_such_database"),
        lambda url: re.sub(r":[^:@/]*@", ":wrong@", url),
        lambda url: re.sub(r":\d+/", ":1/", url),
    ],
    ids=["no such database", "a wrong password", "nobody listens"],
)
async def test_a_server_that_refuses_us_is_unavailable_and_no_secret_is_told(
    home: Home, name: str, change: Callable[[str], str]
) -> None:
    """It may be about to be set up; the worker waits and says so."""
    database = of(change(home.url), name)
    with pytest.raises(UnavailableError) as raised:
        await database.run(executing("SELECT 1"))
    await database.close()

    assert raised.value.service == "database"
    assert "wrong" not in str(raised.value)


async def test_any_other_error_is_passed_on(database: Database) -> None:
    """A bug of ours is not to be mistaken for a database that is down."""

    async def work(_connection: Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.run(work)
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.transact(executing("SELECT FROM no_such_table"))


# --- statements ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_says_what_it_is(name: str) -> None:
    """`ls worker/sql` lists every effect on the database, each file one statement with its reason above it."""
    text = statement(name)
    code = re.sub(r"--.*|'[^']*'", "", text).strip()

    assert text.startswith(f"-- {name}: ")
    assert ";" not in code.rstrip(";") or name == "verify_tables", "which makes the tables of one session"


@pytest.mark.parametrize("name", [name for name in STATEMENTS if not name.startswith("verify_")])
async def test_a_statement_fits_the_schema(home: Home, name: str) -> None:
    """The server can plan it, with as many parameters as its head describes."""
    prepared = await home.connection.prepare(statement(name))
    head = "\n".join(line for line in statement(name).splitlines() if line.startswith("--"))

    assert len(prepared.get_parameters()) == len(set(re.findall(r"\$(\d+)", head)))
