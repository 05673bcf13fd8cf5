"""What would make a catalogue contradict itself, or protect less where the risk is higher."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from worker.core.scales import DueDiligence, RiskLevel, VerificationLevel

if TYPE_CHECKING:
    from worker.core.catalogue import Catalogue, Level

ACCEPTED_LEVELS: Final = (RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH, RiskLevel.CRITICAL)
CONSENTS_OF_ALL: Final = ("TERMS_AND_CONDITIONS", "PRIVACY_POLICY", "DATA_PROCESSING")

_REVIEW_MONTHS_MAX_AT_HIGH_RISK: Final = 12


def contradictions(catalogue: Catalogue) -> list[str]:
    """
    Say what does not hold together, each with its path and what was expected.

    Args:
        catalogue: whose parts are right, each for itself.
    """
    if set(catalogue.levels) != set(ACCEPTED_LEVELS):
        return [f"levels: must be {', '.join(ACCEPTED_LEVELS)}"]
    if set(catalogue.verification) != set(VerificationLevel):
        return [f"verification: must have {', '.join(VerificationLevel)}"]
    if catalogue.levels[RiskLevel.LOW].score_min:
        return ["levels.LOW.score_min: must be 0"]
    return [
        *_level_faults(catalogue),
        *_category_faults(catalogue),
        *_consent_faults(catalogue),
        *_identity_faults(catalogue),
    ]


def _level_faults(catalogue: Catalogue) -> list[str]:
    """Say where a higher level would protect less than a lower one. Source: README, rules R-4, R-8 to R-12."""
    faults = []
    levels = [(name, catalogue.levels[name]) for name in ACCEPTED_LEVELS]
    for (_, below), (name, level) in pairwise(levels):
        if level.score_min <= below.score_min:
            faults.append(f"levels.{name}.score_min: must be more than the level below begins with")
        if not _protects_as_much(level, below):
            faults.append(f"levels.{name}: protects less than the level below it")
    for name, level in levels[2:]:
        if level.review_after_months > _REVIEW_MONTHS_MAX_AT_HIGH_RISK:
            faults.append(f"levels.{name}.review_after_months: must be at most {_REVIEW_MONTHS_MAX_AT_HIGH_RISK}")
        if level.due_diligence is not DueDiligence.ENHANCED:
            faults.append(f"levels.{name}.due_diligence: must be ENHANCED")
    faults += [
        f"verification.{more}: lacks a check of {less}"
        for less, more in pairwise(VerificationLevel)
        if not set(catalogue.verification[less]) <= set(catalogue.verification[more])
    ]
    return faults


def _protects_as_much(level: Level, below: Level) -> bool:
    return (
        level.due_diligence >= below.due_diligence
        and level.sanctions_screening >= below.sanctions_screening
        and level.monitoring >= below.monitoring
        and level.verification >= below.verification
        and level.review_after_months <= below.review_after_months
        and level.senior_approval >= below.senior_approval
        and level.limits.day <= below.limits.day
        and level.limits.month <= below.limits.month
        and level.limits.transaction <= below.limits.transaction
        and set(level.consents) >= set(below.consents)
    )


def _category_faults(catalogue: Catalogue) -> list[str]:
    """Say which category names a feature that there is not, or a score that its level does not have."""
    faults = []
    for category_id, category in catalogue.categories.items():
        path = f"categories.{category_id}"
        if unknown := set(category.features) - set(catalogue.features):
            faults.append(f"{path}.features: not among features: {', '.join(sorted(unknown))}")
        if unknown := set(category.required_features) - set(category.features):
            faults.append(f"{path}.required_features: not among its features: {', '.join(sorted(unknown))}")
        if len(set(category.features)) != len(category.features):
            faults.append(f"{path}.features: one stands there twice")
        level = catalogue.levels.get(category.risk_level)
        if level is not None and catalogue.level_at(category.base_score) is not category.risk_level:
            faults.append(f"{path}.base_score: belongs to another level than {category.risk_level}")
    return faults


def _consent_faults(catalogue: Catalogue) -> list[str]:
    """Say which consent has no document, and which of those that everybody gives is left out."""
    places = {
        "consents": catalogue.consents,
        **{f"levels.{name}.consents": level.consents for name, level in catalogue.levels.items()},
        **{f"categories.{name}.consents": category.consents for name, category in catalogue.categories.items()},
    }
    faults = [
        f"{path}: without a document: {', '.join(sorted(unknown))}"
        for path, codes in places.items()
        if (unknown := set(codes) - set(catalogue.documents))
    ]
    if missing := set(CONSENTS_OF_ALL) - set(catalogue.consents):
        faults.append(f"consents: must have {', '.join(sorted(missing))}")
    return faults


def _identity_faults(catalogue: Catalogue) -> list[str]:
    """Say which id would mean two things: either id of a category, and code or id of a feature, is accepted."""
    faults = []
    for path, named in (("categories", catalogue.categories), ("features", catalogue.features)):
        ids = [*named, *(each.database_id for key, each in named.items() if each.database_id != key)]
        if len(set(ids)) != len(ids):
            faults.append(f"{path}: an id stands for two of them")
    return faults
