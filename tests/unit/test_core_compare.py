"""What changes between two catalogues and two decisions: said of every member, and never called harmless where it is not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import date
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from tests.unit.core_examples import BODY, DAY, DEVELOPMENT, DOCUMENT, PERSON, REMOVED, asking, catalogues, changed
from worker.core.assess import Approved, Refused, assess_again, assess_document
from worker.core.catalogue import Catalogue, parse
from worker.core.compare_catalogues import ANY, SUBJECTS, Path, subject_of
from worker.core.compare_catalogues import compare as compare_catalogues
from worker.core.compare_decisions import compare as compare_decisions
from worker.core.decision import Decision
from worker.core.protection import Protection
from worker.core.scales import DueDiligence, Monitoring, RiskLevel, SanctionsScreening, Scale, VerificationLevel
from worker.dev.stack import CATALOGUE
from worker.operate.catalogue_file import schema

HIGH: Final = "/categories/HIGH_RISK_INDIVIDUAL"
CRITICAL: Final = "/categories/CRITICAL_RISK_INDIVIDUAL"
MEDIUM: Final = "/categories/MEDIUM_RISK_INDIVIDUAL"
PROFILE: Final = "/features/MEDIUM_RISK_PROFILE"
PARAMETERS: Final = f"{PROFILE}/parameters"
LISTS: Final = "/factors/country_lists"
PLAIN: Final[dict[str, Any]] = json.loads(json.dumps(DOCUMENT, default=date.isoformat))
"""The development catalogue without the aliases of its file: a change of one member is a change of one."""
PLAIN_IDS: Final[dict[str, str]] = {name: each["database_id"] for name, each in PLAIN["categories"].items()}
LISTED: Final = {"source": "a test", "listed_on": "2026-01-01"}
CATEGORIES: Final = ("LOW_RISK_INDIVIDUAL", "MEDIUM_RISK_INDIVIDUAL", "HIGH_RISK_INDIVIDUAL", "CRITICAL_RISK_INDIVIDUAL")
LESS, MORE, SAME = Protection.LESS, Protection.MORE, Protection.SAME


def members(path: Path, node: Any) -> Iterator[Path]:  # noqa: ANN401 - JSON
    """Yield the path of everything that a change can be about."""
    if isinstance(node, dict):
        for name, inner in node.items():
            yield from members((*path, name), inner)
    elif isinstance(node, list):
        yield from ((*path, str(each)) for each in node)
    else:
        yield path


def test_every_member_of_a_catalogue_is_spoken_of() -> None:
    """A member that a later version of the program adds must say in which sense it protects."""
    spoken = {subject_of(path)[0].words for path in members((), DEVELOPMENT.model_dump(mode="json"))}
    containers = {subject.words for pattern, subject in SUBJECTS.items() if f"{pattern}.{ANY}" in SUBJECTS or is_above(pattern)}

    assert spoken | containers == {subject.words for subject in SUBJECTS.values()}
    with pytest.raises(KeyError):
        subject_of(("tenant", "colour"))


def is_above(pattern: str) -> bool:
    """Say whether other members stand below this one."""
    return any(other.startswith(f"{pattern}.") for other in SUBJECTS)


CHANGES: Final[list[tuple[dict[str, object], list[tuple[str, Protection]]]]] = [
    ({}, []),
    ({"/tenant/name": "Other Bank"}, [("tenant, name: Development Bank → Other Bank", SAME)]),
    ({"/tenant/currency": "SEK"}, [("tenant, currency of all limits: EUR → SEK", LESS)]),
    ({"/tenant/minimum_age_years": 16}, [("tenant, minimum age in years: 18 → 16", LESS)]),
    ({"/tenant/human_review": False}, [("tenant, review by a person: yes → no", LESS)]),
    ({"/tenant/refusals_kept_days": 90}, [("tenant, days that refusals are kept: 45 → 90", SAME)]),
    ({"/tenant/passwords/length_min": 16}, [("passwords, least length: 12 → 16", MORE)]),
    ({"/tenant/roles": ["ACCOUNT_OWNER", "USER"]}, [("tenant, role VIEWER: removed", MORE)]),
    ({"/levels/HIGH/score_min": 55}, [("level HIGH, score at which it begins: 60 → 55", MORE)]),
    ({"/levels/MEDIUM/due_diligence": "SIMPLIFIED"}, [("level MEDIUM, due diligence: STANDARD → SIMPLIFIED", LESS)]),
    ({"/levels/HIGH/monitoring": "DAILY"}, [("level HIGH, monitoring: WEEKLY → DAILY", MORE)]),
    ({"/levels/HIGH/review_after_months": 6}, [("level HIGH, review after months: 12 → 6", MORE)]),
    ({"/levels/LOW/limits/month": 60_000}, [("level LOW, limit a month: 50,000 → 60,000", LESS)]),
    ({"/levels/CRITICAL/limits/transaction": 100}, [("level CRITICAL, limit a transaction: 250 → 100", MORE)]),
    (
        {"/levels/HIGH/consents": ["INTERNATIONAL_DATA_TRANSFER"], "/levels/CRITICAL/consents": ["INTERNATIONAL_DATA_TRANSFER"]},
        [
            ("level HIGH, consent ENHANCED_MONITORING: removed", LESS),
            ("level CRITICAL, consent ENHANCED_MONITORING: removed", LESS),
            ("level HIGH, consent INTERNATIONAL_DATA_TRANSFER: added", MORE),
            ("level CRITICAL, consent INTERNATIONAL_DATA_TRANSFER: added", MORE),
        ],
    ),
    ({f"{LISTS}/EU_HIGH_RISK/countries/SY": REMOVED}, [("country list EU_HIGH_RISK, country SY: removed", LESS)]),
    ({f"{LISTS}/EU_HIGH_RISK/countries/FR": LISTED}, [("country list EU_HIGH_RISK, country FR: added", MORE)]),
    ({f"{LISTS}/EU_HIGH_RISK": REMOVED}, [("country list EU_HIGH_RISK: removed", LESS)]),
    ({f"{LISTS}/EU_HIGH_RISK/minimum_level": "MEDIUM"}, [("country list EU_HIGH_RISK, least level: HIGH → MEDIUM", LESS)]),
    ({"/factors/age_bands/ELDERLY": REMOVED}, [("age band ELDERLY: removed", LESS)]),
    ({"/factors/age_bands/ELDERLY/from_years": 75}, [("age band ELDERLY, from years: 80 → 75", MORE)]),
    ({"/factors/pep/FOREIGN/points": 50}, [("politically exposed FOREIGN, points: 40 → 50", MORE)]),
    (
        {"/verification/ENHANCED": ["GOVERNMENT_ID", "PROOF_OF_ADDRESS"]},
        [("verification ENHANCED, check SOURCE_OF_FUNDS: removed", LESS)],
    ),
    ({"/documents/PRIVACY_POLICY": "2027-01"}, [("document PRIVACY_POLICY, version: 2026-01 → 2027-01", SAME)]),
    ({"/activation/details": []}, [(f"activation, detail {name}: removed", LESS) for name in ("PLACE_OF_BIRTH", "NATIONALITIES")]),
    ({f"{MEDIUM}/base_score": 30}, [("category MEDIUM_RISK_INDIVIDUAL, score: 40 → 30", LESS)]),
    ({f"{MEDIUM}/active": False}, [("category MEDIUM_RISK_INDIVIDUAL, offered: yes → no", SAME)]),
    (
        {f"{MEDIUM}/required_features": []},
        [("category MEDIUM_RISK_INDIVIDUAL, required feature MEDIUM_RISK_PROFILE: removed", LESS)],
    ),
    ({"/categories/STUDENT_INDIVIDUAL": REMOVED}, [("category STUDENT_INDIVIDUAL: removed", SAME)]),
    ({"/features/INTERNATIONAL_TRANSFERS/risk_points": 0}, [("feature INTERNATIONAL_TRANSFERS, points: 5 → 0", LESS)]),
    (
        {f"{PARAMETERS}/dailyLimit/claims": None},
        [("feature MEDIUM_RISK_PROFILE, what key dailyLimit says to the rules: DAY_LIMIT → nothing", LESS)],
    ),
    ({f"{PARAMETERS}/dailyLimit": REMOVED}, [("feature MEDIUM_RISK_PROFILE, key dailyLimit: removed", LESS)]),
    ({f"{PARAMETERS}/nickname": {}}, [("feature MEDIUM_RISK_PROFILE, key nickname: added", SAME)]),
    ({f"{PARAMETERS}/pep/mandatory": False}, [("feature MEDIUM_RISK_PROFILE, key pep mandatory: yes → no", LESS)]),
    ({f"{PARAMETERS}/riskScore/allowed": "0-50"}, [("feature MEDIUM_RISK_PROFILE, values of key riskScore: 0-100 → 0-50", SAME)]),
    (
        {f"{PARAMETERS}/riskLevel/allowed": ["LOW", "MEDIUM", "HIGH"]},
        [("feature MEDIUM_RISK_PROFILE, key riskLevel, value CRITICAL: removed", SAME)],
    ),
    ({"/tenant/time_zone": "Pacific/Auckland"}, [('tenant, time zone of "today": UTC → Pacific/Auckland', LESS)]),
    ({"/consents": ["PRIVACY_POLICY", "DATA_PROCESSING", "TERMS_AND_CONDITIONS"]}, [("only the order of lists", SAME)]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), CHANGES)
def test_a_change_is_a_sentence_that_says_whom_it_protects(
    changes: dict[str, object], expected: list[tuple[str, Protection]]
) -> None:
    """What protects less stands first; a change back protects the other way, where one can tell."""
    other = parse(changed(changes, PLAIN))
    there, back = compare_catalogues(DEVELOPMENT, other), compare_catalogues(other, DEVELOPMENT)

    assert [(change.text, change.protection) for change in there] == expected
    assert len(back) == len(there)
    if not {"/tenant/currency", "/tenant/time_zone"} & changes.keys():
        opposite = {LESS: MORE, MORE: LESS, SAME: SAME}
        assert sorted(change.protection for change in back) == sorted(opposite[change.protection] for change in there)


MOVED: Final[list[dict[str, object]]] = [
    {f"{CRITICAL}/database_id": PLAIN_IDS["HIGH_RISK_INDIVIDUAL"], f"{HIGH}/database_id": PLAIN_IDS["CRITICAL_RISK_INDIVIDUAL"]},
    {
        "/categories/CRITICAL_RISK_INDIVIDUAL": REMOVED,
        "/categories/WEALTHY": {**PLAIN["categories"]["LOW_RISK_INDIVIDUAL"], "database_id": PLAIN_IDS["CRITICAL_RISK_INDIVIDUAL"]},
    },
    {f"{MEDIUM}/database_id": "new", f"{HIGH}/database_id": PLAIN_IDS["MEDIUM_RISK_INDIVIDUAL"]},
    {
        "/features/INTERNATIONAL_TRANSFERS/database_id": "new",
        "/features/SPENDING_LIMITS/database_id": PLAIN["features"]["INTERNATIONAL_TRANSFERS"]["database_id"],
    },
]


@pytest.mark.parametrize("changes", MOVED)
def test_an_id_that_means_another_thing_is_to_be_looked_at(changes: dict[str, object]) -> None:
    """The same request would be decided by other rules, whatever these say."""
    found = compare_catalogues(DEVELOPMENT, parse(changed(changes, PLAIN)))

    assert found[0].protection is LESS
    assert found[0].text.startswith("id ")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"riskLevel": {"allowed": ["HIGH", "CRITICAL"]}}, {"riskLevel": {"allowed": ["MEDIUM", "HIGH", "CRITICAL"]}}),
        ({"pep": {"allowed": ["true"]}}, {"pep": {"allowed": ["true", "false"]}}),
        ({"monthlyLimit": {"allowed": "0-1000"}}, {"monthlyLimit": {"allowed": "0-2000"}}),
        ({"monthlyLimit": {"allowed": "0-1000"}}, {"monthlyLimit": {"allowed": None}}),
        ({"riskScore": {"allowed": "50-100"}}, {"riskScore": {"allowed": "40-100"}}),
    ],
)
def test_a_key_that_everybody_sends_may_not_say_less_unnoticed(before: dict[str, Any], after: dict[str, Any]) -> None:
    """What the least of its values says holds for all; to widen it takes that away, and to narrow it gives it."""
    one, other = (
        parse(
            changed({f"{PARAMETERS}/{key}/{name}": value for key, each in changes.items() for name, value in each.items()}, PLAIN)
        )
        for changes in (before, after)
    )

    assert "may now say less" in compare_catalogues(one, other)[0].text
    assert all(change.protection is SAME for change in compare_catalogues(other, one))


SCALES: Final[dict[str, type[Scale]]] = {
    "due_diligence": DueDiligence,
    "sanctions_screening": SanctionsScreening,
    "monitoring": Monitoring,
    "verification": VerificationLevel,
    "minimum_level": RiskLevel,
    "risk_level": RiskLevel,
}


@st.composite
def edited(draw: st.DrawFn) -> Catalogue:
    """Draw the development catalogue after somebody has edited some of it, in a way that is still valid."""
    document = copy.deepcopy(PLAIN)
    for _ in range(draw(st.integers(1, 3))):
        holder, name = draw(st.sampled_from(list(_places(document))))
        _edit(draw, holder, name)
    things = document.get(draw(st.sampled_from(["categories", "features"])), {})
    if len(things) > 1 and draw(st.booleans()):
        _move(draw, things)
    try:
        return parse(document)
    except ValidationError:
        assume(False)
        raise


def _places(node: Any) -> Iterator[tuple[dict[str, Any], str]]:  # noqa: ANN401 - JSON
    for name, inner in node.items():
        yield node, name
        if isinstance(inner, dict):
            yield from _places(inner)


def _edit(draw: st.DrawFn, holder: dict[str, Any], name: str) -> None:
    """Change one member, as its kind allows."""
    value = holder.get(name)
    if isinstance(value, bool):
        holder[name] = not value
    elif isinstance(value, int):
        holder[name] = max(0, value + draw(st.integers(-30, 30)))
    elif name in SCALES and isinstance(value, str):
        holder[name] = str(draw(st.sampled_from(list(SCALES[name]))))
    elif isinstance(value, list) and draw(st.booleans()):
        holder[name] = draw(st.lists(st.sampled_from(value), unique=True)) if value else []
    elif isinstance(value, list):
        holder[name] = [*value, "INTERNATIONAL_DATA_TRANSFER"] if "consents" in name else value
    elif isinstance(value, dict):
        del holder[name]


def _move(draw: st.DrawFn, things: dict[str, Any]) -> None:
    """Give an id to another thing, or a thing another name."""
    one, other = draw(st.lists(st.sampled_from(list(things)), min_size=2, max_size=2, unique=True))
    if draw(st.booleans()):
        things[one]["database_id"], things[other]["database_id"] = things[other]["database_id"], things[one]["database_id"]
    else:
        things[f"{one}_NEW"] = things.pop(one)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a registration that the development catalogue takes."""
    category = draw(
        st.sampled_from([n for n, each in DEVELOPMENT.categories.items() if each.active and each.risk_level < "PROHIBITED"])
    )
    asked = {
        "riskLevel": draw(st.sampled_from(["LOW", "MEDIUM", "HIGH"])),
        "riskScore": str(draw(st.integers(0, 100))),
        "pepKind": draw(st.sampled_from(["NONE", "DOMESTIC", "FOREIGN"])),
        "complianceLevel": draw(st.sampled_from([f"{each}_DUE_DILIGENCE" for each in DueDiligence])),
        "monthlyLimit": str(draw(st.integers(0, 60_000))),
    }
    person = {
        f"{PERSON}/nationality": draw(st.sampled_from(["LT", "KP", "SY", "VN"])),
        "/customerCategory/id": draw(st.sampled_from([category, PLAIN_IDS[category]])),
        "/individualCustomer/categorization/id": draw(st.sampled_from([category, PLAIN_IDS[category]])),
        f"{PERSON}/dateOfBirth": str(draw(st.dates(date(1930, 1, 1), date(2008, 3, 2)))),
    }
    return changed(person, asking(asked, category))


