"""Decisions: laws that hold for every catalogue and customer, and a table that a compliance officer can read."""

from __future__ import annotations

from datetime import date
from typing import Any, Final, TypeAlias

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core_examples import DAY, DEVELOPMENT, PERSON, RELATIONS, REMOVED, asking, catalogues, changed
from worker.core import decide as rules
from worker.core.assess import Approved, Refused, assess_document, check_document
from worker.core.catalogue import Catalogue
from worker.core.decide import months_later
from worker.core.decision import Decision
from worker.core.explain import RULES, explain
from worker.core.scales import DueDiligence, Monitoring, PepKind, RiskLevel, SanctionsScreening, VerificationLevel

Body: TypeAlias = dict[str, Any]

LEVELS: Final = [level for level in RiskLevel if level is not RiskLevel.PROHIBITED]
CATEGORIES: Final = [name for name, each in DEVELOPMENT.categories.items() if each.active and each.risk_level in LEVELS]
RISING: Final[dict[str, list[str]]] = {
    "riskLevel": list(LEVELS),
    "riskScore": [str(score) for score in range(101)],
    "pep": ["false", "true"],
    "pepKind": ["NONE", *(kind for kind in PepKind if kind is not PepKind.UNSPECIFIED)],
    "sanctionsCheck": ["NONE", *SanctionsScreening],
    "monitoringFrequency": list(Monitoring),
    "complianceLevel": [f"{each}_DUE_DILIGENCE" for each in DueDiligence],
    "eddRequired": ["false", "true"],
    "dailyLimit": [str(amount) for amount in range(60_000, -1, -500)],
    "monthlyLimit": [str(amount) for amount in range(60_000, -1, -500)],
    "transactionLimit": [str(amount) for amount in range(60_000, -1, -500)],
}
"""Every parameter's values, each asking for at least as much protection as the one before."""
COUNTRIES: Final = ["LT", "KP", "IR", "MM", "SY", "VN"]


def _decision(body: object, catalogue: Catalogue = DEVELOPMENT, day: date = DAY) -> Decision:
    outcome = assess_document(body, catalogue, 7, day)
    assert isinstance(outcome, Approved), outcome
    return outcome.decision


def _with_countries(body: Body, nationalities: list[str], residences: list[str]) -> Body:
    addresses = [{"street": "A", "city": "B", "country": country} for country in residences]
    return changed({f"{PERSON}/nationalities": nationalities, f"{PERSON}/addresses": addresses}, body)


@st.composite
def _weaker_and_stronger(draw: st.DrawFn) -> tuple[Body, Body]:
    """Draw two bodies that differ only in that each risk input of the second is as high or higher."""
    category = draw(st.sampled_from(CATEGORIES))
    pairs = {name: sorted(draw(st.tuples(*[st.integers(0, len(values) - 1)] * 2))) for name, values in RISING.items()}
    lists = [
        (draw(st.lists(st.sampled_from(COUNTRIES), max_size=2)), draw(st.lists(st.sampled_from(COUNTRIES), max_size=2)))
        for _ in range(2)
    ]
    weaker, stronger = (asking({name: RISING[name][pair[end]] for name, pair in pairs.items()}, category) for end in (0, 1))
    (nationalities, more_nationalities), (residences, more_residences) = lists
    return (
        _with_countries(weaker, nationalities, ["LT", *residences]),
        _with_countries(stronger, nationalities + more_nationalities, ["LT", *residences, *more_residences]),
    )


def _protection(decision: Decision) -> tuple[object, ...]:
    return (decision.risk_level, decision.risk_score, decision.due_diligence, decision.sanctions_screening, decision.monitoring,
            decision.verification_level, decision.senior_approval)  # fmt: skip


@given(bodies=_weaker_and_stronger(), catalogue=catalogues())
def test_more_risk_never_means_less_protection(bodies: tuple[Body, Body], catalogue: Catalogue) -> None:
    """Raising any input of risk never lowers level, score or scrutiny, raises a limit, or puts off a review."""
    weaker, stronger = (assess_document(body, catalogue, 7, DAY) for body in bodies)
    if isinstance(weaker, Refused) or isinstance(stronger, Refused):
        assert isinstance(stronger, Refused)
        assert stronger.code == "customer-prohibited"
        return
    less, more = weaker.decision, stronger.decision

    assert all(a <= b for a, b in zip(_protection(less), _protection(more), strict=True))  # type: ignore[operator]
    assert more.limits.day <= less.limits.day
    assert more.limits.month <= less.limits.month
    assert more.limits.transaction <= less.limits.transaction
    assert more.next_review_on <= less.next_review_on
    assert set(more.consents) >= set(less.consents)
    assert set(more.verification_checks) >= set(less.verification_checks)
    assert set(more.activation_blockers) >= set(less.activation_blockers) - {"NATIONALITIES"}


