"""What is removed by time: refusals, failures and their dead letters, when they are old enough, and nothing that is needed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from tests import commands
from tests.boundary.databases import Home, copied
from tests.boundary.places import Place
from tests.boundary.test_operate import Stage, stage  # noqa: F401 - a fixture
from tests.boundary.tracks import Track, working
from tests.commands import email_of, registration_id
from tests.records import AT_MS, DEVELOPMENT, snapshot
from worker.catalogues import Rules, Snapshot
from worker.dev.embedded import Stack
from worker.dev.logins import WORKER, login
from worker.metrics import Metrics
from worker.operate.verify import verify
from worker.postgres import Database, statement
from worker.retention import BATCH_ROWS, KEPT, LOCK, Retention, ends_of

DECIDED: Final = datetime.fromtimestamp(AT_MS / 1000, UTC)
"""When the records of these tests came to the log."""
A_DAY: Final = timedelta(days=1)
OVER: Final = DECIDED + KEPT + A_DAY
TENANT: Final = DEVELOPMENT.tenant.id
REFUSED: Final = """
INSERT INTO registrations (registration_id, tenant_id, status, code, command_topic, command_partition, command_offset, decided_at)
SELECT $1 || n, $2, 'REJECTED', 'email-taken', 'old', 0, n, $3 FROM generate_series(1, $4) AS n
"""
OLD_LETTERS: Final = """
INSERT INTO dead_letters (topic, partition, "offset", code, tenant_id, recorded_at)
SELECT 'old', 0, n, 'schema.invalid', 'another', $1 FROM generate_series(1, 20000) AS n
"""
ACCEPTED: Final = """
WITH made AS (
  INSERT INTO registrations (registration_id, tenant_id, status, customer_id, command_topic, command_partition, command_offset,
    decided_at)
  SELECT 'new-' || n, $1, 'REGISTRATION_COMPLETE', 'customer-' || n, 'new', 0, n, $2 FROM generate_series(1, 5000) AS n
  RETURNING registration_id, tenant_id, customer_id, decided_at
)
INSERT INTO customers (customer_id, tenant_id, registration_id, email, email_normalized, status, category_id, categorization,
  registered_at)
SELECT customer_id, tenant_id, registration_id, customer_id, customer_id, 'ACTIVE', 'category', '{}', decided_at FROM made
"""
SCANS: Final = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'customers'"


def keeping(days: int | None) -> Snapshot:
    """Return the rules of a tenant that keeps its refusals so long."""
    return snapshot(DEVELOPMENT.model_copy(update={"tenant": DEVELOPMENT.tenant.model_copy(update={"refusals_kept_days": days})}))


def removing(database: Database, rules: Snapshot | None = None) -> Retention:
    """Return what removes, by rules that are known."""
    known = Rules(database)
    known.snapshot = rules or keeping(None)
    return Retention(database, known, Metrics())


@pytest.fixture
async def home(servers: Stack, template: str) -> AsyncIterator[Home]:
    """A database of each test's own: what is removed here is removed everywhere."""
    async with copied(servers, template) as made:
        yield made


@asynccontextmanager
async def worker_of(home: Home) -> AsyncIterator[Database]:
    """A pool with the rights that a worker has, and no other."""
    opened = Database(
        await login(home.url, WORKER, f"worker_{os.urandom(4).hex()}"), connections=2, timeout_s=8, name="registration-worker"
    )
    try:
        yield opened
    finally:
        await opened.close()


async def settled(place: Place) -> dict[str, str]:
    """Commit an outcome of each kind, and a dead letter of nobody's; return the registrations by kind."""
    accepted, refused, failed = place.accept(email_of("kept"), 0), registration_id(), registration_id()
    await place.settle(accepted, place.reject(refused, 1), place.failed(failed, 2), place.letter(b"{", 3))
    await place.home.connection.execute("DELETE FROM outbox")
    return {"accepted": accepted.tie.registration_id, "refused": refused, "failed": failed}