@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most edits are invalid, or called weaker
@given(after=edited(), body=bodies())
def test_what_is_not_called_weaker_protects_nobody_less(after: Catalogue, body: dict[str, Any]) -> None:
    """Whoever reviews a change can rely on it, whatever the customers to come are like."""
    before = assess_document(body, DEVELOPMENT, 7, DAY)
    assert isinstance(before, Approved)
    changes = compare_catalogues(DEVELOPMENT, after)
    assume(all(change.protection is not LESS for change in changes))
    then = assess_again(before.categorized.sent, before.applicant.subject, after, 7, DAY)

    assert [each for each in compare_decisions(before.decision, then) if each.protection is LESS] == []


@given(after=edited())
def test_an_edit_is_never_passed_over(after: Catalogue) -> None:
    """Nothing is said only where nothing was changed."""
    assert (compare_catalogues(DEVELOPMENT, after) == ()) == (after == DEVELOPMENT)


@given(one=catalogues(), other=catalogues(), body=bodies())
def test_two_decisions_compare_the_same_from_either_side(one: Catalogue, other: Catalogue, body: dict[str, Any]) -> None:
    """What is more from here is less from there; a decision differs from itself in nothing."""
    outcomes = [_outcome(body, catalogue) for catalogue in (one, other)]
    there, back = compare_decisions(*outcomes), compare_decisions(*reversed(outcomes))
    opposite = {LESS: MORE, MORE: LESS, SAME: SAME}

    assert [compare_decisions(each, each) for each in outcomes] == [(), ()]
    assert [(each.aspect, each.before, each.after) for each in there] == [(each.aspect, each.after, each.before) for each in back]
    assert [each.protection for each in there] == [opposite[each.protection] for each in back]


