"""What today's rules would make of dead letters: examined as the worker would examine them now, and nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from worker.breaker import Breaker
from worker.catalogues import Rules
from worker.config import Settings
from worker.examining import examine_batch
from worker.kafka import OutMessage, PlainRecord
from worker.operate.session import Session
from worker.registration import Accepted, DeadLetter, Rejected, Verdict
from worker.rows import FAILED
from worker.settlement import EMAIL_TAKEN, Key

Fate: TypeAlias = Literal["complete", "refused", "repeated", "fail again", "stop their partition"]
FATES: Final[tuple[Fate, ...]] = ("complete", "refused", "repeated", "fail again", "stop their partition")
BUG: Final = "a bug"


@dataclass
class Preview:
    """
    Foretells what becomes of records, some at a time, in the order in which they would be sent.

    Attributes:
        fates: how many would come to what, by fate and code; a registration that has an outcome is a repeat, which changes
            nothing.
    """

    settings: Settings
    opened: Session
    rules: Rules
    fates: Counter[tuple[Fate, str]] = field(default_factory=Counter)
    _done: set[Key] = field(default_factory=set)
    _emails: set[Key] = field(default_factory=set)

    async def foretell(self, messages: Sequence[OutMessage]) -> None:
        """
        Count what would become of these.

        Raises:
            UnavailableError: the database does not answer.
        """
        verdicts = await self._examined(messages)
        tied = [verdict for verdict in verdicts if not isinstance(verdict, DeadLetter)]
        await self._look_up(tied)
        for verdict in verdicts:
            self.fates[self._fate(verdict)] += 1

    async def _examined(self, messages: Sequence[OutMessage]) -> list[Verdict]:
        """Decide by the rules that hold now; a record that meets a bug is counted, and left out."""
        await self.rules.refresh()
        now_ms = int(self.rules.snapshot.read_at.timestamp() * 1000)
        waiting: Sequence[PlainRecord] = [
            PlainRecord(each.topic, 0, at, now_ms, each.key, each.value, each.headers) for at, each in enumerate(messages)
        ]
        never = Breaker(self.settings.model_copy(update={"breaker_run": len(waiting) + 1}))
        verdicts: list[Verdict] = []
        while waiting:
            examination = await examine_batch(waiting, self.rules, never, skip=None)
            verdicts += [each.verdict for each in examination.examined]
            waiting = waiting[len(examination.examined) + 1 :]
            if examination.bug is not None:
                self.fates["stop their partition", BUG] += 1
        return verdicts

    async def _look_up(self, verdicts: Sequence[Accepted | Rejected]) -> None:
        """Note which of these registrations have an outcome, and which emails a customer."""
        if not verdicts:
            return
        keys = [verdict.tie[:2] for verdict in verdicts]
        rows = await self.opened.rows("registrations_find", [key[1] for key in keys], [key[0] for key in keys])
        self._done |= {(row["tenant_id"], row["registration_id"]) for row in rows if row["status"] != FAILED}
        emails = [_email(verdict) for verdict in verdicts if isinstance(verdict, Accepted)]
        rows = await self.opened.rows("customers_by_email", [each[1] for each in emails], [each[0] for each in emails])
        self._emails |= {(row["tenant_id"], row["email_normalized"]) for row in rows}

    def _fate(self, verdict: Verdict) -> tuple[Fate, str]:
        if isinstance(verdict, DeadLetter):
            return "fail again", verdict.code
        key = verdict.tie[:2]
        if key in self._done:
            return "repeated", ""
        self._done.add(key)
        if isinstance(verdict, Rejected):
            return "refused", verdict.refused.code
        if _email(verdict) in self._emails:
            return "refused", EMAIL_TAKEN.code
        self._emails.add(_email(verdict))
        return "complete", ""


def _email(verdict: Accepted) -> Key:
    return verdict.tie.tenant_id, verdict.approved.applicant.email_normalized


def told(fates: Counter[tuple[Fate, str]]) -> str:
    """Return it in a line: `30 complete, 5 refused (email-taken 5), 2 fail again (json.malformed 2)`."""
    parts = []
    for fate in FATES:
        codes = {code: count for (each, code), count in sorted(fates.items()) if each == fate}
        if codes:
            why = ", ".join(f"{code} {count:,}" for code, count in codes.items() if code)
            parts.append(f"{sum(codes.values()):,} {fate}" + (f" ({why})" if why else ""))
    return ", ".join(parts)
