"""
The client's side of the simulated PostgreSQL: asyncpg's pool and connections, as far as `worker.postgres.Database` uses them.

So the worker's `Database`, with its deadlines and what it makes of a lost COMMIT, is the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg

from tests.simulation import statements
from tests.simulation.database import Call, Server, Work
from tests.simulation.faults import Faults
from tests.simulation.loop import current
from tests.simulation.statements import Result
from tests.simulation.tables import Statement
from worker.postgres import statement

NAMES: Final = {statement(name): name for name in statements.NAMED}
BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
_GONE: Final = "connection is closed"


class Connection:
    """The client's side: asyncpg's connection, as far as the worker uses it."""

    def __init__(self, server: Server, faults: Faults) -> None:
        self._server = server
        self._faults = faults
        self.session = server.connect(current())

    @property
    def usable(self) -> bool:
        """The pool may give it out: it is open, or its end has not been seen."""
        return not self.session.gone and not self.session.known_dead

    def is_in_transaction(self) -> bool:
        """Say whether a transaction is open; a connection that was lost can't be asked."""
        if self.session.gone or not self.session.open:
            raise asyncpg.InterfaceError(_GONE)
        return self.session.transaction is not None

    def terminate(self) -> None:
        """Close the socket; the server finishes what it is at, and then sees it."""
        if not self.session.gone:
            session, session.gone = self.session, True
            call = session.call
            if call is not None and not call.answer.done():
                call.answer.set_exception(asyncpg.ConnectionDoesNotExistError(_GONE))
            self._server.loop.outside_later(self._faults.delay_s(), self._server.left, session)

    async def execute(self, query: str, *arguments: object) -> str:
        """Return the command's tag."""
        if query == BEGIN:
            self._check()
            self._server.begin(self.session)  # rides with the next statement
            return "BEGIN"
        if query in {"COMMIT", "ROLLBACK"}:
            return (await self._ask(None, query))[1]
        return (await self._named(query, arguments))[1]

    async def fetch(self, query: str, *arguments: object) -> list[dict[str, object]]:
        """Return all rows."""
        return (await self._named(query, arguments))[0]

    async def fetchrow(self, query: str, *arguments: object) -> dict[str, object] | None:
        """Return the first row."""
        rows = (await self._named(query, arguments))[0]
        return rows[0] if rows else None

    async def copy_records_to_table(self, table: str, *, records: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> str:
        """Copy whole rows."""
        assert len(columns) == len(records[0]), "a row has all columns"
        return (await self._ask(lambda s: statements.copy(s, table, records)))[1]

    async def _named(self, query: str, arguments: Sequence[object]) -> Result:
        name = NAMES[query]
        run, watching, session = self._server.statements[name], self._server.watching, self.session
        asked = False

        def work(s: Statement) -> Result:
            nonlocal asked
            if not asked:
                asked = True
                watching.asked(session, name, arguments)
            return run(s, *arguments)

        return await self._ask(work)

    def _check(self) -> None:
        if self.session.gone or not self.session.open:
            self.session.known_dead = True
            raise asyncpg.ConnectionDoesNotExistError(_GONE)

    async def _ask(self, work: Work | None, end: str | None = None) -> Result:
        self._check()
        faults, loop = self._faults, self._server.loop
        answer: asyncio.Future[Result] = loop.create_future()
        call = Call(self.session, work, end, answer)
        delay_s = faults.delay_s()
        if end is None and faults.happens("statement.slow"):
            delay_s += faults.between(0.1, 1.5) * self._server.limits.transaction_s
        if end == "COMMIT" and faults.happens("commit.late"):
            self._lose_answer(call, delay_s)
            delay_s += faults.between(0.1, 3)
        elif faults.happens("commit.lost_before" if end == "COMMIT" else "session.lost_before"):
            loop.outside_later(delay_s, self._server.kill, self.session)
            call.session.call = call
            return await answer
        elif faults.happens("commit.lost_after" if end == "COMMIT" else "session.lost_after"):
            self._lose_answer(call, delay_s)
        self.session.call = call
        loop.outside_later(delay_s, self._server.run, call)
        result = await answer
        if faults.chance.random() < 0.3:  # the answer takes its time
            await self._on_its_way(faults.delay_s())
            self._check()
        return result

    def _lose_answer(self, call: Call, delay_s: float) -> None:
        """Have the server do it, and the client not hear of it."""
        self.session.gone = True
        self._server.loop.outside_later(
            delay_s / 2, _lost, call.answer, asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")
        )

    async def _on_its_way(self, delay_s: float) -> None:
        arrived: asyncio.Future[None] = self._server.loop.create_future()
        self._server.loop.outside_later(delay_s, _arrived, arrived)
        await arrived


class Pool:
    """asyncpg's pool, as far as `worker.postgres.Database` uses it, of one process."""

    def __init__(self, server: Server, faults: Faults) -> None:
        self._server = server
        self._faults = faults
        self._idle: list[Connection] = []

    async def acquire(self, *, timeout: float) -> Connection:  # noqa: ASYNC109, ARG002 - asyncpg's name
        """
        Return a connection.

        Raises:
            OSError: the server takes none.
        """
        while self._idle:
            connection = self._idle.pop()
            if not connection.session.open and self._faults.chance.random() < 0.5:
                connection.session.known_dead = True
            if connection.usable:
                return connection
        await asyncio.sleep(self._faults.delay_s())
        if self._server.loop.now_s < self._server.down_until_s or self._faults.happens("connect.refused"):
            raise ConnectionRefusedError("the server takes no connections")
        return Connection(self._server, self._faults)

    async def release(self, connection: Connection, *, timeout: float) -> None:  # noqa: ASYNC109, ARG002 - asyncpg's name
        """Take a connection back."""
        if connection.usable and connection.session.transaction is None and connection.session.call is None:
            self._idle.append(connection)
        else:
            connection.terminate()

    async def close(self) -> None:
        """Close all."""
        self.terminate()

    def terminate(self) -> None:
        """Close all, at once."""
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()


def _lost(answer: asyncio.Future[Result], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _arrived(arrived: asyncio.Future[None]) -> None:
    with suppress(asyncio.InvalidStateError):
        arrived.set_result(None)
