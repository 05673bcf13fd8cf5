"""What became of a registration, for an operator: outcome, ids, coordinates and times, no personal data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.table import Table

from worker.config import Settings
from worker.operate.session import session


@dataclass(frozen=True, slots=True)
class RegistrationStatus:
    """
    One registration as the database has it.

    Attributes:
        code: why it was refused or FAILED; None where it is complete.
        fault_codes: of a refusal, each once.
        command: where its command is, as `topic/partition/offset`.
        event: `published`, or `in the outbox`; None where it FAILED, which tells nobody.
    """

    registration_id: str
    tenant_id: str
    status: str
    code: str | None
    fault_codes: tuple[str, ...]
    customer_id: str | None
    person_id: str | None
    user_id: str | None
    customer_status: str | None
    catalogue_version: int | None
    command: str
    decided_at: datetime
    requested_at: datetime | None
    event: str | None

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), default=datetime.isoformat)


async def status(settings: Settings, registration_id: str, tenant: str | None = None) -> tuple[RegistrationStatus, ...]:
    """
    Look a registration up.

    Args:
        settings: where the database is.
        registration_id: `reg_…`.
        tenant: id or slug; None looks in every tenant.
    Returns:
        One for each tenant that has a registration of that id; nothing where none has.
    Raises:
        UnavailableError: the database does not answer.
    """
    async with session(settings.database_url.get_secret_value(), "registration-status") as opened:
        return tuple(_status(row) for row in await opened.rows("status", registration_id, tenant))


def _status(row: Any) -> RegistrationStatus:  # noqa: ANN401 - a row
    errors = json.loads(row["problem"]).get("errors", []) if row["problem"] else []
    return RegistrationStatus(
        registration_id=row["registration_id"],
        tenant_id=row["tenant_id"],
        status=row["status"],
        code=row["code"],
        fault_codes=tuple(sorted({error["code"] for error in errors})),
        customer_id=row["customer_id"],
        person_id=row["person_id"],
        user_id=row["user_id"],
        customer_status=row["customer_status"],
        catalogue_version=row["catalogue_version"],
        command=f"{row['command_topic']}/{row['command_partition']}/{row['command_offset']}",
        decided_at=row["decided_at"],
        requested_at=row["requested_at"],
        event=None if row["status"] == "FAILED" else "in the outbox" if row["in_outbox"] else "published",
    )


def render(found: RegistrationStatus) -> Table:
    """Return a status for people."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in asdict(found).items():
        if value not in (None, ()):
            shown = ", ".join(value) if isinstance(value, tuple) else str(value)
            table.add_row(name.replace("_", " "), shown)
    return table
