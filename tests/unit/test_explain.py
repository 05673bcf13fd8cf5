"""An explanation for an operator tells the rules and never what somebody wrote."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tests.unit.core_examples import DAY, DEVELOPMENT, RELATIONS, asking, changed
from worker.core.assess import Approved, assess_document
from worker.core.explain import explain
from worker.operate.explain import Explanation, render


def test_what_a_caller_wrote_into_a_parameter_is_not_explained() -> None:
    """A key that takes any text may hold a name; neither people nor scripts are shown it."""
    purpose = {"name": "accountPurpose", "value": "Alimony from Jane Doe"}
    own = changed({f"{RELATIONS}/1/parametrization/1": purpose}, asking({}, "CRITICAL_RISK_INDIVIDUAL"))
    outcome = assess_document(own, DEVELOPMENT, 1, DAY)
    assert isinstance(outcome, Approved)
    assert b"Jane Doe" in outcome.decision.to_json()
    when = datetime(2026, 3, 2, tzinfo=UTC)
    found = Explanation("cust_x", "t", "reg_x", when, 1, outcome.decision, explain(outcome.decision))
    written = json.loads(found.to_json())

    assert "Jane" not in render(found) + found.to_json()
    assert written["decision"]["features"][0] == {"code": "ENHANCED_DUE_DILIGENCE", "enabled": True}
    assert written["decision"]["riskLevel"] == "CRITICAL"
