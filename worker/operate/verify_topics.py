"""
The passes of `registration verify` over the topics: each reads one topic partition by partition, some records at a time, and holds
them against the tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Self, TypeAlias

from schemas.commands import COMMANDS_TOPIC
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC
from worker.kafka import Partition, Reader, Record
from worker.operate import verify_messages as messages
from worker.operate.progress import Progress
from worker.operate.session import Row, Session
from worker.operate.verify_report import Counts, Findings
from worker.sealing import Sealer, UnsealableError

Bounds: TypeAlias = Mapping[int, tuple[int, int]]

LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
CLOCKS_APART: Final = timedelta(hours=1)
"""By how much the clocks of two brokers may differ."""


@dataclass(frozen=True, slots=True)
class Parts:
    """
    What every pass works with.

    `sealer` is None where there is no key. What was refused since `refused_since` must still have its rows; older ones are
    removed by time.
    """

    session: Session
    reader: Reader
    sealer: Sealer | None
    counts: Counts
    findings: Findings
    progress: Progress
    refused_since: datetime


class _Behind:
    """Lets the database work on one piece while the next is read; never on two, for there is one session."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the last piece, or end it where something failed."""
        if self._task is not None and kind is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        elif self._task is not None:
            await self._task

    async def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin with a piece as soon as the one before is done; raise what that one raised."""
        if self._task is not None:
            await self._task
        self._task = asyncio.create_task(work())


async def read_letters(parts: Parts) -> datetime:
    """
    Go through the dead-letter topic, and keep a digest of each letter for what follows.

    Returns:
        Letters of records since then must still be kept.
    """
    firsts: dict[int, datetime] = {}
    async for records in _records(parts, DEAD_LETTERS_TOPIC, await parts.reader.bounds(DEAD_LETTERS_TOPIC), firsts):
        rows = []
        for record in records:
            parts.counts.letters += 1
            letter, faults = messages.read_letter(record)
            at = messages.coordinates(record.topic, record.partition, record.offset)
            for rule, text in faults:
                parts.findings.add(rule, at, text)
            if letter is not None and letter.topic == COMMANDS_TOPIC:
                rows.append((letter.partition, letter.offset, letter.recorded_at, letter.digest))
        await parts.session.copy("verify_letters", ("partition", "offset", "recorded_at", "digest"), rows)
    return await _kept_since(parts, DEAD_LETTERS_TOPIC, firsts)


async def read_events(parts: Parts) -> datetime:
    """
    Go through the events topic: each event by itself, then against its rows; and keep what it is about for what follows.

    Returns:
        Events of outcomes since then must still be kept.
    """
    firsts: dict[int, datetime] = {}
    bounds = await parts.reader.bounds(EVENTS_TOPIC)
    async with _Behind() as behind:
        async for records in _records(parts, EVENTS_TOPIC, bounds, firsts):
            facts = [fact for record in records if (fact := _look_at_event(parts, record)) is not None]
            await behind.start(partial(_compare_events, parts, facts))
    return await _kept_since(parts, EVENTS_TOPIC, firsts)


def _look_at_event(parts: Parts, record: Record) -> messages.Fact | None:
    parts.counts.events += 1
    fact, faults = messages.read_event(record)
    if faults:
        at = messages.coordinates(record.topic, record.partition, record.offset)
        for rule, text in faults:
            parts.findings.add(rule, fact.event.registration_id if fact else at, f"{text} ({at})" if fact else text)
    return fact


async def read_commands(parts: Parts, done: Bounds) -> None:
    """
    Go through the commands that are behind their position: each must have come to one outcome.

    Args:
        parts: what every pass works with.
        done: for each partition the log's start, and the position.
    """
    tenants = await _tenants(parts.session)
    async with _Behind() as behind:
        async for records in _records(parts, COMMANDS_TOPIC, done):
            parts.counts.commands += len(records)
            for record in records:
                _look_at_command(parts, record)
            named = [messages.registration_of(record.value) for record in records]
            resolved = [(pair[0], tenants.get(pair[1])) if pair else (None, None) for pair in named]
            await behind.start(partial(_judge_commands, parts, records, resolved))


def _look_at_command(parts: Parts, record: Record) -> None:
    if messages.holds_password(record):
        if messages.of_our_ingress(record):
            at = messages.coordinates(record.topic, record.partition, record.offset)
            parts.findings.add("password.plaintext", at, "in a command of our own ingress")
        else:
            parts.counts.passwords_refused += 1


async def _judge_commands(parts: Parts, records: Sequence[Record], registrations: Sequence[tuple[str | None, str | None]]) -> None:
    """Say what became of commands that are not simply the one that their registration, of a tenant, came from."""
    partition = records[0].partition
    rows = await parts.session.rows(
        "verify_commands",
        COMMANDS_TOPIC,
        partition,
        [record.offset for record in records],
        [messages.recorded_at(record) for record in records],
        [registration for registration, _ in registrations],
        [tenant for _, tenant in registrations],
    )
    dead = []
    for row in rows:
        at = messages.coordinates(COMMANDS_TOPIC, partition, row["offset"])
        ended = row["status"] in {messages.COMPLETE, messages.REJECTED}
        if row["code"] is not None:
            dead.append(row)
            if ended and row["own"]:
                parts.findings.add("command.two_outcomes", at)
        elif ended:
            parts.counts.repeated += 1
        elif row["recorded_at"] >= parts.refused_since:
            parts.findings.add("command.without_outcome", at)
    if dead:
        parts.counts.dead += len(dead)
        await _compare_letters(parts, {record.offset: record for record in records}, dead)


async def _compare_letters(parts: Parts, records: Mapping[int, Record], dead: Sequence[Row]) -> None:
    """Hold dead letters, on the topic and in the table, against the commands' bytes."""
    mine = [records[row["offset"]] for row in dead]
    found = await parts.session.rows(
        "verify_letters_of",
        mine[0].partition,
        [record.offset for record in mine],
        [messages.recorded_at(record) for record in mine],
    )
    on_topic: dict[int, set[int]] = {}
    for row in found:
        on_topic.setdefault(row["offset"], set()).add(row["digest"])
    for record, row in zip(mine, dead, strict=True):
        at = messages.coordinates(record.topic, record.partition, record.offset)
        secret = messages.holds_password(record)
        expected = messages.NOTHING if secret else messages.digest(record.key, record.value, record.headers)
        if on_topic.get(record.offset, {expected}) != {expected}:
            parts.findings.add("letter.differs", at, "on the dead-letter topic")
        if (row["sealed"] is None) is not secret:
            parts.findings.add("letter.differs", at, "in the table: with bytes where it carried a password, or without")
        elif row["sealed"] is not None and parts.sealer is not None and not _holds(parts.sealer, row["sealed"], record, expected):
            parts.findings.add("letter.differs", at, "in the table: what is sealed")