async def letters(home: Home) -> list[int]:
    """Return the offsets of the dead letters that there are."""
    return [row[0] for row in await home.connection.fetch('SELECT "offset" FROM dead_letters ORDER BY 1')]


async def old(home: Home, rows: int, *, prefix: str = "old-", tenant_id: str = TENANT) -> None:
    """Write refusals of long ago."""
    await home.connection.execute(REFUSED, prefix, tenant_id, DECIDED, rows)


async def left(home: Home) -> int:
    """Return how many refusals there are."""
    return int(await home.connection.fetchval("SELECT count(*) FROM registrations WHERE status = 'REJECTED'"))


async def test_what_was_refused_or_failed_goes_after_its_time_and_the_accepted_stay(place: Place, home: Home) -> None:
    """A day before nothing goes; then what has no customer does, with its dead letter and that of nobody's."""
    made = await settled(place)
    async with worker_of(home) as database:
        before = await removing(database).run_once(DECIDED + KEPT - A_DAY)
        removed = await removing(database).run_once(OVER)
        again = await removing(database).run_once(OVER)

    assert (before, removed, again) == (0, 4, 0)
    assert await place.outcome(made["refused"]) is None
    assert await place.outcome(made["failed"]) is None
    assert await letters(home) == []
    assert await place.outcome(made["accepted"]) == ("REGISTRATION_COMPLETE", None, 0)
    assert await home.connection.fetchval("SELECT count(*) FROM customers") == 1


async def test_a_tenants_longer_time_holds_for_its_own_rows(place: Place, home: Home) -> None:
    """Its refusals and dead letters stay; a dead letter of nobody's has no tenant to keep it."""
    made = await settled(place)
    removed = await removing(place.database, keeping(400)).run_once(OVER)
    kept = await place.outcome(made["refused"]), await letters(home)
    later = await removing(place.database, keeping(400)).run_once(DECIDED + timedelta(days=401))

    assert (removed, later) == (1, 3)
    assert kept == (("REJECTED", "validation-failed", 1), [2])


@pytest.mark.parametrize(("days", "kept"), [(None, KEPT), (45, KEPT), (46, timedelta(days=46)), (36_500, timedelta(days=36_500))])
def test_the_longer_of_45_days_and_the_tenants_own_time_holds(days: int | None, kept: timedelta) -> None:
    """Nothing goes sooner than any message about it does."""
    assert ends_of(keeping(days), OVER) == {TENANT: OVER - kept}


async def test_what_has_not_left_the_outbox_keeps_its_row(place: Place, home: Home) -> None:
    """An event never outlives its row on the way out, however long nobody swept the partition."""
    await place.settle(place.reject(registration_id(), 0), place.failed(registration_id(), 1))
    waiting = await removing(place.database).run_once(OVER)
    await home.connection.execute("DELETE FROM outbox")

    assert waiting == 0
    assert await removing(place.database).run_once(OVER) == 3


async def test_a_dead_letter_stays_as_long_as_the_registration_that_failed_by_it(place: Place, home: Home) -> None:
    """Somebody holds the registration just now, so it is left for the next time: so is its dead letter."""
    made = await settled(place)
    async with home.connection.transaction():
        await home.connection.execute("SELECT FROM registrations WHERE registration_id = $1 FOR UPDATE", made["failed"])
        removed = await removing(place.database).run_once(OVER)

    assert removed == 2
    assert await letters(home) == [2]
    assert await removing(place.database).run_once(OVER) == 2
    assert await letters(home) == []


async def test_rows_go_in_small_batches_oldest_first(pool: Database, home: Home) -> None:
    """Each in a transaction of its own, so that no lock is held for long."""
    await old(home, BATCH_ROWS + 7)
    await home.connection.execute("UPDATE registrations SET decided_at = decided_at + interval '1 hour' WHERE command_offset <= 7")
    retention = removing(pool)
    first, rest = await retention.run_once(OVER), await home.connection.fetch("SELECT command_offset FROM registrations ORDER BY 1")

    assert first == BATCH_ROWS
    assert [row[0] for row in rest] == list(range(1, 8))
    assert await retention.run_once(OVER) == 7