@given(claimed=st.sampled_from(LEVELS), score=st.integers(0, 100), category=st.sampled_from(CATEGORIES), catalogue=catalogues())
def test_a_caller_can_raise_risk_but_never_lower_it(claimed: RiskLevel, score: int, category: str, catalogue: Catalogue) -> None:
    """The server's own level and score are floors, and so are the caller's."""
    decision = _decision(asking({"riskLevel": claimed, "riskScore": str(score)}, category), catalogue)
    own = catalogue.categories[category]

    assert decision.risk_level >= max(claimed, own.risk_level)
    assert decision.risk_score >= max(score, own.base_score)


@given(bodies=_weaker_and_stronger(), catalogue=catalogues())
def test_what_is_decided_fits_together(bodies: tuple[Body, Body], catalogue: Catalogue) -> None:
    """Limits are nested and within the level's; score and level agree; points add up; nothing is named twice."""
    outcome = assess_document(bodies[1], catalogue, 7, DAY)
    if isinstance(outcome, Refused):
        return
    decision = outcome.decision
    level = catalogue.levels[decision.risk_level]

    assert 0 <= decision.limits.transaction <= decision.limits.day <= decision.limits.month <= level.limits.month
    assert decision.limits.day <= level.limits.day
    assert decision.limits.transaction <= level.limits.transaction
    assert catalogue.level_at(decision.risk_score) is decision.risk_level
    assert sum(reason.points for reason in decision.explanation) == decision.risk_score <= 100
    assert len(set(decision.activation_blockers)) == len(decision.activation_blockers)
    assert decision.next_review_on <= months_later(DAY, 12 if decision.risk_level >= RiskLevel.HIGH else 60)


@given(bodies=_weaker_and_stronger(), catalogue=catalogues())
def test_the_same_input_gives_the_same_bytes(bodies: tuple[Body, Body], catalogue: Catalogue) -> None:
    """Remembered, reckoned anew, or by the catalogue as it is stored: a decision has one form."""
    outcome = assess_document(bodies[0], catalogue, 7, DAY)
    again = assess_document(bodies[0], Catalogue.from_json(catalogue.to_json()), 7, DAY)

    if isinstance(outcome, Refused):
        assert outcome == again
        return
    assert isinstance(again, Approved)
    traits = rules.traits(outcome.applicant, catalogue.index, DAY)
    anew = rules._decide.__wrapped__(catalogue.index, outcome.categorized, traits, 7, DAY)
    assert outcome.decision.to_json() == again.decision.to_json()
    assert outcome.decision == anew


@given(bodies=_weaker_and_stronger())
def test_a_decision_is_read_back_as_it_was(bodies: tuple[Body, Body]) -> None:
    """What is stored is what was decided."""
    outcome = assess_document(bodies[1], DEVELOPMENT, 7, DAY)

    if isinstance(outcome, Approved):
        assert Decision.from_json(outcome.decision.to_json()) == outcome.decision
        assert Decision.from_json(outcome.decision.to_json()).to_json() == outcome.decision.to_json()


@pytest.mark.parametrize("kind", list(PepKind))
@pytest.mark.parametrize("category", CATEGORIES)
def test_any_kind_of_pep_is_enhanced_and_approved_by_a_senior(kind: PepKind, category: str) -> None:
    """A politically exposed person is never simple, whatever the category (FATF recommendation 12)."""
    claim = {"pep": "true"} if kind is PepKind.UNSPECIFIED else {"pepKind": kind}
    decision = _decision(asking(claim, category))

    assert decision.due_diligence is DueDiligence.ENHANCED
    assert decision.verification_level is VerificationLevel.ENHANCED
    assert decision.senior_approval
    assert decision.activation_blockers[-1] == "SENIOR_APPROVAL"
    assert decision.risk_level >= RiskLevel.HIGH
    assert [reason.factor for reason in decision.explanation if reason.rule == "R-3"] == [f"PEP_{kind}"]
    assert {each.parameters["pep"].effective for each in decision.features if "pep" in each.parameters} == {"true"}


