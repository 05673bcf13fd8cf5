"""
Sends dead letters again: first a preview that freezes which, then those and no others.

A redriven record has the original key, bytes and headers, so the registration keeps its id and goes where its key leads; one header
more says which letter it was. Each letter is noted as taken before it is sent and as sent after: a second run leaves out what was
sent, and sends again what was taken and not noted, which changes nothing where its registration has an outcome by then. A record
without a readable registration id becomes another dead letter each time.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from worker.catalogues import Rules
from worker.config import Settings
from worker.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNAVAILABLE, UnavailableError
from worker.kafka import MESSAGE_MAX_BYTES, OutMessage, Producer
from worker.operate.dead_letters import NAME, LetterId, original
from worker.operate.dead_letters_preview import Fate, Preview, told
from worker.operate.progress import Progress
from worker.operate.session import Session, session
from worker.postgres import Database
from worker.sealing import Sealer, UnsealableError

REDRIVE_OF: Final = "redrive_of"
"""The header that marks a redriven record: the id of the dead letter that it was."""
LOCK: Final = 7_266_002
"""Advisory lock of whoever redrives."""
CHUNK_LETTERS: Final = 200
CHUNK_BYTES: Final = 4 * MESSAGE_MAX_BYTES
NAMED_MOST: Final = 20
_FRAME_BYTES: Final = 256
"""More than what Kafka's format adds to a record that is alone in its batch."""


class NothingChosenError(ValueError):
    """An empty filter would be all of them: name an id, a code or a tenant, or say `--all`."""


class BusyError(Exception):
    """Another redrive is at work: two at once could change the order of a key."""


@dataclass(frozen=True, slots=True)
class Choice:
    """
    Which dead letters; each part that is given narrows it.

    Raises:
        NothingChosenError: no part is given, and `everything` is false.
    """

    ids: tuple[LetterId, ...] = ()
    code: str | None = None
    tenant: str | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        if not (self.ids or self.code or self.tenant or self.everything):
            raise NothingChosenError


@dataclass(frozen=True, slots=True)
class Frozen:
    """A letter of the set. Its time tells it from another one at the same place of a topic that was made anew."""

    id: LetterId
    recorded_at: datetime
    size_bytes: int


@dataclass(slots=True)
class Plan:
    """
    The frozen set, and what today's rules would make of it.

    Attributes:
        letters: those that can be sent, in the order in which they came.
        sent_before: how many of the choice were sent by an earlier run.
        withheld: carried a password, so their bytes were never kept and nothing can send them.
        unopened: no key in REGISTRATION_SEALING_KEYS opens them.
        unknown: ids that no dead letter has.
        is_named: single letters were asked for, so one that is withheld is a failure.
        breaker_run: as many failures in a row as stop a partition.
        is_whole: all were examined; else the preview was interrupted.
    """

    letters: list[Frozen] = field(default_factory=list)
    sent_before: int = 0
    withheld: list[LetterId] = field(default_factory=list)
    unopened: list[LetterId] = field(default_factory=list)
    unknown: list[LetterId] = field(default_factory=list)
    is_named: bool = False
    fates: Counter[tuple[Fate, str]] = field(default_factory=Counter)
    breaker_run: int = 0
    is_whole: bool = True

    @property
    def exit_code(self) -> int:
        """Return what the command ends with where nothing is sent."""
        if not self.is_whole:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if self.unopened or self.unknown or (self.withheld and self.is_named) else EXIT_DONE

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        fates = [{"fate": fate, "code": code or None, "letters": count} for (fate, code), count in sorted(self.fates.items())]
        named = {name: [str(each) for each in getattr(self, name)] for name in ("withheld", "unopened", "unknown")}
        return json.dumps({"letters": len(self.letters), "sentBefore": self.sent_before, "foretold": fates, **named})

    def text(self) -> str:
        """Return it for people."""
        lines = [f"{len(self.letters):,} to send; by today's rules {told(self.fates)}"] if self.letters else ["nothing to send"]
        if self.sent_before:
            lines[0] += f"; sent before: {self.sent_before:,}"
        again = sum(count for (fate, _), count in self.fates.items() if fate == "fail again")
        if again:
            lines.append("what fails again becomes a new dead letter, with an id of its own")
        if again >= self.breaker_run:
            lines.append(f"{self.breaker_run:,} failures in a row stop a partition (REGISTRATION_BREAKER_RUN)")
        lines += _named("withheld, for they carried a password; nothing was kept that could be sent", self.withheld)
        lines += _named("sealed by a key that is not in REGISTRATION_SEALING_KEYS", self.unopened)
        lines += _named("there is no such dead letter", self.unknown)
        return "\n".join(lines)


