"""
The limit: the worker's own statements, fed from memory; no Kafka, nothing to parse and nothing to decide.

    python -m benchmarks.frozen.limit

It makes its rows, warms its connections, waits at the gate, and prints one JSON line when the last batch is committed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final
from uuid import UUID, uuid4

import uvloop

from benchmarks.frozen.backlog import commands
from benchmarks.frozen.commands import RegisterCustomer
from benchmarks.frozen.contest import GATE, Connection, Contest, connect, statement
from benchmarks.frozen.registration import PENDING, Place, Registration, Row, registration_of

BATCH_RECORDS: Final = 500
_COPIES: Final = {
    "registrations": (
        "registration_id", "tenant_id", "status", "code", "problem", "reason", "customer_id", "fingerprint",
        "catalogue_version", "command_topic", "command_partition", "command_offset", "decided_at", "requested_at",
        "requested_by",
    ),
    "persons": (
        "customer_id", "tenant_id", "person_id", "first_name", "last_name", "customer_name", "date_of_birth",
        "place_of_birth", "gender", "nationality", "nationalities", "addresses", "contacts",
    ),
    "users": (
        "customer_id", "tenant_id", "user_id", "username", "password_hash", "status", "roles", "is_active",
        "requires_password_change", "two_factor_enabled",
    ),
    "decisions": (
        "customer_id", "tenant_id", "catalogue_version", "risk_level", "risk_score", "due_diligence",
        "verification_level", "next_review_on", "decision",
    ),
    "outbox": (
        "command_topic", "command_partition", "command_offset", "kind", "key", "value", "headers", "sealed",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Batch:
    """The parameters of one transaction, ready to be sent."""

    first: int
    next_offset: int
    registrations: Sequence[Sequence[object]]
    emails: Sequence[Sequence[object]]
    customers: Sequence[Sequence[object]]
    copies: dict[str, list[Row]]


class Lane:
    """One connection with a partition of its own."""

    def __init__(self, connection: Connection, contest: Contest, partition: int) -> None:
        self._connection = connection
        self._topic = contest.commands_topic
        self._partition = partition
        self._owner: UUID = uuid4()
        self._published: list[int] = []

    async def claim(self) -> None:
        """Own the partition."""
        await self._connection.execute(
            "INSERT INTO kafka_offsets (topic, partition, next_offset, owner, claimed_at) VALUES ($1, $2, 0, $3, now())",
            self._topic,
            self._partition,
            self._owner,
        )

    async def run(self, batches: Sequence[Batch]) -> None:
        """Store batches, one transaction each; a batch's outbox goes with the batch after it."""
        for batch in batches:
            await self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            await self._store(batch)
            await self._connection.execute("COMMIT")
            self._published = list(range(batch.first, batch.next_offset))

    async def _store(self, batch: Batch) -> None:
        digest = b"0123456789abcdef"
        moved = await self._connection.fetchrow(
            statement("move_offset"), self._topic, self._partition, batch.first, batch.next_offset, self._owner,
            batch.next_offset - 1, digest, 0,
        )  # fmt: skip
        if self._published:
            kinds = ["event"] * len(self._published)
            await self._connection.fetchrow(
                statement("outbox_delete"), self._topic, self._partition, self._owner, self._published, kinds
            )
        known = await self._connection.fetch(statement("registrations_find"), *batch.registrations)
        taken = await self._connection.fetch(statement("customers_by_email"), *batch.emails)
        await self._copy(batch, "registrations")
        stored = await self._connection.execute(statement("customers_insert"), *batch.customers)
        if moved is None or known or taken or stored != f"INSERT 0 {batch.next_offset - batch.first}":
            msg = "the limit's rows were not all new"
            raise RuntimeError(msg)
        for table in ("persons", "users", "decisions", "outbox"):
            await self._copy(batch, table)

    async def _copy(self, batch: Batch, table: str) -> None:
        await self._connection.copy_records_to_table(table, records=batch.copies[table], columns=_COPIES[table])


def batches_of(contest: Contest, partition: int, first: int, count: int, offset: int) -> list[Batch]:
    """
    Make the batches of some commands.

    Args:
        contest: whose topic the rows name.
        partition: which partition they stand on.
        first: number of the first command.
        count: how many.
        offset: of the first command.
    """
    now_ms = int(time.time() * 1000)
    new = [
        registration_of(
            RegisterCustomer.model_validate_json(command.value), Place(contest.commands_topic, partition, offset + index, now_ms)
        )
        for index, command in enumerate(commands(first, count))
    ]
    return [_batch(new[at : at + BATCH_RECORDS], offset + at) for at in range(0, count, BATCH_RECORDS)]


def _batch(new: list[Registration], first: int) -> Batch:
    registrations, customers = [each.registration for each in new], [each.customer for each in new]
    columns = list(zip(*customers, strict=True))
    return Batch(
        first=first,
        next_offset=first + len(new),
        registrations=[[row[0] for row in registrations], [row[1] for row in registrations]],
        customers=(*columns[:6], PENDING, *columns[7:]),
        emails=[[row[4] for row in customers], [row[1] for row in customers]],
        copies={
            "registrations": sorted(registrations, key=itemgetter(0, 1)),
            "persons": [each.person for each in new],
            "users": [each.user for each in new],
            "decisions": [each.decision for each in new],
            "outbox": [each.outbox for each in new],
        },
    )


async def run(contest: Contest) -> None:
    """Store this process's share of the commands."""
    gate = await connect(contest.database)
    warm, share = contest.warm // contest.connections, contest.records // contest.connections
    lanes, warmers, works = [], [], []
    for index in range(contest.connections):
        partition = contest.process * contest.connections + index
        lane = Lane(await connect(contest.database), contest, partition)
        await lane.claim()
        first = contest.first + index * (warm + share)
        lanes.append(lane)
        warmers.append(batches_of(contest, partition, first, warm, 0))
        works.append(batches_of(contest, partition, first + warm, share, warm))
    await asyncio.gather(*map(Lane.run, lanes, warmers))
    # What waits in memory is no work of the limit's: the collector need not walk over it.
    gc.freeze()
    await gate.execute("SELECT pg_advisory_lock_shared($1)", GATE)
    await asyncio.gather(*map(Lane.run, lanes, works))
    print(json.dumps({"ended_at": time.time()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(Contest.from_environment()))
