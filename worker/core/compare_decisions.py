"""What differs between two decisions about one customer, and whether it protects more or less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from worker.core.assess import CUSTOMER_PROHIBITED, Refused
from worker.core.decision import Decision
from worker.core.protection import Protection, Sense, falling, indifferent, rising, superset

Outcome: TypeAlias = Decision | Refused

_ACCEPTED: Final = "accepted"


class Difference(NamedTuple):
    """
    One member of a decision that another catalogue decides otherwise.

    Args:
        aspect: the member's name, as a customer's `decision` has it, such as `limits.day`; `outcome` where one of the two
            is a refusal.
        before: as it was, in words; of a list, what the other one does not have.
        after: as it would be, likewise.
        protection: what the change does.
    """

    aspect: str
    before: str
    after: str
    protection: Protection


class _Aspect(NamedTuple):
    name: str
    of: Callable[[Decision], Any]
    sense: Sense


_ASPECTS: Final = (
    _Aspect("riskLevel", lambda decision: decision.risk_level, rising),
    _Aspect("riskScore", lambda decision: decision.risk_score, indifferent),
    _Aspect("dueDiligence", lambda decision: decision.due_diligence, rising),
    _Aspect("sanctionsScreening", lambda decision: decision.sanctions_screening, rising),
    _Aspect("monitoring", lambda decision: decision.monitoring, rising),
    _Aspect("nextReviewOn", lambda decision: decision.next_review_on, falling),
    _Aspect("seniorApproval", lambda decision: decision.senior_approval, rising),
    _Aspect("verificationLevel", lambda decision: decision.verification_level, rising),
    _Aspect("verificationChecks", lambda decision: frozenset(decision.verification_checks), superset),
    _Aspect("consents", lambda decision: frozenset(each.code for each in decision.consents), superset),
    _Aspect("documents", lambda decision: frozenset(f"{c.code} {c.document_version}" for c in decision.consents), indifferent),
    _Aspect("limits.day", lambda decision: decision.limits.day, falling),
    _Aspect("limits.month", lambda decision: decision.limits.month, falling),
    _Aspect("limits.transaction", lambda decision: decision.limits.transaction, falling),
    _Aspect("activationBlockers", lambda decision: frozenset(decision.activation_blockers), superset),
    _Aspect("humanReview", lambda decision: decision.human_review, rising),
)
"""
A score by itself protects nobody: what it leads to does. Nor does a document's version: whoever agreed to the one before
has agreed.
"""


def compare(before: Outcome, after: Outcome) -> tuple[Difference, ...]:
    """
    Say what differs between two outcomes for one customer on one day.

    Args:
        before: by one catalogue.
        after: by another.
    Returns:
        Nothing where all that matters is the same. To be prohibited protects more than to be accepted on any terms; a
        category that is no longer offered protects nobody who is a customer.
    """
    if isinstance(before, Decision) and isinstance(after, Decision):
        return tuple(_between(before, after))
    one, other = _outcome(before), _outcome(after)
    if one == other:
        return ()
    return (Difference("outcome", one, other, _admission(before, after)),)


def _between(before: Decision, after: Decision) -> Iterator[Difference]:
    currencies = before.limits.currency, after.limits.currency
    if currencies[0] != currencies[1]:
        yield Difference("limits.currency", *currencies, Protection.LESS)
    for aspect in _ASPECTS:
        one, other = aspect.of(before), aspect.of(after)
        if one != other:
            protection = aspect.sense(one, other)
            if isinstance(one, frozenset):
                one, other = one - other, other - one
            yield Difference(aspect.name, _said(one), _said(other), protection)


def _admission(before: Outcome, after: Outcome) -> Protection:
    if isinstance(before, Decision):
        return Protection.MORE if _prohibited(after) else Protection.SAME
    return Protection.LESS if isinstance(after, Decision) and _prohibited(before) else Protection.SAME


def _prohibited(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and outcome.code == CUSTOMER_PROHIBITED


def _outcome(outcome: Outcome) -> str:
    if isinstance(outcome, Decision):
        return _ACCEPTED
    codes = sorted({fault.code for fault in outcome.faults})
    return f"refused: {outcome.code} ({', '.join(codes)})" if codes else f"refused: {outcome.code}"


def _said(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
