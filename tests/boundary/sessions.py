"""Pools on PostgreSQL whose sessions a test can tell from others, and work for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from worker.postgres import Connection, Database

NAME: Final = "registration-probe"

INSERT: Final = "INSERT INTO tenants VALUES ($1, $1, $1)"


def of(url: str, name: str = NAME, timeout_s: float = 1.0, connections: int = 3) -> Database:
    """Return a pool that its server can tell from other sessions."""
    return Database(url, connections=connections, timeout_s=timeout_s, name=name)


async def sessions(connection: Connection, name: str = NAME) -> list[Any]:
    """Return what the sessions of that name do."""
    return await connection.fetch("SELECT pid, state, wait_event FROM pg_stat_activity WHERE application_name = $1", name)


async def tenant(connection: Connection, name: str) -> bool:
    """Say whether a tenant of that name is committed."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM tenants WHERE tenant_id = $1)", name))


def executing(query: str, *parameters: object) -> Callable[[Connection], Awaitable[Any]]:
    """Return work that runs one statement."""
    return lambda connection: connection.execute(query, *parameters)
