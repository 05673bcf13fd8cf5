"""A second PostgreSQL that follows the first by streaming replication, until it is promoted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit, urlunsplit

from tests.boundary.conditions import until
from worker.dev.database import START_WITHIN_S, EmbeddedPostgres, _wheel
from worker.dev.process import Child, run
from worker.postgres import connect

NAME: Final = "standby"
"""What `synchronous_standby_names` calls it."""
_STATES: Final = ("ready", "standby")
_CAUGHT_UP: Final = """
SELECT sync_state FROM pg_stat_replication
WHERE application_name = $1 AND state = 'streaming' AND flush_lsn >= $2::text::pg_lsn
"""


class Standby(EmbeddedPostgres):
    """
    A server that begins as a copy of another one.

    Args:
        data: its folder.
        primary: the other's URL, as its superuser; the way leads through `replication`.
        replication: `host:port` where the primary is reached, a proxy's for example.
    """

    FOLLOWS: ClassVar = ["--write-recovery-conf"]
    """What makes `pg_basebackup` leave a standby behind."""

    def __init__(self, data: Path, primary: str, replication: str) -> None:
        super().__init__(data)
        self._primary = through(primary, replication)

    async def promote(self) -> None:
        """Make it a primary; return when it takes writes."""
        connection = await connect(self.url, "tests")
        try:
            assert await connection.fetchval("SELECT pg_promote()")
        finally:
            await connection.close()

    async def _initialize(self, new: Path) -> None:
        """Copy the primary instead of making a new cluster; its superuser's password comes with it."""
        (self._data / "password").write_text(f"{urlsplit(self._primary).password}")
        password = self._make_room(new)
        source = f"{self._primary}?application_name={NAME}"
        copying = ["-D", str(new), "-d", source, *self.FOLLOWS, "--wal-method=stream", "--checkpoint=fast", "--no-sync"]
        program = str(_wheel() / "bin" / "pg_basebackup")
        await run([program, *copying], log=self.log, timeout_s=START_WITHIN_S, user=self._user)
        self._keep(new, password)

    def _is_ready(self, child: Child) -> bool:
        """Whether this very child serves clients, be it reading only: the first class waits for writing."""
        with suppress(FileNotFoundError, IndexError):
            lines = self._pid_file()
            return lines[0] == str(child.pid) and lines[7].strip() in _STATES
        return False


class Backup(Standby):
    """
    A copy of a server that follows nobody: what was there when it was taken, until it is started.

    Args:
        data: its folder.
        primary: the URL of whose copy it is, as its superuser.
    """

    FOLLOWS: ClassVar = []

    def __init__(self, data: Path, primary: str) -> None:
        super().__init__(data, primary, urlsplit(primary).netloc.rpartition("@")[2])

    async def take(self) -> None:
        """Copy the server, and see that the copy starts: a back-up that nobody has started is none."""
        await self.start()
        await self.stop()


@asynccontextmanager
async def standby_of(primary: EmbeddedPostgres, data: Path, replication: str, *, synchronous: bool) -> AsyncIterator[Standby]:
    """
    Run a standby for the length of a block, which has all that is committed when the block begins.

    Args:
        primary: a server that runs.
        data: the standby's folder.
        replication: `host:port` where the standby reaches it.
        synchronous: whether the primary's commits wait for the standby.
    """
    standby = Standby(data, primary.url, replication)
    try:
        await standby.start()
        if synchronous:
            await set_on(primary, {"synchronous_standby_names": NAME})
        await _caught_up(primary, "sync" if synchronous else "async")
        yield standby
    finally:
        standby.end_now()


async def set_on(server: EmbeddedPostgres, settings: Mapping[str, str | None]) -> None:
    """
    Change settings of a server that runs, and wait until it has read them.

    Args:
        settings: values by name; None goes back to the default.
    """
    connection = await connect(server.url, "tests", default_transaction_read_only="off")
    try:
        before = await connection.fetchval("SELECT clock_timestamp()")
        for name, value in settings.items():
            await connection.execute(f"ALTER SYSTEM RESET {name}" if value is None else f"ALTER SYSTEM SET {name} = '{value}'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()

    async def has_read() -> bool:
        fresh = await connect(server.url, "tests")
        try:
            return bool(await fresh.fetchval("SELECT pg_conf_load_time() >= $1", before))
        finally:
            await fresh.close()

    await until(has_read, "the server has read its settings")


async def _caught_up(primary: EmbeddedPostgres, state: str) -> None:
    """Wait until a standby has all that is committed by now, and the primary counts it as such."""
    connection = await connect(primary.url, "tests")
    try:
        end = await connection.fetchval("SELECT pg_current_wal_lsn()::text")

        async def has_all() -> bool:
            return bool(await connection.fetchval(_CAUGHT_UP, NAME, end) == state)

        await until(has_all, f"the standby has all and is {state}")
    finally:
        await connection.close()


def through(url: str, address: str) -> str:
    """Return a URL of PostgreSQL that leads through another address, `host:port`."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{address}"))


def address_of(server: EmbeddedPostgres) -> str:
    """Return where a server listens, `host:port`."""
    return urlsplit(server.url).netloc.rpartition("@")[2]
