"""A body's fields: each fault by its place and code, all of them at once, and what is kept."""

from __future__ import annotations

from datetime import date
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas.commands import Customer
from tests.unit.core_examples import BODY, DAY, DEVELOPMENT, PERSON, RELATIONS, REMOVED, USER, changed
from worker.core.assess import Checked, Refused, check_document
from worker.core.catalogue import COUNTRIES
from worker.core.customer import Applicant, Fault, age_years
from worker.core.shape import FAULTS_MAX, read_customer

CONTACTS: Final = f"{PERSON}/contacts"
ADDRESSES: Final = f"{PERSON}/addresses"
RELATION: Final = f"{RELATIONS}/0"
OTHER_EMAIL: Final = "somebody.else@example.com"
NO_EMAIL: Final = {
    "/email": REMOVED,
    f"{PERSON}/email": REMOVED,
    f"{USER}/username": REMOVED,
    f"{USER}/email": REMOVED,
    f"{CONTACTS}/0/type": "LETTER",
}

ONE_FAULT: Final[list[tuple[dict[str, object], str, str]]] = [
    ({"/firstName": 7}, "/firstName", "type.unexpected"),
    ({"/firstName": ""}, "/firstName", "text.too_short"),
    ({"/firstName": " \u00a0"}, "/firstName", "required"),
    ({"/firstName": "x" * 101}, "/firstName", "text.too_long"),
    ({"/firstName": "Mar\x00cus"}, "/firstName", "text.not_allowed"),
    ({"/firstName": "Mar\x85cus"}, "/firstName", "text.not_allowed"),
    ({"/firstName": "Mar\u202ecus"}, "/firstName", "text.not_allowed"),
    ({"/firstName": "Mar\ud800cus"}, "/firstName", "text.not_allowed"),
    ({"/firstName": "Maria"}, f"{PERSON}/firstName", "name.differs"),
    ({f"{PERSON}/lastName": "Janssen"}, f"{PERSON}/lastName", "name.differs"),
    ({"/firstName": REMOVED, f"{PERSON}/firstName": REMOVED}, "/firstName", "required"),
    ({"/lastName": None, f"{PERSON}/lastName": None}, "/lastName", "required"),
    ({"/lastName": REMOVED, f"{PERSON}/lastName": 7}, f"{PERSON}/lastName", "type.unexpected"),
    (NO_EMAIL, "/email", "required"),
    ({**NO_EMAIL, "/email": 7}, "/email", "type.unexpected"),
    ({**NO_EMAIL, f"{PERSON}/email": 7}, f"{PERSON}/email", "type.unexpected"),
    ({**NO_EMAIL, "/email": "no address"}, "/email", "email.invalid"),
    ({f"{PERSON}/email": OTHER_EMAIL}, f"{PERSON}/email", "email.differs"),
    ({f"{USER}/username": OTHER_EMAIL}, f"{USER}/username", "email.differs"),
    ({f"{USER}/email": OTHER_EMAIL}, f"{USER}/email", "email.differs"),
    ({f"{CONTACTS}/0/value": OTHER_EMAIL}, f"{CONTACTS}/0/value", "email.differs"),
    ({f"{CONTACTS}/-": {"type": "EMAIL", "value": "no address"}}, f"{CONTACTS}/2/value", "email.invalid"),
    ({"/phone": "37060012345"}, "/phone", "phone.not_e164"),
    ({"/phone": "+0123456789"}, "/phone", "phone.not_e164"),
    ({"/phone": "+123456"}, "/phone", "phone.not_e164"),
    ({"/phone": "+1234567890123456"}, "/phone", "phone.not_e164"),
    ({"/phone": "+\u0661\u0662\u0663\u0664\u0665\u0666\u0667"}, "/phone", "phone.not_e164"),
    ({"/phone": "+37060012346"}, "/phone", "phone.differs"),
    ({f"{CONTACTS}/1/value": "0037060012345"}, f"{CONTACTS}/1/value", "phone.not_e164"),
    ({f"{CONTACTS}/1/type": REMOVED}, f"{CONTACTS}/1/type", "required"),
    ({f"{CONTACTS}/1/value": REMOVED}, f"{CONTACTS}/1/value", "required"),
    ({f"{CONTACTS}/-": 7}, f"{CONTACTS}/2", "type.unexpected"),
    (
        {f"{CONTACTS}/-": {"type": "PHONE", "value": "+4912345678", "isPrimary": True}, f"{CONTACTS}/1/isPrimary": True},
        f"{CONTACTS}/2/isPrimary",
        "primary.repeated",
    ),
    ({"/roleIds": [], f"{USER}/roles": REMOVED}, "/roleIds", "required"),
    ({"/roleIds": REMOVED, f"{USER}/roles": REMOVED}, "/roleIds", "required"),
    ({"/roleIds": REMOVED, f"{USER}/roles": 7}, f"{USER}/roles", "type.unexpected"),
    ({f"{USER}/roles": ["USER"]}, f"{USER}/roles", "roles.differ"),
    ({"/roleIds": REMOVED, f"{USER}/roles": ["USER", "ADMIN"]}, f"{USER}/roles/1", "role.not_allowed"),
    ({"/roleIds": REMOVED, f"{USER}/roles": ["USER", "account_owner"]}, f"{USER}/roles/1", "role.not_allowed"),
    ({"/roleIds": REMOVED, f"{USER}/roles": ["USER", 7]}, f"{USER}/roles/1", "type.unexpected"),
    ({"/roleIds": ["USER"] * 51, f"{USER}/roles": ["USER"]}, "/roleIds", "list.too_long"),
    ({f"{PERSON}/dateOfBirth": REMOVED}, f"{PERSON}/dateOfBirth", "required"),
    ({f"{PERSON}/dateOfBirth": 642729600}, f"{PERSON}/dateOfBirth", "type.unexpected"),
    ({f"{PERSON}/dateOfBirth": "1990-5-15"}, f"{PERSON}/dateOfBirth", "date.invalid"),
    ({f"{PERSON}/dateOfBirth": "19900515"}, f"{PERSON}/dateOfBirth", "date.invalid"),
    ({f"{PERSON}/dateOfBirth": "1990-05-15T00:00:00"}, f"{PERSON}/dateOfBirth", "date.invalid"),
    ({f"{PERSON}/dateOfBirth": "1990-02-30"}, f"{PERSON}/dateOfBirth", "date.invalid"),
    ({f"{PERSON}/dateOfBirth": "0000-01-01"}, f"{PERSON}/dateOfBirth", "date.invalid"),
    ({f"{PERSON}/dateOfBirth": "2026-03-03"}, f"{PERSON}/dateOfBirth", "date.in_future"),
    ({f"{PERSON}/dateOfBirth": "2026-03-02"}, f"{PERSON}/dateOfBirth", "person.under_age"),
    ({f"{PERSON}/dateOfBirth": "2008-03-03"}, f"{PERSON}/dateOfBirth", "person.under_age"),
    ({f"{PERSON}/dateOfBirth": "1800-01-01"}, f"{PERSON}/dateOfBirth", "date.too_early"),
    ({f"{PERSON}/nationality": REMOVED}, f"{PERSON}/nationality", "required"),
    ({f"{PERSON}/nationality": "lt"}, f"{PERSON}/nationality", "country.unknown"),
    ({f"{PERSON}/nationality": "LTU"}, f"{PERSON}/nationality", "country.unknown"),
    ({f"{PERSON}/nationality": "ZZ"}, f"{PERSON}/nationality", "country.unknown"),
    ({f"{PERSON}/nationalities": ["LT", "UK"]}, f"{PERSON}/nationalities/1", "country.unknown"),
    ({f"{PERSON}/nationalities": [7, "LV"]}, f"{PERSON}/nationalities/0", "type.unexpected"),
    ({f"{PERSON}/nationalities": "LT"}, f"{PERSON}/nationalities", "type.unexpected"),
    ({ADDRESSES: REMOVED}, ADDRESSES, "required"),
    ({ADDRESSES: []}, ADDRESSES, "required"),
    ({ADDRESSES: {}}, ADDRESSES, "type.unexpected"),
    ({ADDRESSES: [7]}, f"{ADDRESSES}/0", "type.unexpected"),
    ({f"{ADDRESSES}/0/country": "XX"}, f"{ADDRESSES}/0/country", "country.unknown"),
    ({f"{ADDRESSES}/0/street": REMOVED}, f"{ADDRESSES}/0/street", "required"),
    ({f"{ADDRESSES}/0/city": " "}, f"{ADDRESSES}/0/city", "required"),
    ({f"{ADDRESSES}/0/isPrimary": "true"}, f"{ADDRESSES}/0/isPrimary", "type.unexpected"),
    (
        {f"{ADDRESSES}/-": {"street": "A", "city": "B", "country": "LV", "isPrimary": True}},
        f"{ADDRESSES}/1/isPrimary",
        "primary.repeated",
    ),
    ({"/customerCategory/id": REMOVED}, "/customerCategory/id", "required"),
    ({"/customerCategory": 7}, "/customerCategory", "type.unexpected"),
    ({"/individualCustomer/categorization/id": None}, "/individualCustomer/categorization/id", "required"),
    ({"/individualCustomer": "x"}, "/individualCustomer", "type.unexpected"),
    ({"/individualCustomer/person": []}, f"{PERSON}", "type.unexpected"),
    ({f"{RELATION}/feature": REMOVED}, f"{RELATION}/feature", "required"),
    ({f"{RELATION}/feature": {}}, f"{RELATION}/feature", "required"),
    ({f"{RELATION}/feature/code": 7, f"{RELATION}/feature/id": REMOVED}, f"{RELATION}/feature/code", "type.unexpected"),
    ({f"{RELATION}/parametrization/0/value": True}, f"{RELATION}/parametrization/0/value", "type.unexpected"),
    ({f"{RELATION}/parametrization/0/value": None}, f"{RELATION}/parametrization/0/value", "required"),
    ({f"{RELATION}/parametrization/0/name": 7}, f"{RELATION}/parametrization/0/name", "type.unexpected"),
    ({f"{RELATION}/parametrization/0": 7}, f"{RELATION}/parametrization/0", "type.unexpected"),
    ({f"{RELATION}/parametrization": 7}, f"{RELATION}/parametrization", "type.unexpected"),
    ({f"{RELATION}": 7}, f"{RELATION}", "type.unexpected"),
]

