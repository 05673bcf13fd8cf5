"""Catalogues: what makes one, what contradicts itself, and that storing one loses nothing."""

from __future__ import annotations

import itertools
import json
from typing import Final

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.core_examples import DEVELOPMENT, DOCUMENT, REMOVED, changed
from tests.unit.generated_catalogues import catalogues
from worker.core.catalogue import Catalogue, parse
from worker.core.catalogue_index import CLAIM_WORDS
from worker.core.scales import Claim, DueDiligence, Monitoring, PepKind, RiskLevel, SanctionsScreening, Scale, VerificationLevel

MEDIUM: Final = "/categories/MEDIUM_RISK_INDIVIDUAL"
PROFILE: Final = "/features/MEDIUM_RISK_PROFILE"

WRONG: Final[list[tuple[dict[str, object], str, str]]] = [
    ({"/colour": "red"}, "colour", "Extra inputs"),
    ({"/tenant/minimum_age": 18}, "tenant.minimum_age", "Extra inputs"),
    ({"/tenant/roles": ["USER", "TENANT_ADMIN"]}, "tenant", "administrator"),
    ({"/tenant/roles": []}, "tenant.roles", "at least 1"),
    ({"/tenant/currency": "euro"}, "tenant.currency", "pattern"),
    ({"/tenant/minimum_age_years": "18"}, "tenant.minimum_age_years", "integer"),
    ({"/levels/LOW": REMOVED}, "", "levels: must be LOW, MEDIUM, HIGH, CRITICAL"),
    ({"/levels/PROHIBITED": DOCUMENT["levels"]["CRITICAL"]}, "", "levels: must be"),
    ({"/levels/LOW/score_min": 1}, "", "levels.LOW.score_min: must be 0"),
    ({"/levels/HIGH/score_min": 25}, "", "levels.HIGH.score_min"),
    ({"/levels/HIGH/review_after_months": 13}, "", "levels.HIGH.review_after_months"),
    ({"/levels/LOW/review_after_months": 61}, "levels.LOW.review_after_months", "60"),
    ({"/levels/HIGH/due_diligence": "STANDARD"}, "", "levels.HIGH.due_diligence"),
    ({"/levels/MEDIUM/due_diligence": "SIMPLIFIED", "/levels/LOW/due_diligence": "STANDARD"}, "", "levels.MEDIUM: protects less"),
    ({"/levels/HIGH/monitoring": "YEARLY"}, "", "levels.HIGH: protects less"),
    ({"/levels/HIGH/sanctions_screening": "BASIC"}, "", "levels.HIGH: protects less"),
    ({"/levels/CRITICAL/verification": "BASIC"}, "", "levels.CRITICAL: protects less"),
    ({"/levels/CRITICAL/review_after_months": 12, "/levels/HIGH/review_after_months": 6}, "", "levels.CRITICAL: protects less"),
    ({"/levels/LOW/senior_approval": True}, "", "levels.MEDIUM: protects less"),
    ({"/levels/CRITICAL/consents": []}, "", "levels.CRITICAL: protects less"),
    ({"/levels/MEDIUM/limits/day": 10_001}, "", "levels.MEDIUM: protects less"),
    ({"/levels/MEDIUM/limits/month": 50_001}, "", "levels.MEDIUM: protects less"),
    ({"/levels/MEDIUM/limits/transaction": 5_001, "/levels/MEDIUM/limits/day": 6_000}, "", "levels.MEDIUM: protects less"),
    ({"/levels/LOW/limits/transaction": 10_001}, "levels.LOW.limits", "transaction <= day <= month"),
    ({"/levels/LOW/limits/day": 50_001}, "levels.LOW.limits", "transaction <= day <= month"),
    ({"/factors/pep/FOREIGN": REMOVED}, "factors", "pep: must have points"),
    ({"/factors/pep/FOREIGN/points": 29}, "factors", "pep: must have points"),
    ({f"/factors/pep/{kind}/minimum_level": "MEDIUM" for kind in PepKind}, "factors", "minimum_level must be HIGH"),
    ({"/factors/pep/UNSPECIFIED/minimum_level": "CRITICAL"}, "factors", "minimum_level that never falls"),
    ({"/factors/country_lists/EU_HIGH_RISK/countries/UK": {"source": "?", "listed_on": "2020-01-01"}}, "UK", "ISO 3166-1"),
    ({"/factors/country_lists/EU_HIGH_RISK/countries/IR/source": REMOVED}, "IR.source", "required"),
    ({"/factors/age_bands/ELDERLY/below_years": 80}, "factors.age_bands.ELDERLY", "below_years"),
    ({"/verification/STANDARD": ["PROOF_OF_ADDRESS"]}, "", "verification.STANDARD: lacks a check of BASIC"),
    ({"/verification/BASIC": REMOVED}, "", "verification: must have"),
    ({"/consents": ["PRIVACY_POLICY"]}, "", "consents: must have DATA_PROCESSING, TERMS_AND_CONDITIONS"),
    ({f"{MEDIUM}/consents": ["NO_SUCH"]}, "", "categories.MEDIUM_RISK_INDIVIDUAL.consents: without a document: NO_SUCH"),
    ({f"{MEDIUM}/features": ["NO_SUCH"]}, "", "MEDIUM_RISK_INDIVIDUAL.features: not among features: NO_SUCH"),
    ({f"{MEDIUM}/features": ["MEDIUM_RISK_PROFILE"] * 2}, "", "MEDIUM_RISK_INDIVIDUAL.features: one stands there twice"),
    ({f"{MEDIUM}/required_features": ["HIGH_RISK_PROFILE"]}, "", "MEDIUM_RISK_INDIVIDUAL.required_features"),
    ({f"{MEDIUM}/base_score": 60}, "", "MEDIUM_RISK_INDIVIDUAL.base_score: belongs to another level"),
    ({f"{MEDIUM}/database_id": "LOW_RISK_INDIVIDUAL"}, "", "categories: an id stands for two"),
    ({f"{PROFILE}/database_id": "HIGH_RISK_PROFILE"}, "", "features: an id stands for two"),
    ({f"{PROFILE}/parameters/riskScore/allowed": REMOVED}, "riskScore", "needs a range"),
    ({f"{PROFILE}/parameters/riskScore/allowed": "100-0"}, "riskScore", "smaller number"),
    ({f"{PROFILE}/parameters/monthlyLimit/allowed": ["1", "2"]}, "monthlyLimit", "needs a range"),
    ({f"{PROFILE}/parameters/riskLevel/allowed": ["LOW", "SOME"]}, "riskLevel", "needs a list"),
    ({f"{PROFILE}/parameters/riskLevel/allowed": REMOVED}, "riskLevel", "needs a list"),
    ({f"{PROFILE}/parameters/riskLevel/allowed": "0-5"}, "riskLevel", "needs a list"),
    ({f"{PROFILE}/parameters/pep/allowed": [True, False]}, "pep.allowed", "string"),
    ({f"{PROFILE}/parameters/riskScore/multiple": True}, "riskScore", "needs a list of them"),
    ({f"{PROFILE}/parameters/other": {"multiple": True}}, "other", "needs a list of them"),
    ({f"{PROFILE}/parameters/other": {"multiple": True, "allowed": ["a,b"]}}, "other", "no comma"),
    ({f"{PROFILE}/parameters/other": {"multiple": True, "allowed": ["a "]}}, "other", "no space"),
    ({f"{PROFILE}/parameters/pep/claims": "PIP"}, "pep.claims", "RISK_LEVEL"),
]


