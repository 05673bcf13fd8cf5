"""
One batch in one transaction: the fence, the deletes of what was published, the outcomes, the outbox.

What is there already is looked up first, and then the rows go in (README, D-16). Where another partition takes a key
between the two, nothing is committed; the batch begins anew, and its look-up sees the other's row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final
from uuid import UUID

from worker import messages
from worker.core.assess import Refused
from worker.errors import TooSlowError, UnstorableError
from worker.kafka import Partition
from worker.messages import Outgoing
from worker.postgres import Connection, Database, Row, UniqueViolationError, row_count, statement
from worker.registration import Accepted, DeadLetter, Rejected, Verdict
from worker.rows import FAILED, PENDING, customer_row, decision_row, person_row, registration_row, user_row
from worker.sealing import Sealer
from worker.store import DeleteKey, StaleError, box_place, delete_published

Key = tuple[str, str]
"""Tenant and registration, or tenant and email."""
Claim = tuple[str, ...]
"""What two commands of one batch may share: `registration` or `email`, the tenant, and which."""
Known = Mapping[Key, Row]

_TRIES: Final = 3
_COLUMNS: Final = {
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
EMAIL_TAKEN: Final = Refused("email-taken", ())
_BY_CUSTOMER: Final[Mapping[str, Callable[[Accepted], tuple[object, ...]]]] = {
    "persons": person_row,
    "users": user_row,
    "decisions": decision_row,
}


class TakenMeanwhileError(Exception):
    """Another partition committed a registration or an email of this batch after the look-up."""


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

    def tell(self, verdict: Verdict) -> None:
        """Count what was decided, and add its message."""
        if isinstance(verdict, Accepted):
            self.accepted += 1
            self.outgoing.append(messages.registered(verdict))
        elif isinstance(verdict, Rejected):
            self.rejected += 1
            self.outgoing.append(messages.rejected(verdict))
        else:
            self.dead += 1
            self.outgoing.append(messages.letter(verdict))


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
    letters = [verdict for verdict in verdicts if isinstance(verdict, DeadLetter)]
    boxes = {letter.record.offset: _box(letter, sealer) for letter in letters}

    async def work(connection: Connection) -> Settled:
        await _move(connection, move)
        if deletes:
            await delete_published(connection, move.partition, move.owner, deletes)
        done = Settled()
        accepted: list[Accepted] = []
        for one_pass in passes(verdicts):
            accepted += await _settle_pass(connection, one_pass, done)
        for table, row in _BY_CUSTOMER.items():
            await _copy(connection, table, [row(verdict) for verdict in accepted])
        await _copy(connection, "outbox", [_outbox_row(move.partition, item, boxes) for item in done.outgoing])
        await _keep_dead_letters(connection, letters, boxes)
        return done

    for _ in range(_TRIES):
        with suppress(TakenMeanwhileError):
            return await db.transact(work)
    raise TooSlowError("other partitions took keys of this batch, time after time")


def passes(verdicts: Sequence[Verdict]) -> Iterator[list[Verdict]]:
    """
    Divide a batch so that in each pass a registration and an email occur at most once, the first by offset first.

    What is held back holds back whatever shares its registration or its email. Dead letters of one registration may share a
    pass: they decide nothing, and a faulty command that is sent in a loop would else take as many passes as a batch has records.
    """
    waiting: Sequence[Verdict] = verdicts
    while waiting:
        taken: set[Claim] = set()
        of_letters: set[Claim] = set()
        now: list[Verdict] = []
        later: list[Verdict] = []
        for verdict in waiting:
            claims, is_letter = _claims(verdict), isinstance(verdict, DeadLetter)
            is_free = taken.isdisjoint(claims) and (is_letter or of_letters.isdisjoint(claims))
            (now if is_free else later).append(verdict)
            (of_letters if is_free and is_letter else taken).update(claims)
        yield now
        waiting = later


def _claims(verdict: Verdict) -> tuple[Claim, ...]:
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


async def _settle_pass(connection: Connection, verdicts: Sequence[Verdict], done: Settled) -> list[Accepted]:
    """Write the outcomes of one pass; return those that became customers."""
    tied = [verdict for verdict in verdicts if verdict.tie is not None]
    known = await _find_outcomes(connection, tied)
    new = [verdict for verdict in tied if _is_new(verdict, known, done)]
    taken = await _find_taken(connection, [verdict for verdict in new if isinstance(verdict, Accepted)])
    outcomes = [_email_taken(v) if isinstance(v, Accepted) and _email(v) in taken else v for v in new]
    await _write_outcomes(connection, outcomes, known)
    accepted = [verdict for verdict in outcomes if isinstance(verdict, Accepted)]
    await _insert_customers(connection, accepted)
    dead = [verdict for verdict in verdicts if isinstance(verdict, DeadLetter)]
    for verdict in _by_offset(outcomes, dead):
        done.tell(verdict)
    return accepted


async def _find_outcomes(connection: Connection, verdicts: Sequence[Verdict]) -> Known:
    """Return the outcomes that these registrations have already."""
    if not verdicts:
        return {}
    keys = [_key(verdict) for verdict in verdicts]
    rows = await connection.fetch(statement("registrations_find"), [key[1] for key in keys], [key[0] for key in keys])
    return {(row["tenant_id"], row["registration_id"]): row for row in rows}


def _is_new(verdict: Verdict, known: Known, done: Settled) -> bool:
    """Say whether this is its registration's first outcome; FAILED is none. A repeat is only counted."""
    before = known.get(_key(verdict))
    if before is None or before["status"] == FAILED:
        return True
    done.repeated += 1
    sent, stored = verdict.tie and verdict.tie.fingerprint, before["fingerprint"]
    if sent is not None and stored is not None and sent != stored:
        done.differing += 1
    return False