@dataclass(slots=True)
class Redriven:
    """
    What was done.

    Attributes:
        sent: letters that Kafka has acknowledged.
        gone: letters that were sent by somebody else, or replaced, since the preview.
        is_whole: nothing of the plan is left.
        unavailable: which server does not answer, and how; empty where all do.
    """

    sent: int = 0
    gone: int = 0
    is_whole: bool = True
    unavailable: str = ""

    @property
    def exit_code(self) -> int:
        """Return what the command ends with, as far as this goes."""
        if self.unavailable:
            return EXIT_UNAVAILABLE
        return EXIT_DONE if self.is_whole else EXIT_INTERRUPTED

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps({"sent": self.sent, "gone": self.gone, "isWhole": self.is_whole, "unavailable": self.unavailable or None})

    def text(self) -> str:
        """Return it as one line."""
        told = [f"{self.sent:,} sent"]
        if self.gone:
            told.append(f"{self.gone:,} had been sent or replaced since the preview")
        if self.unavailable:
            told.append(self.unavailable)
        if not self.is_whole:
            told.append("run it again for the rest: what was sent is left out")
        return "; ".join(told)


async def plan(settings: Settings, choice: Choice, stop: asyncio.Event, progress: Progress) -> Plan:
    """
    Freeze a set of dead letters, and foretell what would become of them; nothing is written.

    Args:
        settings: where the database is, and the keys.
        choice: which.
        stop: set it, and the rest is not examined.
        progress: called with what is done, how much of it, and how much there is.
    Raises:
        UnavailableError: the database does not answer.
        ConfigurationError: there are no sealing keys.
    """
    sealer, url = Sealer(settings.sealing_keys.get_secret_value()), settings.database_url.get_secret_value()
    database = Database(url, connections=1, timeout_s=settings.batch_timeout_s, name=NAME)
    try:
        async with session(url, NAME) as opened:
            made = await _frozen(opened, choice)
            preview, chosen, made.letters = Preview(settings, opened, Rules(database)), made.letters, []
            for chunk in _chunks(chosen):
                if stop.is_set():
                    break
                await preview.foretell(await _openable(opened, chunk, sealer, made))
                progress("examined", len(made.letters) + len(made.unopened), len(chosen))
    finally:
        await database.close()
    made.fates, made.breaker_run, made.is_whole = preview.fates, settings.breaker_run, not stop.is_set()
    return made


async def redrive(
    settings: Settings, made: Plan, stop: asyncio.Event, *, by: str, producer: Producer, progress: Progress
) -> Redriven:
    """
    Send the letters of a plan, and no others.

    Args:
        settings: where the database is, and the keys.
        made: the plan.
        stop: set it, and no further chunk is begun.
        by: who does it.
        producer: to Kafka.
        progress: as of `plan`.
    Raises:
        BusyError: another redrive is at work; nothing was sent.
    """
    done, sealer, seen = Redriven(), Sealer(settings.sealing_keys.get_secret_value()), 0
    try:
        async with session(settings.database_url.get_secret_value(), NAME) as opened:
            lock = await opened.row("redrive_lock", LOCK)
            if lock is None or not lock["held"]:
                raise BusyError
            for chunk in _chunks(made.letters):
                if stop.is_set():
                    break
                await _send(opened, chunk, done, sealer=sealer, by=by, producer=producer)
                seen += len(chunk)
                progress("sent", seen, len(made.letters))
    except UnavailableError as error:
        done.unavailable = f"{error.service} is unavailable: {error.reason}"
    done.is_whole = seen == len(made.letters)
    return done


