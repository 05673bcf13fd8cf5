"""Laws of the rules, for every catalogue and every customer: what no tenant's numbers can bring about."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core_examples import DAY
from tests.unit.generated_catalogues import catalogues
from tests.unit.generated_customers import Registrant, otherwise_told, registrants, stronger
from tests.unit.generated_mistakes import Mistaken, mistaken
from worker.core import categorize as reading
from worker.core import decide as rules
from worker.core.assess import Approved, Checked, Refused, assess_again, assess_document, check_document
from worker.core.catalogue import Catalogue
from worker.core.catalogue_index import CLAIM_WORDS, SCORE_MAX
from worker.core.decide import months_later
from worker.core.decision import Decision
from worker.core.explain import RULES, explain
from worker.core.scales import Claim, Confirmation, Detail, DueDiligence, PepKind, RiskLevel, VerificationLevel

Customer: TypeAlias = tuple[Catalogue, Registrant]


@st.composite
def customers(draw: st.DrawFn, *, pep: bool = False) -> Customer:
    """Draw a catalogue with a customer who fits it."""
    catalogue = draw(catalogues(pep=pep))
    return catalogue, draw(registrants(catalogue))


@st.composite
def customers_with_more_risk(draw: st.DrawFn) -> tuple[Catalogue, Registrant, Registrant]:
    """Draw a catalogue with a customer, and the same one with each input of risk as high or higher."""
    catalogue = draw(catalogues(pep=True))
    registrant = draw(registrants(catalogue, terse=True))
    return catalogue, registrant, draw(stronger(registrant, catalogue))


@st.composite
def customers_told_twice(draw: st.DrawFn) -> tuple[Catalogue, Registrant, Registrant]:
    """Draw a catalogue with a customer, and another way to say the same."""
    catalogue, registrant = draw(customers(pep=True))
    return catalogue, registrant, draw(otherwise_told(registrant, catalogue))


@st.composite
def mistaken_customers(draw: st.DrawFn) -> tuple[Catalogue, Mistaken]:
    """Draw a catalogue with a customer whose categorization has any number of mistakes."""
    catalogue = draw(catalogues())
    return catalogue, draw(mistaken(draw(registrants(catalogue, offered=False)), catalogue))


def _outcome(registrant: Registrant, catalogue: Catalogue) -> Decision | None:
    """Decide about a customer who fits; None where they are prohibited."""
    outcome = assess_document(registrant.body(), catalogue, 7, DAY)
    if isinstance(outcome, Refused):
        assert (outcome.code, outcome.faults) == ("customer-prohibited", ())
        return None
    return outcome.decision


def _protection(decision: Decision) -> tuple[object, ...]:
    return (decision.risk_level, decision.risk_score, decision.due_diligence, decision.sanctions_screening, decision.monitoring,
            decision.verification_level, decision.senior_approval)  # fmt: skip


@settings(max_examples=150)
@given(drawn=customers_with_more_risk())
def test_more_risk_never_means_less_protection(drawn: tuple[Catalogue, Registrant, Registrant]) -> None:
    """
    Raising any input of risk never lowers level, score or scrutiny, never raises a limit, puts off a review or takes away a
    check or consent; whoever is prohibited stays so.
    """
    catalogue, weaker, more_risk = drawn
    less, more = _outcome(weaker, catalogue), _outcome(more_risk, catalogue)
    if less is None or more is None:
        assert more is None
        return

    assert all(a <= b for a, b in zip(_protection(less), _protection(more), strict=True))  # type: ignore[operator]
    assert more.limits.day <= less.limits.day
    assert more.limits.month <= less.limits.month
    assert more.limits.transaction <= less.limits.transaction
    assert more.next_review_on <= less.next_review_on
    assert set(more.consents) >= set(less.consents)
    assert set(more.verification_checks) >= set(less.verification_checks)
    assert set(more.activation_blockers) >= set(less.activation_blockers) - {"NATIONALITIES"}, "who tells more has told them"


@given(drawn=customers())
def test_what_category_countries_and_caller_say_is_the_least_that_holds(drawn: Customer) -> None:
    """A caller can raise risk but never lower it: the server's own level and score are floors, and so are the caller's."""
    catalogue, registrant = drawn
    decision, own = _outcome(registrant, catalogue), catalogue.categories[registrant.category_id]
    if decision is None:
        return
    person, lists = registrant.person, catalogue.factors.country_lists.values()
    countries = {person.nationality, *person.nationalities, *person.residences}
    levels = [RiskLevel(word) for word in registrant.claims(catalogue, Claim.RISK_LEVEL)]
    levels += [each.minimum_level for each in lists if not countries.isdisjoint(each.countries)]
    level = catalogue.levels[decision.risk_level]
    holds: dict[Claim, object] = {
        Claim.DUE_DILIGENCE: decision.due_diligence,
        Claim.SANCTIONS_SCREENING: decision.sanctions_screening,
        Claim.MONITORING: decision.monitoring,
    }

    assert decision.risk_level >= max(levels, default=own.risk_level)
    assert decision.risk_level >= own.risk_level
    assert decision.risk_score >= own.base_score
    assert all(decision.risk_score >= min(int(text), SCORE_MAX) for text in registrant.claims(catalogue, Claim.RISK_SCORE))
    assert decision.due_diligence >= level.due_diligence
    assert decision.sanctions_screening >= level.sanctions_screening
    assert decision.monitoring >= level.monitoring
    assert decision.verification_level >= level.verification
    assert decision.next_review_on == months_later(DAY, level.review_after_months)
    for claim, value in holds.items():
        said = [CLAIM_WORDS[claim][word] for word in registrant.claims(catalogue, claim)]
        assert all(value >= each for each in said if each is not None)  # type: ignore[operator]


@settings(max_examples=60)
@given(drawn=customers())
def test_what_is_decided_fits_together(drawn: Customer) -> None:
    """Limits are nested, within the level's and what was asked for; score and level agree; points add up to the score."""
    catalogue, registrant = drawn
    decision = _outcome(registrant, catalogue)
    if decision is None:
        return
    level, limits = catalogue.levels[decision.risk_level].limits, decision.limits
    of_claims = {
        Claim.TRANSACTION_LIMIT: (limits.transaction, level.transaction),
        Claim.DAY_LIMIT: (limits.day, level.day),
        Claim.MONTH_LIMIT: (limits.month, level.month),
    }

    assert 0 <= limits.transaction <= limits.day <= limits.month
    for claim, (holds, most) in of_claims.items():
        assert holds <= min([most, *(int(float(text)) for text in registrant.claims(catalogue, claim))])
    assert catalogue.level_at(decision.risk_score) is decision.risk_level
    assert sum(reason.points for reason in decision.explanation) == decision.risk_score <= SCORE_MAX
    assert all(reason.points >= 0 for reason in decision.explanation)
    assert decision.next_review_on <= months_later(DAY, 12 if decision.risk_level >= RiskLevel.HIGH else 60)


