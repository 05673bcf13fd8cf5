"""
The catalogue laid out for deciding: what a request may name, found by one look; what a rule may find, made before.

Nothing here says more than the catalogue does; it is worked out once, so that each decision costs little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from worker.core.decision import Consent, Reason
from worker.core.explain import Rule
from worker.core.scales import (
    Claim,
    DueDiligence,
    Monitoring,
    PepKind,
    RiskLevel,
    SanctionsScreening,
    Scale,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.core.catalogue import Catalogue, Category, CountryList, Feature, Parameter

ClaimValue: TypeAlias = Scale | int
"""A place on the scale that a claim is about, or a number."""
Words: TypeAlias = "Mapping[str, ClaimValue | None]"

LIMIT_CLAIMS: Final = frozenset({Claim.DAY_LIMIT, Claim.MONTH_LIMIT, Claim.TRANSACTION_LIMIT})
NUMBER_CLAIMS: Final = LIMIT_CLAIMS | {Claim.RISK_SCORE}
CLAIM_WORDS: Final[Mapping[Claim, Words]] = {
    Claim.RISK_LEVEL: {level: level for level in RiskLevel},
    Claim.PEP: {"false": None, "NONE": None, "true": PepKind.UNSPECIFIED, **{kind: kind for kind in PepKind}},
    Claim.DUE_DILIGENCE: {
        "false": None,
        "true": DueDiligence.ENHANCED,
        **{each: each for each in DueDiligence},
        **{f"{each}_DUE_DILIGENCE": each for each in DueDiligence},
    },
    Claim.SANCTIONS_SCREENING: {"NONE": None, **{each: each for each in SanctionsScreening}},
    Claim.MONITORING: {"NONE": None, **{each: each for each in Monitoring}},
}
"""What a word says about the customer, by the claim that its parameter makes; None says nothing."""

SCORE_MAX: Final = 100

_LIMIT_RANGE: Final = "0-999999999999"
_DIGITS_MAX: Final = 12
_AMOUNT: Final = re.compile(rf"[0-9]{{1,{_DIGITS_MAX}}}\.[0-9]{{1,2}}")


class Refusal(Enum):
    """A value that a parameter may not have."""

    NOT_ALLOWED = "NOT_ALLOWED"


@dataclass(frozen=True, slots=True)
class Factor:
    """Something found about a customer: the reason with its points, and the level that it leads to at least."""

    reason: Reason
    minimum_level: RiskLevel


@dataclass(frozen=True, slots=True, eq=False)
class IndexedParameter:
    """
    A key of a feature.

    Args:
        name: the key.
        input: what an explanation calls it.
        claim: what it says to the rules.
        allowed: its values, or its range, as a problem names them; None where every text is allowed.
        words: what each allowed word says; None where it is no list.
        names: for what can hold, the word that says it; a range has none.
        bounds: smallest and largest number; None where it is no range.
        multiple: the value is a comma-separated list.
    """

    name: str
    input: str
    claim: Claim | None
    allowed: tuple[str, ...] | str | None
    words: Words | None
    names: Mapping[ClaimValue | None, str]
    bounds: tuple[int, int] | None
    multiple: bool

    def read(self, text: str) -> ClaimValue | Refusal | None:
        """Return what a value says about the customer: None where nothing, a `Refusal` where it is not allowed."""
        if self.words is not None:
            if not self.multiple:
                return self.words.get(text, Refusal.NOT_ALLOWED)
            said = [self.words.get(word.strip(" "), Refusal.NOT_ALLOWED) for word in text.split(",")]
            if Refusal.NOT_ALLOWED in said:
                return Refusal.NOT_ALLOWED
            return max((each for each in said if each is not None), default=None)  # type: ignore[type-var]
        if self.bounds is None:
            return Refusal.NOT_ALLOWED if not text or text.isspace() else None
        if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX:
            number: int | Decimal = int(text)
        elif self.claim in LIMIT_CLAIMS and _AMOUNT.fullmatch(text) is not None:
            number = Decimal(text)
        else:
            return Refusal.NOT_ALLOWED
        return int(number) if self.bounds[0] <= number <= self.bounds[1] else Refusal.NOT_ALLOWED

    def effective(self, requested: str, value: ClaimValue | None) -> str:
        """
        Say in the parameter's own words what holds.

        Args:
            requested: the text that was sent.
            value: what holds for the parameter's claim; None where nothing was decided about it.
        """
        if self.claim is None or value is None:
            return requested
        return self.names.get(value) or str(value)


@dataclass(frozen=True, slots=True, eq=False)
class IndexedFeature:
    """A feature: its keys by name, and what it adds to the risk where it is enabled."""

    code: str
    parameters: Mapping[str, IndexedParameter]
    mandatory: tuple[str, ...]
    factor: Factor | None


@dataclass(frozen=True, slots=True, eq=False)
class IndexedCategory:
    """A category: its features by code and by every name they go by, and what follows from it at each level."""

    category_id: str
    category: Category
    base: Factor
    features: Mapping[str, IndexedFeature]
    features_by_id: Mapping[str, IndexedFeature]
    required: tuple[IndexedFeature, ...]
    consents: Mapping[RiskLevel, tuple[Consent, ...]]
    consent_blockers: Mapping[RiskLevel, tuple[str, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Everything that a decision looks up. It equals only itself, so that what follows from it can be remembered."""

    catalogue: Catalogue
    categories: Mapping[str, IndexedCategory]
    roles: frozenset[str]
    country_lists: Mapping[str, tuple[str, ...]]
    age_bands: tuple[tuple[int, int, str], ...]
    nationality_factors: Mapping[str, Factor]
    residence_factors: Mapping[str, Factor]
    age_factors: Mapping[str, Factor]
    pep_factors: Mapping[PepKind, Factor]
    level_at_score: tuple[RiskLevel, ...]


