"""A simulated PostgreSQL: sessions, transactions, waits for locks, time limits, failovers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import asyncpg

from tests.simulation import statements
from tests.simulation.loop import Process, SeededLoop
from tests.simulation.statements import Result
from tests.simulation.tables import BlockedError, Locks, Place, State, Statement, Transaction, committed, empty

Work = Callable[[Statement], Result]

LOSS_MAX_COMMITS: Final = 4
"""As many commits may a failover lose."""


class Watching(Protocol):
    """Sees what the database is asked and what it commits."""

    def asked(self, session: Session, name: str, arguments: Sequence[Any]) -> None:
        """A statement came to the server."""

    def committing(self, transaction: Transaction, before: State, after: State) -> None:
        """A transaction that wrote something commits."""


@dataclass(eq=False, slots=True)
class Call:
    """One statement on its way through the server."""

    session: Session
    work: Work | None
    end: str | None
    answer: asyncio.Future[Result]
    snapshot: State | None = None
    waits_for: Place | None = None
    over: bool = False


@dataclass(eq=False, slots=True)
class Session:
    """
    The server's side of a connection.

    Attributes:
        gone: the client has closed its socket; the server sees that when it next has nothing else to do.
    """

    process: Process
    transaction: Transaction | None = None
    call: Call | None = None
    open: bool = True
    gone: bool = False
    known_dead: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """The time limits that the worker's sessions set, in seconds (worker/postgres.py)."""

    transaction_s: float
    lock_s: float
    idle_s: float

    @classmethod
    def of(cls, timeout_s: float) -> Limits:
        """Return those of a `Database` with this deadline."""
        return cls(timeout_s + 1, timeout_s / 2, timeout_s / 2)