@pytest.mark.parametrize(("changes", "path", "expected"), WRONG)
def test_a_catalogue_that_is_wrong_is_refused_with_path_and_expectation(
    changes: dict[str, object], path: str, expected: str
) -> None:
    """A typing error is not a policy, and no level protects less than the one below it."""
    with pytest.raises(ValidationError) as refused:
        parse(changed(changes, DOCUMENT))

    messages = [(".".join(map(str, error["loc"])), error["msg"]) for error in refused.value.errors()]
    assert any(path in place and expected in message for place, message in messages), messages


def test_the_development_tenant_has_a_category_of_every_level() -> None:
    """Whoever learns the system can reach each outcome."""
    assert {each.risk_level for each in DEVELOPMENT.categories.values() if each.active} == set(RiskLevel)
    assert DEVELOPMENT.tenant.slug == "development"


def test_the_development_tenant_knows_the_countries_of_the_call_for_action() -> None:
    """North Korea and Iran are on FATF's list, each with its source and date."""
    countries = DEVELOPMENT.factors.country_lists["FATF_CALL_FOR_ACTION"].countries

    assert {"KP", "IR"} <= set(countries)
    assert all(each.source and each.listed_on.year >= 2000 for each in countries.values())


def test_the_examples_ids_are_the_development_tenants() -> None:
    """The published example's category and feature are known by exactly its ids."""
    assert DEVELOPMENT.index.categories["e50bb9ad-6a97-41da-8e66-4c3c0f7e2a3d"].category.name == "Medium Risk Individual"
    assert "f7a8b9c0-d1e2-3f4g-5h6i-7j8k9l0m1n2o" in DEVELOPMENT.index.categories["MEDIUM_RISK_INDIVIDUAL"].features_by_id


