"""What a lane asks of the database beside its batches: claims, looks, leftovers, deletes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from worker import messages
from worker.errors import FencedError, UnavailableError
from worker.kafka import Partition, Record
from worker.messages import Outgoing
from worker.postgres import Connection, Database, statement
from worker.sealing import Sealer, UnsealableError

DeleteKey = tuple[int, str]

_LEFTOVER_ROWS: Final = 500


class StaleError(Exception):
    """The position is not where this lane left it: claim again, to see whether the state or the owner changed."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the database says of a partition."""

    next_offset: int
    last_offset: int | None
    last_digest: bytes | None
    dead_letter_run: int
    resume_at_offset: int | None
    skip_offset: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """Whether a partition is as its lane left it."""

    next_offset: int
    owner: UUID
    resume_at_offset: int | None
    skip_offset: int | None
    outbox_rows: int
    outbox_oldest_s: float
    reappeared: bool


async def claim(db: Database, partition: Partition, owner: UUID, log_start: int) -> Claim:
    """Take a partition, whoever had it."""
    row = await db.run(lambda c: c.fetchrow(statement("claim"), partition.topic, partition.partition, owner, log_start))
    assert row is not None, "an upsert returns its row"  # noqa: S101 - narrows the type
    return Claim(**dict(row))


async def claim_again(db: Database, partition: Partition, owner: UUID, mine: Sequence[UUID]) -> Claim:
    """
    Take a partition that is still mine, under a fresh owner.

    Raises:
        FencedError: another owner has it.
    """
    row = await db.run(lambda c: c.fetchrow(statement("claim_again"), partition.topic, partition.partition, owner, mine))
    if row is None:
        raise FencedError
    return Claim(**dict(row))


async def begin_anew(db: Database, partition: Partition, owner: UUID, next_offset: int) -> None:
    """
    Set the position by hand: a topic made anew, or an operator who gave up lost records.

    Raises:
        FencedError: another owner has the partition.
    """
    row = await db.run(lambda c: c.fetchrow(statement("begin_anew"), partition.topic, partition.partition, next_offset, owner))
    if row is None:
        raise FencedError


async def take_resume(db: Database, partition: Partition, owner: UUID, order: int) -> bool:
    """Take an operator's order to go on; say whether it was still there."""
    row = await db.run(lambda c: c.fetchrow(statement("take_resume"), partition.topic, partition.partition, owner, order))
    return row is not None


async def look(db: Database, partition: Partition, lowest_pending: int) -> Look | None:
    """Return how a partition stands; None where the database knows no such partition."""
    row = await db.run(lambda c: c.fetchrow(statement("look"), partition.topic, partition.partition, lowest_pending))
    return Look(**dict(row)) if row else None


async def leftover(db: Database, partition: Partition, sealer: Sealer) -> list[Outgoing]:
    """Return the oldest messages of a partition that are committed and not known to be published."""
    rows = await db.run(lambda c: c.fetch(statement("outbox_leftover"), partition.topic, partition.partition, _LEFTOVER_ROWS))
    found = []
    for row in rows:
        if row["sealed"]:
            place = box_place(partition, row["command_offset"])
            message = messages.unpack(_opened(sealer, row["value"], place))
        else:
            headers = messages.unpack_headers(row["headers"])
            message = messages.restored(row["kind"], row["key"], row["value"], headers)
        found.append(Outgoing(row["command_offset"], row["kind"], message, row["headers"]))
    return found


async def delete(db: Database, partition: Partition, owner: UUID, keys: Sequence[DeleteKey]) -> None:
    """
    Remove messages that Kafka has acknowledged.

    Raises:
        StaleError: the partition is not mine as I left it; nothing is removed.
    """
    await db.run(partial(delete_published, partition=partition, owner=owner, keys=keys))


def _opened(sealer: Sealer, box: bytes, place: str) -> bytes:
    try:
        return sealer.open(box, place)
    except UnsealableError:
        raise UnavailableError("sealing", f"no key in REGISTRATION_SEALING_KEYS opens the dead letter of {place}") from None


def box_place(partition: Partition, offset: int) -> str:
    """Return what binds a sealed box to its record."""
    return f"{partition.topic}/{partition.partition}/{offset}"


async def delete_published(connection: Connection, partition: Partition, owner: UUID, keys: Sequence[DeleteKey]) -> None:
    """Do so in a transaction of the caller's; raises as `delete` does."""
    offsets, kinds = [offset for offset, _ in keys], [kind for _, kind in keys]
    row = await connection.fetchrow(statement("outbox_delete"), partition.topic, partition.partition, owner, offsets, kinds)
    if row is None:
        raise StaleError


def digest(record: Record) -> bytes:
    """Return what tells one record from another at the same offset: key, value and the broker's timestamp."""
    state = hashlib.blake2b(digest_size=16)
    for part in (record.key, record.value, record.timestamp.to_bytes(8, signed=True)):
        state.update(b"\0" if part is None else len(part).to_bytes(4) + part)
    return state.digest()
