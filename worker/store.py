"""
What a batch does to the database, statement by statement; every effect is a file in `worker/sql/`.

`settle` is the one transaction of the protocol (README, "One batch, one transaction"): the fence, the deletes of what
was published, the outcomes, the outbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from uuid import UUID

from worker import messages
from worker.core.assess import Refused
from worker.errors import FencedError, UnavailableError, UnstorableError
from worker.kafka import Partition, Record
from worker.messages import Outgoing
from worker.postgres import Connection, Database, statement
from worker.registration import Accepted, DeadLetter, Rejected, Tie, Verdict
from worker.rows import customer_columns, decision_row, person_row, problem_json, user_row
from worker.sealing import Sealer, UnsealableError

Key = tuple[str, str]
DeleteKey = tuple[int, str]

_LEFTOVER_ROWS: Final = 500
_COPIES: Final = {
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


@dataclass(frozen=True, slots=True)
class Move:
    """The fence of one batch: from where to where, and under which claim."""

    partition: Partition
    owner: UUID
    expected: int
    next_offset: int
    last_offset: int | None = None
    last_digest: bytes | None = None
    dead_letter_run: int = 0


@dataclass(slots=True)
class Settled:
    """What one transaction did."""

    outgoing: list[Outgoing] = field(default_factory=list)
    accepted: int = 0
    rejected: int = 0
    dead: int = 0
    repeated: int = 0
    differing: int = 0


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
        found.append(Outgoing(row["command_offset"], row["kind"], message))
    return found


async def delete(db: Database, partition: Partition, owner: UUID, keys: Sequence[DeleteKey]) -> None:
    """
    Remove messages that Kafka has acknowledged.

    Raises:
        StaleError: the partition is not mine as I left it; nothing is removed.
    """
    await db.run(partial(_delete, partition=partition, owner=owner, keys=keys))


async def settle(db: Database, move: Move, verdicts: Sequence[Verdict], deletes: Sequence[DeleteKey], sealer: Sealer) -> Settled:
    """
    Do one batch in one transaction.

    Args:
        move: the fence.
        verdicts: of one partition, by offset; may be empty where only control records were passed.
        deletes: messages of earlier batches that Kafka has acknowledged.
    Returns:
        The messages to publish, and counts.
    Raises:
        StaleError: the fence did not hold.
        UnavailableError, TooSlowError, UnstorableError: nothing is committed.
        CommitUnknownError: nobody knows yet.
    """

    async def work(connection: Connection) -> Settled:
        await _move(connection, move)
        if deletes:
            await _delete(connection, move.partition, move.owner, deletes)
        done = Settled()
        accepted: list[Accepted] = []
        for one_pass in passes(verdicts):
            accepted += await _settle_pass(connection, one_pass, done)
        await _copy_customers(connection, accepted)
        await _copy_outbox(connection, move.partition, done.outgoing, sealer)
        await _keep_dead_letters(connection, [v for v in verdicts if isinstance(v, DeadLetter)], sealer)
        return done

    return await db.transact(work)


def passes(verdicts: Sequence[Verdict]) -> Iterator[list[Verdict]]:
    """
    Divide a batch so that in each pass a registration and an email occur at most once, the first by offset first.

    What is held back holds back whatever shares its registration or its email.
    """
    waiting: Sequence[Verdict] = verdicts
    while waiting:
        seen: set[tuple[str, ...]] = set()
        now: list[Verdict] = []
        later: list[Verdict] = []
        for verdict in waiting:
            claims = _claims(verdict)
            (now if seen.isdisjoint(claims) else later).append(verdict)
            seen.update(claims)
        yield now
        waiting = later


def _opened(sealer: Sealer, box: bytes, place: str) -> bytes:
    try:
        return sealer.open(box, place)
    except UnsealableError:
        raise UnavailableError("sealing", f"no key in REGISTRATION_SEALING_KEYS opens the dead letter of {place}") from None


def box_place(partition: Partition, offset: int) -> str:
    """Return what binds a sealed box to its record."""
    return f"{partition.topic}/{partition.partition}/{offset}"


def _claims(verdict: Verdict) -> tuple[tuple[str, ...], ...]:
    if verdict.tie is None:
        return ()
    registration = ("registration", verdict.tie.tenant_id, verdict.tie.registration_id)
    if isinstance(verdict, Accepted):
        return registration, ("email", verdict.tie.tenant_id, verdict.approved.applicant.email_normalized)
    return (registration,)


async def _move(connection: Connection, move: Move) -> None:
    row = await connection.fetchrow(
        statement("move_offset"),
        move.partition.topic,
        move.partition.partition,
        move.expected,
        move.next_offset,
        move.owner,
        move.last_offset,
        move.last_digest,
        move.dead_letter_run,
    )
    if row is None:
        raise StaleError


async def _delete(connection: Connection, partition: Partition, owner: UUID, keys: Sequence[DeleteKey]) -> None:
    offsets, kinds = [offset for offset, _ in keys], [kind for _, kind in keys]
    row = await connection.fetchrow(statement("outbox_delete"), partition.topic, partition.partition, owner, offsets, kinds)
    if row is None or not row["mine"]:
        raise StaleError


async def _settle_pass(connection: Connection, verdicts: Sequence[Verdict], done: Settled) -> list[Accepted]:
    """Write the outcomes of one pass; return those that became customers."""
    tied = [verdict for verdict in verdicts if verdict.tie is not None]
    fresh = await _insert_registrations(connection, tied, done) if tied else set()
    new = [v for v in tied if _key(v.tie) in fresh]
    accepted = [v for v in new if isinstance(v, Accepted)]
    taken = await _insert_customers(connection, accepted) if accepted else set()
    for verdict in verdicts:
        if isinstance(verdict, DeadLetter):
            done.dead += 1
            done.outgoing.append(messages.letter(verdict))
        elif _key(verdict.tie) not in fresh:
            continue
        elif isinstance(verdict, Rejected):
            done.rejected += 1
            done.outgoing.append(messages.rejected(verdict))
        elif _key(verdict.tie) in taken:
            done.rejected += 1
            done.outgoing.append(messages.rejected(_email_taken(verdict)))
        else:
            done.accepted += 1
            done.outgoing.append(messages.registered(verdict))
    return [v for v in accepted if _key(v.tie) not in taken]


async def _insert_registrations(connection: Connection, verdicts: Sequence[Verdict], done: Settled) -> set[Key]:
    """Return the registrations that have no earlier outcome."""
    fresh = await _write_registrations(connection, "registrations_insert", verdicts)
    missing = [v for v in verdicts if _key(v.tie) not in fresh]
    if not missing:
        return fresh
    keys = [_key(v.tie) for v in missing]
    rows = await connection.fetch(statement("registrations_find"), [k[1] for k in keys], [k[0] for k in keys])
    found = {(row["tenant_id"], row["registration_id"]): row for row in rows}
    again = []
    for verdict in missing:
        row = found.get(_key(verdict.tie))
        if row is None:
            raise UnavailableError("database", "a registration went away meanwhile")
        if row["status"] == "FAILED":
            again.append(verdict)
            continue
        done.repeated += 1
        if verdict.tie is not None and _differs(verdict.tie.fingerprint, row["fingerprint"]):
            done.differing += 1
    if again:
        fresh |= await _write_registrations(connection, "registrations_replace_failed", again)
    return fresh


def _differs(mine: str | None, stored: str | None) -> bool:
    return mine is not None and stored is not None and mine != stored


async def _write_registrations(connection: Connection, name: str, verdicts: Sequence[Verdict]) -> set[Key]:
    """Run one of the two statements that write outcomes; return the registrations that it wrote."""
    columns = list(zip(*map(_registration_row, verdicts), strict=True))
    record = verdicts[0].record
    rows = await connection.fetch(statement(name), *columns[:9], record.topic, record.partition, *columns[9:])
    return {(row["tenant_id"], row["registration_id"]) for row in rows}


def _registration_row(verdict: Verdict) -> tuple[object, ...]:
    tie = verdict.tie
    assert tie is not None, "only tied verdicts have a row"  # noqa: S101 - narrows the type
    status, code, problem, reason, customer_id, version = "FAILED", None, None, None, None, None
    if isinstance(verdict, Accepted):
        status, version = "REGISTRATION_COMPLETE", verdict.catalogue_version
        customer_id = verdict.customer_id
    elif isinstance(verdict, Rejected):
        status, code, version = "REJECTED", verdict.refused.code, verdict.catalogue_version
        problem, reason = problem_json(verdict.refused), verdict.refused.reason or None
    else:
        code = verdict.code
    return (
        tie.registration_id, tie.tenant_id, status, code, problem, reason, customer_id, tie.fingerprint, version,
        verdict.record.offset, verdict.decided_at, tie.requested_at, tie.requested_by,
    )  # fmt: skip


async def _insert_customers(connection: Connection, accepted: Sequence[Accepted]) -> set[Key]:
    """Write the customers that have no conflict; return the registrations whose email is taken, now rejected."""
    rows = await connection.fetch(statement("customers_insert"), *customer_columns(accepted))
    stored = {(row["tenant_id"], row["customer_id"]) for row in rows}
    if len(stored) == len(accepted):
        return set()
    missing = [v for v in accepted if (v.tie.tenant_id, v.customer_id) not in stored]
    owners = await connection.fetch(
        statement("customers_by_email"),
        [v.approved.applicant.email_normalized for v in missing],
        [v.tie.tenant_id for v in missing],
    )
    if len(owners) != len(missing):
        msg = "a customer conflicts, and not by email"
        raise UnstorableError(msg)
    taken = [_key(v.tie) for v in missing]
    await connection.execute(statement("registrations_reject"), [k[1] for k in taken], [k[0] for k in taken], EMAIL_TAKEN.code)
    return set(taken)


async def _copy_customers(connection: Connection, accepted: Sequence[Accepted]) -> None:
    if not accepted:
        return
    makers: tuple[tuple[str, Callable[[Accepted], tuple[object, ...]]], ...] = (
        ("persons", person_row),
        ("users", user_row),
        ("decisions", decision_row),
    )
    for table, row in makers:
        await connection.copy_records_to_table(table, records=map(row, accepted), columns=_COPIES[table])


async def _copy_outbox(connection: Connection, partition: Partition, outgoing: Sequence[Outgoing], sealer: Sealer) -> None:
    if outgoing:
        rows = [_outbox_row(partition, item, sealer) for item in outgoing]
        await connection.copy_records_to_table("outbox", records=rows, columns=_COPIES["outbox"])


def _outbox_row(partition: Partition, item: Outgoing, sealer: Sealer) -> tuple[object, ...]:
    message = item.message
    if item.kind == messages.LETTER:
        value = sealer.seal(messages.pack(message), box_place(partition, item.offset))
        return partition.topic, partition.partition, item.offset, item.kind, None, value, "[]", True
    headers = messages.pack_headers(message.headers)
    return partition.topic, partition.partition, item.offset, item.kind, message.key, message.value, headers, False


async def _keep_dead_letters(connection: Connection, letters: Sequence[DeadLetter], sealer: Sealer) -> None:
    if not letters:
        return
    columns = list(zip(*(_dead_letter_row(letter, sealer) for letter in letters), strict=True))
    record = letters[0].record
    await connection.execute(statement("dead_letters_insert"), record.topic, record.partition, *columns)


def _dead_letter_row(letter: DeadLetter, sealer: Sealer) -> tuple[object, ...]:
    record, tie = letter.record, letter.tie
    sealed = None
    if letter.with_payload:
        place = box_place(Partition(record.topic, record.partition), record.offset)
        sealed = sealer.seal(messages.pack(messages.letter(letter).message), place)
    return (
        record.offset, letter.code, tie.tenant_id if tie else None, tie.registration_id if tie else None, sealed,
        letter.decided_at,
    )  # fmt: skip


EMAIL_TAKEN: Final = Refused("email-taken", ())


def _email_taken(verdict: Accepted) -> Rejected:
    return Rejected(verdict.record, verdict.decided_at, verdict.tie, verdict.catalogue_version, EMAIL_TAKEN)


def _key(tie: Tie | None) -> Key:
    return (tie.tenant_id, tie.registration_id) if tie else ("", "")


def digest(record: Record) -> bytes:
    """Return what tells one record from another at the same offset: key, value and the broker's timestamp."""
    state = hashlib.blake2b(digest_size=16)
    for part in (record.key, record.value, record.timestamp.to_bytes(8, signed=True)):
        state.update(b"\0" if part is None else len(part).to_bytes(4) + part)
    return state.digest()