@settings(max_examples=60)
@given(drawn=customers())
def test_what_blocks_activation_is_what_the_catalogue_asks_for_and_is_not_there(drawn: Customer) -> None:
    """In the order in which it can be cleared: what the customer tells, proves and agrees to, then what others find."""
    catalogue, registrant = drawn
    decision, asked, person = _outcome(registrant, catalogue), catalogue.activation, registrant.person
    if decision is None:
        return
    level, category = catalogue.levels[decision.risk_level], catalogue.categories[registrant.category_id]
    told = {Detail.PLACE_OF_BIRTH: person.place_of_birth, Detail.NATIONALITIES: bool(person.nationalities)}
    there = {Confirmation.EMAIL_CONFIRMATION: True, Confirmation.PHONE_CONFIRMATION: person.phone}
    consents = list(dict.fromkeys((*catalogue.consents, *level.consents, *category.consents)))

    assert decision.verification_checks == catalogue.verification[decision.verification_level]
    assert [(each.code, each.document_version) for each in decision.consents] == [(c, catalogue.documents[c]) for c in consents]
    assert decision.activation_blockers == (
        *(each for each in Detail if each in asked.details and not told[each]),
        *(each for each in Confirmation if each in asked.confirmations and there[each]),
        *(f"CONSENT_{code}" for code in consents),
        *(f"CHECK_{code}" for code in decision.verification_checks),
        *(["SANCTIONS_SCREENING"] if asked.sanctions_screening else []),
        *(["SENIOR_APPROVAL"] if decision.senior_approval else []),
    )
    assert decision.human_review is catalogue.tenant.human_review


