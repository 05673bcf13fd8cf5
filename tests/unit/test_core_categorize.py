"""Categories, features and parameters: which are meant, and every fault of a categorization at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.unit.core_examples import BODY, DAY, DEVELOPMENT, PARAMETERS, RELATIONS, REMOVED, asking, changed
from worker.core.assess import Approved, Checked, Refused, assess_document, check_document
from worker.core.catalogue_index import Refusal
from worker.core.scales import RiskLevel

FIRST: Final = "/customerCategory/id"
SECOND: Final = "/individualCustomer/categorization/id"
MEDIUM: Final = ("e50bb9ad-6a97-41da-8e66-4c3c0f7e2a3d", "MEDIUM_RISK_INDIVIDUAL")
CODE: Final = f"{RELATIONS}/0/feature/code"
ID: Final = f"{RELATIONS}/0/feature/id"

ONE_FAULT: Final[list[tuple[Mapping[str, object], str, str]]] = [
    ({FIRST: "nowhere"}, FIRST, "category.unknown"),
    ({SECOND: "nowhere"}, SECOND, "category.unknown"),
    ({FIRST: "LOW_RISK_INDIVIDUAL"}, SECOND, "category.differs"),
    ({CODE: "NO_SUCH"}, CODE, "feature.unknown"),
    ({CODE: "ENHANCED_DUE_DILIGENCE"}, CODE, "feature.unknown"),
    ({CODE: REMOVED, ID: "nowhere"}, ID, "feature.unknown"),
    ({ID: "c4a1e8f6-3b92-47d5-8c0f-5a7e9d1b3f68"}, ID, "feature.differs"),
    (
        {f"{RELATIONS}/-": {"feature": {"code": "MEDIUM_RISK_PROFILE"}}},
        f"{RELATIONS}/1/feature",
        "feature.repeated",
    ),
    ({f"{PARAMETERS}/-": {"name": "pep", "value": "false"}}, f"{PARAMETERS}/5/name", "parameter.repeated"),
    ({f"{PARAMETERS}/-": {"name": "Pep", "value": "false"}}, f"{PARAMETERS}/5/name", "parameter.unknown"),
    ({f"{PARAMETERS}/0/value": "medium"}, f"{PARAMETERS}/0/value", "parameter.not_allowed"),
    ({f"{PARAMETERS}/0/value": "PROHIBITED"}, f"{PARAMETERS}/0/value", "parameter.not_allowed"),
    ({f"{PARAMETERS}/0/value": ""}, f"{PARAMETERS}/0/value", "parameter.not_allowed"),
    *[
        ({f"{PARAMETERS}/1/value": text}, f"{PARAMETERS}/1/value", "parameter.not_allowed")
        for text in ("101", "-1", "+5", " 55", "5e1", "55.0", "\u0665\u0665", "\u00b2", "", "NaN", "1" * 400)
    ],
    *[
        ({f"{PARAMETERS}/4/value": text}, f"{PARAMETERS}/4/value", "parameter.not_allowed")
        for text in (
            "-1",
            "-0",
            "NaN",
            "Infinity",
            "inf",
            "1e999",
            "1e3",
            ".5",
            "5.",
            "1,000",
            "\u0661",
            "",
            "MEDIUM_RISK_VALUE",
            "9" * 13,
        )
    ],
    ({f"{PARAMETERS}/-": {"name": "pepKind", "value": "FOREIGN,KING"}}, f"{PARAMETERS}/5/value", "parameter.not_allowed"),
    ({f"{PARAMETERS}/-": {"name": "pepKind", "value": "FOREIGN,"}}, f"{PARAMETERS}/5/value", "parameter.not_allowed"),
]

PATTERNS: Final = {
    r"risk.*level": "MEDIUM",
    r"risk.*score": "55",
    r"pep": "false",
    r"sanctions": "STANDARD",
    r"monitoring": "WEEKLY",
    r"compliance": "STANDARD_DUE_DILIGENCE",
    r"edd": "false",
    r"monthly.*limit": "20000",
}
"""What the existing client script sends, by what a key's lower-case name matches; any other key gets the last."""
ANY_OTHER: Final = "MEDIUM_RISK_VALUE"


def _check(document: object) -> Checked | Refused:
    return check_document(document, DEVELOPMENT, DAY)


def _refused(document: object) -> Refused:
    checked = _check(document)
    assert isinstance(checked, Refused), checked
    return checked


def _script_values(key: str) -> list[str]:
    return [value for pattern, value in PATTERNS.items() if re.search(pattern, key.lower())]


