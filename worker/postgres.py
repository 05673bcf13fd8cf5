"""
The door to PostgreSQL: connections, transactions with a deadline, and what an error means.

A deadline closes the socket and never sends a cancel: cancelling a COMMIT that waits for a synchronous standby would
report success for something that is not yet safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import asyncpg

from worker.errors import (
    CommitUnknownError,
    DatabaseBugError,
    DeniedError,
    TooSlowError,
    UnavailableError,
    UnstorableError,
)
from worker.tls import check_database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Row: TypeAlias = asyncpg.Record
UniqueViolationError: TypeAlias = asyncpg.UniqueViolationError
PrivilegeError: TypeAlias = asyncpg.InsufficientPrivilegeError
T = TypeVar("T")

CLOSE_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 5.0
_SQL: Final = Path(__file__).with_name("sql")

_LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises around a connection that is being lost, whatever it was asked."""
_READ_AS: Final = "BEGIN READ ONLY; SELECT set_config('registration.tenant', convert_from('\\x{}', 'UTF8'), true)"
"""One round trip, so without parameters: the tenant's id is written in hexadecimal digits, which can't be anything else."""
_UNLOGGED: Final = {"log_parameter_max_length_on_error": "0"}
"""Where a statement fails the server does not log what it was given; what else it might, README, "Privacy", rules out."""
_GROUPS: Final = {"registration-worker": "registration_worker", "registration-ingress": "registration_ingress"}
"""Which role does what a process of that name does (migrations/0003_roles.sql)."""
_TOO_SLOW: Final = frozenset({"57014", "25P04"})
_UNSTORABLE: Final = ("22", "23", "54")
_UNAVAILABLE: Final = ("08", "25006", "25P03", "28", "3D", "40", "53", "55", "57", "58", "0A")


@cache
def statement(name: str) -> str:
    """Return the statement in `worker/sql/<name>.sql`."""
    return (_SQL / f"{name}.sql").read_text()


def row_count(tag: str) -> int:
    """Return how many rows a command's tag tells: `INSERT 0 3`, `UPDATE 3`."""
    return int(tag.rpartition(" ")[2])


def classify(error: BaseException) -> Exception | None:
    """
    Say what an error of the database means for the loop (README, "When something fails").

    Returns:
        UnavailableError, TooSlowError or UnstorableError; None for anything else, which is a bug of ours. Its text is
        the SQLSTATE and the constraint, never the row.
    """
    if isinstance(error, asyncpg.PostgresError):
        return _classify_sqlstate(error)
    if isinstance(error, (asyncpg.exceptions.DataError, UnicodeEncodeError)):
        return UnstorableError("the driver can't encode a value")
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, asyncio.IncompleteReadError)):
        return UnavailableError("database", type(error).__name__)
    return None


def _classify_sqlstate(error: asyncpg.PostgresError) -> Exception | None:
    state = error.sqlstate or ""
    constraint = getattr(error, "constraint_name", None)
    text = f"SQLSTATE {state}" + (f", {constraint}" if constraint else "")
    if state in _TOO_SLOW:
        return TooSlowError(text)
    if state.startswith(_UNSTORABLE):
        return UnstorableError(text)
    if state.startswith(_UNAVAILABLE):
        return UnavailableError("database", text)
    return None


