"""
Removes what was refused or failed when its time is over, beside the lanes (docs/operating.md).

`run` loops over `run_once`, which removes one small batch in one transaction. One worker of all does so at a time.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from worker import logs
from worker.catalogues import Rules, Snapshot
from worker.errors import CommitUnknownError, TooSlowError, UnavailableError
from worker.metrics import Metrics
from worker.postgres import Connection, Database, row_count, statement

KEPT: Final = timedelta(days=45)
"""Least time for which an outcome without a customer is kept: longer than any message about it is on a topic."""
BATCH_ROWS: Final = 500
PAUSE_S: Final = 0.5
INTERVAL_S: Final = 600.0
LOCK: Final = 7_266_002
"""Advisory lock of whoever removes."""
_NOBODY: Final = ""
"""Stands for the tenant of a dead letter that can't be tied to one."""


class Retention:
    """
    What one worker does of it.

    Args:
        database: where to remove.
        rules: the tenants, and how long each wants its refusals kept.
        metrics: where removed rows are counted.
    """

    def __init__(self, database: Database, rules: Rules, metrics: Metrics) -> None:
        self._database = database
        self._rules = rules
        self._metrics = metrics

    async def run(self) -> None:
        """
        Remove until cancelled: a batch, a pause, until nothing is left to remove; then look again after a while.

        Raises:
            Exception: a bug of ours, or a right that the role lacks.
        """
        removed = 0
        while True:
            begins, removed = not removed, 0
            with suppress(UnavailableError, TooSlowError, CommitUnknownError):  # the lanes say so, and old rows can wait
                if begins:
                    await self._rules.refresh()
                removed = await self.run_once()
            await asyncio.sleep(PAUSE_S if removed else INTERVAL_S)

    async def run_once(self, now: datetime | None = None) -> int:
        """
        Remove one batch of registrations and one of dead letters.

        Args:
            now: of what is too old; the database's clock where it is left out.
        Returns:
            How many rows went; 0 where none is too old, or another worker is at it.
        Raises:
            UnavailableError, TooSlowError, CommitUnknownError: see `Database.transact`.
        """
        registrations, letters = await self._database.transact(partial(_remove, snapshot=self._rules.snapshot, now=now))
        self._metrics.rows_removed.labels("registrations").inc(registrations)
        self._metrics.rows_removed.labels("dead_letters").inc(letters)
        if registrations or letters:
            logs.logger().info("retention.removed", registrations=registrations, dead_letters=letters)
        return registrations + letters


async def _remove(connection: Connection, snapshot: Snapshot, now: datetime | None) -> tuple[int, int]:
    turn = await connection.fetchrow(statement("retention_turn"), LOCK)
    if turn is None or not turn["mine"]:
        return 0, 0
    now = now or turn["now"]
    of_tenants = ends_of(snapshot, now)
    tenants, ends = list(of_tenants), list(of_tenants.values())
    # In this order: `verify` looks for the dead letter of each registration that failed.
    registrations = await connection.execute(statement("retention_registrations"), tenants, ends, BATCH_ROWS)
    letters = await connection.execute(statement("retention_letters"), [*tenants, _NOBODY], [*ends, now - KEPT], BATCH_ROWS)
    return row_count(registrations), row_count(letters)


def ends_of(snapshot: Snapshot, now: datetime) -> dict[str, datetime]:
    """Return for each tenant the moment before which what was refused goes: after 45 days, or its own longer time."""
    kept = {tenant_id: versions.at(now)[1].tenant.refusals_kept_days for tenant_id, versions in snapshot.by_id.items()}
    return {tenant_id: now - max(KEPT, timedelta(days=days or 0)) for tenant_id, days in kept.items()}
