"""
Which rules hold for a record: the version in force at the record's own timestamp (README, R-1).

A tenant's first version holds for every record. A later one's `effective_at` lies at least 60 s after its `apply`, so
what was read at database time Q is complete for every record up to Q + 30 s.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Final

from pydantic import ValidationError

from worker.core.catalogue import Catalogue
from worker.errors import UnavailableError
from worker.postgres import Connection, Database, statement

READ_LOCK: Final = 7_266_001
"""Advisory lock: taken shared to read catalogues, exclusively by `apply` until its COMMIT is answered."""
COMPLETE_FOR: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Versions:
    """One tenant's versions, oldest first: `effective_at[i]` belongs to `versions[i]` and `catalogues[i]`."""

    tenant_id: str
    slug: str
    effective_at: tuple[datetime, ...]
    versions: tuple[int, ...]
    catalogues: tuple[Catalogue, ...]

    def at(self, when: datetime) -> tuple[int, Catalogue]:
        """Return the version and the rules that hold for a record of that time."""
        index = max(bisect_right(self.effective_at, when) - 1, 0)
        return self.versions[index], self.catalogues[index]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every tenant's catalogue as the database had it at `read_at` (the database's clock)."""

    read_at: datetime
    by_id: Mapping[str, Versions]
    by_slug: Mapping[str, Versions]

    def tenant(self, name: str) -> Versions | None:
        """Return a tenant by its id or its slug."""
        return self.by_id.get(name) or self.by_slug.get(name)

    def covers(self, when: datetime) -> bool:
        """Say whether every version that can hold at that time is in this snapshot."""
        return when <= self.read_at + COMPLETE_FOR


NOTHING: Final = Snapshot(datetime.min.replace(tzinfo=UTC), {}, {})


async def read(database: Database) -> Snapshot:
    """
    Read every tenant's versions.

    Raises:
        UnavailableError: the database does not answer, an `apply` holds the lock for long, or a version was written for a
            later release of this program than this one.
    """
    return await database.transact(_read)


async def _read(connection: Connection) -> Snapshot:
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", READ_LOCK)
    now = await connection.fetchval("SELECT statement_timestamp()")
    rows = await connection.fetch(statement("catalogues_read"))
    by_id = {}
    for tenant_id, group in groupby(rows, key=itemgetter("tenant_id")):
        versions = list(group)
        by_id[tenant_id] = Versions(
            tenant_id,
            versions[0]["slug"],
            tuple(row["effective_at"] for row in versions),
            tuple(row["version"] for row in versions),
            tuple(stored(tenant_id, row["version"], row["document"]) for row in versions),
        )
    return Snapshot(now, by_id, {versions.slug: versions for versions in by_id.values()})


def stored(tenant_id: str, version: int, document: str) -> Catalogue:
    """
    Return a version as it is stored.

    Raises:
        UnavailableError: it was written for another release of this program than this one.
    """
    try:
        return _parsed(document)
    except ValidationError:
        raise UnavailableError("catalogue", f"this release can't read version {version} of tenant {tenant_id}") from None


@lru_cache(maxsize=1024)
def _parsed(document: str) -> Catalogue:
    """Versions are immutable: the same text is read once."""
    return Catalogue.from_json(document)


class Rules:
    """The catalogues as this process last read them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.snapshot = NOTHING

    async def refresh(self) -> None:
        """
        Read every catalogue afresh.

        Raises:
            UnavailableError: the database does not answer; the snapshot stays as it was.
        """
        found = await read(self._database)
        if found.read_at >= self.snapshot.read_at:  # two may be under way, and the older one be answered last
            self.snapshot = found