def _script_body(category_id: str) -> dict[str, Any]:
    category = DEVELOPMENT.categories[category_id]
    relations = [
        {
            "feature": {"id": DEVELOPMENT.features[code].database_id, "code": code},
            "enabled": True,
            "parametrization": [
                {"name": key, "value": (_script_values(key) or [ANY_OTHER])[0]} for key in DEVELOPMENT.features[code].mandatory_keys
            ],
        }
        for code in category.features
    ]
    return changed(
        {
            "/phone": "+1234567890",
            "/individualCustomer/person/contacts": REMOVED,
            FIRST: category.database_id,
            SECOND: category_id,
            "/individualCustomer/categorization/parametrization": [],
            RELATIONS: relations,
        }
    )


def test_the_example_is_accepted_as_it_stands() -> None:
    """The published example is the contract's first test."""
    checked = _check(BODY)

    assert isinstance(checked, Checked)
    assert checked.categorized.category_id == "MEDIUM_RISK_INDIVIDUAL"


@pytest.mark.parametrize("first", MEDIUM)
@pytest.mark.parametrize("second", MEDIUM)
def test_a_category_goes_by_either_id_in_either_place(first: str, second: str) -> None:
    """Scripts send the database's id in one place and the catalogue's in the other."""
    checked = _check(changed({FIRST: first, SECOND: second}))

    assert isinstance(checked, Checked)
    assert checked.categorized.category_id == "MEDIUM_RISK_INDIVIDUAL"


@pytest.mark.parametrize(
    "feature",
    [{"id": "f7a8b9c0-d1e2-3f4g-5h6i-7j8k9l0m1n2o"}, {"id": "MEDIUM_RISK_PROFILE"}, {"id": "?", "code": "MEDIUM_RISK_PROFILE"}],
)
def test_a_feature_goes_by_its_code_or_either_id(feature: dict[str, str]) -> None:
    """Ids are opaque; one that nobody knows says nothing beside a code."""
    assert isinstance(_check(changed({f"{RELATIONS}/0/feature": feature})), Checked)


@pytest.mark.parametrize(("changes", "pointer", "code"), ONE_FAULT)
def test_each_fault_of_a_categorization_has_its_place_and_code(changes: Mapping[str, object], pointer: str, code: str) -> None:
    """A categorization that is wrong in one way says so once, and by the categorization's own problem."""
    refused = _refused(changed(changes))

    found = {(fault.pointer, fault.code) for fault in refused.faults}
    assert (pointer, code) in found
    assert all(fault.code in (code, "feature.missing", "parameter.missing") for fault in refused.faults)
    assert refused.code == "categorization-invalid"


WORDS: Final[list[tuple[Mapping[str, object], str, str]]] = [
    ({FIRST: "nowhere"}, FIRST, "The tenant has no category of this id."),
    ({FIRST: "LOW_RISK_INDIVIDUAL"}, SECOND, "Must mean the same category as customerCategory.id."),
    ({FIRST: "STUDENT_INDIVIDUAL", SECOND: "STUDENT_INDIVIDUAL"}, SECOND, "The category is no longer offered."),
    ({RELATIONS: []}, RELATIONS, "The category requires the feature MEDIUM_RISK_PROFILE."),
    ({f"{RELATIONS}/0/enabled": False}, f"{RELATIONS}/0/enabled", "The category requires this feature."),
    ({f"{RELATIONS}/0/feature": {}}, f"{RELATIONS}/0/feature", "Must be there, with its code or its id."),
    ({CODE: "NO_SUCH"}, CODE, "The category has no feature of this code."),
    ({CODE: REMOVED, ID: "nowhere"}, ID, "The category has no feature of this id."),
    ({ID: "SPENDING_LIMITS"}, ID, "Code and id mean two different features."),
    ({f"{RELATIONS}/-": {"feature": {"code": "MEDIUM_RISK_PROFILE"}}}, f"{RELATIONS}/1/feature", "A feature may be sent once."),
    ({f"{PARAMETERS}/2": REMOVED}, PARAMETERS, "The mandatory key pep is missing."),
    ({f"{PARAMETERS}/2/name": REMOVED}, f"{PARAMETERS}/2/name", "Must be there."),
    ({f"{PARAMETERS}/2/value": REMOVED}, f"{PARAMETERS}/2/value", "Must be there."),
    ({f"{PARAMETERS}/-": {"name": "Pep", "value": "false"}}, f"{PARAMETERS}/5/name", "The feature has no key of this name."),
    ({f"{PARAMETERS}/-": {"name": "pep", "value": "false"}}, f"{PARAMETERS}/5/name", "A key may be sent once."),
    ({f"{PARAMETERS}/0/value": "x"}, f"{PARAMETERS}/0/value", "Expected LOW or MEDIUM or HIGH or CRITICAL."),
    ({f"{PARAMETERS}/1/value": "x"}, f"{PARAMETERS}/1/value", "Expected a number in the range 0-100."),
    (
        {
            f"{RELATIONS}/-": {
                "feature": {"code": "INTERNATIONAL_TRANSFERS"},
                "parametrization": [{"name": "regions", "value": "x"}],
            }
        },
        f"{RELATIONS}/1/parametrization/0/value",
        "Expected a comma-separated list of EEA or UNITED_KINGDOM or SWITZERLAND or AMERICAS or ASIA_PACIFIC.",
    ),
]