def index(catalogue: Catalogue) -> Index:
    """Lay a catalogue out for deciding."""
    features = {code: _feature(code, feature) for code, feature in catalogue.features.items()}
    categories = {}
    for category_id, category in catalogue.categories.items():
        indexed = _category(category_id, category, features, catalogue)
        categories[category_id] = categories[category.database_id] = indexed
    lists, bands = catalogue.factors.country_lists, catalogue.factors.age_bands
    return Index(
        catalogue=catalogue,
        categories=categories,
        roles=frozenset(catalogue.tenant.roles),
        country_lists=_country_lists(lists),
        age_bands=tuple((band.from_years, band.below_years, name) for name, band in sorted(bands.items())),
        nationality_factors={
            name: Factor(Reason(name, each.nationality_points, Rule.COUNTRY, "nationality"), each.minimum_level)
            for name, each in lists.items()
        },
        residence_factors={
            name: Factor(Reason(name, each.residence_points, Rule.COUNTRY, "addresses"), each.minimum_level)
            for name, each in lists.items()
        },
        age_factors={name: _factor(name, band.points, Rule.AGE, "dateOfBirth") for name, band in bands.items()},
        pep_factors={
            kind: Factor(Reason(f"PEP_{kind}", pep.points, Rule.PEP, "pep"), pep.minimum_level)
            for kind, pep in catalogue.factors.pep.items()
        },
        level_at_score=tuple(catalogue.level_at(score) for score in range(SCORE_MAX + 1)),
    )


def _factor(name: str, points: int, rule: Rule, found_in: str) -> Factor:
    return Factor(Reason(name, points, rule, found_in), RiskLevel.LOW)


def _country_lists(lists: Mapping[str, CountryList]) -> dict[str, tuple[str, ...]]:
    """Say for each country which lists it is on."""
    found: dict[str, tuple[str, ...]] = {}
    for name, each in sorted(lists.items()):
        for country in each.countries:
            found[country] = (*found.get(country, ()), name)
    return found


def _feature(code: str, feature: Feature) -> IndexedFeature:
    return IndexedFeature(
        code=code,
        parameters={name: _parameter(code, name, each) for name, each in feature.parameters.items()},
        mandatory=feature.mandatory_keys,
        factor=_factor(f"FEATURE_{code}", feature.risk_points, Rule.FEATURE, code) if feature.risk_points else None,
    )


def _parameter(code: str, name: str, parameter: Parameter) -> IndexedParameter:
    allowed = parameter.allowed
    if allowed is None and parameter.claims in LIMIT_CLAIMS:
        allowed = _LIMIT_RANGE
    bounds, words, names = None, None, {}
    if isinstance(allowed, str):
        low, _, high = allowed.partition("-")
        bounds = (int(low), int(high))
    elif allowed is not None:
        meanings = CLAIM_WORDS[parameter.claims] if parameter.claims is not None else {}
        words = {word: meanings.get(word) for word in allowed}
        names = _names(words)
    return IndexedParameter(name, f"{code}.{name}", parameter.claims, allowed, words, names, bounds, parameter.multiple)


def _names(words: Words) -> dict[ClaimValue | None, str]:
    """
    Turn words around: name each value that can hold.

    Of several words for one the first is taken. Where the words are "true" and "false", what is at least as strong as
    "true" has that name, and what is weaker the other.
    """
    yes = words.get("true")
    if isinstance(yes, Scale) and words.keys() == {"true", "false"}:
        return {value: "true" if value >= yes else "false" for value in type(yes)}
    return {value: word for word, value in reversed(list(words.items()))}


def _category(
    category_id: str, category: Category, features: Mapping[str, IndexedFeature], catalogue: Catalogue
) -> IndexedCategory:
    own = {code: features[code] for code in category.features}
    consents = {
        name: _consents((*catalogue.consents, *level.consents, *category.consents), catalogue.documents)
        for name, level in catalogue.levels.items()
    }
    return IndexedCategory(
        category_id=category_id,
        category=category,
        base=Factor(Reason("CATEGORY", category.base_score, Rule.CATEGORY, "categorization"), category.risk_level),
        features=own,
        features_by_id={**{catalogue.features[code].database_id: each for code, each in own.items()}, **own},
        required=tuple(own[code] for code in sorted(category.required_features)),
        consents=consents,
        consent_blockers={name: tuple(f"CONSENT_{each.code}" for each in given) for name, given in consents.items()},
    )


def _consents(codes: Iterable[str], documents: Mapping[str, str]) -> tuple[Consent, ...]:
    return tuple(Consent(code, documents[code]) for code in dict.fromkeys(codes))
