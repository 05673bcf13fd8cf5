"""
What follows from a customer, their category and a day, by the tenant's catalogue: one pure function.

Every rule only adds protection: a factor or a claim may raise a scale or lower a limit, never the reverse.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from worker.core.catalogue import Activation, Catalogue, Limits
from worker.core.catalogue_index import SCORE_MAX, ClaimValue, Factor, Index
from worker.core.categorize import REMEMBERED_CHARACTERS_MAX, Categorized, Claims
from worker.core.customer import Subject, age_years
from worker.core.decision import CustomerFeature, CustomerLimits, CustomerParameter, Decision, Reason
from worker.core.explain import Rule
from worker.core.scales import (
    Claim,
    Confirmation,
    Detail,
    DueDiligence,
    PepKind,
    RiskLevel,
    Scale,
    VerificationLevel,
)

_S = TypeVar("_S", bound=Scale)

_SCORE: Final = "riskScore"
_LEVEL: Final = "riskLevel"
_REMEMBERED: Final = 2048
"""How many decisions are kept."""


class Traits(NamedTuple):
    """What the rules see of a person: no name, no date, no country, only what the catalogue makes of them."""

    nationality_lists: tuple[str, ...]
    residence_lists: tuple[str, ...]
    age_bands: tuple[str, ...]
    place_of_birth_told: bool
    nationalities_told: bool
    phone_told: bool


@dataclass(frozen=True, slots=True)
class Prohibited:
    """Nobody of this kind is taken. The reasons are the operator's to read, never the caller's."""

    category_id: str
    reasons: tuple[Reason, ...]


def decide(subject: Subject, categorized: Categorized, catalogue: Catalogue, version: int, day: date) -> Decision | Prohibited:
    """
    Decide about a customer.

    Args:
        subject: what the rules may know of who registers.
        categorized: their category, its features and what the caller claims.
        catalogue: the tenant's rules.
        version: the catalogue's number, which the decision names.
        day: today in the tenant's time zone.
    Returns:
        The decision, the same for the same arguments; or that this customer is prohibited.
    Source: README, rules R-1 to R-16.
    """
    answer = _decide if len(categorized.sent) <= REMEMBERED_CHARACTERS_MAX else _decide.__wrapped__
    return answer(catalogue.index, categorized, traits(subject, catalogue.index, day), version, day)


def traits(subject: Subject, index: Index, day: date) -> Traits:
    """Return what the rules make of a person."""
    age = age_years(subject.date_of_birth, day)
    return Traits(
        nationality_lists=_lists(subject.nationalities, index),
        residence_lists=_lists(subject.residences, index),
        age_bands=tuple([name for from_years, below_years, name in index.age_bands if from_years <= age < below_years]),
        place_of_birth_told=subject.place_of_birth_told,
        nationalities_told=subject.nationalities_told,
        phone_told=subject.phone_told,
    )


def _lists(countries: tuple[str, ...], index: Index) -> tuple[str, ...]:
    """Return the lists that any of the countries is on. Source: README, rule R-2."""
    if index.country_lists.keys().isdisjoint(countries):
        return ()
    return tuple(sorted({name for country in countries for name in index.country_lists.get(country, ())}))


@lru_cache(maxsize=_REMEMBERED)
def _decide(index: Index, categorized: Categorized, traits: Traits, version: int, day: date) -> Decision | Prohibited:
    """Decide about all who share these traits: a decision knows no more of a person, and is remembered."""
    catalogue, claims = index.catalogue, categorized.claims
    pep = _claimed(claims, Claim.PEP, PepKind)
    score, risk, reasons = _risk(traits, categorized, index)
    if risk is RiskLevel.PROHIBITED:
        return Prohibited(categorized.category_id, tuple(reasons))

    level = catalogue.levels[risk]
    due_diligence = _raised(level.due_diligence, Claim.DUE_DILIGENCE, claims, Rule.DUE_DILIGENCE, reasons)
    if pep is not None:
        due_diligence = DueDiligence.ENHANCED
    screening = _raised(level.sanctions_screening, Claim.SANCTIONS_SCREENING, claims, Rule.SCREENING, reasons)
    monitoring = _raised(level.monitoring, Claim.MONITORING, claims, Rule.SCREENING, reasons)
    verification = VerificationLevel.ENHANCED if due_diligence is DueDiligence.ENHANCED else level.verification
    limits = _limits(level.limits, catalogue.tenant.currency, claims, reasons)
    checks, consents = catalogue.verification[verification], categorized.category.consents[risk]
    senior_approval = level.senior_approval or pep is not None
    effective: dict[Claim, ClaimValue | None] = {
        Claim.RISK_LEVEL: risk,
        Claim.RISK_SCORE: score,
        Claim.PEP: pep,
        Claim.DUE_DILIGENCE: due_diligence,
        Claim.SANCTIONS_SCREENING: screening,
        Claim.MONITORING: monitoring,
        Claim.DAY_LIMIT: limits.day,
        Claim.MONTH_LIMIT: limits.month,
        Claim.TRANSACTION_LIMIT: limits.transaction,
    }
    return Decision(
        risk_level=risk,
        risk_score=score,
        features=_features(categorized, effective),
        due_diligence=due_diligence,
        sanctions_screening=screening,
        monitoring=monitoring,
        next_review_on=months_later(day, level.review_after_months),
        senior_approval=senior_approval,
        verification_level=verification,
        verification_checks=checks,
        consents=consents,
        limits=limits,
        activation_blockers=(
            *_untold(traits, catalogue.activation),
            *_unconfirmed(traits, catalogue.activation),
            *(f"CONSENT_{consent.code}" for consent in consents),
            *(f"CHECK_{each}" for each in checks),
            *(("SANCTIONS_SCREENING",) if catalogue.activation.sanctions_screening else ()),
            *(("SENIOR_APPROVAL",) if senior_approval else ()),
        ),
        catalogue_version=version,
        automated=True,
        human_review=catalogue.tenant.human_review,
        explanation=tuple(reasons),
    )


def months_later(day: date, months: int) -> date:
    """Return the day a number of months later, or the last of that month where it has no such day."""
    years, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(years, month + 1, min(day.day, monthrange(years, month + 1)[1]))


def _risk(traits: Traits, categorized: Categorized, index: Index) -> tuple[int, RiskLevel, list[Reason]]:
    """
    Return score and level with the reasons, whose points add up to the score.

    Source: README, rules R-1 to R-3 and R-5 to R-8.
    """
    score, risk, reasons = 0, RiskLevel.LOW, []
    for factor in _factors(traits, categorized, index):
        reason = factor.reason
        points = min(reason.points, SCORE_MAX - score)
        score += points
        risk = max(risk, factor.minimum_level)
        reasons.append(replace(reason, points=points))

    claimed = categorized.claims.get(Claim.RISK_SCORE)
    if claimed is not None and isinstance(claimed.value, int) and claimed.value > score:
        raised = min(claimed.value, SCORE_MAX)
        reasons.append(Reason("CLAIMED_SCORE", raised - score, Rule.CLAIM, claimed.input))
        score = raised
    claimed = categorized.claims.get(Claim.RISK_LEVEL)
    if claimed is not None and isinstance(claimed.value, RiskLevel) and claimed.value > risk:
        reasons.append(Reason("CLAIMED_LEVEL", 0, Rule.CLAIM, claimed.input))
        risk = claimed.value

    if risk is RiskLevel.PROHIBITED:
        return score, risk, reasons
    reached, floor = index.level_at_score[score], index.catalogue.levels[risk].score_min
    if reached > risk:
        reasons.append(Reason("SCORE_THRESHOLD", 0, Rule.AGREEMENT, _SCORE))
        risk = reached
    elif floor > score:
        reasons.append(Reason("LEVEL_FLOOR", floor - score, Rule.AGREEMENT, _LEVEL))
        score = floor
    return score, risk, reasons


def _factors(traits: Traits, categorized: Categorized, index: Index) -> list[Factor]:
    """Return what is found about the customer, in the order of the rules."""
    found = [categorized.category.base]
    found += [index.nationality_factors[name] for name in traits.nationality_lists]
    found += [index.residence_factors[name] for name in traits.residence_lists]
    pep = categorized.claims.get(Claim.PEP)
    if pep is not None and isinstance(pep.value, PepKind):
        factor = index.pep_factors[pep.value]
        found.append(Factor(replace(factor.reason, input=pep.input), factor.minimum_level))
    found += [index.age_factors[name] for name in traits.age_bands]
    found += [each.feature.factor for each in categorized.features if each.enabled and each.feature.factor is not None]
    return found


def _claimed(claims: Claims, claim: Claim, scale: type[_S]) -> _S | None:
    claimed = claims.get(claim)
    return claimed.value if claimed is not None and isinstance(claimed.value, scale) else None


def _raised(own: _S, claim: Claim, claims: Claims, rule: Rule, reasons: list[Reason]) -> _S:
    """Return the stricter of what the level demands and what the caller asked for."""
    claimed = claims.get(claim)
    if claimed is not None and isinstance(claimed.value, type(own)) and claimed.value > own:
        reasons.append(Reason(f"CLAIMED_{claim}", 0, rule, claimed.input))
        return claimed.value
    return own


def _limits(level: Limits, currency: str, claims: Claims, reasons: list[Reason]) -> CustomerLimits:
    """Return the level's limits, lowered where the caller asked for less: transaction <= day <= month."""
    month = _lowered(level.month, Claim.MONTH_LIMIT, claims, reasons)
    day = _lowered(min(level.day, month), Claim.DAY_LIMIT, claims, reasons)
    transaction = _lowered(min(level.transaction, day), Claim.TRANSACTION_LIMIT, claims, reasons)
    return CustomerLimits(currency, day, month, transaction)


