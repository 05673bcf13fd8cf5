"""Migrations: each once, in order, one migrator at a time, and what was applied never changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from tests.boundary.conditions import until
from tests.boundary.databases import Home, copied
from tests.servers import Servers
from worker.errors import ConfigurationError, UnavailableError
from worker.migrate import FOLDER, migrate, read
from worker.postgres import connect

FIRST: Final = "CREATE TABLE one (id int CONSTRAINT one_pk PRIMARY KEY);\nINSERT INTO one VALUES (1);\n"
SECOND: Final = "ALTER TABLE one ADD COLUMN two int;\nCREATE TABLE two (id int);\n"


@pytest.fixture
async def empty(servers: Servers) -> AsyncIterator[Home]:
    """A database with nothing in it."""
    async with copied(servers, None) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two migrations."""
    (tmp_path / "0001_one.sql").write_text(FIRST)
    (tmp_path / "0002_two.sql").write_text(SECOND)
    (tmp_path / "README.md").write_text("no migration")
    return tmp_path


async def tables(home: Home) -> set[str]:
    """Return the tables that there are, but for the ledger."""
    rows = await home.connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row["tablename"] for row in rows} - {"schema_migrations"}


async def test_each_file_is_applied_once_and_remembered(empty: Home, folder: Path) -> None:
    """With its number, its name and the digest of its bytes; the next run does nothing."""
    assert await migrate(empty.url, folder) == ["0001_one.sql", "0002_two.sql"]
    assert await migrate(empty.url, folder) == []

    rows = await empty.connection.fetch("SELECT number, name, sha256 FROM schema_migrations ORDER BY number")
    assert [tuple(row) for row in rows] == [
        (1, "0001_one.sql", hashlib.sha256(FIRST.encode()).hexdigest()),
        (2, "0002_two.sql", hashlib.sha256(SECOND.encode()).hexdigest()),
    ]
    assert await tables(empty) == {"one", "two"}


async def test_a_new_file_is_applied_after_the_others(empty: Home, folder: Path) -> None:
    """A database that is in use gets only what it has not."""
    await migrate(empty.url, folder)
    (folder / "0003_three.sql").write_text("CREATE TABLE three (id int)")

    assert await migrate(empty.url, folder) == ["0003_three.sql"]


async def test_of_two_at_once_one_applies_and_the_other_waits(empty: Home, folder: Path) -> None:
    """Every replica may migrate at its start; whoever is second does nothing."""
    (folder / "0003_slow.sql").write_text("SELECT pg_sleep(0.3)")
    done = await asyncio.gather(*(migrate(empty.url, folder) for _ in range(4)))

    assert sorted(map(len, done)) == [0, 0, 0, 3]
    assert await empty.connection.fetchval("SELECT count(*) FROM one") == 1


@pytest.mark.parametrize("change", ["content", "name"])
async def test_a_file_that_was_applied_must_not_change(empty: Home, folder: Path, change: str) -> None:
    """Not by a space: what runs here must be what ran there. Nothing is applied then, not even what is new."""
    await migrate(empty.url, folder)
    if change == "content":
        (folder / "0001_one.sql").write_text(FIRST + " ")
    else:
        (folder / "0001_one.sql").rename(folder / "0001_uno.sql")
    (folder / "0003_three.sql").write_text("CREATE TABLE three (id int)")
    with pytest.raises(ConfigurationError, match=r"migrations/0001_one\.sql"):
        await migrate(empty.url, folder)

    assert await tables(empty) == {"one", "two"}


async def test_an_older_release_leaves_a_newer_database_as_it_is(empty: Home, folder: Path) -> None:
    """A deploy that is rolled back migrates too: what it does not know is not its to judge."""
    await migrate(empty.url, folder)
    (folder / "0002_two.sql").unlink()

    assert await migrate(empty.url, folder) == []
    assert await tables(empty) == {"one", "two"}


