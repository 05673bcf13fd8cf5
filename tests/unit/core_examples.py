"""Bodies and catalogues that the tests of the rules begin with."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

import yaml
from hypothesis import strategies as st

from worker.core.catalogue import Catalogue, parse
from worker.core.scales import Monitoring, RiskLevel

_ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load((_ROOT / "worker/dev/catalogue/development.yaml").read_text())
DEVELOPMENT: Final = parse(DOCUMENT)
BODY: Final[dict[str, Any]] = json.loads((_ROOT / "worker/dev/examples/register-request.json").read_text())
DAY: Final = date(2026, 3, 2)
REMOVED: Final = object()
"""Stands for a member that is not there."""

RELATIONS: Final = "/individualCustomer/categorization/categoryFeatureRelations"
PARAMETERS: Final = f"{RELATIONS}/0/parametrization"
PERSON: Final = "/individualCustomer/person"
USER: Final = "/individualCustomer/user"


def changed(changes: Mapping[str, object], document: Mapping[str, Any] = BODY) -> dict[str, Any]:
    """Return a copy of a document with other values at some pointers; `-` appends to a list."""
    found = copy.deepcopy(dict(document))
    for pointer, value in changes.items():
        *above, last = pointer.split("/")[1:]
        holder: Any = found
        for step in above:
            holder = holder[int(step)] if isinstance(holder, list) else holder[step]
        if isinstance(holder, list):
            _put(holder, last, value)
        elif value is REMOVED:
            holder.pop(last, None)
        else:
            holder[last] = copy.deepcopy(value)
    return found


def _put(members: list[Any], place: str, value: object) -> None:
    if place == "-":
        members.append(copy.deepcopy(value))
    elif value is REMOVED:
        del members[int(place)]
    else:
        members[int(place)] = copy.deepcopy(value)


def asking(parameters: Mapping[str, str], category: str = "MEDIUM_RISK_INDIVIDUAL", **more: object) -> dict[str, Any]:
    """
    Return the example's body with its parameters, and others beside them or instead.

    Args:
        parameters: by key; for the profile of the category.
        category: by its id.
        more: values of the person, by name.
    """
    own = {
        each["name"]: each["value"]
        for each in BODY["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]["parametrization"]
    }
    profile, *further = DEVELOPMENT.categories[category].required_features
    everything = {"monitoringFrequency": "YEARLY", "complianceLevel": "SIMPLIFIED_DUE_DILIGENCE"} if "HIGH" in profile else {}
    relations = [_relation(profile, {**own, **everything, **parameters})]
    relations += [_relation(code, {"eddRequired": "false", "accountPurpose": "Savings"}) for code in further]
    return changed(
        {
            "/customerCategory/id": category,
            "/individualCustomer/categorization/id": category,
            RELATIONS: relations,
            **{f"{PERSON}/{name}": value for name, value in more.items()},
        }
    )


def _relation(code: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    return {"feature": {"code": code}, "parametrization": [{"name": name, "value": value} for name, value in parameters.items()]}


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    """Draw a catalogue of the development tenant's shape with other numbers."""
    document = copy.deepcopy(DOCUMENT)
    starts = [0, *sorted(draw(st.sets(st.integers(1, 100), min_size=3, max_size=3)))]
    amounts = [sorted(draw(st.lists(st.integers(0, 50_000), min_size=4, max_size=4)), reverse=True) for _ in range(3)]
    rhythms = sorted(draw(st.lists(st.sampled_from(list(Monitoring)), min_size=4, max_size=4)))
    for place, (start, level) in enumerate(zip(starts, ("LOW", "MEDIUM", "HIGH", "CRITICAL"), strict=True)):
        transaction, day, month = sorted(falling[place] for falling in amounts)
        policy = document["levels"][level]
        policy["score_min"] = start
        policy["limits"] = {"day": day, "month": month, "transaction": transaction}
        policy["monitoring"] = rhythms[place]
    ends = [*(start - 1 for start in starts[1:]), 100]
    for category in document["categories"].values():
        rank = list(RiskLevel).index(RiskLevel(category["risk_level"]))
        if rank < len(starts):
            category["base_score"] = draw(st.integers(starts[rank], ends[rank]))
    weights = sorted(draw(st.lists(st.integers(0, 100), min_size=6, max_size=6)))
    for pep, points in zip(document["factors"]["pep"].values(), weights, strict=True):
        pep["points"] = points
    for each in document["factors"]["country_lists"].values():
        each["nationality_points"] = draw(st.integers(0, 60))
        each["residence_points"] = draw(st.integers(0, 60))
        each["minimum_level"] = draw(st.sampled_from(list(RiskLevel)))
    return parse(document)
