"""
Dead letters for operators: which there are, and what one holds.

Nothing personal is shown unless somebody says who they are and why; that is noted in the database first, and where it can't be
noted nothing is shown.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Self

from rich.table import Table
from rich.text import Text

from worker import messages
from worker.config import Settings
from worker.kafka import OutMessage, Partition
from worker.operate.dead_letters_masked import masked, readable
from worker.operate.session import Row, session
from worker.sealing import Sealer, UnsealableError
from worker.store import box_place

LIST_ROWS: Final = 1000
ADDED_HEADERS: Final = 5
"""The headers that a dead letter adds to the original record's; they are its last."""
NAME: Final = "registration-dead-letters"
_ID: Final = re.compile(r"([A-Za-z0-9._-]{1,249})-([0-9]{1,10})-([0-9]{1,19})")
"""A topic's name as Kafka allows it; it may have hyphens too."""
_INT_END: Final = 2**31
_BIGINT_END: Final = 2**63


class LetterId(NamedTuple):
    """Which record became a dead letter; as people write it, `<topic>-<partition>-<offset>` of the command."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the id that people write so; None where it is none."""
        found = _ID.fullmatch(text)
        if found is None:
            return None
        which = cls(found[1], int(found[2]), int(found[3]))
        return which if which.partition < _INT_END and which.offset < _BIGINT_END else None

    def __str__(self) -> str:
        """Return it as people write it."""
        return f"{self.topic}-{self.partition}-{self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """
    One dead letter, without what it holds.

    Attributes:
        tenant_id, registration_id: whose it is, where that could be read.
        recorded_at: the broker's time of the command.
        withheld: it carried a plaintext password, so nothing of it was kept.
        redrive: `sent`, or `taken` where nobody knows whether it was sent again; None where nobody tried.
    """

    id: LetterId
    code: str
    tenant_id: str | None
    registration_id: str | None
    recorded_at: datetime
    withheld: bool
    redrive: str | None
    sent_at: datetime | None

    @classmethod
    def of(cls, row: Row) -> Letter:
        """Read a row of `dead_letters_list` or `dead_letter_show`."""
        place = LetterId(row["topic"], row["partition"], row["offset"])
        names = ("code", "tenant_id", "registration_id", "recorded_at", "withheld", "redrive", "sent_at")
        return cls(place, *(row[name] for name in names))

    def members(self) -> dict[str, Any]:
        """Return what its JSON holds."""
        return {
            "id": str(self.id),
            "code": self.code,
            "tenantId": self.tenant_id,
            "registrationId": self.registration_id,
            "recordedAt": self.recorded_at.isoformat(),
            "withheld": self.withheld,
            "redrive": self.redrive,
            "sentAt": self.sent_at.isoformat() if self.sent_at else None,
        }

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(self.members())

    @property
    def fate(self) -> str:
        """Say what became of it, for people."""
        if self.withheld:
            return "withheld: carried a password"
        sent = f"{self.sent_at:%Y-%m-%d %H:%M:%S}Z" if self.sent_at else ""
        return {"sent": f"sent again {sent}", "taken": "perhaps sent again"}.get(self.redrive or "", "-")


@dataclass(frozen=True, slots=True)
class Found:
    """The newest dead letters of a filter; `total` counts those beyond the most that are listed too."""

    letters: tuple[Letter, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Shown:
    """
    A dead letter with what it holds: masked, or as it was sent.

    Attributes:
        outline: names and lengths, line by line; nothing that a sender wrote.
        revealed: what was sent; None unless somebody may see it.
        reveal_id: of the note that says who saw it.
    """

    letter: Letter
    outline: tuple[str, ...]
    revealed: OutMessage | None = None
    reveal_id: int | None = None

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        members: dict[str, Any] = {**self.letter.members(), "outline": list(self.outline)}
        if self.revealed is not None:
            headers = [[name, _text(value)] for name, value in self.revealed.headers]
            members["revealed"] = {"key": _text(self.revealed.key), "value": _text(self.revealed.value), "headers": headers}
            members["revealId"] = self.reveal_id
        return json.dumps(members)


async def find(
    settings: Settings,
    *,
    code: str | None = None,
    tenant: str | None = None,
    older_than: timedelta | None = None,
    newer_than: timedelta | None = None,
    most: int = LIST_ROWS,
) -> Found:
    """
    List dead letters, newest first.

    Args:
        settings: where the database is.
        code: why they are dead; None is any reason.
        tenant: id or slug; None is all, and those whose tenant could not be read.
        older_than, newer_than: by the broker's time of the command.
        most: how many to return.
    Raises:
        UnavailableError: the database does not answer.
    """
    async with session(settings.database_url.get_secret_value(), NAME) as opened:
        rows = await opened.rows("dead_letters_list", code, tenant, older_than, newer_than, most)
    return Found(tuple(map(Letter.of, rows)), rows[0]["total"] if rows else 0)


async def show(settings: Settings, which: LetterId) -> Shown | None:
    """
    Return a dead letter with an outline of what it holds, and nothing personal; None where there is no such letter.

    Raises:
        UnavailableError: the database does not answer, or no key opens the letter.
        ConfigurationError: there are no sealing keys.
    """
    async with session(settings.database_url.get_secret_value(), NAME) as opened:
        row = await opened.row("dead_letter_show", *which)
    return None if row is None else Shown(Letter.of(row), _outline(row, settings))


async def reveal(settings: Settings, which: LetterId, *, by: str, reason: str) -> Shown | None:
    """
    Return a dead letter with what it holds, after it was noted who sees it and why; None where there is no such letter.

    Args:
        settings: where the database is, and the keys.
        which: the letter.
        by: who asks.
        reason: why; not empty.
    Raises:
        UnavailableError, UnstorableError, DeniedError: it could not be noted, or the database does not answer; nothing is
            returned then.
        ConfigurationError: there are no sealing keys.
    """
    sealer = Sealer(settings.sealing_keys.get_secret_value())
    async with session(settings.database_url.get_secret_value(), NAME) as opened:
        row = await opened.row("dead_letter_show", *which)
        if row is None:
            return None
        note = await opened.row("dead_letter_reveal", *which, row["recorded_at"], by, reason)
    assert note is not None, "an insert returns its row"  # noqa: S101 - narrows the type
    message = None if row["sealed"] is None else original(row["sealed"], which, sealer)
    return Shown(Letter.of(row), _outline(row, settings), message, note["reveal_id"])


def original(box: bytes, which: LetterId, sealer: Sealer) -> OutMessage:
    """
    Return the record that became a dead letter, byte for byte, addressed to the topic that it came from.

    Raises:
        UnsealableError: the key is not here, or the box was changed.
    """
    letter = messages.unpack(sealer.open(box, box_place(Partition(which.topic, which.partition), which.offset)))
    return OutMessage(which.topic, letter.key, letter.value, tuple(letter.headers)[:-ADDED_HEADERS])


def _outline(row: Row, settings: Settings) -> tuple[str, ...]:
    if row["sealed"] is None:
        return ()
    which = LetterId(row["topic"], row["partition"], row["offset"])
    try:
        return masked(original(row["sealed"], which, Sealer(settings.sealing_keys.get_secret_value())))
    except UnsealableError:
        return ("no key in REGISTRATION_SEALING_KEYS opens it",)


def _text(value: bytes | None) -> str | dict[str, str] | None:
    """Return bytes as text; those that are none, in base 64."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value or b"").decode()}