@pytest.mark.parametrize(("changes", "pointer", "detail"), WORDS)
def test_each_fault_says_what_was_expected(changes: Mapping[str, object], pointer: str, detail: str) -> None:
    """A caller reads what to send instead; never what was sent, nor a name that the catalogue does not have."""
    assert detail in [fault.detail for fault in _refused(changed(changes)).faults if fault.pointer == pointer]


def test_a_category_that_is_no_longer_offered_is_refused() -> None:
    """An inactive category is known, and not for new customers."""
    refused = _refused(changed({FIRST: "STUDENT_INDIVIDUAL", SECOND: "STUDENT_INDIVIDUAL"}))

    assert (SECOND, "category.inactive") in {(fault.pointer, fault.code) for fault in refused.faults}


def test_missing_keys_are_all_named() -> None:
    """Every mandatory key of every enabled feature must be there."""
    refused = _refused(changed({PARAMETERS: [{"name": "pep", "value": "false"}]}))

    assert refused.code == "categorization-invalid"
    assert refused.missing_keys == ("monthlyLimit", "riskLevel", "riskScore", "sanctionsCheck")
    assert [fault.pointer for fault in refused.faults] == [PARAMETERS] * 4


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({RELATIONS: []}, "feature.missing"),
        ({RELATIONS: REMOVED}, "feature.missing"),
        ({RELATIONS: [{"feature": {"code": "SPENDING_LIMITS"}}]}, "feature.missing"),
        ({f"{RELATIONS}/0/enabled": False}, "feature.disabled"),
    ],
)
def test_a_required_feature_that_is_not_there_counts_as_missing_with_all_its_keys(changes: dict[str, object], code: str) -> None:
    """Leaving a required feature out, or switching it off, does not avoid its keys."""
    refused = _refused(changed(changes))

    assert refused.missing_keys == ("monthlyLimit", "pep", "riskLevel", "riskScore", "sanctionsCheck")
    assert [fault.code for fault in refused.faults] == [code, *["parameter.missing"] * 5]


def test_a_feature_that_is_not_required_may_be_switched_off_without_its_keys() -> None:
    """Only enabled features need their keys."""
    body = asking({}, "HIGH_RISK_INDIVIDUAL")
    off = changed({f"{RELATIONS}/-": {"feature": {"code": "ENHANCED_DUE_DILIGENCE"}, "enabled": False}}, body)
    on = changed({f"{RELATIONS}/-": {"feature": {"code": "ENHANCED_DUE_DILIGENCE"}}}, body)

    assert isinstance(_check(off), Checked)
    assert _refused(on).missing_keys == ("accountPurpose", "eddRequired")


def test_a_feature_that_nobody_can_tell_does_not_hide_the_others() -> None:
    """One without a name and one that the category does not have are two faults; what comes after them is read."""
    features = [{"feature": {}}, {"feature": {"code": "NO_SUCH"}}, {"feature": {"id": "nowhere"}}]
    wrong = changed({f"{PARAMETERS}/0/value": "x"})["individualCustomer"]["categorization"]["categoryFeatureRelations"]
    refused = _refused(changed({RELATIONS: [*features, *wrong]}))

    assert [(fault.pointer, fault.code) for fault in refused.faults] == [
        (f"{RELATIONS}/0/feature", "required"),
        (f"{RELATIONS}/1/feature/code", "feature.unknown"),
        (f"{RELATIONS}/2/feature/id", "feature.unknown"),
        (f"{RELATIONS}/3/parametrization/0/value", "parameter.not_allowed"),
    ]


def test_values_that_are_not_allowed_come_with_those_that_are() -> None:
    """A caller can mend a body from the answer alone."""
    refused = _refused(changed({f"{PARAMETERS}/0/value": "x", f"{PARAMETERS}/1/value": "101", f"{PARAMETERS}/4/value": "-1"}))

    assert refused.invalid_values == {
        "riskLevel": ("LOW", "MEDIUM", "HIGH", "CRITICAL"),
        "riskScore": "0-100",
        "monthlyLimit": "0-999999999999",
    }