ACCEPTED: Final[list[tuple[dict[str, object], str, object]]] = [
    ({}, "roles", ("ACCOUNT_OWNER", "USER")),
    ({"/phone": "+1234567890", f"{CONTACTS}/1": REMOVED}, "phone", "+1234567890"),
    ({"/phone": REMOVED}, "phone", "+37060012345"),
    ({"/phone": REMOVED, f"{CONTACTS}/1": REMOVED}, "phone", None),
    (
        {"/phone": REMOVED, f"{CONTACTS}/-": {"type": "PHONE", "value": "+4912345678", "isPrimary": True}},
        "phone",
        "+4912345678",
    ),
    ({"/email": REMOVED}, "email", "marcus.jensen@example.com"),
    ({"/email": "Marcus.Jensen@EXAMPLE.com"}, "email", "Marcus.Jensen@EXAMPLE.com"),
    ({"/email": "Marcus.Jensen@EXAMPLE.com"}, "email_normalized", "marcus.jensen@example.com"),
    ({f"{CONTACTS}/-": {"type": "EMAIL", "value": OTHER_EMAIL}}, "email", "marcus.jensen@example.com"),
    ({f"{CONTACTS}/-": {"type": "TELEX", "value": "anything"}}, "email", "marcus.jensen@example.com"),
    ({"/firstName": REMOVED}, "first_name", "Marcus"),
    ({f"{PERSON}/firstName": REMOVED}, "first_name", "Marcus"),
    ({"/firstName": "Jos\u00e9", f"{PERSON}/firstName": "Jose\u0301"}, "first_name", "Jos\u00e9"),
    ({"/individualCustomer/customerName": REMOVED}, "customer_name", "Marcus Jensen"),
    ({"/roleIds": []}, "roles", ("ACCOUNT_OWNER", "USER")),
    ({"/roleIds": REMOVED}, "roles", ("ACCOUNT_OWNER", "USER")),
    ({f"{USER}": REMOVED}, "roles", ("ACCOUNT_OWNER", "USER")),
    ({f"{USER}": REMOVED}, "two_factor_enabled", False),
    ({f"{USER}/roles": ["USER", "ACCOUNT_OWNER", "USER"]}, "roles", ("ACCOUNT_OWNER", "USER")),
    ({f"{USER}/requiresPasswordChange": True}, "requires_password_change", True),
    ({f"{PERSON}/dateOfBirth": "2008-03-02"}, "date_of_birth", date(2008, 3, 2)),
    ({f"{PERSON}/nationality": "XK"}, "nationality", "XK"),
    ({f"{PERSON}/nationalities": ["LV", "LT", "LV"]}, "nationalities", ("LT", "LV")),
    ({f"{PERSON}/nationalities": ["LT"]}, "nationalities_told", True),
    ({f"{PERSON}/nationalities": []}, "nationalities_told", False),
    ({f"{ADDRESSES}/-": {"street": "A", "city": "B", "country": "LV"}}, "residences", ("LT", "LV")),
    ({f"{PERSON}/placeOfBirth": "Vilnius"}, "place_of_birth", "Vilnius"),
    ({f"{PERSON}/unheardOf": {"a": 1}}, "gender", "MALE"),
]


