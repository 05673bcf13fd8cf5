"""Golden decisions: a table that a compliance officer can read, worked out by hand from the README's rules and the catalogue."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from tests.unit.core_examples import DAY, DEVELOPMENT, PERSON, RELATIONS, REMOVED, changed
from worker.core.assess import Approved, Refused, assess_document
from worker.core.decision import Decision
from worker.core.explain import explain
from worker.core.scales import DueDiligence, Monitoring, RiskLevel, SanctionsScreening, VerificationLevel

VERSION: Final = 7
"""The catalogue's number, which explanations and refusals name."""


class _Part(BaseModel):
    """A part of the table. A key that it does not have is a typing error, and no case."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Customer(_Part):
    """Who registers, and what the caller asks for."""

    category: str
    born: date
    nationality: str
    nationalities: tuple[str, ...] = ()
    lives_in: tuple[str, ...]
    place_of_birth: str | None = None
    phone: bool
    asks: dict[str, str]
    further: dict[str, dict[str, str]] = Field(default={}, alias="with")
    off: tuple[str, ...] = ()

    @property
    def body(self) -> dict[str, Any]:
        """The body of a registration that says so."""
        features = DEVELOPMENT.categories[self.category].features
        profile = next(code for code in features if code.endswith("_RISK_PROFILE"))
        asked = {profile: self.asks, **{code: {} for code in self.off}, **self.further}
        changes: dict[str, object] = {
            "/customerCategory/id": self.category,
            "/individualCustomer/categorization/id": self.category,
            RELATIONS: [self._relation(code, parameters) for code, parameters in asked.items()],
            f"{PERSON}/dateOfBirth": self.born.isoformat(),
            f"{PERSON}/placeOfBirth": self.place_of_birth or REMOVED,
            f"{PERSON}/nationality": self.nationalities[0] if self.nationalities else self.nationality,
            f"{PERSON}/nationalities": list(self.nationalities) or REMOVED,
            f"{PERSON}/addresses": [{"street": "A", "city": "B", "country": country} for country in self.lives_in],
        }
        without_phone = {"/phone": REMOVED, f"{PERSON}/contacts": REMOVED}
        return changed(changes if self.phone else {**changes, **without_phone})

    def _relation(self, code: str, parameters: dict[str, str]) -> dict[str, Any]:
        named = [{"name": name, "value": value} for name, value in parameters.items()]
        return {"feature": {"code": code}, "enabled": code not in self.off, "parametrization": named}


class Risk(_Part):
    """How risky the customer is."""

    level: RiskLevel
    score: int
    senior_approval: bool


class Scrutiny(_Part):
    """How closely the customer is looked at, and when anew."""

    due_diligence: DueDiligence
    screening: SanctionsScreening
    monitoring: Monitoring
    next_review_on: date


class Verification(_Part):
    """What the customer proves."""

    level: VerificationLevel
    checks: tuple[str, ...]


class Outcome(_Part):
    """A decision as the table tells it, but for its reasons."""

    risk: Risk
    scrutiny: Scrutiny
    verification: Verification
    limits: dict[Literal["transaction", "day", "month"], int]
    consents: tuple[str, ...]
    blockers: tuple[str, ...]


class _Case(_Part):
    name: str
    day: date = DAY
    customer: Customer
    because: tuple[str, ...]


class Decided(_Case):
    """A customer who is taken; `explained` is the decision in plain language, where a case shows it."""

    decision: Outcome
    explained: str = ""


class Prohibited(_Case):
    """A customer who is not taken, with the reasons that the operator reads."""

    refused: Literal["customer-prohibited"]


class Table(_Part):
    """All cases. What they share stands under `unless_told`, long lists under `lists`, for people to look up."""

    unless_told: dict[str, Any]
    lists: dict[str, Any]
    decided: tuple[Decided, ...]
    refused: tuple[Prohibited, ...]


class _Texts(yaml.BaseLoader):
    """Reads each value as the text that stands there, so that 0.50, no and NO mean themselves; refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        found = super().construct_mapping(node, deep)
        assert len(found) == len(node.value), f"a key stands twice{node.start_mark}"
        return found


def _table() -> Table:
    document = yaml.load(Path(__file__).with_name("decisions.yaml").read_text(), _Texts)  # noqa: S506 - it makes texts only
    shared = document["unless_told"]
    for case in (*document["decided"], *document["refused"]):
        own = case["customer"]
        case["customer"] = {**shared, **own, "asks": {**shared["asks"], **own.get("asks", {})}}
    return Table.model_validate(document)


TABLE: Final = _table()


def _decide(case: _Case) -> Approved | Refused:
    return assess_document(case.customer.body, DEVELOPMENT, VERSION, case.day)


def _decision(case: Decided) -> Decision:
    outcome = _decide(case)
    assert isinstance(outcome, Approved), outcome
    return outcome.decision


def _as_told(decision: Decision) -> Outcome:
    limits = decision.limits
    return Outcome(
        risk=Risk(level=decision.risk_level, score=decision.risk_score, senior_approval=decision.senior_approval),
        scrutiny=Scrutiny(
            due_diligence=decision.due_diligence,
            screening=decision.sanctions_screening,
            monitoring=decision.monitoring,
            next_review_on=decision.next_review_on,
        ),
        verification=Verification(level=decision.verification_level, checks=decision.verification_checks),
        limits={"transaction": limits.transaction, "day": limits.day, "month": limits.month},
        consents=tuple(f"{each.code} {each.document_version}" for each in decision.consents),
        blockers=decision.activation_blockers,
    )


@pytest.mark.parametrize("case", TABLE.decided, ids=lambda case: case.name)
def test_a_customer_gets_what_the_rules_say(case: Decided) -> None:
    """The whole decision, and its reasons in their order."""
    decision = _decision(case)

    assert _as_told(decision).model_dump() == case.decision.model_dump()
    assert [f"{each.points} {each.factor} ({each.rule}, {each.input})" for each in decision.explanation] == list(case.because)


@pytest.mark.parametrize("case", TABLE.refused, ids=lambda case: case.name)
def test_nobody_of_a_prohibited_kind_is_taken(case: Prohibited) -> None:
    """The caller gets a code without a fault; the operator reads the reasons."""
    outcome = _decide(case)
    reason = f"category {case.customer.category}, catalogue version {VERSION}: {', '.join(case.because)}"

    assert outcome == Refused(case.refused, reason=reason)


@pytest.mark.parametrize("case", [case for case in TABLE.decided if case.explained], ids=lambda case: case.decision.risk.level)
def test_a_decision_reads_in_plain_language(case: Decided) -> None:
    """Line by line, as an operator and an auditor get it."""
    assert list(explain(_decision(case))) == case.explained.splitlines()


def test_the_table_covers_every_level() -> None:
    """A golden table that is thinned out proves nothing."""
    levels = Counter(case.decision.risk.level for case in TABLE.decided)
    levels[RiskLevel.PROHIBITED] = len(TABLE.refused)
    cases = (*TABLE.decided, *TABLE.refused)

    assert min(levels[level] for level in RiskLevel) >= 5
    assert levels.total() >= 40
    assert len({case.name for case in cases}) == len(cases)
    assert {case.decision.risk.level for case in TABLE.decided if case.explained} == set(RiskLevel) - {RiskLevel.PROHIBITED}
