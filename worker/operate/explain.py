"""Why a customer was decided about as they were: in plain language, by the stored version or by another, no personal data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from worker.config import Settings
from worker.core.assess import Refused
from worker.core.compare_decisions import Difference, compare
from worker.core.decision import Decision
from worker.core.explain import explain as sentences
from worker.core.protection import PROTECTS
from worker.operate.decisions import Catalogues, decide_again, is_as_stored
from worker.operate.session import Row, session


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    One registration, explained.

    Args:
        id: of the customer, or of the registration where there is none.
        tenant_id: whose.
        registration_id: from which it came.
        decided_at: time of the record, which "today" follows from.
        version: of the catalogue that held; None where none did.
        decision: as it is stored; None where the registration ended without a customer.
        lines: the same in plain language.
        same: decided again from what is stored it has the same bytes; None where that was not asked.
        other_version: the version that was asked for beside it.
        other_lines: what that one says.
        differences: between the two; what is stored comes first.
    """

    id: str
    tenant_id: str
    registration_id: str
    decided_at: datetime
    version: int | None
    decision: Decision | None
    lines: tuple[str, ...]
    same: bool | None = None
    other_version: int | None = None
    other_lines: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()

    def to_json(self) -> str:
        """Return it as one line of JSON. The features' parameters are left out: a caller may have written anything there."""
        decision = json.loads(self.decision.to_json()) if self.decision else {}
        features = [{"code": each["code"], "enabled": each["enabled"]} for each in decision.get("features", ())]
        return json.dumps(
            {
                "id": self.id,
                "tenant_id": self.tenant_id,
                "registration_id": self.registration_id,
                "decided_at": self.decided_at.isoformat(),
                "catalogue_version": self.version,
                "decision": decision | {"features": features} if decision else None,
                "lines": self.lines,
                "same": self.same,
                "at_version": self.other_version,
                "at_version_lines": self.other_lines,
                "differences": [each._asdict() for each in self.differences],
            }
        )


class NoSuchVersionError(Exception):
    """The tenant has no catalogue of that number."""


async def explain(
    settings: Settings, id_: str, *, tenant: str | None = None, at_version: int | None = None, check: bool = False
) -> tuple[Explanation, ...]:
    """
    Explain what was decided about a customer.

    Args:
        settings: where the database is.
        id_: `cust_…` or `reg_…`.
        tenant: id or slug; None looks in every tenant.
        at_version: also say what this version would decide, of the same customer on the same day.
        check: also decide again by the version that held, and hold it against what is stored.
    Returns:
        One for each tenant that knows the id; nothing where none does.
    Raises:
        UnavailableError: the database does not answer.
        NoSuchVersionError: of `at_version`.
    """
    async with session(settings.database_url.get_secret_value(), "registration-explain") as opened:
        catalogues = Catalogues(opened)
        found = [
            await _explained(row, catalogues, at_version, check=check)
            for row in await opened.rows("decision_inputs_of", id_, tenant)
        ]
        return (*found, *(_refused(row) for row in await opened.rows("refusal", id_, tenant)))


async def _explained(row: Row, catalogues: Catalogues, at_version: int | None, *, check: bool) -> Explanation:
    decision, held = Decision.from_json(row["decision"]), row["catalogue_version"]
    same: bool | None = None
    lines: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    if check:
        own = await catalogues.of(row["tenant_id"], held)
        same = own is not None and is_as_stored(row, decide_again(row, own, held))
    if at_version is not None:
        other = await catalogues.of(row["tenant_id"], at_version)
        if other is None:
            raise NoSuchVersionError(f"tenant {row['slug']} has no version {at_version}: see `catalogue history`")
        outcome = decide_again(row, other, at_version)
        lines, differences = _lines(outcome), compare(decision, outcome)
    return Explanation(
        id=row["customer_id"],
        tenant_id=row["tenant_id"],
        registration_id=row["registration_id"],
        decided_at=row["registered_at"],
        version=held,
        decision=decision,
        lines=(f"Category {row['category_id']}.", *sentences(decision)),
        same=same,
        other_version=at_version,
        other_lines=lines,
        differences=differences,
    )


def _lines(outcome: Decision | Refused) -> tuple[str, ...]:
    if isinstance(outcome, Decision):
        return sentences(outcome)
    return (f"Refused: {outcome.code}.", *_because(outcome.reason, [(fault.pointer, fault.code) for fault in outcome.faults]))


def _refused(row: Row) -> Explanation:
    errors = json.loads(row["problem"]).get("errors", []) if row["problem"] else []
    how = "Refused" if row["status"] == "REJECTED" else "Could not be processed; its command is a dead letter"
    return Explanation(
        id=row["registration_id"],
        tenant_id=row["tenant_id"],
        registration_id=row["registration_id"],
        decided_at=row["decided_at"],
        version=row["catalogue_version"],
        decision=None,
        lines=(
            f"{how}: {row['code']}.",
            *_because(row["reason"], [(error["pointer"], error["code"]) for error in errors]),
            "What was sent is not kept, so that it can't be decided again.",
        ),
    )


def _because(reason: str | None, faults: list[tuple[str, str]]) -> list[str]:
    return [*([f"Because of {reason}."] if reason else []), *(f"{pointer}: {code}" for pointer, code in faults)]


def render(found: Explanation) -> str:
    """Return an explanation for people, a sentence a line."""
    at = f"{found.decided_at:%Y-%m-%d %H:%M:%S}Z"
    lines = [f"{found.id} of tenant {found.tenant_id}, registered {at} by {found.registration_id}", *_indented(found.lines)]
    if found.same is not None:
        said = "gives the same, byte for byte" if found.same else "gives SOMETHING ELSE: what is stored is not what the rules say"
        lines.append(f"Decided again from what is stored, version {found.version} {said}.")
    if found.other_version is not None:
        lines += [f"Version {found.other_version} would say", *_indented(found.other_lines)]
        lines += ["so that", *_indented(map(_differing, found.differences))] if found.differences else ["which is the same."]
    return "\n".join(lines)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _differing(each: Difference) -> str:
    said = PROTECTS[each.protection]
    return f"{each.aspect}: {each.before} → {each.after}" + (f" ({said})" if said else "")
