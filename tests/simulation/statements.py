"""
The statements of `worker/sql`, each as a function on the simulated tables.

`test_database_model.py` holds them against PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.simulation.tables import EMAILS, OFFSETS, Message, Moved, Position, Statement

Rows = list[dict[str, object]]
Result = tuple[Rows, str]
"""Rows, and the command's tag."""

CLAIMED: Final = ("next_offset", "last_offset", "last_digest", "dead_letter_run", "resume_at_offset", "skip_offset")
FAILED: Final = "FAILED"
_STATUS: Final = 2
_FINGERPRINT: Final = 7


def claim(s: Statement, topic: str, partition: int, owner: UUID, log_start: int) -> Result:
    """An upsert: it waits for whoever writes the row, and takes it as it then is."""
    key = topic, partition
    s.lock(OFFSETS, key)
    old: Position | None = s.newest(OFFSETS, key)
    new = Position(log_start, owner) if old is None else old._replace(owner=owner)
    return _take(s, new, topic, partition)


def claim_again(s: Statement, topic: str, partition: int, owner: UUID, mine: Sequence[UUID]) -> Result:
    """An update: what it sees must be mine, and what it waited for too."""
    key = topic, partition
    if not _is_owner(s.seen(OFFSETS, key), mine):
        return [], "UPDATE 0"
    s.lock(OFFSETS, key)
    old: Position = s.newest(OFFSETS, key)
    if not _is_owner(old, mine):
        return [], "UPDATE 0"
    return _take(s, old._replace(owner=owner), topic, partition)


def begin_anew(s: Statement, topic: str, partition: int, next_offset: int, owner: UUID) -> Result:
    """Set the position by hand."""
    key = topic, partition
    if not _is_owner(s.seen(OFFSETS, key), (owner,)):
        return [], "UPDATE 0"
    s.lock(OFFSETS, key)
    old: Position = s.newest(OFFSETS, key)
    if not _is_owner(old, (owner,)):
        return [], "UPDATE 0"
    s.put(
        OFFSETS,
        key,
        old._replace(next_offset=next_offset, last_offset=None, last_digest=None, resume_at_offset=None, skip_offset=None),
    )
    return [{"next_offset": next_offset}], "UPDATE 1"


def take_resume(s: Statement, topic: str, partition: int, owner: UUID, order: int) -> Result:
    """Take an operator's order."""
    key = topic, partition
    if not _is_ordered(s.seen(OFFSETS, key), owner, order):
        return [], "UPDATE 0"
    s.lock(OFFSETS, key)
    old: Position = s.newest(OFFSETS, key)
    if not _is_ordered(old, owner, order):
        return [], "UPDATE 0"
    s.put(OFFSETS, key, old._replace(resume_at_offset=None, dead_letter_run=0))
    return [{"partition": partition}], "UPDATE 1"


def look(s: Statement, topic: str, partition: int, lowest_pending: int) -> Result:
    """How the partition stands, in one snapshot."""
    row: Position | None = s.seen(OFFSETS, (topic, partition))
    if row is None:
        return [], "SELECT 0"
    offsets = [key[2] for key, _ in s.rows("outbox") if key[:2] == (topic, partition)]
    found: dict[str, object] = {
        "next_offset": row.next_offset,
        "owner": row.owner,
        "resume_at_offset": row.resume_at_offset,
        "skip_offset": row.skip_offset,
        "outbox_rows": len(offsets),
        "outbox_oldest_s": 0.0,
        "reappeared": any(offset < lowest_pending for offset in offsets),
    }
    return [found], "SELECT 1"


def _is_as_left(row: Position | None, expected: int, owner: UUID) -> bool:
    return row is not None and row.next_offset == expected and row.owner == owner