def marked(message: OutMessage, which: LetterId) -> OutMessage:
    """
    Return a record with the header that says which dead letter it was, in place of one of an earlier redrive.

    A record that is as large as Kafka takes it goes without: it would never be taken with one.
    """
    headers = tuple((name, value) for name, value in message.headers if name != REDRIVE_OF)
    mark = (REDRIVE_OF, str(which).encode())
    parts = (message.key, message.value, *(part for name, value in (*headers, mark) for part in (name.encode(), value)))
    if sum(len(part or b"") + 5 for part in parts) + _FRAME_BYTES > MESSAGE_MAX_BYTES:
        return message
    return OutMessage(message.topic, message.key, message.value, (*headers, mark))


async def _frozen(opened: Session, choice: Choice) -> Plan:
    ids = tuple(zip(*choice.ids, strict=True)) or (None, None, None)
    rows = await opened.rows("dead_letters_chosen", *ids, choice.code, choice.tenant)
    made, found = Plan(is_named=bool(choice.ids)), set()
    for row in rows:
        which = LetterId(row["topic"], row["partition"], row["offset"])
        found.add(which)
        if row["redrive"] == "sent":
            made.sent_before += 1
        elif row["size_bytes"] is None:
            made.withheld.append(which)
        else:
            made.letters.append(Frozen(which, row["recorded_at"], row["size_bytes"]))
    if not (choice.code or choice.tenant):
        made.unknown = [which for which in choice.ids if which not in found]
    return made


async def _openable(opened: Session, chunk: Sequence[Frozen], sealer: Sealer, made: Plan) -> list[OutMessage]:
    """Return what these letters hold; those that can't be opened are named in the plan, the others become part of it."""
    found = []
    for letter, box in await _boxes(opened, chunk):
        try:
            found.append(marked(original(box, letter.id, sealer), letter.id))
        except UnsealableError:
            made.unopened.append(letter.id)
        else:
            made.letters.append(letter)
    return found


async def _send(opened: Session, chunk: Sequence[Frozen], done: Redriven, *, sealer: Sealer, by: str, producer: Producer) -> None:
    """Note that these are taken, send them, and note that they are sent."""
    boxes = await _boxes(opened, chunk)
    rows = await opened.rows("redrive_take", *_columns([letter for letter, _ in boxes]), by)
    taken = {(row["topic"], row["partition"], row["offset"], row["recorded_at"]) for row in rows}
    mine = [(letter, box) for letter, box in boxes if (*letter.id, letter.recorded_at) in taken]
    done.gone += len(chunk) - len(mine)
    if not mine:
        return
    places = await producer.send_all([marked(original(box, letter.id, sealer), letter.id) for letter, box in mine])
    letters = [letter for letter, _ in mine]
    await opened.rows("redrive_sent", *_columns(letters), [at.partition for at in places], [at.offset for at in places])
    done.sent += len(mine)


async def _boxes(opened: Session, chunk: Sequence[Frozen]) -> list[tuple[Frozen, bytes]]:
    """Return these letters, sealed, without those that another one has replaced since."""
    rows = await opened.rows("dead_letters_sealed", *_columns(chunk))
    return [(letter, row["sealed"]) for letter, row in zip(chunk, rows, strict=True) if row["sealed"] is not None]


def _columns(letters: Sequence[Frozen]) -> tuple[list[str], list[int], list[int], list[datetime]]:
    return (
        [letter.id.topic for letter in letters],
        [letter.id.partition for letter in letters],
        [letter.id.offset for letter in letters],
        [letter.recorded_at for letter in letters],
    )


def _chunks(letters: Sequence[Frozen]) -> Iterator[list[Frozen]]:
    """Divide a set, so that memory and what an interruption waits for are bounded."""
    chunk: list[Frozen] = []
    size_bytes = 0
    for letter in letters:
        if chunk and (len(chunk) == CHUNK_LETTERS or size_bytes + letter.size_bytes > CHUNK_BYTES):
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(letter)
        size_bytes += letter.size_bytes
    if chunk:
        yield chunk


def _named(why: str, which: Sequence[LetterId]) -> Iterator[str]:
    if which:
        names = ", ".join(map(str, which[:NAMED_MOST]))
        yield f"{len(which):,} can't be sent: {why}: {names}" + (", …" if len(which) > NAMED_MOST else "")