CASES: Final[list[dict[str, Any]]] = yaml.safe_load("""
# asks: beside the example's parameters, or instead; person: likewise.
# gets: level, score, due diligence, verification, and the limits of a transaction, a day and a month.
- category: LOW_RISK_INDIVIDUAL
  asks: {riskLevel: LOW, riskScore: "0"}
  gets: LOW 10 SIMPLIFIED BASIC 5000 10000 20000
  because: {CATEGORY: 10, CLAIMED_MONTH_LIMIT: 0, CLAIMED_SANCTIONS_SCREENING: 0}
- category: LOW_RISK_INDIVIDUAL
  asks: {riskLevel: LOW, riskScore: "24", sanctionsCheck: NONE, monthlyLimit: "50000"}
  gets: LOW 24 SIMPLIFIED BASIC 5000 10000 50000
  because: {CATEGORY: 10, CLAIMED_SCORE: 14}
- category: LOW_RISK_INDIVIDUAL
  asks: {riskLevel: LOW, riskScore: "25", sanctionsCheck: NONE, monthlyLimit: "50000"}
  gets: MEDIUM 25 STANDARD STANDARD 2500 5000 25000
  because: {CATEGORY: 10, CLAIMED_SCORE: 15, SCORE_THRESHOLD: 0}
- category: LOW_RISK_INDIVIDUAL
  asks: {riskLevel: CRITICAL, riskScore: "0", sanctionsCheck: NONE}
  gets: CRITICAL 85 ENHANCED ENHANCED 250 500 2500
  because: {CATEGORY: 10, CLAIMED_LEVEL: 0, LEVEL_FLOOR: 75}
- category: LOW_RISK_INDIVIDUAL
  asks: {riskLevel: LOW, riskScore: "0", sanctionsCheck: NONE, monthlyLimit: "3000"}
  gets: LOW 10 SIMPLIFIED BASIC 3000 3000 3000
  because: {CATEGORY: 10, CLAIMED_MONTH_LIMIT: 0}
- category: LOW_RISK_INDIVIDUAL
  asks: {riskLevel: LOW, riskScore: "0", sanctionsCheck: NONE, monthlyLimit: "99999", transactionLimit: "9.99"}
  gets: LOW 10 SIMPLIFIED BASIC 9 10000 50000
  because: {CATEGORY: 10, CLAIMED_TRANSACTION_LIMIT: 0}
- category: MEDIUM_RISK_INDIVIDUAL
  gets: MEDIUM 55 STANDARD STANDARD 2500 5000 20000
  because: {CATEGORY: 40, CLAIMED_SCORE: 15, CLAIMED_MONTH_LIMIT: 0}
- category: MEDIUM_RISK_INDIVIDUAL
  asks: {riskScore: "0"}
  person: {dateOfBirth: "2006-01-01"}
  gets: MEDIUM 45 STANDARD STANDARD 2500 5000 20000
  because: {CATEGORY: 40, YOUNG_ADULT: 5, CLAIMED_MONTH_LIMIT: 0}
- category: MEDIUM_RISK_INDIVIDUAL
  asks: {riskScore: "0"}
  person: {dateOfBirth: "1945-01-01"}
  gets: MEDIUM 45 STANDARD STANDARD 2500 5000 20000
  because: {CATEGORY: 40, ELDERLY: 5, CLAIMED_MONTH_LIMIT: 0}
- category: MEDIUM_RISK_INDIVIDUAL
  asks: {eddRequired: "true"}
  gets: MEDIUM 55 ENHANCED ENHANCED 2500 5000 20000
  because: {CATEGORY: 40, CLAIMED_SCORE: 15, CLAIMED_DUE_DILIGENCE: 0, CLAIMED_MONTH_LIMIT: 0}
- category: MEDIUM_RISK_INDIVIDUAL
  asks: {complianceLevel: SIMPLIFIED_DUE_DILIGENCE, monitoringFrequency: YEARLY}
  gets: MEDIUM 55 STANDARD STANDARD 2500 5000 20000
  because: {CATEGORY: 40, CLAIMED_SCORE: 15, CLAIMED_MONTH_LIMIT: 0}
- category: MEDIUM_RISK_INDIVIDUAL
  asks: {riskScore: "0"}
  person: {nationality: KP}
  gets: HIGH 70 ENHANCED ENHANCED 1000 2000 10000
  because: {CATEGORY: 40, EU_HIGH_RISK: 10, FATF_CALL_FOR_ACTION: 20}
- category: MEDIUM_RISK_INDIVIDUAL
  asks: {riskScore: "0"}
  person: {nationalities: ["LT", "IR"]}
  gets: HIGH 70 ENHANCED ENHANCED 1000 2000 10000
  because: {CATEGORY: 40, EU_HIGH_RISK: 10, FATF_CALL_FOR_ACTION: 20}
- category: MEDIUM_RISK_INDIVIDUAL
  asks: {riskScore: "0"}
  person: {nationality: VN}
  gets: MEDIUM 45 STANDARD STANDARD 2500 5000 20000
  because: {CATEGORY: 40, FATF_INCREASED_MONITORING: 5, CLAIMED_MONTH_LIMIT: 0}
- category: MEDIUM_RISK_INDIVIDUAL
  asks: {riskScore: "0", pep: "true"}
  gets: HIGH 65 ENHANCED ENHANCED 1000 2000 10000
  because: {CATEGORY: 40, PEP_UNSPECIFIED: 25}
- category: MEDIUM_RISK_INDIVIDUAL
  asks: {riskScore: "0", pep: "true", pepKind: "FAMILY_MEMBER, FOREIGN"}
  gets: HIGH 80 ENHANCED ENHANCED 1000 2000 10000
  because: {CATEGORY: 40, PEP_FOREIGN: 40}
- category: HIGH_RISK_INDIVIDUAL
  gets: HIGH 62 ENHANCED ENHANCED 1000 2000 10000
  because: {CATEGORY: 62}
- category: HIGH_RISK_INDIVIDUAL
  asks: {pepKind: DOMESTIC}
  gets: CRITICAL 87 ENHANCED ENHANCED 250 500 2500
  because: {CATEGORY: 62, PEP_DOMESTIC: 25, SCORE_THRESHOLD: 0}
- category: HIGH_RISK_INDIVIDUAL
  asks: {pepKind: FOREIGN}
  person: {nationality: MM}
  gets: CRITICAL 100 ENHANCED ENHANCED 250 500 2500
  because: {CATEGORY: 62, EU_HIGH_RISK: 10, FATF_CALL_FOR_ACTION: 20, PEP_FOREIGN: 8, SCORE_THRESHOLD: 0}
""")