def _holds(sealer: Sealer, box: bytes, record: Record, expected: int) -> bool:
    """Say whether a sealed dead letter is the one of that record; what no key opens is not."""
    try:
        packed = sealer.open(box, messages.coordinates(record.topic, record.partition, record.offset))
        key, value, headers = messages.unpack(packed)
    except (UnsealableError, ValueError):
        return False
    return messages.digest(key, value, headers[:-5]) == expected


async def _compare_events(parts: Parts, facts: Sequence[messages.Fact]) -> None:
    if not facts:
        return
    registrations = [fact.event.registration_id for fact in facts]
    tenants = [fact.event.tenant_id for fact in facts]
    rows = await parts.session.rows("verify_rows_of_events", registrations, tenants)
    for fact, row in zip(facts, rows, strict=True):
        if row["status"] is None and messages.is_refusal_before(fact, parts.refused_since):
            continue  # told again since (`events republish`), or the topic keeps longer than the table
        for rule, text in messages.against_row(fact, row):
            parts.findings.add(rule, fact.event.registration_id, text)
    kept = [
        (registration, tenant, fact.status, fact.ce_id, fact.digest)
        for fact, registration, tenant in zip(facts, registrations, tenants, strict=True)
    ]
    await parts.session.copy("verify_events", ("registration_id", "tenant_id", "status", "ce_id", "digest"), kept)


async def _tenants(session: Session) -> dict[str, str]:
    """Return each tenant's id by its slug and, which goes first, by its id."""
    rows = await session.rows("verify_tenants")
    return {row["slug"]: row["tenant_id"] for row in rows} | {row["tenant_id"]: row["tenant_id"] for row in rows}


async def _records(
    parts: Parts, topic: str, bounds: Bounds, firsts: dict[int, datetime] | None = None
) -> AsyncIterator[Sequence[Record]]:
    """Yield a topic's records, some at a time; note the time of each partition's first in `firsts`."""
    total, passed = sum(end - start for start, end in bounds.values()), 0
    parts.progress(topic, 0, total)
    for number, (start, end) in bounds.items():
        async for records in parts.reader.read(Partition(topic, number), start, end):
            if firsts is not None:
                firsts.setdefault(number, messages.recorded_at(records[0]))
            yield records
            parts.progress(topic, passed + records[-1].offset + 1 - start, total)
        passed += end - start
    parts.progress(topic, total, total)


async def _kept_since(parts: Parts, topic: str, firsts: Mapping[int, datetime]) -> datetime:
    """
    Return since when whatever was caused is surely still on a topic.

    Retention removes a partition's oldest records: what was appended after the first that is left is there. A partition
    that has lost all of them says nothing.
    """
    shortened = [number for number, (start, _) in (await parts.reader.bounds(topic)).items() if start > 0]
    return max((firsts[number] + CLOCKS_APART if number in firsts else NEVER for number in shortened), default=LONG_AGO)
