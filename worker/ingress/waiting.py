"""
Waiting for outcomes: one shared look-up serves every request that waits, and none holds a connection while it does.

The look-up runs only while somebody waits, 10 to 25 ms apart: often enough that a registration at rest is answered at
once, and seldom enough that a thousand waiters cost the database what one does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from worker.errors import TooSlowError, UnavailableError
from worker.metrics import Metrics
from worker.postgres import Connection, Database, statement

COMPLETE: Final = "REGISTRATION_COMPLETE"
REJECTED: Final = "REJECTED"
FAILED: Final = "FAILED"
PENDING: Final = "PENDING"

Pair: TypeAlias = tuple[str, str]
"""Tenant id and registration id."""

_INTERVAL_MIN_S: Final = 0.01
_INTERVAL_MAX_S: Final = 0.025
_GROWTH: Final = 1.3
_REST_FACTOR: Final = 2
"""The look-up rests at least this many times as long as it took."""
_BACKOFF_MAX_S: Final = 1.0
_PAIRS_MAX: Final = 1000
_LOOK_UP_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a registration. `command` is topic, partition and offset of the command that was decided."""

    tenant_id: str
    registration_id: str
    status: str
    code: str | None
    problem: dict[str, Any]
    customer_id: str | None
    username: str | None
    user_status: str | None
    fingerprint: str | None
    command: tuple[str, int, int]


async def look_up(database: Database, pairs: Sequence[Pair]) -> list[Outcome]:
    """
    Return the outcomes that exist of these registrations.

    Raises:
        UnavailableError, TooSlowError: the database does not answer.
    """
    tenants, registrations = ([pair[place] for pair in pairs] for place in (0, 1))

    async def read(connection: Connection) -> list[Outcome]:
        rows = await connection.fetch(statement("outcomes"), tenants, registrations)
        return [
            Outcome(
                row["tenant_id"],
                row["registration_id"],
                row["status"],
                row["code"],
                json.loads(row["problem"] or "{}"),
                row["customer_id"],
                row["username"],
                row["user_status"],
                row["fingerprint"],
                (row["command_topic"], row["command_partition"], row["command_offset"]),
            )
            for row in rows
        ]

    return await database.run(read, _LOOK_UP_TIMEOUT_S)


@dataclass(eq=False, slots=True)
class _Waiter:
    pair: Pair
    heeds: Callable[[Outcome], bool]
    found: asyncio.Future[Outcome | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, outcome: Outcome | None) -> None:
        if not self.found.done():
            self.found.set_result(outcome)


class Waiting:
    """
    Everybody who waits for an outcome.

    A database that does not answer makes nobody fail: what Kafka has acknowledged is not lost, so the waiters wait on,
    each to its own end.
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics
        self._waiters: dict[Pair, list[_Waiter]] = {}
        self._joined = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ends_at: float | None = None

    async def outcome(self, pair: Pair, *, heeds: Callable[[Outcome], bool], timeout_s: float) -> Outcome | None:
        """
        Wait for an outcome.

        Args:
            pair: which registration of which tenant.
            heeds: says whether an outcome is one that this request waits for.
            timeout_s: how long to wait.
        Returns:
            The outcome; None where there is none in time.
        """
        loop = asyncio.get_running_loop()
        if self._ends_at is not None:
            timeout_s = min(timeout_s, self._ends_at - loop.time())
        if timeout_s <= 0:
            return None
        waiter = _Waiter(pair, heeds)
        self._waiters.setdefault(pair, []).append(waiter)
        self._metrics.waiting.inc()
        self._joined.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            await asyncio.wait({waiter.found}, timeout=timeout_s)
            return waiter.found.result() if waiter.found.done() else None
        finally:
            self._metrics.waiting.dec()
            self._leave(waiter)

    def end_within(self, timeout_s: float) -> None:
        """Let nobody wait longer than this from now on: the process is about to end."""
        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + timeout_s
        loop.call_later(timeout_s, self._settle_all)

    async def close(self) -> None:
        """End the look-up; whoever still waits finds nothing."""
        self._settle_all()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def run_once(self) -> int:
        """
        Look up everybody's registration once; return how many outcomes were heeded.

        Raises:
            UnavailableError, TooSlowError: the database does not answer.
        """
        heeded = 0
        everybody = list(self._waiters)
        for first in range(0, len(everybody), _PAIRS_MAX):
            with self._metrics.look_up_seconds.time():
                outcomes = await look_up(self._database, everybody[first : first + _PAIRS_MAX])
            for outcome in outcomes:
                for waiter in self._waiters.get((outcome.tenant_id, outcome.registration_id), ()):
                    if waiter.heeds(outcome):
                        waiter.settle(outcome)
                        heeded += 1
        return heeded

    async def _run(self) -> None:
        """Look as long as somebody waits."""
        loop = asyncio.get_running_loop()
        interval_s = _INTERVAL_MIN_S
        try:
            while self._waiters:
                if await self._rest(interval_s):
                    interval_s = _INTERVAL_MIN_S
                began = loop.time()
                try:
                    await self.run_once()
                except (UnavailableError, TooSlowError):
                    self._metrics.look_up_failures.inc()
                    interval_s = min(max(interval_s, _INTERVAL_MAX_S) * 2, _BACKOFF_MAX_S)
                else:
                    grown_s = min(interval_s * _GROWTH, _INTERVAL_MAX_S)
                    interval_s = max(grown_s, _REST_FACTOR * (loop.time() - began))
        except Exception as error:  # noqa: BLE001 - a bug of ours: each request that waits raises it
            self._fail_all(error)

    async def _rest(self, interval_s: float) -> bool:
        """Rest; where somebody joins meanwhile, only until their outcome can be there. Return whether somebody did."""
        self._joined.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(interval_s):
                await self._joined.wait()
            await asyncio.sleep(_INTERVAL_MIN_S)
            return True
        return False

    def _leave(self, waiter: _Waiter) -> None:
        waiters = self._waiters[waiter.pair]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[waiter.pair]

    def _settle_all(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.settle(None)

    def _fail_all(self, error: Exception) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.found.done():
                    waiter.found.set_exception(error)