async def _find_taken(connection: Connection, accepted: Sequence[Accepted]) -> frozenset[Key]:
    """Return those emails that have a customer."""
    if not accepted:
        return frozenset()
    emails = [_email(verdict) for verdict in accepted]
    rows = await connection.fetch(statement("customers_by_email"), [each[1] for each in emails], [each[0] for each in emails])
    return frozenset((row["tenant_id"], row["email_normalized"]) for row in rows)


async def _write_outcomes(connection: Connection, outcomes: Sequence[Verdict], known: Known) -> None:
    """Write registrations; in place of FAILED, where it is that. Of several dead letters of one it names the last."""
    last = {_key(verdict): verdict for verdict in outcomes}
    rows = sorted(map(registration_row, last.values()), key=_BY_REGISTRATION)
    fresh = [row for row in rows if (row[1], row[0]) not in known] if known else rows
    try:
        await _copy(connection, "registrations", fresh)
    except UniqueViolationError:
        raise TakenMeanwhileError from None
    if len(fresh) < len(rows):
        again = [row for row in rows if (row[1], row[0]) in known]
        done = await connection.execute(statement("registrations_replace_failed"), *zip(*again, strict=True))
        if row_count(done) < len(again):
            raise TakenMeanwhileError


async def _insert_customers(connection: Connection, accepted: Sequence[Accepted]) -> None:
    if not accepted:
        return
    columns = list(zip(*map(customer_row, accepted), strict=True))
    done = await connection.execute(statement("customers_insert"), *columns[:6], PENDING, *columns[6:])
    if row_count(done) < len(accepted):
        if await _find_taken(connection, accepted):
            raise TakenMeanwhileError
        msg = "a customer conflicts, and not by email"
        raise UnstorableError(msg)


async def _copy(connection: Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        try:
            await connection.copy_records_to_table(table, records=rows, columns=_COLUMNS[table])
        except OverflowError:  # a date or a number that PostgreSQL's types do not have
            raise UnstorableError("the driver can't encode a value") from None


_BY_REGISTRATION: Final = itemgetter(0, 1)
"""Rows go in sorted by unique key, so that two lanes do not wait for each other in a circle; customers are sorted by SQL."""


def _by_offset(outcomes: Sequence[Verdict], dead: Sequence[DeadLetter]) -> Sequence[Verdict]:
    """Return what is told to the world: every outcome and every dead letter, also of a registration that has an outcome."""
    if not dead:
        return outcomes
    decided = [verdict for verdict in outcomes if not isinstance(verdict, DeadLetter)]
    return sorted((*decided, *dead), key=lambda verdict: verdict.record.offset)


def _box(letter: DeadLetter, sealer: Sealer) -> bytes:
    """Seal a dead letter: once, for the outbox and for what is kept of it."""
    place = box_place(Partition(letter.record.topic, letter.record.partition), letter.record.offset)
    return sealer.seal(messages.pack(messages.letter(letter).message), place)


def _outbox_row(partition: Partition, item: Outgoing, boxes: Mapping[int, bytes]) -> tuple[object, ...]:
    message, place = item.message, (partition.topic, partition.partition, item.offset, item.kind)
    if item.kind == messages.LETTER:
        return *place, None, boxes[item.offset], item.packed_headers, True
    return *place, message.key, message.value, item.packed_headers, False


async def _keep_dead_letters(connection: Connection, letters: Sequence[DeadLetter], boxes: Mapping[int, bytes]) -> None:
    if not letters:
        return
    columns = list(zip(*(_dead_letter_row(letter, boxes[letter.record.offset]) for letter in letters), strict=True))
    record = letters[0].record
    await connection.execute(statement("dead_letters_insert"), record.topic, record.partition, *columns)


def _dead_letter_row(letter: DeadLetter, box: bytes) -> tuple[object, ...]:
    record, tie, sealed = letter.record, letter.tie, box if letter.with_payload else None
    return (
        record.offset, letter.code, tie.tenant_id if tie else None, tie.registration_id if tie else None, sealed,
        letter.decided_at,
    )  # fmt: skip


def _email_taken(verdict: Accepted) -> Rejected:
    return Rejected(verdict.record, verdict.decided_at, verdict.tie, verdict.catalogue_version, EMAIL_TAKEN)


def _key(verdict: Verdict) -> Key:
    assert verdict.tie is not None, "only tied verdicts have an outcome"  # noqa: S101 - narrows the type
    return verdict.tie[:2]


def _email(verdict: Accepted) -> Key:
    return verdict.tie.tenant_id, verdict.approved.applicant.email_normalized