@dataclass(eq=False)
class Server:
    """
    The server: one primary, whose committed states are all kept.

    Attributes:
        history: every committed state; the last is the present one.
        down_until_s: nobody can connect before.
    """

    loop: SeededLoop
    limits: Limits
    watching: Watching
    statements: dict[str, Callable[..., Result]] = field(default_factory=lambda: dict(statements.NAMED))
    history: list[State] = field(default_factory=lambda: [empty()])
    sessions: list[Session] = field(default_factory=list)
    locks: Locks = field(default_factory=Locks)
    waiting: dict[Place, list[Call]] = field(default_factory=dict)
    down_until_s: float = 0.0

    @property
    def state(self) -> State:
        """What is committed."""
        return self.history[-1]

    @property
    def at_rest(self) -> bool:
        """No transaction is open."""
        return all(session.transaction is None for session in self.sessions)

    def connect(self, process: Process) -> Session:
        """Open a session."""
        session = Session(process)
        self.sessions.append(session)
        return session

    # --- statements ----------------------------------------------------------------------------------------------

    def begin(self, session: Session) -> None:
        """Begin a transaction, which may not last for ever."""
        transaction = session.transaction = Transaction(session.process, explicit=True)
        self.loop.outside_later(self.limits.transaction_s, self._too_long, session, transaction)

    def run(self, call: Call) -> None:
        """Do a statement, or have it wait for a lock; its snapshot is that of its first try."""
        session = call.session
        if not session.open or call.over:
            return
        session.call = call
        transaction = session.transaction
        if call.end is not None:
            self._end(call, transaction)
            return
        if transaction is None:
            transaction = session.transaction = Transaction(session.process)
        if transaction.failed:
            self._fail(call, asyncpg.InFailedSQLTransactionError("current transaction is aborted"))
            return
        call.snapshot = call.snapshot or self.state
        at_work = Statement(transaction, call.snapshot, self.state, self.locks, self.loop.now_s)
        assert call.work is not None, "it is no end of a transaction"
        try:
            result = call.work(at_work)
        except BlockedError as blocked:
            self._wait(call, blocked.place)
        except asyncpg.PostgresError as error:
            self._fail(call, error)
        else:
            if not transaction.explicit:
                self._commit(session, transaction)
            self._answer(call, result)

    def _wait(self, call: Call, place: Place) -> None:
        if call.waits_for is None:
            self.loop.outside_later(self.limits.lock_s, self._waited_too_long, call)
        call.waits_for = place
        self.waiting.setdefault(place, []).append(call)

    def _waited_too_long(self, call: Call) -> None:
        if not call.over and call.session.call is call:
            self._fail(call, asyncpg.LockNotAvailableError("canceling statement due to lock timeout"))

    def _end(self, call: Call, transaction: Transaction | None) -> None:
        commits = call.end == "COMMIT" and not (transaction is not None and transaction.failed)
        if transaction is not None:
            (self._commit if commits else self._forget)(call.session, transaction)
        self._answer(call, ([], "COMMIT" if commits else "ROLLBACK"))

    def _commit(self, session: Session, transaction: Transaction) -> None:
        if transaction.writes:
            transaction.abandoned = session.gone
            after = committed(self.state, transaction)
            self.watching.committing(transaction, self.state, after)
            self.history.append(after)
        self._forget(session, transaction)

    def _forget(self, session: Session, transaction: Transaction) -> None:
        session.transaction, transaction.ended = None, True
        self._release(transaction)

    def _release(self, transaction: Transaction) -> None:
        """Let go of a transaction's locks: whoever waits for them tries again."""
        for place in sorted(self.locks.release(transaction), key=repr):
            for call in self.waiting.pop(place, ()):
                if not call.over:
                    self.loop.call_soon(self.run, call, context=self.loop.outside.context)

    def _fail(self, call: Call, error: Exception) -> None:
        session, transaction = call.session, call.session.transaction
        if transaction is not None:
            if transaction.explicit:
                transaction.failed = True  # aborted at once, and not only by the ROLLBACK that follows
                self._release(transaction)
            else:
                self._forget(session, transaction)
        self._answer(call, error)

    def _answer(self, call: Call, result: Result | Exception) -> None:
        call.over, call.session.call = True, None
        if call.session.gone:
            self.kill(call.session)
        elif not call.answer.done():
            if isinstance(result, Exception):
                call.answer.set_exception(result)
            else:
                call.answer.set_result(result)

    # --- ends ----------------------------------------------------------------------------------------------------

    def left(self, session: Session) -> None:
        """See that the client is gone; in a statement the server sees it at its end."""
        session.gone = True
        if session.call is None:
            self.kill(session)

    def kill(self, session: Session, error: Exception | None = None) -> None:
        """End a session: what it has not committed is gone."""
        if not session.open:
            return
        session.open = False
        self.sessions.remove(session)
        call, session.call = session.call, None
        if session.transaction is not None:
            self._forget(session, session.transaction)
        if call is not None:
            call.over = True
            if not call.answer.done():
                call.answer.set_exception(error or asyncpg.ConnectionDoesNotExistError("connection was closed in the middle"))

    def _too_long(self, session: Session, transaction: Transaction) -> None:
        if not transaction.ended and (session.call is None or session.call.end is None):
            self.kill(session, asyncpg.exceptions.TransactionTimeoutError("terminating connection"))

    def idle_too_long(self, session: Session, transaction: Transaction) -> None:
        """End a transaction that nobody goes on with."""
        if not transaction.ended and session.call is None:
            self.kill(session)

    def restart(self, down_s: float) -> None:
        """End every session, and take no other for a while."""
        self.down_until_s = self.loop.now_s + down_s
        for session in list(self.sessions):
            self.kill(session, asyncpg.AdminShutdownError("terminating connection"))

    def fail_over(self, lost_commits: int, down_s: float) -> int:
        """Go on at a standby that lacks the newest commits; return how many it lacks."""
        self.restart(down_s)
        lost = min(lost_commits, len(self.history) - 1)
        del self.history[len(self.history) - lost :]
        return lost