async def test_a_table_in_use_is_not_waited_for_for_ever(empty: Home, folder: Path) -> None:
    """After the lock timeout nothing of that file is applied, what came before it stays, and it can be tried again."""
    (folder / "0002_two.sql").unlink()
    await migrate(empty.url, folder)
    (folder / "0002_two.sql").write_text(f"CREATE TABLE before (id int);\n{SECOND}")
    async with empty.connection.transaction():
        await empty.connection.execute("SELECT * FROM one")
        with pytest.raises(UnavailableError, match="a lock was not to be had"):
            await migrate(empty.url, folder, lock_timeout_s=0.2)

        assert await tables(empty) == {"one"}
    assert await migrate(empty.url, folder) == ["0002_two.sql"]


async def test_another_migrator_is_not_waited_for_for_ever(empty: Home, folder: Path) -> None:
    """It may hang; nothing is applied, and whoever asked is told."""
    (folder / "0003_slow.sql").write_text("SELECT pg_sleep(1)")
    slow = asyncio.create_task(migrate(empty.url, folder))

    async def at_work() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        return bool(await empty.connection.fetchval(query))

    await until(at_work, "the first is in its third file")
    with pytest.raises(UnavailableError):
        await migrate(empty.url, folder, lock_timeout_s=0.1)
    assert len(await slow) == 3


async def test_a_file_that_fails_is_not_applied_in_part(empty: Home, folder: Path) -> None:
    """Each is one transaction with its line in the ledger."""
    (folder / "0002_two.sql").write_text("CREATE TABLE two (id int); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty.url, folder)

    assert await tables(empty) == {"one"}
    (folder / "0002_two.sql").write_text(SECOND)
    assert await migrate(empty.url, folder) == ["0002_two.sql"]


async def test_a_database_that_is_not_there_is_unavailable(empty: Home, folder: Path) -> None:
    """It may be about to be made."""
    with pytest.raises(UnavailableError):
        await migrate(empty.url + "_not", folder)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0001_one.sql", "0003_three.sql"], "without a gap"),
        (["0002_two.sql"], "without a gap"),
        (["0001_one.sql", "0001_other.sql"], "without a gap"),
        (["0000_zero.sql", "0001_one.sql"], "without a gap"),
        (["1_one.sql"], r"migrations/1_one\.sql"),
        (["0001-one.sql"], r"migrations/0001-one\.sql"),
        (["0001_One.sql"], r"migrations/0001_One\.sql"),
    ],
)
def test_files_are_numbered_without_a_gap(tmp_path: Path, names: list[str], said: str) -> None:
    """Two branches that both made number 7 are noticed before they meet in production."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(ConfigurationError, match=said):
        read(tmp_path)


async def test_our_migrations_sum_up_on_a_fresh_database(empty: Home) -> None:
    """To tables with named constraints, each business key and each of its foreign keys with the tenant in it, not in front."""
    assert await migrate(empty.url) == [path.name for path in sorted(FOLDER.glob("*.sql"))]
    constraints = await empty.connection.fetch(
        "SELECT c.conrelid::regclass::text AS table, c.conname AS name, c.contype AS type, c.convalidated AS valid,"
        " ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k (number, place)"
        "   JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.place) AS columns"
        " FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = c.conrelid"
        " WHERE t.relnamespace = 'public'::regnamespace AND c.contype IN ('p', 'u', 'f', 'c') AND t.relname <> 'schema_migrations'"
    )
    business = {"registrations", "customers", "persons", "users", "decisions"}

    assert business <= {row["table"] for row in constraints}
    for row in constraints:
        assert row["valid"], row["name"]
        assert row["name"].startswith(f"{row['table']}_"), row["name"]
        if row["table"] in business and row["type"] != b"c":
            assert "tenant_id" in row["columns"][1:], row["name"]


async def test_a_worker_s_statements_need_no_more_than_our_migrations_make(empty: Home) -> None:
    """Twice on two fresh databases gives the same tables, columns and constraints."""
    query = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
    )
    await migrate(empty.url)
    first = await empty.connection.fetch(query)
    await empty.connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    again = await connect(empty.url, "tests")
    try:
        assert len(await migrate(empty.url)) == len(list(FOLDER.glob("*.sql")))
        assert await again.fetch(query) == first
    finally:
        await again.close()
