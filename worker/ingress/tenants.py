"""
The tenants with their catalogues, and the ingress's secrets: read at start, the catalogues again every few seconds.

What was read last serves until something newer is read: rules that are some seconds old are better than no answer, and
the worker decides by the record's own time anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from worker import logs
from worker.catalogues import Rules, Versions
from worker.errors import DeniedError, TooSlowError, UnavailableError
from worker.ingress.commands import Secrets
from worker.ingress.problems import ProblemError
from worker.ingress.tokens import Caller
from worker.metrics import Metrics
from worker.postgres import Connection, Database, statement

REFRESH_INTERVAL_S: Final = 5.0
FIRST_READ_RETRY_S: Final = 0.5
_FAILURES_TOLERATED: Final = 2


class Tenants:
    """Every tenant as it was last read."""

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._rules = Rules(database)
        self._metrics = metrics
        self._secrets: Secrets | None = None
        self._failures = 0
        self._denied: str | None = None
        self.tried = asyncio.Event()

    @property
    def secrets(self) -> Secrets:
        """
        What every ingress knows.

        Raises:
            ProblemError: `database-unavailable`: nothing was read yet.
        """
        if self._secrets is None:
            raise ProblemError("database-unavailable")
        return self._secrets

    @property
    def database_answers(self) -> bool:
        """Whether everything was read, and the last few readings did not all fail."""
        return self._secrets is not None and self._failures <= _FAILURES_TOLERATED

    async def run_once(self) -> int:
        """Read the catalogues, and the secrets where they are not read yet; return how many tenants there are."""
        try:
            await self._rules.refresh()
            if self._secrets is None:
                self._secrets = await self._database.run(_read_secrets)
            self._failures, self._denied = 0, None
        except (UnavailableError, TooSlowError, DeniedError) as error:
            reason = str(error) if isinstance(error, DeniedError) else None
            if reason not in {None, self._denied}:
                logs.logger().error("database.denied", reason=reason)
            self._denied = reason
            self._failures += 1
            self._metrics.catalogue_read_failures.inc()
        self.tried.set()
        return len(self._rules.snapshot.by_id)

    async def run(self) -> None:
        """Keep everything fresh, for ever."""
        while True:
            await self.run_once()
            await asyncio.sleep(FIRST_READ_RETRY_S if self._secrets is None else REFRESH_INTERVAL_S)

    def of(self, caller: Caller, named: Sequence[str], in_path: str | None = None) -> Versions:
        """
        Return the tenant that a call is for.

        Args:
            caller: whose token it is.
            named: every `X-Tenant-ID` header.
            in_path: the tenant in the path, where it has one.
        Raises:
            ProblemError: `tenant-header-missing`, or `tenant-denied` where the three do not mean one tenant that exists;
                `database-unavailable` where no tenant was read yet.
        """
        if not any(name.strip() for name in named):
            raise ProblemError("tenant-header-missing")
        if self._secrets is None:
            raise ProblemError("database-unavailable")
        snapshot = self._rules.snapshot
        tenant = snapshot.tenant(caller.tenant)
        others = [*(name.strip() for name in named), *([] if in_path is None else [in_path])]
        if tenant is None or any(snapshot.tenant(other) is not tenant for other in others):
            raise ProblemError("tenant-denied")
        return tenant


async def _read_secrets(connection: Connection) -> Secrets:
    """Read the secrets; this happens once, so here we also say where nothing but our own statements keeps tenants apart."""
    if not await connection.fetchval(statement("row_security")):
        logs.logger().warning("tenants.unguarded")
    rows = await connection.fetch(statement("ingress_keys"))
    return Secrets.of({row["name"]: row["value"] for row in rows})
