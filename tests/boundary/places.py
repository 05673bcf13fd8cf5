"""A partition that a test has to itself, and batches for it, straight to the database."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

from schemas.base import header
from tests import commands
from tests.boundary.databases import Home
from tests.conftest import SEALING_KEYS
from tests.records import SNAPSHOT, record, verdict_of
from worker import settlement, store
from worker.kafka import Partition, PlainRecord
from worker.messages import EVENT
from worker.postgres import Database, connect
from worker.registration import Accepted, DeadLetter, Rejected, Verdict, examine
from worker.sealing import Sealer
from worker.settlement import Move, Settled
from worker.store import Claim, DeleteKey

SEALER: Final = Sealer(SEALING_KEYS)

TABLES: Final = ("registrations", "customers", "persons", "users", "decisions", "outbox", "dead_letters", "kafka_offsets")


@dataclass
class Place:
    """A partition that a test has to itself."""

    database: Database
    home: Home
    partition: Partition = field(default_factory=lambda: Partition(f"commands.{os.urandom(6).hex()}", 0))
    owner: UUID = field(default_factory=uuid4)
    next_offset: int = 0

    async def claim(self) -> Claim:
        """Take it under a fresh owner."""
        self.owner = uuid4()
        claim = await store.claim(self.database, self.partition, self.owner, 0)
        self.next_offset = claim.next_offset
        return claim

    def move(self, verdicts: Sequence[Verdict]) -> Move:
        """Return the fence of a batch: from where this place is to behind its last record."""
        last = verdicts[-1].record.offset if verdicts else self.next_offset
        return Move(self.partition, self.owner, self.next_offset, last + 1, last, b"digest")

    async def settle(self, *verdicts: Verdict, deletes: Sequence[DeleteKey] = ()) -> Settled:
        """Do a batch, as a lane does."""
        move = self.move(verdicts)
        done = await settlement.settle(self.database, move, verdicts, deletes, SEALER)
        self.next_offset = move.next_offset
        return done

    def accept(self, email: str, offset: int, **changed: object) -> Accepted:
        """Return the verdict on a good command of this partition."""
        verdict = verdict_of(email, offset=offset, topic=self.partition.topic, **changed)
        assert isinstance(verdict, Accepted)
        return verdict

    def reject(self, registration: str, offset: int) -> Rejected:
        """Return the verdict on an invalid command of this partition."""
        verdict = verdict_of("nobody", offset=offset, topic=self.partition.topic, registrationId=registration)
        assert isinstance(verdict, Rejected)
        return verdict

    def letter(self, value: bytes | dict[str, Any] = b"{", offset: int = 0, **headers: bytes | None) -> DeadLetter:
        """Return the verdict on a record of this partition that can't be processed."""
        read = record(value, offset=offset, topic=self.partition.topic, headers=commands.headers(**headers))
        verdict = examine(read, SNAPSHOT, fresh=True)
        assert isinstance(verdict, DeadLetter)
        return verdict

    def failed(self, registration: str, offset: int) -> DeadLetter:
        """Return a dead letter that belongs to a registration."""
        return self.letter(commands.data("x@example.com", registrationId=registration), offset, ce_type=b"other")

    async def outcome(self, registration: str) -> tuple[str, str | None, int] | None:
        """Return status, code and offset of a registration."""
        row = await self.home.connection.fetchrow(
            "SELECT status, code, command_offset FROM registrations WHERE registration_id = $1", registration
        )
        return (row["status"], row["code"], row["command_offset"]) if row else None

    async def customers_of(self, email: str) -> list[str]:
        """Return the registrations whose customers have that email."""
        rows = await self.home.connection.fetch("SELECT registration_id FROM customers WHERE email = $1", email)
        return [row["registration_id"] for row in rows]

    async def outbox(self) -> list[tuple[int, str]]:
        """Return what is in the outbox of this partition."""
        rows = await self.home.connection.fetch(
            "SELECT command_offset, kind FROM outbox WHERE command_topic = $1 ORDER BY 1, 2", self.partition.topic
        )
        return [(row["command_offset"], row["kind"]) for row in rows]


async def counts(home: Home) -> dict[str, int]:
    """Return how many rows each table has."""
    return {table: await home.connection.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}


def statuses(done: Settled) -> list[tuple[int, str]]:
    """Return offset and type of each message, in the order in which they are published."""
    return [(out.offset, header(out.message.headers, "ce_type") if out.kind == EVENT else "letter") for out in done.outgoing]  # type: ignore[misc]


REGISTERED, REFUSED = "customer.registered.v1", "customer.registration-rejected.v1"


def read_of(verdict: Verdict) -> PlainRecord:
    """Return the record of a verdict, as the tests made it."""
    assert isinstance(verdict.record, PlainRecord)
    return verdict.record


@asynccontextmanager
async def held(home: Home, table: str) -> AsyncIterator[None]:
    """Keep others from writing to a table for the length of a block: it stops a transaction at a place of our choosing."""
    holder = await connect(home.url, "tests-holder")
    try:
        await holder.execute(f"BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE")
        yield
    finally:
        await holder.close()


async def waiting(home: Home, kind: str) -> int | None:
    """Return the process of a worker's session that waits for such a lock."""
    found: int | None = await home.connection.fetchval(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = $1"
        " AND application_name = 'registration-worker'",
        kind,
    )
    return found