async def test_one_worker_removes_at_a_time_and_nobody_waits(pool: Database, home: Home) -> None:
    """While somebody has the turn the others do nothing; of two at once no row is counted twice."""
    await old(home, 3 * BATCH_ROWS)
    async with home.connection.transaction():
        await home.connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        refused = await removing(pool).run_once(OVER)
    removed = 0
    while both := sum(await asyncio.gather(removing(pool).run_once(OVER), removing(pool).run_once(OVER))):
        removed += both

    assert refused == 0
    assert removed == 3 * BATCH_ROWS
    assert await left(home) == 0


async def test_lanes_go_on_while_old_rows_are_removed(pool: Database, home: Home, track: Track) -> None:
    """Under load every command gets its outcome, and no lane waits, is fenced or begins anew."""
    await track.make()
    await old(home, 20 * BATCH_ROWS)
    retention, removed = removing(pool), 0
    async with working(track):
        for _ in range(20):
            await track.send(*(track.command() for _ in range(25)))
            removed += await retention.run_once(OVER)
        await track.at(500)

    assert removed == 20 * BATCH_ROWS
    assert await home.connection.fetchval("SELECT count(*) FROM customers") == 500
    assert not [said for said in ("lane.waiting", "lane.fenced", "lane.stopped", "batch.halved") if track.said(said)]


@pytest.mark.parametrize(
    ("name", "table", "index"),
    [
        ("retention_registrations", "registrations", "registrations_refused_by_age"),
        ("retention_letters", "dead_letters", "dead_letters_by_age"),
    ],
)
async def test_removing_finds_old_rows_by_their_index(home: Home, name: str, table: str, index: str) -> None:
    """Also where most rows are another tenant's, which keeps its own for longer."""
    await old(home, 20_000, prefix="other-", tenant_id="another")
    await home.connection.execute(OLD_LETTERS, DECIDED)
    await home.connection.execute("ANALYZE registrations, dead_letters")
    await home.connection.execute(f"PREPARE removal AS {statement(name)}")
    plan = await home.connection.fetch("EXPLAIN EXECUTE removal (ARRAY['a'], ARRAY[now()], 500)")
    lines = [row[0] for row in plan]

    assert [line for line in lines if index in line]
    assert not [line for line in lines if f"Seq Scan on {table}" in line]


async def test_removing_a_registration_does_not_read_all_customers(home: Home) -> None:
    """The foreign key asks for customers of each one that goes: by an index, or a bank of millions would stand still."""
    await home.connection.execute(ACCEPTED, TENANT, DECIDED)
    await home.connection.execute("ANALYZE registrations, customers")
    await old(home, 50)
    async with home.connection.transaction():
        removed = await home.connection.execute(statement("retention_registrations"), [TENANT], [OVER], BATCH_ROWS)
        scans = await home.connection.fetchrow(SCANS)

    assert removed == "DELETE 50"
    assert tuple(scans or ()) == (0, 50)


async def test_verify_is_clean_after_old_rows_have_gone(stage: Stage) -> None:  # noqa: F811 - the fixture
    """Messages may outlast their rows where a topic keeps longer, or a fact was told again; what is younger is damage as before."""
    tied = {**commands.data(email_of("failed")), "registrationId": registration_id()}
    async with stage.worker():
        await stage.send(commands.message(tied, ce_type=b"another.type.v1"))
        await stage.done()
    database = Database(stage.settings.database_url.get_secret_value(), connections=1, timeout_s=8, name="registration-worker")
    later = datetime.now(UTC) + KEPT + A_DAY
    try:
        rules = Rules(database)
        await rules.refresh()
        removed = await Retention(database, rules, Metrics()).run_once(later)
    finally:
        await database.close()
    report, today = await verify(stage.settings, now=later), await verify(stage.settings)

    assert removed >= 2 + 1 + 5
    assert report.findings == []
    assert (report.counts.rejected, report.counts.failed) == (0, 0)
    assert {"event.ghost", "letter.ghost", "command.without_outcome"} <= set(today.totals)
