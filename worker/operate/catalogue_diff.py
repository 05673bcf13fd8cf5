"""
What a catalogue would change: in the rules, and for whom of the stored customers.

Every customer is decided by the newest version and by the file, as of their own day: what then differs follows from the
catalogues alone. Customers come in pages, and most share their traits, so that time and memory stay small.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from worker.catalogues import stored
from worker.core.assess import CUSTOMER_PROHIBITED, Refused
from worker.core.catalogue import Catalogue
from worker.core.compare_catalogues import Change
from worker.core.compare_catalogues import compare as compare_catalogues
from worker.core.compare_decisions import Difference
from worker.core.compare_decisions import compare as compare_decisions
from worker.core.decision import Decision
from worker.core.protection import ORDER, PROTECTS, Protection
from worker.operate.catalogue_file import CatalogueFault, validate
from worker.operate.decisions import decide_again, is_as_stored
from worker.operate.session import Row, Session, collecting_seldom, session

EXAMPLES: Final = 3
TRANSITIONS_MAX: Final = 1000
"""Most pairs of before and after that are counted each for itself: amounts that were asked for may all differ."""
SHOWN: Final = 12
_PAGE_ROWS: Final = 2000

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how many customers are done, and how many there are."""


@dataclass(slots=True)
class Transition:
    """
    How many customers one member of the decision would change for, from what to what.

    Args:
        aspect: as `worker.core.compare_decisions.Difference` has it.
        examples: ids of the first few.
    """

    aspect: str
    before: str
    after: str
    protection: Protection
    customers: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Diff:
    """
    What a file would change.

    Args:
        tenant_id: whose catalogue it is.
        version: the newest one, with which it was compared; None where the tenant has none.
        changes: of the rules.
        customers: how many are stored.
        changed: for how many of them something would be decided otherwise.
        falling: for how many something would protect less.
        transitions: from what to what, the most frequent first.
        duration_s: how long it took.
    """

    tenant_id: str
    version: int | None
    changes: tuple[Change, ...]
    customers: int = 0
    changed: int = 0
    falling: int = 0
    transitions: tuple[Transition, ...] = ()
    duration_s: float = 0.0

    @property
    def protects_less(self) -> bool:
        """Somebody would be protected less: a stored customer, or one to come."""
        return self.falling > 0 or any(change.protection is Protection.LESS for change in self.changes)

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        changes = [change._asdict() for change in self.changes]
        return json.dumps({"protects_less": self.protects_less, **asdict(self), "changes": changes})


async def diff(database_url: str, path: Path, progress: Progress | None = None) -> Diff | tuple[CatalogueFault, ...]:
    """
    Compare a file with the newest version of its tenant.

    Args:
        database_url: `postgresql://…`.
        path: of the YAML file.
        progress: told about while customers are decided again.
    Returns:
        What would change, or what is wrong with the file.
    Raises:
        UnavailableError: the database does not answer.
    """
    catalogue = validate(path)
    if not isinstance(catalogue, Catalogue):
        return catalogue
    async with session(database_url, "registration-catalogue-diff") as opened:
        return await diff_with_newest(opened, catalogue, progress)


async def diff_with_newest(opened: Session, catalogue: Catalogue, progress: Progress | None = None) -> Diff:
    """Compare a catalogue that was read, as `diff` does."""
    started, tenant_id = time.monotonic(), catalogue.tenant.id
    newest = await opened.row("catalogue_newest", tenant_id)
    if newest is None:
        return Diff(tenant_id, None, ())
    version = newest["version"]
    if newest["document"] == catalogue.to_json().decode():
        return Diff(tenant_id, version, ())
    before = stored(tenant_id, version, newest["document"])
    tally = _Tally(before, catalogue, version)
    total = await opened.number("customers_count", tenant_id)
    page = await opened.rows("decision_inputs_page", tenant_id, "", _PAGE_ROWS)
    with collecting_seldom():
        while page:
            # The database looks for the next page while this one is decided about.
            after = page[-1]["customer_id"]
            further = opened.rows("decision_inputs_page", tenant_id, after, _PAGE_ROWS)
            page, _ = await asyncio.gather(further, asyncio.to_thread(tally.add, page))
            if progress is not None:
                progress(tally.customers, max(total, tally.customers))
    return Diff(
        tenant_id,
        version,
        compare_catalogues(before, catalogue),
        tally.customers,
        tally.changed,
        tally.falling,
        tally.transitions(),
        round(time.monotonic() - started, 3),
    )


