"""The rules by number, and a decision in plain language."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.core.decision import Decision, Reason


class Rule(StrEnum):
    """The rules of a decision by their number in the README; a number is never given to another rule."""

    CATEGORY = "R-1"
    COUNTRY = "R-2"
    PEP = "R-3"
    DUE_DILIGENCE = "R-4"
    AGE = "R-5"
    FEATURE = "R-6"
    CLAIM = "R-7"
    AGREEMENT = "R-8"
    SCREENING = "R-9"
    REVIEW = "R-10"
    LIMITS = "R-11"
    VERIFICATION = "R-12"
    CONSENTS = "R-13"
    BLOCKERS = "R-14"
    REVIEWER = "R-15"
    PROHIBITED = "R-16"


RULES: Final[Mapping[str, str]] = {
    Rule.CATEGORY: "the category's own risk",
    Rule.COUNTRY: "nationality or residence in a listed country",
    Rule.PEP: "a politically exposed person",
    Rule.DUE_DILIGENCE: "the caller asked for closer due diligence",
    Rule.AGE: "the person's age",
    Rule.FEATURE: "a product that adds risk",
    Rule.CLAIM: "the caller rates the risk higher",
    Rule.AGREEMENT: "score and level are brought to agree, upwards",
    Rule.SCREENING: "the caller asked for more screening or monitoring",
    Rule.LIMITS: "the caller asked for a lower limit",
}
"""What each rule that can stand in an explanation says, in a few words."""


def explain(decision: Decision) -> tuple[str, ...]:
    """
    Tell a decision in plain language, a sentence a line, without any personal value.

    Args:
        decision: as it was made or read back.
    """
    limits = decision.limits
    return (
        f"Risk {decision.risk_level}, {decision.risk_score} of 100 points; catalogue version {decision.catalogue_version}.",
        *(_sentence(reason) for reason in decision.explanation),
        f"Due diligence {decision.due_diligence}; next review on {decision.next_review_on.isoformat()}.",
        f"Sanctions screening {decision.sanctions_screening}; monitoring {decision.monitoring}.",
        "A senior manager must approve." if decision.senior_approval else "No senior manager needs to approve.",
        f"Verification {decision.verification_level}: {', '.join(decision.verification_checks)}.",
        f"Limits in {limits.currency}: {limits.transaction} a transaction, {limits.day} a day, {limits.month} a month.",
        f"Consents: {', '.join(f'{each.code} ({each.document_version})' for each in decision.consents)}.",
        f"Until activation: {', '.join(decision.activation_blockers)}.",
        "Decided by rules alone; a person may review it."
        if decision.human_review
        else "Decided by rules alone, without review by a person.",
    )


def _sentence(reason: Reason) -> str:
    about = RULES.get(reason.rule, "a rule of another version")
    return f"{reason.points:+d} {reason.factor}: {about} ({reason.rule}, from {reason.input})."