@given(catalogue=catalogues())
def test_storing_a_catalogue_loses_nothing(catalogue: Catalogue) -> None:
    """What is read back is equal, and has the same bytes again."""
    stored = catalogue.to_json()

    assert Catalogue.from_json(stored) == catalogue
    assert Catalogue.from_json(stored).to_json() == stored == rfc8785.dumps(json.loads(stored))


def test_a_feature_says_what_it_asks_for() -> None:
    """The hierarchy shows mandatory keys, allowed values and multi-valued keys, in alphabetical order."""
    feature = DEVELOPMENT.features["MEDIUM_RISK_PROFILE"]

    assert feature.mandatory_keys == ("monthlyLimit", "pep", "riskLevel", "riskScore", "sanctionsCheck")
    assert feature.allowed_values["riskScore"] == "0-100"
    assert feature.allowed_values["pep"] == ("false", "true")
    assert feature.multi_value_keys == ("pepKind",)


@pytest.mark.parametrize("scale", [RiskLevel, DueDiligence, VerificationLevel, SanctionsScreening, Monitoring, PepKind])
def test_words_of_a_scale_compare_by_their_place(scale: type[Scale]) -> None:
    """HIGH is more than LOW, whatever the alphabet says."""
    for (i, one), (j, other) in itertools.product(enumerate(scale), repeat=2):
        assert (one < other, one <= other, one > other, one >= other) == (i < j, i <= j, i > j, i >= j)
    assert max(scale) is list(scale)[-1]


def test_words_of_two_scales_do_not_compare() -> None:
    """A risk level is neither more nor less than a verification level."""
    with pytest.raises(TypeError):
        assert RiskLevel.LOW < VerificationLevel.BASIC


def test_what_holds_is_said_in_the_keys_own_words_where_it_has_them() -> None:
    """A key without "false" never says so."""
    keys = {
        "plain": {"allowed": ["SIMPLIFIED", "true"], "claims": "DUE_DILIGENCE"},
        "yes_no": {"allowed": ["false", "true"], "claims": "DUE_DILIGENCE"},
    }
    document = changed({f"{PROFILE}/parameters/{name}": key for name, key in keys.items()}, DOCUMENT)
    found = parse(document).index.categories["MEDIUM_RISK_INDIVIDUAL"].features["MEDIUM_RISK_PROFILE"].parameters
    said = {name: [found[name].effective("asked", level) for level in DueDiligence] for name in keys}

    assert said == {"plain": ["SIMPLIFIED", "STANDARD", "true"], "yes_no": ["false", "false", "true"]}


@pytest.mark.parametrize("claim", list(CLAIM_WORDS))
@given(drawn=st.data())
def test_every_word_of_a_claim_has_one_meaning(claim: Claim, drawn: st.DataObject) -> None:
    """A parameter may allow any words of its claim; each is read back as what it says."""
    words = drawn.draw(st.lists(st.sampled_from(list(CLAIM_WORDS[claim])), min_size=1, unique=True))
    document = changed({f"{PROFILE}/parameters/other": {"allowed": words, "claims": claim}}, DOCUMENT)
    key = parse(document).index.categories["MEDIUM_RISK_INDIVIDUAL"].features["MEDIUM_RISK_PROFILE"].parameters["other"]

    assert [key.read(word) for word in words] == [CLAIM_WORDS[claim][word] for word in words]
