"""What `registration verify` found: counts, and each breach by rule with the ids of what is affected, never personal data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SHOWN_PER_RULE: Final = 50

INVARIANTS: Final = {
    1: "each command has exactly one outcome, with its rows and one event",
    2: "no event without its committed row",
    3: "positions fit the log",
    4: "the outbox drains to zero",
    5: "no plaintext password, no personal data on the way out",
    6: "messages keep their contract",
    7: "decisions are what the rules say that held for their records",
}
"""Invariants 1 to 5 of the README; 6 is the contract of the topics, 7 that of the catalogue."""

RULES: Final[dict[str, tuple[int, str]]] = {
    "command.without_outcome": (1, "behind the position, and neither a registration nor a dead letter came of it"),
    "command.two_outcomes": (1, "its registration has an outcome and it is a dead letter too"),
    "registration.incomplete": (1, "accepted, and rows that belong to it are missing"),
    "registration.wrong_id": (1, "an id is not the one that derives from tenant and registration"),
    "registration.without_event": (1, "its event is neither on the topic nor in the outbox"),
    "registration.two_ce_ids": (1, "its events have more than one ce_id"),
    "registration.failed_alone": (1, "FAILED, and there is no dead letter of its record"),
    "customer.alone": (1, "a customer whose registration is not accepted, or has another customer"),
    "customer.email_doubled": (1, "customers of one tenant share an email"),
    "letter.missing": (1, "a dead letter is neither on the topic nor in the outbox"),
    "letter.differs": (1, "a dead letter has other bytes than its command"),
    "event.ghost": (2, "an event whose registration is not in the database"),
    "event.contradicts": (2, "an event that says other than the rows"),
    "letter.ghost": (2, "a dead letter on the topic that the table does not have"),
    "position.beyond_log": (3, "the position is beyond the end of the log: the topic was made anew, or the log lost its end"),
    "position.before_log": (3, "the position is before the start of the log: commands were lost to retention"),
    "outbox.left": (4, "a message stays in the outbox"),
    "password.plaintext": (5, "a member named like a password"),
    "personal.data": (5, "a value of the person in an event"),
    "event.headers": (6, "headers or key of an event are not as agreed"),
    "event.shape": (6, "the value of an event is not as agreed"),
    "event.differs": (6, "one ce_id, different bytes"),
    "letter.headers": (6, "headers of a dead letter are not as agreed"),
    "outcome.wrong_version": (7, "decided by another version of the rules than the one in force at the record's time"),
    "decision.differs": (7, "decided again from what is stored, it comes out otherwise"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach: the rule, the id or the coordinates of what is affected, and what is wrong with it."""

    rule: str
    id: str
    text: str


class Findings:
    """Collects breaches: counts all of them, keeps the first of each rule."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.kept: list[Finding] = []

    def add(self, rule: str, at: str, text: str = "") -> None:
        """Note one breach."""
        if self.totals[rule] < SHOWN_PER_RULE:
            self.kept.append(Finding(rule, at, text or RULES[rule][1]))
        self.totals[rule] += 1

    def add_all(self, rule: str, found: Iterable[tuple[str, str]], total: int) -> None:
        """Note breaches of which a statement gave the first and counted the rest."""
        before = self.totals[rule]
        for at, text in found:
            self.add(rule, at, text)
        self.totals[rule] = before + total


@dataclass(slots=True)
class Counts:
    """
    What was looked at.

    Attributes:
        commands: records of the command topic behind the positions, as far as they are still kept.
        accepted, rejected, failed: registrations by outcome.
        dead: of those commands, how many are dead letters.
        repeated: of those commands, how many only repeated a registration.
        events: records of the events topic.
        ce_ids: distinct facts among them.
        letters: records of the dead-letter topic.
        pending: offsets of the command topic beyond the positions: not yet done.
        outbox: messages in the outbox when the check began: on their way.
        passwords_refused: commands of other services that carried a plaintext password.
        decided_again: decisions that were made again from what is stored.
    """

    commands: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    dead: int = 0
    repeated: int = 0
    events: int = 0
    ce_ids: int = 0
    letters: int = 0
    pending: int = 0
    outbox: int = 0
    passwords_refused: int = 0
    decided_again: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The result. `totals` counts every breach by rule; `findings` holds the first of each rule."""

    counts: Counts
    findings: list[Finding]
    totals: dict[str, int]
    notes: list[str] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.totals

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps({"ok": self.ok, **asdict(self)})

    def verdict(self) -> str:
        """Return the result in one line."""
        counts = self.counts
        looked = f"{counts.commands:,} commands, {counts.accepted + counts.rejected:,} outcomes, {counts.events:,} events"
        if self.ok:
            return f"Everything holds: {looked} checked in {self.duration_s:.1f} s."
        return f"{sum(self.totals.values()):,} breaches of {len(self.totals)} rules: {looked} checked in {self.duration_s:.1f} s."


def render(report: Report) -> RenderableType:
    """Return the report for people: what was counted, what holds, what is wrong, the verdict."""
    parts: list[RenderableType] = [_counts(report.counts), _invariants(report)]
    if report.findings:
        parts.append(_findings(report))
    parts += [Text(f"note: {note}", style="yellow") for note in report.notes]
    parts.append(Text(report.verdict(), style="bold green" if report.ok else "bold red"))
    return Group(*parts)


def _counts(counts: Counts) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in asdict(counts).items():
        table.add_row(name.replace("_", " "), Text(f"{value:,}", justify="right"))
    return table


def _invariants(report: Report) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for number, meaning in INVARIANTS.items():
        broken = sum(total for rule, total in report.totals.items() if RULES[rule][0] == number)
        word = Text(f"{broken:,} breaches", style="red") if broken else Text("holds", style="green")
        table.add_row(word, meaning)
    return table


def _findings(report: Report) -> Table:
    table = Table("rule", "where", "what", box=None, pad_edge=False)
    for finding in report.findings:
        table.add_row(finding.rule, Text(finding.id), Text(finding.text))
    for rule, total in report.totals.items():
        kept = sum(finding.rule == rule for finding in report.findings)
        if total > kept:
            table.add_row(rule, f"… {total - kept:,} more", "")
    return table
