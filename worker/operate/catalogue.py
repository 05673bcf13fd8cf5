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
from worker.catalogues import READ_LOCK, stored
from worker.core.catalogue import Catalogue
from worker.errors import UnavailableError, UnstorableError
from worker.operate.catalogue_diff import Diff, diff_with_newest
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
        effective_at: from when on it holds; None where nothing was published.
        changed: there is a new version; else the newest one has this content already.
        committed: it is in the database; else nothing was done, for this reason.
    """

    tenant_id: str
    version: int
    effective_at: datetime | None
    changed: bool
    committed: bool
    reason: str = ""

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), default=datetime.isoformat)


async def apply(
    database_url: str, path: Path, *, by: str, yes: bool = False, looked_at: Diff | None = None
) -> Applied | tuple[CatalogueFault, ...]:
    """
    Publish a catalogue; the same content as the newest version makes no new one.

    Args:
        database_url: `postgresql://…` of whoever may write catalogues.
        path: of the YAML file.
        by: who does it, for the history.
        yes: do it without looking whom it would protect less.
        looked_at: what `diff` said of this file, to which somebody has agreed; else nobody may be protected less.
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
        if not yes and looked_at is None:
            looked_at = await diff_with_newest(opened, catalogue)
            if looked_at.protects_less:
                return not_applied(looked_at)
        await opened.rows("catalogue_lock", READ_LOCK)
        await opened.do("BEGIN ISOLATION LEVEL READ COMMITTED")
        fault = await _tenant_fault(opened, catalogue, str(path))
        if fault is not None:
            return (fault,)
        applied = await _put(opened, catalogue, by, looked_at)
        await (_commit(opened) if applied.committed else opened.do("ROLLBACK"))
        await opened.rows("catalogue_unlock", READ_LOCK)
    if applied.changed and applied.committed:
        logs.logger().info("catalogue.applied", tenant=applied.tenant_id, version=applied.version)
    return applied


def not_applied(looked_at: Diff) -> Applied:
    """Return what `apply` says where somebody would be protected less and nobody agreed."""
    version, reason = (looked_at.version or 0) + 1, "it would protect somebody less"
    return Applied(looked_at.tenant_id, version, None, changed=True, committed=False, reason=reason)


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
    return stored(tenant, row["version"], row["document"]) if row else None


def render_history(versions: list[Version]) -> Table:
    """Return versions for people; the one in force is marked."""
    table = Table("tenant", "version", "", "effective at", "applied at", "by", box=None, pad_edge=False)
    for each in versions:
        times = (f"{when:%Y-%m-%d %H:%M:%S}Z" for when in (each.effective_at, each.applied_at))
        table.add_row(each.slug, str(each.version), "in force" if each.holds else "", *times, each.applied_by)
    return table


def render_applied(applied: Applied) -> str:
    """Return what `apply` did, in a sentence."""
    if not applied.committed:
        return f"Nothing was published: {applied.reason}. Look at `catalogue diff`; `--yes` publishes it without a question."
    if not applied.changed:
        return f"Version {applied.version} has this content already; nothing was changed."
    when = "at once" if applied.version == 1 else f"from {applied.effective_at:%Y-%m-%d %H:%M:%S}Z"
    return f"Version {applied.version} of tenant {applied.tenant_id} is published and holds {when}."


async def _tenant_fault(opened: Session, catalogue: Catalogue, file: str) -> CatalogueFault | None:
    """Write the tenant; a name by which another is reached is refused, and so is a new slug: records name tenants by it."""
    tenant = catalogue.tenant
    taken = CatalogueFault(
        file, 0, "tenant", "another tenant is reached by this id or slug; or this one has another slug, and keeps it"
    )
    try:
        row = await opened.row("catalogue_tenant", tenant.id, tenant.slug, tenant.name)
    except UnstorableError:
        return taken
    return None if row else taken


async def _put(opened: Session, catalogue: Catalogue, by: str, looked_at: Diff | None) -> Applied:
    tenant_id, document = catalogue.tenant.id, catalogue.to_json().decode()
    newest = await opened.row("catalogue_newest", tenant_id)
    if newest and newest["document"] == document:
        return Applied(tenant_id, newest["version"], newest["effective_at"], changed=False, committed=True)
    version = newest["version"] if newest else None
    if looked_at is not None and looked_at.version != version:
        reason = "another version was published while this one was looked at"
        return Applied(tenant_id, (version or 0) + 1, None, changed=True, committed=False, reason=reason)
    row: Any = await opened.row("catalogue_insert", tenant_id, document, by, AHEAD_S)
    return Applied(tenant_id, row["version"], row["effective_at"], changed=True, committed=True)


async def _commit(opened: Session) -> None:
    try:
        tag = await opened.do("COMMIT")
    except UnavailableError:
        reason = "COMMIT was not answered: apply it again, the same content is never a second version"
        raise UnavailableError("database", reason) from None
    if tag != "COMMIT":
        raise UnavailableError("database", "the transaction had been aborted; nothing was changed")
