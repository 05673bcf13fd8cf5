"""
Tells stored facts again: the event of every outcome of a time, from what the database holds of it.

Same key, value, headers and `ce_id`, so whoever acted on a fact recognizes it; but for `traceparent`, which belongs to one
delivery and is not stored. What a customer's rows are gone for can't be told again, and is counted.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from schemas.base import CONTENT_TYPE, SPEC_VERSION
from schemas.events import (
    CUSTOMER_REGISTERED,
    CUSTOMER_REGISTRATION_REJECTED,
    EVENTS_TOPIC,
    CustomerRegistered,
    CustomerRegistrationRejected,
    Event,
)
from worker import messages
from worker.config import Settings
from worker.core import ids
from worker.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNAVAILABLE, UnavailableError
from worker.kafka import OutMessage, Producer
from worker.operate.progress import Progress
from worker.operate.session import Row, session
from worker.rows import REJECTED

PAGE_ROWS: Final = 500
STATEMENT_TIMEOUT_S: Final = 600.0
"""To freeze the set is to read the times of all registrations once."""


@dataclass(slots=True)
class Republished:
    """
    What was done.

    Attributes:
        facts: how many there are in that time.
        sent: how many of them Kafka has acknowledged; none where only they were to be counted.
        gone: how many can't be told again, for the customer's rows are gone.
        reached: when the last one that was looked at was decided: from there on the rest can be sent.
        unavailable: which server does not answer, and how; empty where all do.
    """

    facts: int = 0
    sent: int = 0
    gone: int = 0
    reached: datetime | None = None
    counted_only: bool = False
    unavailable: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether none is left."""
        return self.counted_only or self.sent + self.gone == self.facts

    @property
    def exit_code(self) -> int:
        """Return what the command ends with."""
        if self.unavailable:
            return EXIT_UNAVAILABLE
        if not self.is_whole:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if self.gone else EXIT_DONE

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(
            {
                "facts": self.facts,
                "sent": self.sent,
                "gone": self.gone,
                "reached": self.reached.isoformat() if self.reached else None,
                "isWhole": self.is_whole,
                "unavailable": self.unavailable or None,
            }
        )

    def text(self) -> str:
        """Return it as one line."""
        told = [f"{self.facts:,} to send" if self.counted_only else f"{self.sent:,} of {self.facts:,} sent"]
        if self.gone:
            told.append(f"{self.gone:,} can't be told again: the customer's rows are gone")
        if self.unavailable:
            told.append(self.unavailable)
        if not self.is_whole:
            told.append(f"go on with --from {self.reached.isoformat()}" if self.reached else "begin again")
        return "; ".join(told)


async def republish(
    settings: Settings,
    since: datetime,
    until: datetime | None,
    stop: asyncio.Event,
    *,
    producer: Producer | None,
    progress: Progress,
) -> Republished:
    """
    Send the events of all outcomes that were decided in a time again, in the order in which they were decided.

    Args:
        settings: where the database is.
        since: the first moment, by the broker's time of the commands.
        until: the moment before which the last one was; None is now.
        stop: set it, and no further page is begun.
        producer: to Kafka; None only counts.
        progress: called with what is done, how much of it, and how much there is.
    Raises:
        UnavailableError: the database does not answer before anything was sent.
    """
    done = Republished(counted_only=producer is None)
    url = settings.database_url.get_secret_value()
    async with session(url, "registration-republish", timeout_s=STATEMENT_TIMEOUT_S) as opened:
        await opened.run("republish_table")
        await opened.rows("republish_set", since, until)
        done.facts = await opened.number("republish_count")
        place = 0
        try:
            while producer is not None and not stop.is_set():
                rows = await opened.rows("republish_page", place, PAGE_ROWS)
                if not rows:
                    break
                found = [_message(row) for row in rows]
                await producer.send_all([each for each in found if each is not None])
                done.gone += found.count(None)
                done.sent += len(found) - found.count(None)
                place, done.reached = rows[-1]["place"], rows[-1]["decided_at"]
                progress("sent", place, done.facts)
        except UnavailableError as error:
            done.unavailable = f"{error.service} is unavailable: {error.reason}"
    return done


def _message(row: Row) -> OutMessage | None:
    """Return the event of an outcome, as `worker/messages.py` made it; None where its rows are gone."""
    registration = ids.registration_uuid(row["registration_id"])
    assert registration is not None, "what is stored was checked"  # noqa: S101 - narrows the type
    if row["status"] == REJECTED:
        event, kind, key, fact = _rejected(row), CUSTOMER_REGISTRATION_REJECTED, row["registration_id"], ids.REJECTION
    elif row["decision"] is None:
        return None
    else:
        event, kind, key, fact = _registered(row), CUSTOMER_REGISTERED, row["customer_id"], ""
    headers = {
        "ce_specversion": SPEC_VERSION.encode(),
        "ce_id": ids.derive(ids.EVENT, row["tenant_id"], registration, fact).encode(),
        "ce_type": kind.encode(),
        "ce_source": messages.SOURCE,
        "ce_time": messages.timestamp(row["decided_at"]),
        "ce_subject": key.encode(),
        "ce_tenantid": row["tenant_id"].encode(),
        "content-type": CONTENT_TYPE.encode(),
    }
    return OutMessage(EVENTS_TOPIC, key.encode(), event.to_json(), tuple(headers.items()))


def _registered(row: Row) -> Event:
    decided: dict[str, Any] = json.loads(row["decision"])
    ours = {name: row[name] for name in ("registration_id", "tenant_id", "customer_id", "user_id", "person_id", "category_id")}
    return CustomerRegistered.model_validate(
        {
            **decided,
            **ours,
            "catalogue_version": row["catalogue_version"],
            "registered_at": row["decided_at"],
            "customer_path": f"/api/v2.1/customers/{row['customer_id']}",
        }
    )


def _rejected(row: Row) -> Event:
    problem: dict[str, Any] = json.loads(row["problem"] or "{}")
    return CustomerRegistrationRejected(
        registration_id=row["registration_id"],
        tenant_id=row["tenant_id"],
        code=row["code"],
        fault_codes=sorted({each["code"] for each in problem.get("errors", ())}),
        rejected_at=row["decided_at"],
    )