@pytest.mark.parametrize("case", CASES)
def test_a_customer_gets_what_the_rules_say(case: dict[str, Any]) -> None:
    """The rules' numbers, worked out by hand."""
    decision = _decision(asking(case.get("asks", {}), case["category"], **case.get("person", {})))
    limits = decision.limits
    got = (decision.risk_level, decision.risk_score, decision.due_diligence, decision.verification_level)

    assert " ".join(map(str, (*got, limits.transaction, limits.day, limits.month))) == case["gets"]
    assert {reason.factor: reason.points for reason in decision.explanation} == case["because"]


@pytest.mark.parametrize(("country", "inputs"), [("nationality", {"nationality"}), ("addresses", {"addresses"})])
def test_nationalities_and_residences_count_each_for_itself(country: str, inputs: set[str]) -> None:
    """Where somebody is from and where they live are two factors; a list counts once for each."""
    body = asking({})
    listed = changed({f"{PERSON}/nationality": "IR"} if country == "nationality" else {f"{PERSON}/addresses/0/country": "IR"}, body)

    assert {reason.input for reason in _decision(listed).explanation if reason.rule == "R-2"} == inputs


def test_a_feature_adds_its_points_only_where_it_is_enabled() -> None:
    """A product that is switched off is no risk."""
    transfers = {"feature": {"code": "INTERNATIONAL_TRANSFERS"}, "parametrization": [{"name": "regions", "value": "EEA, AMERICAS"}]}
    place = f"{RELATIONS}/-"
    on, off = (
        _decision(changed({place: {**transfers, "enabled": enabled}}, asking({"riskScore": "0"}))) for enabled in (True, False)
    )

    assert (on.risk_score, off.risk_score) == (45, 40)
    assert [feature.enabled for feature in off.features] == [False, True]


def test_a_claim_in_a_disabled_feature_still_protects() -> None:
    """What a caller says of a person is heard wherever it stands; it can only protect more."""
    place = f"{RELATIONS}/-"
    relation = {"feature": {"code": "SPENDING_LIMITS"}, "enabled": False, "parametrization": [{"name": "dailyLimit", "value": "7"}]}

    assert _decision(changed({place: relation}, asking({}))).limits.day == 7