def _check(document: object) -> Checked | Refused:
    return check_document(document, DEVELOPMENT, DAY)


def _applicant(document: object) -> Applicant:
    checked = _check(document)
    assert isinstance(checked, Checked), checked
    return checked.applicant


def _faults(document: object) -> set[tuple[str, str]]:
    checked = _check(document)
    return {(fault.pointer, fault.code) for fault in checked.faults} if isinstance(checked, Refused) else set()


@pytest.mark.parametrize(("changes", "pointer", "code"), ONE_FAULT)
def test_what_is_wrong_with_a_body_has_its_place_and_code(changes: dict[str, object], pointer: str, code: str) -> None:
    """One thing that is wrong gives one fault, and nothing that only follows from it."""
    assert _faults(changed(changes)) == {(pointer, code)}


@pytest.mark.parametrize(("changes", "field", "value"), ACCEPTED)
def test_what_is_sent_is_kept_and_what_is_left_out_is_taken_from_its_twin(
    changes: dict[str, object], field: str, value: object
) -> None:
    """Texts stay as they were sent; a part that may be left out comes from where it stands else."""
    assert getattr(_applicant(changed(changes)), field) == value


def test_an_empty_body_lacks_everything_that_is_needed() -> None:
    """The faults of a body with nothing in it are what must be in one."""
    assert _faults({}) == {
        ("/firstName", "required"),
        ("/lastName", "required"),
        ("/email", "required"),
        ("/roleIds", "required"),
        ("/customerCategory/id", "required"),
        (f"{PERSON}/dateOfBirth", "required"),
        (f"{PERSON}/nationality", "required"),
        (ADDRESSES, "required"),
        ("/individualCustomer/categorization/id", "required"),
    }


