"""Logins of the development stack: each process in a role of its own, a member of the group with its rights, as in production."""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from worker.postgres import connect

INGRESS: Final = "registration_ingress"
SESSION: Final = "registration_session"
WORKER: Final = "registration_worker"
_PASSWORD_BYTES: Final = 16
_MAKE: Final = """
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN
    CREATE ROLE {name} LOGIN IN ROLE {group};
  END IF;
  ALTER ROLE {name} PASSWORD '{password}';
END
$$
"""


async def login(url: str, group: str, name: str) -> str:
    """
    Make a login, or give the one of that name a new password.

    Args:
        url: `postgresql://…` of an administrator.
        group: of migrations/0003_roles.sql.
        name: of the login, a plain identifier.
    Returns:
        The URL with which it connects to the same database.
    Raises:
        UnavailableError: the server does not answer.
    """
    password = secrets.token_hex(_PASSWORD_BYTES)
    connection = await connect(url, "registration-dev")
    try:
        await connection.execute(_MAKE.format(name=name, group=group, password=password))
    finally:
        await connection.close()
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}"))
