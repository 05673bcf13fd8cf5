"""Decisions: what single customers get of the development tenant, one rule at a time; golden ones are in `tests/golden`."""

from __future__ import annotations

from datetime import date

import pytest

from tests.unit.core_examples import DAY, DEVELOPMENT, PERSON, RELATIONS, REMOVED, asking, changed
from worker.core.assess import Approved, Refused, assess_document, check_document
from worker.core.decide import months_later
from worker.core.decision import Decision


def _decision(body: object) -> Decision:
    outcome = assess_document(body, DEVELOPMENT, 7, DAY)
    assert isinstance(outcome, Approved), outcome
    return outcome.decision


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