_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(document=_JSON)
def test_whatever_is_parsed_gets_an_answer(document: object) -> None:
    """No JSON value is so strange that the checks fail on it."""
    assert isinstance(_check(document), Refused)


@pytest.mark.parametrize("document", [None, 7, "text", [], True])
def test_a_document_that_is_no_object_has_one_fault_at_its_root(document: object) -> None:
    """What is no object has no members to be wrong."""
    assert _faults(document) == {("", "type.unexpected")}


@given(
    name=st.text(
        st.characters(
            exclude_categories=["Cc", "Cs"],
            exclude_characters="\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
        ),
        min_size=1,
        max_size=100,
    ).filter(lambda text: not text.isspace())
)
def test_names_of_any_script_are_kept_as_sent(name: str) -> None:
    """Everything but control characters, bidi controls and lone surrogates is somebody's name."""
    body = changed({"/firstName": name, f"{PERSON}/firstName": REMOVED})

    assert _applicant(body).first_name == name


@given(drawn=st.data())
def test_all_faults_of_a_body_are_named_at_once(drawn: st.DataObject) -> None:
    """Faults in different places add up: each that is found alone is found among others, and no more."""
    rows = drawn.draw(
        st.lists(st.sampled_from(INDEPENDENT), unique_by=lambda row: tuple(row[1].split("/")[1:4]), min_size=2, max_size=6)
    )
    changes = {pointer: value for changes, _, _ in rows for pointer, value in changes.items()}

    assert _faults(changed(changes)) == {(pointer, code) for _, pointer, code in rows}


