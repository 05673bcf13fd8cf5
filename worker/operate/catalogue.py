"""
Publishes a tenant's catalogue as an immutable version, and shows those that there are.

Which version holds for a record (README, R-1): a tenant's first one for every record, a later one from its `effective_at`,
which lies at least 60 s ahead. It is worked out while the lock is held under which workers read, and the lock is given back
only when the COMMIT was answered: whoever has read before decides nothing beyond 30 s, whoever reads later sees it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from worker import logs
from worker.catalogues import READ_LOCK
from worker.core.catalogue import Catalogue
from worker.errors import UnavailableError, UnstorableError
from worker.operate.catalogue_file import CatalogueFault, validate
from worker.operate.session import Session, session

AHEAD_S: Final = 60.0
_SETTINGS: Final = {
    "lock_timeout": "10000",
    "transaction_timeout": "25000",
    "idle_in_transaction_session_timeout": "10000",
}


@dataclass(frozen=True, slots=True)
class Version:
    """
    One version of a tenant's catalogue.

    Attributes:
        holds: it is the one that is in force now.
    """

    tenant_id: str
    slug: str
    version: int
    effective_at: datetime
    applied_at: datetime
    applied_by: str
    holds: bool

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), default=datetime.isoformat)


@dataclass(frozen=True, slots=True)
class Applied:
    """
    What `apply` did.

    Attributes:
        changed: there is a new version; else the newest one has this content already.
        committed: it is in the database; False where `yes` was not said, and this is what would be.
    """

    tenant_id: str
    version: int
    effective_at: datetime
    changed: bool
    committed: bool

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), default=datetime.isoformat)


async def apply(database_url: str, path: Path, *, by: str, yes: bool) -> Applied | tuple[CatalogueFault, ...]:
    """
    Publish a catalogue; the same content as the newest version makes no new one.

    Args:
        database_url: `postgresql://…` of whoever may write catalogues.
        path: of the YAML file.
        by: who does it, for the history.
        yes: False does everything except for the COMMIT.
    Returns:
        The version, or what is wrong with the file.
    Raises:
        UnavailableError: the database does not answer, or readers hold the lock for long; also where COMMIT was not
            answered, and then it may be done or not: apply it again.
    """
    catalogue = validate(path)
    if not isinstance(catalogue, Catalogue):
        return catalogue
    async with session(database_url, "registration-catalogue", _SETTINGS) as opened:
        await opened.rows("catalogue_lock", READ_LOCK)
        await opened.do("BEGIN ISOLATION LEVEL READ COMMITTED")
        fault = await _tenant_fault(opened, catalogue, str(path))
        if fault is not None:
            return (fault,)
        applied = await _put(opened, catalogue, by, yes=yes)
        await _end(opened, yes=yes)
        await opened.rows("catalogue_unlock", READ_LOCK)
    if applied.changed and yes:
        logs.logger().info("catalogue.applied", tenant=applied.tenant_id, version=applied.version)
    return applied


async def history(database_url: str, tenant: str | None = None) -> list[Version]:
    """
    Return the versions, newest first: of a tenant by its id or slug, or of all.

    Raises:
        UnavailableError: the database does not answer.
    """
    async with session(database_url, "registration-catalogue") as opened:
        return [Version(**dict(row)) for row in await opened.rows("catalogue_history", tenant)]


async def show(database_url: str, tenant: str, version: int | None = None) -> Catalogue | None:
    """
    Return a stored catalogue; None where there is none.

    Args:
        database_url: `postgresql://…`.
        tenant: id or slug.
        version: which; None is the one in force now.
    Raises:
        UnavailableError: the database does not answer.
    """
    async with session(database_url, "registration-catalogue") as opened:
        row = await opened.row("catalogue_show", tenant, version)
    return Catalogue.from_json(row["document"]) if row else None


def render_history(versions: list[Version]) -> Table:
    """Return versions for people; the one in force is marked."""
    table = Table("tenant", "version", "", "effective at", "applied at", "by", box=None, pad_edge=False)
    for each in versions:
        times = (f"{when:%Y-%m-%d %H:%M:%S}Z" for when in (each.effective_at, each.applied_at))
        table.add_row(each.slug, str(each.version), "in force" if each.holds else "", *times, each.applied_by)
    return table


def render_applied(applied: Applied) -> str:
    """Return what `apply` did, in a sentence."""
    if not applied.changed:
        return f"Version {applied.version} has this content already; nothing was changed."
    when = "at once" if applied.version == 1 else f"from {applied.effective_at:%Y-%m-%d %H:%M:%S}Z"
    did = "is published and holds" if applied.committed else "would be published, and would hold"
    return f"Version {applied.version} of tenant {applied.tenant_id} {did} {when}."


async def _tenant_fault(opened: Session, catalogue: Catalogue, file: str) -> CatalogueFault | None:
    """Write the tenant; a name by which another is reached is refused."""
    tenant = catalogue.tenant
    taken = CatalogueFault(file, 0, "tenant", "another tenant is reached by this id or slug")
    try:
        row = await opened.row("catalogue_tenant", tenant.id, tenant.slug, tenant.name)
    except UnstorableError:
        return taken
    return None if row else taken


async def _put(opened: Session, catalogue: Catalogue, by: str, *, yes: bool) -> Applied:
    tenant_id, document = catalogue.tenant.id, catalogue.to_json().decode()
    newest = await opened.row("catalogue_newest", tenant_id)
    if newest and newest["document"] == document:
        return Applied(tenant_id, newest["version"], newest["effective_at"], changed=False, committed=yes)
    row: Any = await opened.row("catalogue_insert", tenant_id, document, by, AHEAD_S)
    return Applied(tenant_id, row["version"], row["effective_at"], changed=True, committed=yes)


async def _end(opened: Session, *, yes: bool) -> None:
    if not yes:
        await opened.do("ROLLBACK")
        return
    try:
        tag = await opened.do("COMMIT")
    except UnavailableError:
        reason = "COMMIT was not answered: apply it again, the same content is never a second version"
        raise UnavailableError("database", reason) from None
    if tag != "COMMIT":
        raise UnavailableError("database", "the transaction had been aborted; nothing was changed")
