"""Follows the events topic and says each event in a line, for people or as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError
from rich.text import Text

from schemas.base import header
from schemas.events import EVENTS_TOPIC, CustomerRegistered, Event, UnknownEventError, parse_event
from worker.config import Settings
from worker.kafka import Reader, Record, security_of

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RISK_STYLES: Final = {"LOW": "green", "MEDIUM": "yellow", "HIGH": "red", "CRITICAL": "bold red"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A record of the events topic; `event` is None where this version can't read it."""

    partition: int
    offset: int
    published_at: datetime
    ce_type: str
    ce_id: str
    event: Event | None

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(
            {
                "partition": self.partition,
                "offset": self.offset,
                "publishedAt": self.published_at.isoformat(),
                "type": self.ce_type,
                "id": self.ce_id,
                "data": self.event.model_dump(mode="json", by_alias=True, exclude_none=True) if self.event else None,
            }
        )


async def tail(settings: Settings, stop: asyncio.Event, *, from_start: bool = False) -> AsyncIterator[Seen]:
    """
    Yield events as they come, until told to stop.

    Args:
        settings: where Kafka is.
        stop: set it, and the iteration ends.
        from_start: begin with the oldest event that is kept, not with the next one.
    Raises:
        UnavailableError: Kafka does not answer.
        ConfigurationError: a file for TLS is not as it should be.
    """
    async with Reader(settings.kafka_bootstrap, client_id="registration-tail", security=security_of(settings)) as reader:
        async for record in reader.follow(EVENTS_TOPIC, stop, from_start=from_start):
            yield _seen(record)


def _seen(record: Record) -> Seen:
    try:
        event: Event | None = parse_event(record.headers, record.value or b"")
    except (UnknownEventError, ValidationError):
        event = None
    return Seen(
        record.partition,
        record.offset,
        _EPOCH + timedelta(milliseconds=record.timestamp),
        header(record.headers, "ce_type") or "",
        header(record.headers, "ce_id") or "",
        event,
    )


def line(seen: Seen) -> Text:
    """Return an event as one line for people: time, what happened, tenant, ids, and what was decided."""
    event, text = seen.event, Text(f"{seen.published_at:%H:%M:%S.%f}"[:12], style="dim", no_wrap=True, end="")
    if event is None:
        return text.append(f"  unreadable  {seen.partition}/{seen.offset}  {seen.ce_type}", style="bold red")
    if isinstance(event, CustomerRegistered):
        text.append("  registered", style="green")
        text.append(f"  tenant {event.tenant_id}  {event.registration_id}  {event.customer_id}", style="default")
        text.append(f"  {event.risk_level} {event.risk_score}", style=_RISK_STYLES.get(event.risk_level, "default"))
        text.append(f"  {event.category_id}", style="default")
        text.append(f"  due diligence {event.due_diligence}  verification {event.verification_level}", style="default")
        return text.append(f": {', '.join(event.verification_checks)}", style="default")
    text.append("  rejected  ", style="yellow").append(f"  tenant {event.tenant_id}  {event.registration_id}", style="default")
    return text.append(f"  {': '.join(filter(None, (event.code, ', '.join(event.fault_codes))))}", style="yellow")
