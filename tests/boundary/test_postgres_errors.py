"""What an error of PostgreSQL means for the loop, and that each statement fits the schema."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from tests.boundary.databases import Home
from tests.boundary.sessions import INSERT, executing, of, tenant
from worker import postgres
from worker.errors import DatabaseBugError, TooSlowError, UnavailableError, UnstorableError
from worker.postgres import Connection, Database, statement

STATEMENTS: Final = sorted(path.stem for path in (Path(postgres.__file__).parent / "sql").glob("*.sql"))

UNSTORABLE, SLOW, UNAVAILABLE, BUG = UnstorableError, TooSlowError, UnavailableError, DatabaseBugError

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
        with pytest.raises((UnstorableError, TooSlowError, UnavailableError, DatabaseBugError)) as raised:
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
    with pytest.raises(DatabaseBugError):
        await database.transact(executing("SELECT FROM no_such_table"))


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_says_what_it_is(name: str) -> None:
    """`ls worker/sql` lists every effect on the database, each file one statement with its reason above it."""
    text = statement(name)
    code = re.sub(r"--.*|'[^']*'", "", text).strip()

    assert text.startswith(f"-- {name}: ")
    assert ";" not in code.rstrip(";") or name == "verify_tables", "which makes the tables of one session"


@pytest.mark.parametrize("name", [name for name in STATEMENTS if not name.startswith(("verify_", "republish_"))])
async def test_a_statement_fits_the_schema(home: Home, name: str) -> None:
    """The server can plan it, with as many parameters as its head describes."""
    prepared = await home.connection.prepare(statement(name))
    head = "\n".join(line for line in statement(name).splitlines() if line.startswith("--"))

    assert len(prepared.get_parameters()) == len(set(re.findall(r"\$(\d+)", head)))