INDEPENDENT: Final = [
    row
    for row in ONE_FAULT
    if len(row[0]) == 1
    and "differ" not in row[2]
    and row[1] not in ("/individualCustomer", PERSON, "/customerCategory", "/customerCategory/id")
    and next(iter(row[0])) == row[1]
]


def test_faults_stand_in_the_order_of_the_body() -> None:
    """The order follows the schema, whatever order the members were sent or checked in."""
    body = changed(
        {f"{RELATION}/parametrization/0/value": "", f"{CONTACTS}/1/value": 7, f"{ADDRESSES}/0/country": "??", "/firstName": ""}
    )
    refused = _check(dict(reversed(body.items())))

    assert isinstance(refused, Refused)
    assert [fault.pointer for fault in refused.faults] == [
        "/firstName",
        f"{ADDRESSES}/0/country",
        f"{CONTACTS}/1/value",
        f"{RELATION}/parametrization/0/value",
    ]


def test_members_of_long_lists_stand_in_the_order_of_their_numbers() -> None:
    """Position 10 comes after position 9."""
    refused = _check(changed({f"{PERSON}/nationalities": ["??"] * 12}))

    assert isinstance(refused, Refused)
    assert [fault.pointer for fault in refused.faults] == [f"{PERSON}/nationalities/{number}" for number in range(12)]


def test_a_long_list_is_cut_and_what_is_kept_of_it_is_still_checked() -> None:
    """A list that is too long hides no fault of its first members."""
    assert _faults(changed({f"{PERSON}/nationalities": ["??", *["LT"] * 20]})) == {
        (f"{PERSON}/nationalities", "list.too_long"),
        (f"{PERSON}/nationalities/0", "country.unknown"),
    }


def test_of_very_many_faults_the_first_are_named_and_one_says_that_there_are_more() -> None:
    """Naming 5,150 faults would hold up everybody else; those outside the long lists are named all the same."""
    bad = {"feature": {"id": 1, "code": 1}, "enabled": 1, "parametrization": [{"name": 1, "value": 1}] * 50}
    refused = _check(changed({RELATIONS: [bad] * 50, "/phone": 7, "/roleIds": [7] * 50, f"{PERSON}/dateOfBirth": "1990-02-30"}))
    wrong_values = [
        {"feature": {"code": "MEDIUM_RISK_PROFILE"}, "parametrization": [{"name": f"x{n}", "value": ""} for n in range(50)]}
    ]
    told = _check(changed({RELATIONS: wrong_values * 50}))

    assert isinstance(refused, Refused)
    assert isinstance(told, Refused)
    assert {"/phone", "/roleIds/49", f"{PERSON}/dateOfBirth"} <= {fault.pointer for fault in refused.faults}
    for each in (refused, told):
        assert len(each.faults) == FAULTS_MAX + 1
        assert each.faults[-1].code == "faults.too_many"
        assert len(set(each.faults)) == len(each.faults)