def render(found: Sequence[Letter]) -> Table:
    """Return a list of dead letters for people."""
    table = Table(box=None, pad_edge=False)
    for name in ("id", "code", "recorded at", "tenant", "registration", "redrive"):
        table.add_column(name, no_wrap=name == "id", overflow="fold")
    for each in found:
        at, tenant = f"{each.recorded_at:%Y-%m-%d %H:%M:%S}Z", each.tenant_id or "-"
        table.add_row(*map(Text, (str(each.id), each.code, at, tenant, each.registration_id or "-", each.fate)))
    return table


def render_shown(shown: Shown) -> Text:
    """Return one dead letter for people; whatever a sender wrote can't steer a terminal."""
    letter = shown.letter
    whose = f"tenant {letter.tenant_id or '-'}; registration {letter.registration_id or '-'}"
    lines = [
        f"dead letter {letter.id}: {letter.code}",
        f"recorded at {letter.recorded_at:%Y-%m-%d %H:%M:%S}Z; {whose}; redrive {letter.fate}",
        *shown.outline,
    ]
    if shown.revealed is not None:
        lines.append(f"revealed, and noted as {shown.reveal_id}:")
        lines += [f"header {readable(name.encode())}: {readable(value)}" for name, value in shown.revealed.headers]
        lines += [f"key {readable(shown.revealed.key)}", readable(shown.revealed.value)]
    return Text("\n".join(lines))