class _Tally:
    """Counts what two catalogues decide differently."""

    def __init__(self, before: Catalogue, after: Catalogue, version: int) -> None:
        self._before = before
        self._after = after
        self._version = version
        self._found: dict[tuple[str, str, str], Transition] = {}
        self.customers = 0
        self.changed = 0
        self.falling = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Decide about customers by both catalogues, as by one version number, so that only the rules differ."""
        for row in rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        self.customers += 1
        held = row["catalogue_version"]
        after = decide_again(row, self._after, held)
        if held == self._version and is_as_stored(row, after):
            return
        differences = compare_decisions(self._decided_before(row), after)
        self.changed += bool(differences)
        self.falling += any(each.protection is Protection.LESS for each in differences)
        for each in differences:
            self._count(each, row["customer_id"])

    def _decided_before(self, row: Row) -> Decision | Refused:
        """
        Return what the newest version says, which for its own customers is what is stored.

        Where it would not take the customer at all, whose category it may no longer offer, the version by which they were
        taken stands for it: what they have is what could fall.
        """
        held = row["catalogue_version"]
        if held != self._version:
            before = decide_again(row, self._before, held)
            if isinstance(before, Decision) or before.code == CUSTOMER_PROHIBITED:
                return before
        return Decision.from_json(row["decision"])

    def _count(self, each: Difference, customer_id: str) -> None:
        place = each[:3]
        if place not in self._found and len(self._found) >= TRANSITIONS_MAX:
            each = Difference(each.aspect, "other values", "other values", each.protection)
            place = (each.aspect, each.before, f"{each.after} {each.protection}")
        transition = self._found.setdefault(place, Transition(*each))
        transition.customers += 1
        if len(transition.examples) < EXAMPLES:
            transition.examples.append(customer_id)

    def transitions(self) -> tuple[Transition, ...]:
        """Return what was counted: what protects less first, then by number."""
        return tuple(sorted(self._found.values(), key=lambda each: (ORDER.index(each.protection), -each.customers)))


def render(found: Diff) -> RenderableType:
    """Return it for people: the rules, the customers, the verdict."""
    if found.version is None:
        return Text(f"Tenant {found.tenant_id} has no catalogue yet: this would be its first version, for every record.")
    parts: list[RenderableType] = [Text(f"Compared with version {found.version} of tenant {found.tenant_id}.", style="bold")]
    parts.append(_changes(found.changes) if found.changes else Text("The rules say the same."))
    if found.transitions:
        parts.append(_transitions(found.transitions))
    parts.append(Text(verdict(found), style="bold red" if found.protects_less else "bold green"))
    return Group(*parts)


def verdict(found: Diff) -> str:
    """Return the result in one line."""
    looked = (
        f"{found.changed:,} of {found.customers:,} customers would be decided otherwise, {found.falling:,} with less protection"
    )
    if found.falling:
        return f"Protection falls: {looked}."
    if found.protects_less:
        return f"Protection falls for customers to come: {looked}."
    return f"Protection does not fall: {looked}."


def _changes(changes: tuple[Change, ...]) -> Table:
    table = Table("what the rules would say", "", box=None, pad_edge=False)
    for change in changes:
        table.add_row(Text(change.text), _told(change.protection))
    return table


def _transitions(transitions: tuple[Transition, ...]) -> Table:
    table = Table("decision", "from", "to", "customers", "", Column("such as", no_wrap=True), box=None, pad_edge=False)
    for each in transitions[:SHOWN]:
        number = Text(f"{each.customers:,}", justify="right")
        table.add_row(each.aspect, Text(each.before), Text(each.after), number, _told(each.protection), Text(each.examples[0]))
    if len(transitions) > SHOWN:
        table.add_row(f"… {len(transitions) - SHOWN:,} more: --json", "", "", "", "", "")
    return table


def _told(protection: Protection) -> Text:
    return Text(PROTECTS[protection], style={Protection.LESS: "red", Protection.MORE: "green"}.get(protection, ""))
