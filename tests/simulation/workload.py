"""Commands to offer: few people and few registrations, so that they meet; each verdict is worked out once a process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

from schemas.commands import COMMANDS_TOPIC
from tests import commands
from tests.records import AT_MS
from worker.catalogues import Snapshot
from worker.core import ids
from worker.kafka import Partition, Record
from worker.registration import Verdict, examine

GOOD: Final = "good"
LETTER: Final = "letter"
"""No JSON: a dead letter that nobody can tie to a registration."""
TIED: Final = "tied"
"""Of another type: a dead letter, and its registration FAILED."""
UNSTORABLE: Final = "unstorable"
"""Good, with a text that PostgreSQL can't hold: a dead letter, unless its registration has an outcome already."""
KINDS: Final = (GOOD, GOOD, GOOD, GOOD, GOOD, GOOD, LETTER, TIED, UNSTORABLE)
PEOPLE: Final = 8
REGISTRATIONS: Final = 12


@dataclass(frozen=True, slots=True)
class Command:
    """
    What is offered.

    Attributes:
        registration: None where it can't be tied to one.
        email: normalized; of those that may become a customer.
    """

    kind: str
    registration: str | None
    email: str | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def draw(chance: Random, number: int) -> Command:
    """Draw a command; most are the first of their registration, and most people register once."""
    kind = KINDS[int(chance.random() * len(KINDS))]
    if kind == LETTER:
        return Command(LETTER, None, None, b"{%d" % number, _headers())
    repeats = chance.random() < 0.3
    who = int(chance.random() * 4) if repeats else number % REGISTRATIONS
    person = who if chance.random() < 0.7 else int(chance.random() * PEOPLE)
    return _command(kind, who, person % PEOPLE)


def partition_for(chance: Random, command: Command, partitions: Sequence[Partition]) -> Partition:
    """Choose as a key would, one email on one partition; now and then as a careless sender does."""
    if command.email is None or chance.random() < 0.2:
        return partitions[int(chance.random() * len(partitions))]
    return partitions[len(command.email) * ord(command.email[0]) % len(partitions)]


def partitions_of(count: int) -> list[Partition]:
    """Return the partitions of the command topic."""
    return [Partition(COMMANDS_TOPIC, number) for number in range(count)]


def examine_once(record: Record, snapshot: Snapshot, *, fresh: bool) -> Verdict:
    """Decide as the worker does, and remember it: a run decides the same commands again and again."""
    key = record.value, tuple(record.headers)
    if key not in _VERDICTS:
        _VERDICTS[key] = examine(record, snapshot, fresh=fresh)
    return _VERDICTS[key]._replace(record=record)


_VERDICTS: dict[object, Verdict] = {}


@cache
def _headers(kind: bytes | None = None) -> tuple[tuple[str, bytes], ...]:
    changed = {"ce_id": b"c1"} if kind is None else {"ce_id": b"c1", "ce_type": kind}
    return tuple(commands.headers(**changed))


@cache
def _command(kind: str, who: int, person: int) -> Command:
    registration = ids.new_registration(commands.TENANT, b"upstream-secret!", AT_MS, bytes([who] * 5))
    email = f"{chr(ord('a') + person)}.person@example.com"
    fingerprint = "a\0b" if kind == UNSTORABLE else f"print-{person}"
    data = commands.data(email, registrationId=registration, fingerprint=fingerprint)
    headers = _headers(b"another.type.v1" if kind == TIED else None)
    return Command(kind, registration, email, json.dumps(data).encode(), headers)