def test_blockers_stand_in_the_order_in_which_they_can_be_cleared() -> None:
    """First what the customer tells, confirms and agrees to, then checks, then what others decide."""
    decision = _decision(asking({"pep": "true"}))

    assert decision.activation_blockers == (
        "PLACE_OF_BIRTH",
        "NATIONALITIES",
        "EMAIL_CONFIRMATION",
        "PHONE_CONFIRMATION",
        "CONSENT_TERMS_AND_CONDITIONS",
        "CONSENT_PRIVACY_POLICY",
        "CONSENT_DATA_PROCESSING",
        "CONSENT_ENHANCED_MONITORING",
        "CHECK_GOVERNMENT_ID",
        "CHECK_PROOF_OF_ADDRESS",
        "CHECK_SOURCE_OF_FUNDS",
        "SANCTIONS_SCREENING",
        "SENIOR_APPROVAL",
    )


def test_details_that_are_told_block_nothing() -> None:
    """Place of birth and nationalities are asked for only while they are not there."""
    told = _decision(asking({}, placeOfBirth="Vilnius", nationalities=["LT"]))

    assert told.activation_blockers[0] == "EMAIL_CONFIRMATION"


def test_only_a_phone_that_is_there_is_to_be_confirmed() -> None:
    """Without a phone number there is nothing to confirm."""
    body = changed({"/phone": REMOVED, f"{PERSON}/contacts": REMOVED}, asking({}))

    assert "PHONE_CONFIRMATION" not in _decision(body).activation_blockers


def test_a_decision_says_that_it_is_automated_and_may_be_reviewed() -> None:
    """Source: Regulation (EU) 2016/679, article 22."""
    decision = _decision(asking({}))

    assert decision.automated
    assert decision.human_review


def test_what_is_asked_for_stands_beside_what_holds() -> None:
    """A caller sees where the server decided otherwise, in the words of the parameter."""
    parameters = {
        "pepKind": "DOMESTIC",
        "complianceLevel": "STANDARD_DUE_DILIGENCE",
        "eddRequired": "false",
        "monthlyLimit": "99000.50",
    }
    (feature,) = _decision(asking(parameters)).features

    assert {name: (each.requested, each.effective) for name, each in feature.parameters.items()} == {
        "complianceLevel": ("STANDARD_DUE_DILIGENCE", "ENHANCED_DUE_DILIGENCE"),
        "eddRequired": ("false", "true"),
        "monthlyLimit": ("99000.50", "10000"),
        "pep": ("false", "true"),
        "pepKind": ("DOMESTIC", "DOMESTIC"),
        "riskLevel": ("MEDIUM", "HIGH"),
        "riskScore": ("55", "65"),
        "sanctionsCheck": ("STANDARD", "ENHANCED"),
    }
    assert list(feature.parameters) == sorted(feature.parameters)


@pytest.mark.parametrize("day", [date(2026, 1, 31), date(2028, 2, 29), date(2026, 12, 31)])
@pytest.mark.parametrize("months", [1, 6, 12, 36, 60])
def test_a_review_falls_on_a_day_that_there_is(day: date, months: int) -> None:
    """A month without that day has it on its last."""
    later = months_later(day, months)

    assert (later.year * 12 + later.month) - (day.year * 12 + day.month) == months
    assert later.day == day.day or (date.fromordinal(later.toordinal() + 1).day == 1 and later.day < day.day)


@given(bodies=_weaker_and_stronger())
def test_an_explanation_in_plain_language_names_every_reason_and_no_personal_value(bodies: tuple[Body, Body]) -> None:
    """Rules have a sentence each; of the person nothing is told but what the catalogue made of it."""
    outcome = assess_document(bodies[1], DEVELOPMENT, 7, DAY)
    if isinstance(outcome, Refused):
        return
    told = "\n".join(explain(outcome.decision))

    assert all(reason.factor in told and reason.rule in RULES for reason in outcome.decision.explanation)
    assert not any(value in told for value in ("Marcus", "Jensen", "marcus", "1990", "+370", "Compliance City"))
    assert not any(value in outcome.decision.to_json().decode() for value in ("Marcus", "Jensen", "marcus", "1990", "+370"))


def test_a_prohibited_customer_is_refused_and_only_the_operator_learns_why() -> None:
    """The answer's code says nothing of the reason; the reason names category, version, factors and rules."""
    named = {f"{place}/id": "PROHIBITED_INDIVIDUAL" for place in ("/customerCategory", "/individualCustomer/categorization")}
    body = changed({**named, RELATIONS: []})
    outcome = assess_document(body, DEVELOPMENT, 7, DAY)

    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.faults) == ("customer-prohibited", ())
    assert "PROHIBITED_INDIVIDUAL" in outcome.reason
    assert "R-1" in outcome.reason
    assert not isinstance(check_document(body, DEVELOPMENT, DAY), Refused), "an ingress cannot know it"
