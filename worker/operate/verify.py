"""
`registration verify`: holds topics and tables against the invariants, from outside the worker's code (README, "What always holds").

How it stays small: each topic is streamed once, and what must be compared as a whole is put, as ids and digests, into
temporary tables of one session, where PostgreSQL compares sets on disk. Temporary tables write no log, change nothing of
the schema and vanish with the session, however it ends; Python holds one fetch and one page.

How it is right beside running workers, without a long snapshot: the positions are read first, then the outbox, then the
topics. What is behind a position was committed; what the outbox then lacks had been acknowledged, so it is on its topic; and
a row is looked up after its event was read, so it is there. What came later is not looked at, or counted as pending.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any, Final

from schemas.commands import COMMANDS_TOPIC
from worker.config import Settings
from worker.core import ids
from worker.errors import UnavailableError
from worker.kafka import Reader, security_of
from worker.operate import verify_messages as messages
from worker.operate.decisions import Catalogues, decide_again, is_as_stored
from worker.operate.progress import Progress, silent
from worker.operate.session import Row, Session, collecting_seldom, session
from worker.operate.verify_report import SHOWN_PER_RULE, Counts, Findings, Report
from worker.operate.verify_topics import Bounds, Parts, read_commands, read_events, read_letters
from worker.retention import KEPT
from worker.sealing import Sealer

SETTLE_S: Final = 5.0
SAMPLE_ROWS: Final = 1000
STATEMENT_TIMEOUT_S: Final = 300.0
_POLL_S: Final = 0.1
_PAGE_ROWS: Final = 2000
_SETTINGS: Final = {"work_mem": "48MB", "temp_buffers": "16MB", "jit": "off", "lock_timeout": "5000"}


async def verify(
    settings: Settings,
    *,
    progress: Progress | None = None,
    settle_s: float = SETTLE_S,
    sample: int = SAMPLE_ROWS,
    now: datetime | None = None,
) -> Report:
    """
    Check all that is still kept.

    Args:
        settings: where Kafka and PostgreSQL are, and the keys that open sealed dead letters, if there are any.
        progress: called with what is gone through, how much of it is done, and how much there is.
        settle_s: how long messages that are in the outbox at the start may take to leave it.
        sample: how many customers, chosen at random, are decided again.
        now: of what is old enough to have been removed; the database's clock where it is left out.
    Raises:
        UnavailableError: a server does not answer.
        ConfigurationError: a sealing key is malformed, or a file for TLS.
    """
    started = time.monotonic()
    counts, findings = Counts(), Findings()
    keys = settings.sealing_keys.get_secret_value()
    sealer = Sealer(keys) if keys else None
    url = settings.database_url.get_secret_value()
    async with (
        session(url, "registration-verify", _SETTINGS, timeout_s=STATEMENT_TIMEOUT_S) as opened,
        Reader(settings.kafka_bootstrap, client_id="registration-verify", security=security_of(settings)) as reader,
    ):
        begun = await _now(opened)
        parts = Parts(opened, reader, sealer, counts, findings, progress or silent, (now or begun) - KEPT)
        with collecting_seldom():
            await _check(parts, settle_s, begun)
            again = await _decide_again(parts, sample)
    notes = list(again)
    if sealer is None and counts.dead:
        notes.append("sealed dead letters were not opened: REGISTRATION_SEALING_KEYS is not set")
    if counts.passwords_refused:
        notes.append(f"{counts.passwords_refused} commands of other services carried a plaintext password and were refused")
    return Report(counts, findings.kept, dict(findings.totals), notes, round(time.monotonic() - started, 3))


async def _check(parts: Parts, settle_s: float, begun: datetime) -> None:
    opened = parts.session
    await opened.run("verify_tables")
    await _settle(parts, settle_s, begun)
    positions = {row["partition"]: row["next_offset"] for row in await opened.rows("verify_offsets", COMMANDS_TOPIC)}
    parts.counts.outbox = await opened.number("verify_outbox", COMMANDS_TOPIC)
    done = _place(parts, positions, await parts.reader.bounds(COMMANDS_TOPIC))
    letters_since = await read_letters(parts)
    await read_commands(parts, done)
    events_since = await read_events(parts)
    await _read_accepted(parts)
    await opened.run("verify_analyze")
    parts.counts.ce_ids = await opened.number("verify_events_count")
    for row in await opened.rows("verify_counts"):
        setattr(parts.counts, _OUTCOMES[row["status"]], row["total"])
    await _compare(parts, events_since, letters_since)


_OUTCOMES: Final = {messages.COMPLETE: "accepted", messages.REJECTED: "rejected", "FAILED": "failed"}


async def _settle(parts: Parts, settle_s: float, begun: datetime) -> None:
    """Wait until what is in the outbox now has left it; later messages are on their way like any other."""
    deadline = time.monotonic() + settle_s
    while left := await parts.session.rows("verify_outbox_left", begun, SHOWN_PER_RULE):
        if time.monotonic() >= deadline:
            found = [(messages.coordinates(*row[:3]), f"{row['kind']}, still there after {settle_s:g} s") for row in left]
            parts.findings.add_all("outbox.left", found, left[0]["total"])
            return
        await asyncio.sleep(_POLL_S)


async def _now(opened: Session) -> datetime:
    row: Any = await opened.row("verify_now")
    found: datetime = row["now"]
    return found


def _place(parts: Parts, positions: dict[int, int], bounds: Bounds) -> Bounds:
    """Hold the positions against the log; return for each partition its start, and up to where it is done."""
    done: dict[int, tuple[int, int]] = {}
    for number, (start, end) in bounds.items():
        position = positions.get(number, start)
        at = messages.coordinates(COMMANDS_TOPIC, number, position)
        if position > end:
            parts.findings.add("position.beyond_log", at, f"the position is {position}, the log ends at {end}")
        elif position < start:
            parts.findings.add("position.before_log", at, f"{start - position} offsets were lost: the log starts at {start}")
        done[number] = start, position if start <= position <= end else start
        parts.counts.pending += end - done[number][1]
    for number in positions.keys() - bounds.keys():
        at = messages.coordinates(COMMANDS_TOPIC, number, positions[number])
        parts.findings.add("position.beyond_log", at, "the topic has no such partition")
    return done


async def _read_accepted(parts: Parts) -> None:
    """Go through the accepted registrations: each has its rows, under the ids that derive from it."""
    total, passed, after = await _accepted(parts.session), 0, ("", "")
    while page := await parts.session.rows("verify_accepted", *after, _PAGE_ROWS):
        for row in page:
            _look_at_accepted(parts.findings, row)
        after = page[-1]["registration_id"], page[-1]["tenant_id"]
        passed += len(page)
        parts.progress("registrations", passed, max(total, passed))


async def _accepted(opened: Session) -> int:
    return next((row["total"] for row in await opened.rows("verify_counts") if row["status"] == messages.COMPLETE), 0)


def _look_at_accepted(findings: Findings, row: Row) -> None:
    registration_id, tenant_id = row["registration_id"], row["tenant_id"]
    rows = {"customer": "customer_row", "person": "person_id", "user": "user_id", "decision": "decision_row"}
    if missing := [name for name, column in rows.items() if row[column] is None]:
        findings.add("registration.incomplete", registration_id, f"no row of its {', '.join(missing)}")
    registration = ids.registration_uuid(registration_id)
    if registration is None:
        findings.add("registration.wrong_id", registration_id, "is no TypeID of a registration")
        return
    kinds = {ids.CUSTOMER: "customer_id", ids.USER: "user_id", ids.PERSON: "person_id"}
    derived = {column: ids.derive(kind, tenant_id, registration) for kind, column in kinds.items()}
    if wrong := [column for column, expected in derived.items() if row[column] not in {expected, None}]:
        findings.add("registration.wrong_id", registration_id, f"not the derived ones: {', '.join(wrong)}")


async def _decide_again(parts: Parts, sample: int) -> list[str]:
    """Hold stored decisions against the rules that held: the same bytes, for a sample. Return what could not be done."""
    catalogues, unread = Catalogues(parts.session), set()
    rows = await parts.session.rows("verify_decisions", sample)
    for row in rows:
        version = row["catalogue_version"]
        try:
            catalogue = await catalogues.of(row["tenant_id"], version)
        except UnavailableError as error:
            if error.service != "catalogue":
                raise
            unread.add(f"{error.reason}: its decisions were not made again")
            continue
        if catalogue is None or not is_as_stored(row, decide_again(row, catalogue, version)):
            parts.findings.add("decision.differs", row["customer_id"], f"by version {version}: see `registration explain --check`")
        parts.counts.decided_again += 1
        parts.progress("decisions", parts.counts.decided_again, len(rows))
    return sorted(unread)


async def _compare(parts: Parts, events_since: object, letters_since: object) -> None:
    """Let the database compare what is there with what must be."""
    opened, findings, most = parts.session, parts.findings, SHOWN_PER_RULE

    async def note(rule: str, name: str, *parameters: object) -> None:
        rows = await opened.rows(name, *parameters)
        if rows:
            findings.add_all(rule, [(row["id"], row["detail"]) for row in rows], rows[0]["total"])

    await note("registration.without_event", "verify_events_missing", COMMANDS_TOPIC, events_since, most)
    await note("registration.two_ce_ids", "verify_events_doubled", most)
    await note("event.differs", "verify_events_differing", most)
    await note("letter.missing", "verify_letters_missing", COMMANDS_TOPIC, letters_since, most)
    await note("letter.ghost", "verify_letters_alone", COMMANDS_TOPIC, parts.refused_since, most)
    await note("letter.differs", "verify_letters_differing", COMMANDS_TOPIC, most)
    await note("registration.failed_alone", "verify_failed_alone", most)
    await note("outcome.wrong_version", "verify_versions", most)
    await note("customer.alone", "verify_customers_alone", most)
    await note("customer.email_doubled", "verify_emails_doubled", most)
