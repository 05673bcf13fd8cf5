"""One session of the database for an operator's command, with a deadline for each statement."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar

from worker.errors import TooSlowError, UnavailableError
from worker.postgres import CLOSE_TIMEOUT_S, PrivilegeError, classify, connect, denied, statement

T = TypeVar("T")
Row: TypeAlias = Any
"""A row as asyncpg gives it: a mapping by column."""

STATEMENT_TIMEOUT_S: Final = 30.0
NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Session:
    """
    A connection of our own, so that temporary tables and session locks live as long as the command.

    A deadline closes the socket, as in `worker/postgres.py`: the server ends what is then left by itself.
    """

    def __init__(self, connection: Any, timeout_s: float) -> None:  # noqa: ANN401 - asyncpg may not be imported here
        self._connection = connection
        self._timeout_s = timeout_s

    async def rows(self, name: str, *parameters: object) -> list[Row]:
        """
        Run the statement in `worker/sql/<name>.sql`.

        Raises:
            UnavailableError: no answer in time, or see `worker.postgres.classify`.
            UnstorableError: the database refuses a value.
            DeniedError: the role lacks a right.
        """
        found: list[Row] = await self._bounded(self._connection.fetch(statement(name), *parameters))
        return found

    async def row(self, name: str, *parameters: object) -> Row | None:
        """Run a statement that gives one row or none; raises as `rows` does."""
        return await self._bounded(self._connection.fetchrow(statement(name), *parameters))

    async def number(self, name: str, *parameters: object) -> int:
        """Run a statement that gives one row with `total`; raises as `rows` does."""
        row = await self.row(name, *parameters)
        return int(row["total"]) if row else 0

    async def run(self, name: str) -> None:
        """Run the commands in `worker/sql/<name>.sql`; raises as `rows` does."""
        await self.do(statement(name))

    async def do(self, text: str) -> str:
        """Run a command without parameters; return its tag. Raises as `rows` does."""
        tag: str = await self._bounded(self._connection.execute(text))
        return tag

    async def copy(self, table: str, columns: Sequence[str], records: Sequence[tuple[object, ...]]) -> None:
        """Put records into a table by COPY; raises as `rows` does."""
        if records:
            await self._bounded(self._connection.copy_records_to_table(table, columns=columns, records=records))

    async def close(self) -> None:
        """Close, by force after a deadline."""
        task = asyncio.ensure_future(self._connection.close(timeout=CLOSE_TIMEOUT_S))
        await asyncio.wait({task}, timeout=CLOSE_TIMEOUT_S + 1)
        if not task.done() or task.exception() is not None:
            task.cancel()
            self._connection.terminate()

    async def _bounded(self, call: Awaitable[T]) -> T:
        task = asyncio.ensure_future(call)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        except asyncio.CancelledError:
            await self._end(task)
            raise
        if not done:
            await self._end(task)
            raise UnavailableError("database", f"no answer in {self._timeout_s:g} s")
        try:
            return task.result()
        except PrivilegeError as error:
            raise denied(error, self._connection) from None
        except Exception as error:
            meaning = classify(error)
            if meaning is None:
                raise
            if isinstance(meaning, TooSlowError):
                raise UnavailableError("database", str(meaning)) from None
            raise meaning from None

    async def _end(self, task: asyncio.Future[Any]) -> None:
        self._connection.terminate()
        task.cancel()
        await asyncio.wait({task}, timeout=CLOSE_TIMEOUT_S)
        if task.done() and not task.cancelled():
            task.exception()


@asynccontextmanager
async def session(
    url: str, name: str, settings: Mapping[str, str] = NONE, *, timeout_s: float = STATEMENT_TIMEOUT_S
) -> AsyncIterator[Session]:
    """
    Open a session for the length of a block.

    Args:
        url: `postgresql://…`.
        name: what the server shows as `application_name`.
        settings: of the session, as PostgreSQL names them.
        timeout_s: longest that one statement may take.
    Raises:
        UnavailableError: the server does not answer or refuses us.
    """
    opened = Session(await connect(url, name, **settings), timeout_s)
    try:
        yield opened
    finally:
        await opened.close()


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Let Python look for cycles less often for the length of a block: each row makes many objects and none in a circle."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