@settings(max_examples=60)
@given(drawn=customers(pep=True))
def test_any_kind_of_pep_is_enhanced_and_approved_by_a_senior(drawn: Customer) -> None:
    """A politically exposed person is never simple, whatever the catalogue (FATF recommendation 12)."""
    catalogue, registrant = drawn
    decision = _outcome(registrant, catalogue)
    if decision is None:
        return
    said = [CLAIM_WORDS[Claim.PEP][word] for word in registrant.claims(catalogue, Claim.PEP)]
    kinds = [kind for kind in said if isinstance(kind, PepKind)]
    found = [reason.factor for reason in decision.explanation if reason.rule == "R-3"]
    if not kinds:
        assert not found
        return

    assert found == [f"PEP_{max(kinds)}"]
    assert decision.risk_level >= RiskLevel.HIGH
    assert decision.due_diligence is DueDiligence.ENHANCED
    assert decision.verification_level is VerificationLevel.ENHANCED
    assert decision.senior_approval
    assert decision.activation_blockers[-1] == "SENIOR_APPROVAL"


@settings(max_examples=60)
@given(drawn=customers())
def test_the_same_input_gives_the_same_bytes(drawn: Customer) -> None:
    """Remembered, reckoned anew, by the catalogue as it is stored, or from what is stored of the customer: one form."""
    catalogue, registrant = drawn
    body, stored = registrant.body(), Catalogue.from_json(catalogue.to_json())
    checked, outcome = check_document(body, catalogue, DAY), assess_document(body, catalogue, 7, DAY)
    assert isinstance(checked, Checked)
    categorized = reading._categorize.__wrapped__(catalogue.index, checked.categorized.sent.encode(), ())
    assert isinstance(categorized, reading.Categorized)
    subject = checked.applicant.subject
    anew = rules._decide.__wrapped__(catalogue.index, categorized, rules.traits(subject, catalogue.index, DAY), 7, DAY)
    again = assess_again(categorized.sent, subject, stored, 7, DAY)

    if isinstance(outcome, Refused):
        assert isinstance(anew, rules.Prohibited)
        assert outcome == again == assess_document(body, stored, 7, DAY)
        return
    assert isinstance(again, Decision)
    assert outcome.decision == anew == again == _outcome(registrant, stored)
    assert outcome.decision.to_json() == again.to_json()
    assert Decision.from_json(again.to_json()) == again
    assert Decision.from_json(again.to_json()).to_json() == again.to_json()


@given(drawn=customers_told_twice())
def test_the_order_of_features_and_parameters_changes_nothing(drawn: tuple[Catalogue, Registrant, Registrant]) -> None:
    """Neither a caller's order nor which of its ids a thing goes by is a statement: the outcome has the same bytes."""
    catalogue, registrant, otherwise = drawn
    one, other = (assess_document(each.body(), catalogue, 7, DAY) for each in (registrant, otherwise))

    if isinstance(one, Approved) and isinstance(other, Approved):
        assert one.decision.to_json() == other.decision.to_json()
    else:
        assert one == other
        assert isinstance(one, Refused)
        assert one.code == "customer-prohibited"


@given(drawn=mistaken_customers())
def test_every_mistake_is_named_and_nothing_else(drawn: tuple[Catalogue, Mistaken]) -> None:
    """One answer names all that is wrong, each with place and code, and what would be right."""
    catalogue, expected = drawn
    checked = check_document(expected.body, catalogue, DAY)
    if isinstance(checked, Checked):
        assert not expected.faults
        return

    assert Counter((fault.pointer, fault.code) for fault in checked.faults) == Counter(expected.faults)
    assert Counter(checked.missing_keys) == Counter(expected.missing_keys)
    assert checked.invalid_values == expected.invalid_values
    alone = all(code != "required" for _, code in expected.faults)
    assert checked.code == ("categorization-invalid" if alone else "validation-failed")


@settings(max_examples=30)
@given(drawn=customers())
def test_an_explanation_in_plain_language_names_every_reason_and_no_personal_value(drawn: Customer) -> None:
    """Rules have a sentence each; of the person nothing is told but what the catalogue made of it."""
    catalogue, registrant = drawn
    decision = _outcome(registrant, catalogue)
    if decision is None:
        return
    told = "\n".join(explain(decision))
    personal = ("Marcus", "Jensen", "marcus", str(registrant.person.born_on), "+370", "There")

    assert all(reason.factor in told and reason.rule in RULES for reason in decision.explanation)
    assert not any(value in told for value in personal)
    assert not any(value in decision.to_json().decode() for value in personal)