class Database:
    """
    A pool of connections that each know their time limits.

    Args:
        url: `postgresql://…`.
        connections: most connections at once.
        timeout_s: longest that a transaction may take; the server ends it a second later, whatever happened to us.
        name: what the server shows as `application_name`.
    Raises:
        ConfigurationError: the URL names a file for TLS that is not as it should be.
    """

    def __init__(self, url: str, *, connections: int, timeout_s: float, name: str) -> None:
        check_database(url)
        self._url = url
        self._connections = connections
        self._timeout_s = timeout_s
        self._name = name
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def run(self, work: Callable[[Connection], Awaitable[T]], timeout_s: float | None = None) -> T:
        """
        Do reading, or single statements that commit by themselves.

        Raises:
            UnavailableError, TooSlowError, UnstorableError: see `classify`.
        """
        async with self._connection() as connection:
            return await self._bounded(connection, work(connection), timeout_s or self._timeout_s)

    async def read_as(self, tenant_id: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """
        Read rows of one tenant, of which alone row-level security then lets any through.

        The tenant is set for one transaction: a session of the pool never carries it over, whatever happens to the work.

        Args:
            tenant_id: the id, not the slug.
            work: what to read; a write is refused.
        Raises:
            UnavailableError, TooSlowError, UnstorableError: see `classify`.
        """

        async def unit(connection: Connection) -> T:
            await connection.execute(_READ_AS.format(tenant_id.encode().hex()))
            return await work(connection)

        async with self._connection() as connection:
            try:
                return await self._bounded(connection, unit(connection), self._timeout_s)
            finally:
                await self._roll_back(connection)

    async def transact(self, work: Callable[[Connection], Awaitable[T]], timeout_s: float | None = None) -> T:
        """
        Do work in one transaction, READ COMMITTED, and commit it.

        Args:
            work: what to do; it may raise to roll back.
            timeout_s: deadline of all of it, with the COMMIT.
        Raises:
            CommitUnknownError: COMMIT was sent and not answered.
            UnavailableError, TooSlowError, UnstorableError: see `classify`; nothing is committed.
        """
        committing = False

        async def unit(connection: Connection) -> T:
            nonlocal committing
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            result = await work(connection)
            committing = True
            if await connection.execute("COMMIT") != "COMMIT":
                committing = False
                raise UnavailableError("database", "the transaction had been aborted")
            return result

        async with self._connection() as connection:
            try:
                return await self._bounded(connection, unit(connection), timeout_s or self._timeout_s)
            except (UnavailableError, TooSlowError) as error:
                if committing:
                    raise CommitUnknownError(str(error)) from None
                raise
            finally:
                await self._roll_back(connection)

    async def close(self) -> None:
        """Close every connection, by force after a deadline."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), CLOSE_TIMEOUT_S)
        except _LOST:
            pool.terminate()

    async def _bounded(self, connection: Connection, work: Awaitable[T], timeout_s: float) -> T:
        """Wait for work, and end it at its deadline, or when we are cancelled, by closing the socket."""
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout_s)
        except asyncio.CancelledError:
            await _end(connection, task)
            raise
        if not done:
            await _end(connection, task)
            raise TooSlowError("no answer in time")
        try:
            return task.result()
        except (UnavailableError, TooSlowError, UnstorableError):
            raise
        except Exception as error:
            meaning = classify(error)
            if meaning is not None:
                raise meaning from None
            if isinstance(error, PrivilegeError):
                raise denied(error, connection, _GROUPS.get(self._name)) from None
            if isinstance(error, asyncpg.PostgresError):
                raise DatabaseBugError(_short(error)) from None
            raise

    async def _roll_back(self, connection: Connection) -> None:
        """End what is still open; a connection that was lost has left the pool and can't even be asked."""
        try:
            if not connection.is_in_transaction():
                return
            await asyncio.wait_for(connection.execute("ROLLBACK"), CLOSE_TIMEOUT_S)
        except _LOST:
            _terminate(connection)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            pool = self._pool or await self._open()
            connection = await pool.acquire(timeout=self._timeout_s)
        except _LOST as error:
            raise UnavailableError("database", _short(error)) from None
        try:
            yield connection  # type: ignore[misc]  # the proxy is a Connection in all but its type
        finally:
            with suppress(*_LOST):
                await pool.release(connection, timeout=CLOSE_TIMEOUT_S)

    async def _open(self) -> asyncpg.Pool[asyncpg.Record]:
        limit_ms = str(int(self._timeout_s * 1000) + 1000)
        self._pool = asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._connections,
            max_inactive_connection_lifetime=60,
            timeout=CONNECT_TIMEOUT_S,
            reset=_leave,
            server_settings={
                "application_name": self._name,
                "transaction_timeout": limit_ms,
                "lock_timeout": str(int(self._timeout_s * 500)),
                "idle_in_transaction_session_timeout": str(int(self._timeout_s * 500)),
                "jit": "off",
                "timezone": "UTC",
                **_UNLOGGED,
            },
        )
        await self._pool
        return self._pool


async def connect(url: str, name: str, **settings: str) -> Connection:
    """
    Open a single connection, for commands that are not part of the loop.

    Raises:
        UnavailableError: the server does not answer or refuses us.
        ConfigurationError: the URL names a file for TLS that is not as it should be.
    """
    check_database(url)
    try:
        return await asyncpg.connect(
            url, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": name, "timezone": "UTC", **_UNLOGGED, **settings}
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise UnavailableError("database", _short(error)) from None


def denied(error: PrivilegeError, connection: Connection, group: str | None = None) -> DeniedError:
    """
    Say which right a role lacks, in one line. PostgreSQL's own names an object and never a value.

    Args:
        error: what the role was told.
        connection: of the role.
        group: the role that has the right; None where only the owner of the tables has it.
    """
    role = connection.get_settings().session_authorization
    cure = f"GRANT {group} TO it" if group else "log in as the role that migrates"
    return DeniedError(f'database: role "{role}": {error.args[0]}; {cure} (README, "Database roles")')


def _short(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {state}" if state else type(error).__name__


def _terminate(connection: Connection) -> None:
    """Close the socket; one that was lost has left the pool and refuses every call."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _end(connection: Connection, task: asyncio.Future[T]) -> None:
    _terminate(connection)
    await asyncio.wait({task}, timeout=CLOSE_TIMEOUT_S)
    if task.done() and not task.cancelled():
        task.exception()
    else:
        task.cancel()


async def _leave(_connection: Connection) -> None:
    """Nothing to reset: a session's settings never change, and no transaction is left open."""
