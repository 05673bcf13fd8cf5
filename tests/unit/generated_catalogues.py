"""Whole catalogues of any shape that is allowed: what the laws of the rules are tried on, beside the development tenant's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement, permutations
from typing import Any, Final, TypeAlias, TypeVar

from hypothesis import strategies as st

from worker.core.catalogue import Catalogue, parse
from worker.core.catalogue_checks import ACCEPTED_LEVELS, CONSENTS_OF_ALL
from worker.core.catalogue_index import CLAIM_WORDS, LIMIT_CLAIMS
from worker.core.scales import (
    Claim,
    Confirmation,
    Detail,
    DueDiligence,
    Monitoring,
    PepKind,
    RiskLevel,
    SanctionsScreening,
    Scale,
    VerificationLevel,
)

Document: TypeAlias = dict[str, Any]
_T = TypeVar("_T")

COUNTRIES: Final = ("LT", "KP", "IR", "VN", "XK")
AMOUNT_MAX: Final = 400
"""Of limits: so small that levels, ranges and what is asked for lie on both sides of each other."""

_FEATURES: Final = ("CARD", "LOAN", "PROFILE", "SAVINGS")
_KEYS: Final = ("alpha", "Beta", "gamma.1", "delta_2", "eps-3")
_WORDS: Final = ("EEA", "Other", "x y", "0")
_EXTRA_CONSENTS: Final = ("MARKETING", "MONITORING", "TRANSFER")
_MOSTLY_ONE: Final = st.sampled_from([1, 1, 1, 0])
"""Where there are none of something a law has little to say about it; it is the case that is forgotten, though."""
_LEVELS: Final = st.sampled_from([*ACCEPTED_LEVELS[:2] * 3, *ACCEPTED_LEVELS[2:] * 2, RiskLevel.PROHIBITED])
_ALL_OF: Final = 5
_SOME_OF: Final = 3
_CHECKS: Final = ("ADDRESS", "FUNDS", "ID", "SELFIE")


@st.composite
def catalogues(draw: st.DrawFn, *, pep: bool = False) -> Catalogue:
    """
    Draw a catalogue.

    Args:
        draw: what Hypothesis gives.
        pep: a mandatory key of each feature asks for the kind of a politically exposed person.
    """
    starts = [0, *draw(_rising_numbers(1, 100, 3, unique=True))]
    extra = draw(_some(_EXTRA_CONSENTS))
    features = {code: draw(_features(code, pep=pep)) for code in draw(_some(_FEATURES, least=1))}
    return parse(
        {
            "tenant": {
                "id": "tenant",
                "slug": "tenant",
                "name": "Tenant",
                "currency": draw(st.sampled_from(["EUR", "USD"])),
                "roles": ["ACCOUNT_OWNER", "USER"],
                "minimum_age_years": draw(st.integers(0, 20)),
                "human_review": draw(st.booleans()),
            },
            "levels": draw(_levels(starts, extra)),
            "factors": draw(_factors()),
            "verification": dict(zip(VerificationLevel, draw(_growing(_CHECKS, 3, least=1)), strict=True)),
            "documents": {code: f"{code} 1" for code in (*CONSENTS_OF_ALL, *extra)},
            "consents": draw(st.permutations([*CONSENTS_OF_ALL, *draw(_some(extra))])),
            "activation": {
                "details": draw(_some(tuple(Detail))),
                "confirmations": draw(_some(tuple(Confirmation))),
                "sanctions_screening": draw(st.booleans()),
            },
            "features": features,
            "categories": {
                name: draw(_categories(name, starts, tuple(features), extra, active=place == 0))
                for place, name in enumerate(draw(_some(("A", "B", "C"), least=1)))
            },
        }
    )


@st.composite
def _some(draw: st.DrawFn, members: Sequence[_T], least: int = 0) -> list[_T]:
    """Draw some of the members, in any order; of many members up to three."""
    most = len(members) if len(members) <= _ALL_OF else _SOME_OF
    return list(draw(_chosen(tuple(members), draw(st.integers(least, most)))))


@cache
def _chosen(members: tuple[_T, ...], size: int) -> st.SearchStrategy[tuple[_T, ...]]:
    """Make it one choice among all: a fifth of the time that a choice for each member takes."""
    return st.sampled_from(list(permutations(members, size)))


@cache
def _rising(scale: type[Scale], count: int) -> st.SearchStrategy[tuple[Scale, ...]]:
    """Draw words of a scale, none of them below the one before it."""
    return st.sampled_from(list(combinations_with_replacement(scale, count)))


def _rising_numbers(least: int, most: int, count: int, *, unique: bool = False) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(least, most), min_size=count, max_size=count, unique=unique).map(sorted)


@st.composite
def _growing(draw: st.DrawFn, members: Sequence[str], count: int, least: int = 0) -> list[list[str]]:
    """Draw lists, each of which has all that the one before it has."""
    steps = draw(_rising_numbers(least, len(members), count))
    order = draw(_some(members, least=len(members)))
    return [order[:step] for step in steps]


@st.composite
def _levels(draw: st.DrawFn, starts: list[int], consents: list[str]) -> Document:
    """Draw what follows from each level, so that none protects less than the one below it."""
    count = len(ACCEPTED_LEVELS)
    amounts = [draw(_rising_numbers(0, AMOUNT_MAX, count)) for _ in range(3)]
    nested = [dict(zip(("transaction", "day", "month"), sorted(row), strict=True)) for row in zip(*amounts, strict=True)]
    by_name: dict[str, Sequence[object]] = {
        "score_min": starts,
        "due_diligence": [*draw(_rising(DueDiligence, 2)), DueDiligence.ENHANCED, DueDiligence.ENHANCED],
        "sanctions_screening": draw(_rising(SanctionsScreening, count)),
        "monitoring": draw(_rising(Monitoring, count)),
        "verification": draw(_rising(VerificationLevel, count)),
        "review_after_months": [*draw(_rising_numbers(1, 12, 2)), *draw(_rising_numbers(12, 60, 2))][::-1],
        "senior_approval": draw(st.sampled_from([[False] * less + [True] * (count - less) for less in range(count, -1, -1)])),
        "limits": nested[::-1],
        "consents": draw(_growing(consents, count)),
    }
    return {level: {name: values[place] for name, values in by_name.items()} for place, level in enumerate(ACCEPTED_LEVELS)}


@st.composite
def _factors(draw: st.DrawFn) -> Document:
    points = st.integers(0, 40)
    kinds = len(PepKind)
    weights = draw(_rising_numbers(0, 40, kinds))
    high, critical = (draw(st.integers(0, kinds)) for _ in range(2))
    least = [*[RiskLevel.HIGH] * high, *[RiskLevel.CRITICAL] * critical, *[RiskLevel.PROHIBITED] * kinds]
    lists = {
        name: {
            "nationality_points": draw(points),
            "residence_points": draw(points),
            "minimum_level": draw(_LEVELS),
            "countries": {
                country: {"source": "drawn", "listed_on": "2026-01-01"} for country in draw(_some(COUNTRIES[1:], least=1))
            },
        }
        for name in draw(_some(("BLACK", "GREY"), least=draw(_MOSTLY_ONE)))
    }
    ages = {
        name: {"from_years": start, "below_years": start + draw(st.integers(1, 40)), "points": draw(points)}
        for name in draw(_some(("OLD", "YOUNG")))
        for start in [draw(st.integers(18, 60))]
    }
    pep = {kind: {"points": weights[place], "minimum_level": least[place]} for place, kind in enumerate(PepKind)}
    return {"country_lists": lists, "pep": pep, "age_bands": ages}


@st.composite
def _features(draw: st.DrawFn, code: str, *, pep: bool) -> Document:
    parameters = {name: draw(_parameters()) for name in draw(_some(_KEYS, least=draw(_MOSTLY_ONE) * 2))}
    if pep:
        parameters["pep"] = {"claims": Claim.PEP, "allowed": list(CLAIM_WORDS[Claim.PEP]), "multiple": True, "mandatory": True}
    return {
        "database_id": draw(st.sampled_from([code, f"id of {code}"])),
        "name": code.title(),
        "risk_points": draw(st.sampled_from([0, 1, 30])),
        "parameters": parameters,
    }


@st.composite
def _parameters(draw: st.DrawFn) -> Document:
    """Draw a key: text, a list or a range, as its claim demands."""
    claim = draw(st.sampled_from([None, *Claim]))
    ranges = st.tuples(st.integers(0, 60), st.integers(0, AMOUNT_MAX)).map(lambda pair: f"{pair[0]}-{sum(pair)}")
    allowed: list[str] | str | None
    if claim in CLAIM_WORDS:
        allowed = draw(_some(list(CLAIM_WORDS[claim]), least=1))
    elif claim is Claim.RISK_SCORE:
        allowed = draw(ranges)
    elif claim in LIMIT_CLAIMS:
        allowed = draw(st.one_of(st.none(), ranges))
    else:
        allowed = draw(st.one_of(st.none(), ranges, _some(_WORDS, least=1)))
    return {
        "mandatory": draw(st.booleans()),
        "allowed": allowed,
        "multiple": draw(st.booleans()) if isinstance(allowed, list) else False,
        "claims": claim,
    }


@st.composite
def _categories(
    draw: st.DrawFn, name: str, starts: list[int], features: Sequence[str], consents: Sequence[str], *, active: bool
) -> Document:
    """Draw a category; one of a catalogue's is always offered."""
    level = draw(_LEVELS)
    lowest, ends = [*starts, 100], [*(start - 1 for start in starts[1:]), 100, 100]
    rank = list(RiskLevel).index(level)
    own = draw(_some(features, least=draw(_MOSTLY_ONE)))
    return {
        "database_id": draw(st.sampled_from([name, f"id of {name}"])),
        "name": name,
        "description": f"Category {name}",
        "risk_level": level,
        "base_score": draw(st.integers(lowest[rank], ends[rank])),
        "active": active or draw(st.booleans()),
        "features": own,
        "required_features": draw(_some(own)),
        "consents": draw(_some(consents)),
    }