def _outcome(body: dict[str, Any], catalogue: Catalogue) -> Decision | Refused:
    outcome = assess_document(body, catalogue, 7, DAY)
    return outcome.decision if isinstance(outcome, Approved) else outcome


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"/tenant/currency": "SEK"}, [("limits.currency", "EUR", "SEK", LESS)]),
        ({"/tenant/human_review": False}, [("humanReview", "yes", "no", LESS)]),
        ({f"{MEDIUM}/active": False}, [("outcome", "accepted", "refused: categorization-invalid (category.inactive)", SAME)]),
        (
            {f"{MEDIUM}/risk_level": "PROHIBITED", f"{MEDIUM}/base_score": 100},
            [("outcome", "accepted", "refused: customer-prohibited", MORE)],
        ),
    ],
)
def test_what_only_a_catalogue_can_change_is_said_too(changes: dict[str, object], expected: list[tuple[object, ...]]) -> None:
    """The example's customer by another catalogue."""
    before, after = (_outcome(BODY, catalogue) for catalogue in (DEVELOPMENT, parse(changed(changes, PLAIN))))

    assert [tuple(each) for each in compare_decisions(before, after)] == expected


def test_the_editors_schema_is_the_models_and_takes_the_development_catalogue() -> None:
    """`make schemas` writes it beside the file that names it."""
    written = json.loads(CATALOGUE.with_name("catalogue.schema.json").read_text())

    assert written == json.loads(schema())
    assert "$schema=catalogue.schema.json" in CATALOGUE.read_text().splitlines()[0]
    Draft202012Validator.check_schema(written)
    Draft202012Validator(written).validate(PLAIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"/colour": "red"},
        {"/levels/HIGH/colour": "red"},
        {"/levels/HIGHEST": PLAIN["levels"]["HIGH"]},
        {"/levels/HIGH/monitoring": "HOURLY"},
        {"/levels/HIGH/score_min": "60"},
        {f"{LISTS}/EU_HIGH_RISK/countries/UK": LISTED},
        {f"{PARAMETERS}/riskScore/allowed": "0 to 100"},
        {f"{MEDIUM}/risk_level": REMOVED},
    ],
)
def test_an_editor_marks_what_the_program_would_refuse(changes: dict[str, object]) -> None:
    """A typing error is seen while it is made."""
    assert not Draft202012Validator(json.loads(schema())).is_valid(changed(changes, PLAIN))