def move_where(holds: Callable[[Position | None, int, UUID], bool]) -> Callable[..., Result]:
    """Return `move_offset` with this fence: it is asked with the row, the position that is expected, and the owner."""

    def move_offset(  # noqa: PLR0917 - the statement's parameters
        s: Statement,
        topic: str,
        partition: int,
        expected: int,
        next_offset: int,
        owner: UUID,
        last_offset: int | None,
        last_digest: bytes | None,
        run: int,
    ) -> Result:
        key = topic, partition
        s.transaction.moved = Moved(key, expected, next_offset, owner)
        if not holds(s.seen(OFFSETS, key), expected, owner):
            return [], "UPDATE 0"
        s.lock(OFFSETS, key)
        old: Position = s.newest(OFFSETS, key)
        if not holds(old, expected, owner):
            return [], "UPDATE 0"
        return _move(s, old, last_offset, last_digest, run)

    return move_offset


move_offset = move_where(_is_as_left)


def _move(s: Statement, old: Position, last_offset: int | None, last_digest: bytes | None, run: int) -> Result:
    """Write the position of a batch whose fence held."""
    moved = s.transaction.moved
    assert moved is not None, "the fence came first"
    next_offset = moved.next_offset
    done = old.skip_offset is not None and old.skip_offset < next_offset
    new = old._replace(
        next_offset=next_offset,
        last_offset=old.last_offset if last_offset is None else last_offset,
        last_digest=old.last_digest if last_digest is None else last_digest,
        dead_letter_run=run,
        skip_offset=None if done else old.skip_offset,
    )
    s.put(OFFSETS, moved.place, new)
    return [{"next_offset": next_offset}], "UPDATE 1"


def outbox_delete(  # noqa: PLR0917 - the statement's parameters
    s: Statement, topic: str, partition: int, owner: UUID, offsets: Sequence[int], kinds: Sequence[str]
) -> Result:
    """Delete what is named, while the partition is mine; a share lock holds off a claim."""
    key = topic, partition
    if not _is_owner(s.seen(OFFSETS, key), (owner,)):
        return [], "SELECT 0"
    s.lock(OFFSETS, key, shared=True)
    if not _is_owner(s.newest(OFFSETS, key), (owner,)):
        return [], "SELECT 0"
    delete_rows(s, topic, partition, list(zip(offsets, kinds, strict=True)))
    return [{}], "SELECT 1"


def delete_rows(s: Statement, topic: str, partition: int, keys: Sequence[tuple[int, str]]) -> None:
    """Remove messages that the statement sees and nobody else has removed."""
    there = [(topic, partition, *key) for key in keys if s.seen("outbox", (topic, partition, *key)) is not None]
    for place in there:
        s.lock("outbox", place)
    for place in there:
        if s.newest("outbox", place) is not None:
            s.put("outbox", place, None)


def outbox_leftover(s: Statement, topic: str, partition: int, most: int) -> Result:
    """What is committed and not known to be published, oldest first."""
    found = sorted((key, row) for key, row in s.rows("outbox") if key[:2] == (topic, partition))[:most]
    rows: Rows = [
        {"command_offset": key[2], "kind": key[3], "key": m.key, "value": m.value, "headers": m.headers, "sealed": m.sealed}
        for key, m in found
    ]
    return rows, f"SELECT {len(rows)}"


def registrations_find(s: Statement, registrations: Sequence[str], tenants: Sequence[str]) -> Result:
    """Outcomes that are there."""
    rows: Rows = []
    for key in zip(registrations, tenants, strict=True):
        row = s.seen("registrations", key)
        if row is not None:
            named = {"registration_id": key[0], "tenant_id": key[1]}
            rows.append({**named, "status": row[_STATUS], "fingerprint": row[_FINGERPRINT]})
    return rows, f"SELECT {len(rows)}"


def customers_by_email(s: Statement, emails: Sequence[str], tenants: Sequence[str]) -> Result:
    """Emails that have a customer."""
    rows: Rows = [
        {"email_normalized": key[0], "tenant_id": key[1]}
        for key in zip(emails, tenants, strict=True)
        if s.seen(EMAILS, key) is not None
    ]
    return rows, f"SELECT {len(rows)}"


def registrations_replace_failed(s: Statement, *columns: Sequence[object]) -> Result:
    """Outcomes in place of FAILED, where it still is that."""
    check_text(columns)
    rows = [row for row in zip(*columns, strict=True) if _is_failed(s.seen("registrations", row[:2]))]
    for row in rows:
        s.lock("registrations", row[:2])
    done = [row for row in rows if _is_failed(s.newest("registrations", row[:2]))]
    for row in done:
        s.put("registrations", row[:2], row)
    return [], f"UPDATE {len(done)}"