def test_a_key_of_two_features_is_named_once_as_the_first_one_has_it() -> None:
    """Each fault says what its own place may hold; the summary has room for one."""
    relation = {"feature": {"code": "SPENDING_LIMITS"}, "parametrization": [{"name": "dailyLimit", "value": "x"}]}
    refused = _refused(changed({f"{PARAMETERS}/-": {"name": "dailyLimit", "value": "x"}, f"{RELATIONS}/-": relation}))

    assert refused.invalid_values == {"dailyLimit": "0-999999999999"}
    assert [fault.detail for fault in refused.faults] == [
        "Expected a number in the range 0-999999999999.",
        "Expected a number in the range 0-10000.",
    ]


def test_a_blank_text_is_no_answer_to_a_mandatory_key() -> None:
    """Where every text is allowed, one that says nothing is not."""
    parameters = [{"name": "eddRequired", "value": "true"}, {"name": "accountPurpose", "value": " "}]
    relation = {"feature": {"code": "ENHANCED_DUE_DILIGENCE"}, "parametrization": parameters}
    body = changed({f"{RELATIONS}/-": relation}, asking({}, "HIGH_RISK_INDIVIDUAL"))

    assert [(fault.pointer, fault.code, fault.detail) for fault in _refused(body).faults] == [
        (f"{RELATIONS}/1/parametrization/1/value", "parameter.not_allowed", "Expected a text that is not blank.")
    ]


def test_faults_of_fields_and_of_the_categorization_stand_in_one_answer() -> None:
    """Any fault of a field makes it `validation-failed`, which then names the others too."""
    refused = _refused(changed({"/firstName": 7, FIRST: "nowhere", f"{PARAMETERS}/0/value": "x", f"{PARAMETERS}/4": REMOVED}))

    assert refused.code == "validation-failed"
    assert [fault.code for fault in refused.faults] == [
        "type.unexpected",
        "category.unknown",
        "parameter.missing",
        "parameter.not_allowed",
    ]
    assert refused.missing_keys == ("monthlyLimit",)
    assert refused.invalid_values == {"riskLevel": ("LOW", "MEDIUM", "HIGH", "CRITICAL")}


def test_a_key_whose_name_cannot_be_read_is_not_missing_too() -> None:
    """What follows from a fault of shape is not a second fault."""
    refused = _refused(changed({f"{PARAMETERS}/0/name": 7}))

    assert [fault.code for fault in refused.faults] == ["type.unexpected"]


@pytest.mark.parametrize("name", ["code", "id"])
def test_a_feature_whose_name_cannot_be_read_is_not_missing_too(name: str) -> None:
    """Neither that feature nor a required one: it may be the one that is meant."""
    refused = _refused(changed({f"{RELATIONS}/0/feature": {name: 7}}))

    assert [(fault.pointer, fault.code) for fault in refused.faults] == [(f"{RELATIONS}/0/feature/{name}", "type.unexpected")]


@pytest.mark.parametrize("category_id", [name for name, each in DEVELOPMENT.categories.items() if each.active])
def test_the_existing_client_script_is_accepted_in_every_category_that_can_be(category_id: str) -> None:
    """The script reads the hierarchy and fills each mandatory key by its patterns; prohibited ones are refused for that alone."""
    outcome = assess_document(_script_body(category_id), DEVELOPMENT, 1, DAY)

    if DEVELOPMENT.categories[category_id].risk_level is RiskLevel.PROHIBITED:
        assert isinstance(outcome, Refused)
        assert outcome.code == "customer-prohibited"
    else:
        assert isinstance(outcome, Approved)


def test_every_key_that_the_script_knows_takes_what_it_sends() -> None:
    """No key matches two of the script's patterns, and one that matches accepts the value, mandatory or not."""
    for feature in (each for category in DEVELOPMENT.index.categories.values() for each in category.features.values()):
        for name, key in feature.parameters.items():
            values = _script_values(name)
            assert len(values) <= 1, name
            assert all(key.read(value) is not Refusal.NOT_ALLOWED for value in values), name


def test_a_categorization_too_long_to_be_remembered_is_answered_the_same() -> None:
    """What is remembered is bounded in size, what is answered is not."""
    keys = [{"name": f"unheardOf{number}", "value": "x" * 900} for number in range(40)]
    relation = {"feature": {"code": "MEDIUM_RISK_PROFILE"}, "parametrization": keys}
    refused = _refused(changed({RELATIONS: [relation]}))

    assert [fault.code for fault in refused.faults].count("parameter.unknown") == len(keys)
    assert refused == _refused(changed({RELATIONS: [relation]}))
