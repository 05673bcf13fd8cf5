"""
What a service has acted on, and what it did, in one database: so one transaction makes both true or neither.

That is the whole of exactly-once for a consumer. Kafka delivers at least once: a record comes again after a rebalance, a kill
between the commit here and the commit of its offset, or `events republish`. The `ce_id` is the same each time, so the insert
finds it, and nothing else is written.

SQLite, as there is one process of each service and the file survives it. A service with several replicas keeps the same two
tables in its own PostgreSQL; the statements stay as they are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS seen (
  ce_id TEXT PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
  ce_id TEXT NOT NULL PRIMARY KEY REFERENCES seen,
  tenant_id TEXT NOT NULL,
  customer_id TEXT NOT NULL,
  asked TEXT NOT NULL
) WITHOUT ROWID;
"""
_SEE: Final = "INSERT INTO seen (ce_id) VALUES (?) ON CONFLICT DO NOTHING"
_REQUEST: Final = "INSERT INTO requests (ce_id, tenant_id, customer_id, asked) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Request:
    """What a service wants of a customer: ids and names of checks or documents, nothing personal."""

    tenant_id: str
    customer_id: str
    asked: Mapping[str, Any]


class Inbox:
    """
    The two tables, in a file.

    Args:
        path: of the file; it is made if need be.
    """

    def __init__(self, path: Path) -> None:
        # Called from one thread at a time, but not always the same (`asyncio.to_thread`).
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def take(self, facts: Iterable[tuple[str, Request]]) -> list[Request]:
        """
        Act on a batch of facts in one transaction.

        Args:
            facts: `ce_id` and request of each, in the order of the log.
        Returns:
            Those that were not seen before; they are written when this returns.
        """
        fresh = []
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for ce_id, request in facts:
                if self._connection.execute(_SEE, (ce_id,)).rowcount:
                    row = (ce_id, request.tenant_id, request.customer_id, json.dumps(request.asked))
                    self._connection.execute(_REQUEST, row)
                    fresh.append(request)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        return fresh

    def requests(self) -> list[Request]:
        """Return all that was asked so far, by customer."""
        rows = self._connection.execute("SELECT tenant_id, customer_id, asked FROM requests ORDER BY customer_id")
        return [Request(tenant_id, customer_id, json.loads(asked)) for tenant_id, customer_id, asked in rows]
