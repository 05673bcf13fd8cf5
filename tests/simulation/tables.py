"""
Versioned tables with row locks, as PostgreSQL has them at READ COMMITTED.

A commit makes a new state, and a state never changes: a statement's snapshot is the state that it began with, and a
failover to an older moment is an older state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import UUID

from tests.simulation.loop import Process

Key = tuple[Any, ...]
State = dict[str, dict[Key, Any]]
Place = tuple[str, Key]
"""A table, and the key of a row in it, there or not."""

OFFSETS: Final = "kafka_offsets"
EMAILS: Final = "emails"
"""The unique index of customers by email."""
TABLES: Final = (OFFSETS, "registrations", "customers", EMAILS, "persons", "users", "decisions", "outbox", "dead_letters")


class Position(NamedTuple):
    """A row of `kafka_offsets`; the last member is no column but what the run knows of it."""

    next_offset: int
    owner: UUID
    last_offset: int | None = None
    last_digest: bytes | None = None
    dead_letter_run: int = 0
    resume_at_offset: int | None = None
    skip_offset: int | None = None
    claimant: Process | None = None


class Message(NamedTuple):
    """A row of `outbox`; the last member is no column: under which claim it was written."""

    key: bytes | None
    value: bytes | None
    headers: str
    sealed: bool
    owner: UUID | None = None


class Moved(NamedTuple):
    """What a transaction asked of the fence."""

    place: Key
    expected: int
    next_offset: int
    owner: UUID


class BlockedError(Exception):
    """The statement waits for a lock of another transaction; run it again, with its snapshot, when that has ended."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place


@dataclass(eq=False, slots=True)
class Transaction:
    """
    What one transaction has written and locked; a single statement has one of its own.

    Attributes:
        abandoned: its client had closed the socket before it was committed.
    """

    process: Process
    writes: dict[Place, Any] = field(default_factory=dict)
    locks: set[Place] = field(default_factory=set)
    moved: Moved | None = None
    claimed: Key | None = None
    explicit: bool = False
    failed: bool = False
    ended: bool = False
    abandoned: bool = False


class Locks:
    """Who holds which row, shared or alone."""

    def __init__(self) -> None:
        self._held: dict[Place, dict[Transaction, bool]] = {}

    def take(self, transaction: Transaction, place: Place, *, shared: bool) -> None:
        """
        Lock a row.

        Raises:
            BlockedError: another transaction holds it.
        """
        holders = self._held.setdefault(place, {})
        for other, is_shared in holders.items():
            if other is not transaction and not (shared and is_shared):
                raise BlockedError(place)
        holders[transaction] = holders.get(transaction, True) and shared
        transaction.locks.add(place)

    def release(self, transaction: Transaction) -> set[Place]:
        """Let go of all that a transaction holds; return it."""
        places, transaction.locks = transaction.locks, set()
        for place in places:
            holders = self._held[place]
            del holders[transaction]
            if not holders:
                del self._held[place]
        return places

    def release_one(self, transaction: Transaction, place: Place) -> None:
        """Let go of one row that was locked for a look only."""
        holders = self._held[place]
        del holders[transaction]
        transaction.locks.discard(place)


class Statement:
    """
    One statement at work: what it sees, and what it may touch.

    Args:
        snapshot: the state when it began.
        newest: the state now; the two differ after a wait for a lock.
    """

    __slots__ = ("_locks", "newest_state", "now_s", "snapshot", "transaction")

    def __init__(self, transaction: Transaction, snapshot: State, newest: State, locks: Locks, now_s: float) -> None:
        self.transaction = transaction
        self.snapshot = snapshot
        self.newest_state = newest
        self.now_s = now_s
        self._locks = locks

    def seen(self, table: str, key: Key) -> Any:  # noqa: ANN401 - a row
        """Return a row as the snapshot has it, and the transaction's own writes; None where it is not there."""
        place = table, key
        writes = self.transaction.writes
        return writes[place] if place in writes else self.snapshot[table].get(key)

    def newest(self, table: str, key: Key) -> Any:  # noqa: ANN401 - a row
        """Return the newest version of a row, which is what a lock was waited for."""
        place = table, key
        writes = self.transaction.writes
        return writes[place] if place in writes else self.newest_state[table].get(key)

    def rows(self, table: str) -> Iterator[tuple[Key, Any]]:
        """Return all rows of a table that the statement sees."""
        own = {key: row for (name, key), row in self.transaction.writes.items() if name == table}
        for key, row in self.snapshot[table].items():
            if key not in own:
                yield key, row
        for key, row in own.items():
            if row is not None:
                yield key, row

    def lock(self, table: str, key: Key, *, shared: bool = False) -> None:
        """
        Lock a row, or the place where one would be.

        Raises:
            BlockedError: it has to be waited for.
        """
        self._locks.take(self.transaction, (table, key), shared=shared)

    def unlock(self, table: str, key: Key) -> None:
        """Let go of a place where nothing was written."""
        if (table, key) not in self.transaction.writes:
            self._locks.release_one(self.transaction, (table, key))

    def put(self, table: str, key: Key, row: Any) -> None:  # noqa: ANN401 - a row
        """Write a row; None deletes it."""
        self.transaction.writes[table, key] = row


def empty() -> State:
    """Return tables without a row."""
    return {table: {} for table in TABLES}


def committed(state: State, transaction: Transaction) -> State:
    """Return the state after a commit."""
    after = dict(state)
    for (table, key), row in transaction.writes.items():
        if after[table] is state[table]:
            after[table] = dict(state[table])
        if row is None:
            after[table].pop(key, None)
        else:
            after[table][key] = row
    return after
