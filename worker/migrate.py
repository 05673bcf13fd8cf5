"""
Migrations: `migrations/NNNN_why.sql`, each once, in order, in one transaction each, one migrator at a time.

A file that was applied never changes: its SHA-256 is kept and compared.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from worker import logs
from worker.errors import ConfigurationError, DeniedError, UnavailableError
from worker.postgres import Connection, PrivilegeError, connect

FOLDER: Final = Path(__file__).resolve().parent.parent / "migrations"
_LOCK: Final = 7_266_000
_NAME: Final = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  number integer PRIMARY KEY,
  name text NOT NULL,
  sha256 text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name, its SQL and the SHA-256 of its bytes."""

    number: int
    name: str
    sql: str
    sha256: str


def read(folder: Path = FOLDER) -> list[Migration]:
    """
    Return the migrations of a folder, in order.

    Raises:
        ConfigurationError: a file is not named `NNNN_why.sql`, or the numbers are not 1, 2, 3, …
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            msg = f"migrations/{path.name}: must be named NNNN_why.sql"
            raise ConfigurationError(msg)
        content = path.read_bytes()
        found.append(Migration(int(match[1]), path.name, content.decode(), hashlib.sha256(content).hexdigest()))
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        msg = "migrations: the numbers must be 0001, 0002, 0003, … without a gap"
        raise ConfigurationError(msg)
    return found


async def migrate(url: str, folder: Path = FOLDER, *, lock_timeout_s: float = 30) -> list[str]:
    """
    Bring a database up to date.

    Args:
        url: `postgresql://…` of an owner of the schema.
        folder: where the files are.
        lock_timeout_s: longest wait for another migrator, or for a table in use.
    Returns:
        The names of the files that were applied; none where all were before.
    Raises:
        UnavailableError: no connection, or a lock was not to be had in time; nothing of that file is applied.
        DeniedError: the role may not make what a file makes; nothing of that file is applied.
        ConfigurationError: a file that was applied has changed. One that is not here is a newer release's, and no fault: a
            deploy that is rolled back migrates too.
    """
    migrations = read(folder)
    connection = await connect(url, "registration-migrate", lock_timeout=f"{int(lock_timeout_s * 1000)}")
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_LEDGER)
        done = await connection.fetch("SELECT number, name, sha256 FROM schema_migrations ORDER BY number")
        _compare(migrations, {row["number"]: (row["name"], row["sha256"]) for row in done})
        applied = [m for m in migrations if m.number > len(done)]
        for migration in applied:
            await _apply(connection, migration)
        return [m.name for m in applied]
    except asyncpg.LockNotAvailableError:
        raise UnavailableError("database", f"a lock was not to be had in {lock_timeout_s:g} s; try again") from None
    except PrivilegeError as error:
        cure = "make the three roles as an administrator, and migrate as the owner"
        raise DeniedError(f'database: {error.args[0]}; {cure} (README, "Database roles")') from None
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
        raise UnavailableError("database", type(error).__name__) from None
    finally:
        await connection.close(timeout=5)


def _compare(migrations: list[Migration], done: dict[int, tuple[str, str]]) -> None:
    known = {m.number: (m.name, m.sha256) for m in migrations}
    for number, applied in done.items():
        if number in known and known[number] != applied:
            msg = f"migrations/{applied[0]}: was applied and has changed since; add a new file instead"
            raise ConfigurationError(msg)


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_migrations (number, name, sha256) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.sha256,
        )
    logs.logger().info("migration.applied", name=migration.name)