def customers_insert(s: Statement, *columns: Any) -> Result:  # noqa: ANN401 - arrays, and one text between them
    """Customers, but for those that meet another, committed or being written."""
    rows = sorted(zip(*columns[:6], *columns[7:], strict=True), key=lambda row: (row[4], row[1]))
    free = []
    for row in rows:
        customer, email = (row[0], row[1]), (row[4], row[1])
        s.lock("customers", customer)
        s.lock(EMAILS, email)
        if s.newest("customers", customer) is None and s.newest(EMAILS, email) is None:
            free.append(row)
        else:
            s.unlock("customers", customer)
            s.unlock(EMAILS, email)
    for row in free:
        if s.newest("registrations", (row[2], row[1])) is None:
            raise asyncpg.ForeignKeyViolationError("customers_registration_fk")
        s.put("customers", (row[0], row[1]), row)
        s.put(EMAILS, (row[4], row[1]), (row[0], row[1]))
    return [], f"INSERT 0 {len(free)}"


def dead_letters_insert(s: Statement, topic: str, partition: int, *columns: Any) -> Result:  # noqa: ANN401 - arrays
    """Keep what could not be processed; the newer one stays."""
    rows = sorted(zip(*columns, strict=True), key=lambda row: int(row[0]))
    for row in rows:
        s.lock("dead_letters", (topic, partition, row[0]))
    for row in rows:
        s.put("dead_letters", (topic, partition, row[0]), row[1:])
    return [], f"INSERT 0 {len(rows)}"


def copy(s: Statement, table: str, records: Sequence[tuple[Any, ...]]) -> Result:
    """COPY of whole rows: a key that is there, or being written and then committed, is a violation."""
    width = 4 if table == "outbox" else 2
    owner = s.transaction.moved.owner if s.transaction.moved else None
    check_text(records)
    for row in records:
        s.lock(table, row[:width])
    for row in records:
        if s.newest(table, row[:width]) is not None:
            raise asyncpg.UniqueViolationError(f"{table}_pk")
        if table not in {"registrations", "outbox"} and s.newest("customers", row[:2]) is None:
            raise asyncpg.ForeignKeyViolationError(f"{table}_customer_fk")
        s.put(table, row[:width], Message(row[4], row[5], row[6], row[7], owner) if table == "outbox" else row)
    return [], f"COPY {len(records)}"


def check_text(rows: Sequence[Sequence[object]]) -> None:
    """
    Refuse what PostgreSQL can't hold: it reads all rows before it writes one.

    Raises:
        asyncpg.CharacterNotInRepertoireError: a text with a zero byte.
    """
    if any(type(value) is str and "\0" in value for row in rows for value in row):
        raise asyncpg.CharacterNotInRepertoireError("invalid byte sequence")


def _take(s: Statement, new: Position, topic: str, partition: int) -> Result:
    s.transaction.claimed = topic, partition
    s.put(OFFSETS, (topic, partition), new._replace(claimant=s.transaction.process))
    return [{name: getattr(new, name) for name in CLAIMED}], "INSERT 0 1"


def _is_owner(row: Position | None, owners: Sequence[UUID]) -> bool:
    return row is not None and row.owner in owners


def _is_ordered(row: Position | None, owner: UUID, order: int) -> bool:
    return row is not None and row.owner == owner and row.resume_at_offset == order


def _is_failed(row: Sequence[object] | None) -> bool:
    return row is not None and row[_STATUS] == FAILED


NAMED: Final[dict[str, Callable[..., Result]]] = {
    each.__name__: each
    for each in (
        claim,
        claim_again,
        begin_anew,
        take_resume,
        look,
        move_offset,
        outbox_delete,
        outbox_leftover,
        registrations_find,
        customers_by_email,
        registrations_replace_failed,
        customers_insert,
        dead_letters_insert,
    )
}
"""By the names that the files have."""