def test_five_hundred_faults_are_all_named() -> None:
    """The bound itself hides nothing."""
    bad = {"feature": {"code": "MEDIUM_RISK_PROFILE"}, "enabled": True, "parametrization": [{"name": 1, "value": 1}] * 50}
    _, faults = read_customer(changed({RELATIONS: [bad] * 5}))

    assert len(faults) == FAULTS_MAX


def test_members_are_known_by_their_names_on_the_wire_only() -> None:
    """`first_name` is no member of the contract, so it is ignored like any other."""
    assert _faults(changed({"/firstName": REMOVED, f"{PERSON}/firstName": REMOVED, "/first_name": "Marcus"})) == {
        ("/firstName", "required")
    }


def test_reading_a_customer_leaves_the_document_as_it_was() -> None:
    """What is taken out is taken out of a copy."""
    body = changed({"/firstName": 7, f"{ADDRESSES}/0": 7})
    before = changed({}, body)
    read_customer(body)

    assert body == before


def test_a_customer_of_the_right_shape_is_read_whole() -> None:
    """Nothing is taken out where nothing is wrong."""
    assert read_customer(BODY) == (TypeAdapter(Customer).validate_python(BODY), ())


def test_faults_that_are_known_before_stand_with_the_others() -> None:
    """The ingress adds what it found about passwords, and one answer names all."""
    password = Fault("/password", "password.weak", "At least 12 characters.")
    refused = check_document(changed({"/phone": 7}), DEVELOPMENT, DAY, (password,))

    assert isinstance(refused, Refused)
    assert [fault.code for fault in refused.faults] == ["type.unexpected", "password.weak"]


@given(country=st.text(max_size=3))
def test_only_the_codes_of_the_standard_are_countries(country: str) -> None:
    """ISO 3166-1 alpha-2 in upper case, and XK."""
    accepted = isinstance(_check(changed({f"{PERSON}/nationality": country})), Checked)

    assert accepted == (country in COUNTRIES)


@pytest.mark.parametrize(
    ("born_on", "day", "years"),
    [
        (date(2008, 2, 29), date(2026, 2, 28), 17),
        (date(2008, 2, 29), date(2026, 3, 1), 18),
        (date(2008, 3, 2), date(2026, 3, 2), 18),
        (date(2008, 3, 3), date(2026, 3, 2), 17),
    ],
)
def test_an_age_counts_birthdays(born_on: date, day: date, years: int) -> None:
    """Somebody is 18 from their birthday on."""
    assert age_years(born_on, day) == years


MARK: Final = "zq7-mark"
_STRANGE: Final = st.sampled_from(
    [MARK, MARK * 40, f"{MARK}\x00", f"{MARK}\ud800", [MARK], {MARK: MARK}, f" {MARK}@{MARK}", 7_777_777, True]
)


def _leaves(document: object, above: str = "") -> list[str]:
    members = enumerate(document) if isinstance(document, list) else document.items() if isinstance(document, dict) else ()
    return [pointer for name, inner in members for pointer in (f"{above}/{name}", *_leaves(inner, f"{above}/{name}"))]


@given(drawn=st.data())
def test_no_fault_repeats_a_value_that_was_sent(drawn: st.DataObject) -> None:
    """Pointers hold names of the schema and positions, details what was expected."""
    body = BODY
    for _ in range(drawn.draw(st.integers(1, 4))):
        pointer = drawn.draw(st.sampled_from(_leaves(body)))
        body = changed({pointer: drawn.draw(_STRANGE)}, body)
    checked = _check(body)

    said = repr(checked) if isinstance(checked, Refused) else ""
    assert MARK not in said
    assert "7777777" not in said