def _lowered(own: int, claim: Claim, claims: Claims, reasons: list[Reason]) -> int:
    claimed = claims.get(claim)
    if claimed is not None and isinstance(claimed.value, int) and claimed.value < own:
        reasons.append(Reason(f"CLAIMED_{claim}", 0, Rule.LIMITS, claimed.input))
        return claimed.value
    return own


def _features(categorized: Categorized, effective: Mapping[Claim, ClaimValue | None]) -> tuple[CustomerFeature, ...]:
    """Say for each feature what was asked for and what holds."""
    return tuple(
        [
            CustomerFeature(
                each.feature.code,
                each.enabled,
                {
                    key.name: CustomerParameter(text, key.effective(text, effective.get(key.claim) if key.claim else None))
                    for key, text in each.parameters
                },
            )
            for each in categorized.features
        ]
    )


def _untold(traits: Traits, activation: Activation) -> list[Detail]:
    """Return the details that are asked for and not told. Source: README, rule R-14."""
    told = {Detail.PLACE_OF_BIRTH: traits.place_of_birth_told, Detail.NATIONALITIES: traits.nationalities_told}
    return [detail for detail in Detail if detail in activation.details and not told[detail]]


def _unconfirmed(traits: Traits, activation: Activation) -> list[Confirmation]:
    """Return what the customer must prove to hold, of what there is. Source: README, rule R-14."""
    there = {Confirmation.EMAIL_CONFIRMATION: True, Confirmation.PHONE_CONFIRMATION: traits.phone_told}
    return [each for each in Confirmation if each in activation.confirmations and there[each]]
