"""What verify reads out of single messages, without the worker's own code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Final

import pytest

from schemas.base import Headers
from worker.core import ids
from worker.kafka import LOG_APPEND_TIME
from worker.operate import verify_messages as messages

REGISTRATION: Final = "reg_01k8xq3c9ne6ks4v8w3mhy2gqz"
UUID: Final = ids.registration_uuid(REGISTRATION) or b""
TENANT: Final = "tenant-1"
CUSTOMER: Final = ids.derive(ids.CUSTOMER, TENANT, UUID)
CE_ID: Final = ids.derive(ids.EVENT, TENANT, UUID)
WHEN: Final = datetime(2026, 11, 24, 20, 30, 0, 125_000, UTC)
MS: Final = 1_795_552_200_125


@dataclass(frozen=True, slots=True)
class Held:
    """A record as a reader gives it."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    topic: str = "a.topic"
    partition: int = 1
    offset: int = 2
    timestamp: int = MS
    timestamp_type: int = LOG_APPEND_TIME


VALUE: Final[Mapping[str, Any]] = {
    "registrationId": REGISTRATION,
    "tenantId": TENANT,
    "customerId": CUSTOMER,
    "userId": "user_1",
    "personId": "pers_1",
    "categoryId": "MEDIUM_RISK_INDIVIDUAL",
    "riskLevel": "LOW",
    "riskScore": 5,
    "dueDiligence": "SIMPLIFIED",
    "sanctionsScreening": "BASIC",
    "monitoring": "DAILY",
    "seniorApproval": False,
    "nextReviewOn": "2027-01-01",
    "verificationLevel": "BASIC",
    "verificationChecks": ["GOVERNMENT_ID"],
    "consents": [{"code": "PRIVACY_POLICY", "documentVersion": "2026-01"}],
    "limits": {"currency": "EUR", "day": 3, "month": 4, "transaction": 2},
    "activationBlockers": ["EMAIL_CONFIRMATION"],
    "catalogueVersion": 1,
    "registeredAt": "2026-11-24T20:30:00.125000Z",
    "customerPath": f"/api/v2.1/customers/{CUSTOMER}",
}
HEADERS: Final[Mapping[str, bytes]] = {
    "ce_specversion": b"1.0",
    "ce_id": CE_ID.encode(),
    "ce_type": b"customer.registered.v1",
    "ce_source": b"/registration/worker",
    "ce_time": b"2026-11-24T20:30:00.125Z",
    "ce_subject": CUSTOMER.encode(),
    "ce_tenantid": TENANT.encode(),
    "content-type": b"application/json",
}
EVENT: Final = Held(json.dumps(VALUE).encode(), CUSTOMER.encode(), tuple(HEADERS.items()))
ROW: Final[Mapping[str, Any]] = {
    "status": "REGISTRATION_COMPLETE",
    "code": None,
    "decided_at": WHEN,
    "customer_id": CUSTOMER,
    "user_id": "user_1",
    "person_id": "pers_1",
    "category_id": "MEDIUM_RISK_INDIVIDUAL",
    "risk_level": "LOW",
    "risk_score": 5,
    "due_diligence": "SIMPLIFIED",
    "verification_level": "BASIC",
    "next_review_on": date(2027, 1, 1),
    "catalogue_version": 1,
    "email": "Marcus@Example.com",
    "email_normalized": "marcus@example.com",
    "phone": "+37060012345",
    "username": "Marcus@Example.com",
    "first_name": "Marcus",
    "last_name": "Jensen",
    "customer_name": "Marcus Jensen",
    "date_of_birth": date(1990, 5, 15),
    "place_of_birth": None,
}


def rules(record: Held) -> list[str]:
    """Return the rules that an event breaks by itself."""
    _, faults = messages.read_event(record)
    return [rule for rule, _ in faults]


def told(row: Mapping[str, Any] = ROW, **members: object) -> list[tuple[str, str]]:
    """Return what an event breaks against its row."""
    fact, _ = messages.read_event(replace(EVENT, value=json.dumps({**VALUE, **members}).encode()))
    assert fact is not None
    return list(messages.against_row(fact, row))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"password": "x"}', True),
        (b'{"matchingPassword": null}', True),
        (b'{"a": [{"b": {"password": 1}}]}', True),
        (b'{"p\\u0061ssword": "x"}', True),
        ('{"password": "x"}'.encode("utf-16"), True),
        (b'broken {"password": "x"', True),
        (b'broken {"p\\u0061ssword": "x"', True),
        (b"{'password': 'x'}", True),
        (b'{"a": "\'password\'"}', False),
        (b"[" * 100_000 + b'"password"', True),
        (b"[" * 100_000 + b'"\\u0061"', True),
        (b'{"a": ' + b"9" * 5000 + b', "p\\u0061ssword": 1}', True),
        (b'{"passwordHash": "x", "Password": "x"}', False),
        (b'{"a": "password"}', False),
        (b'{"a": "\\"password\\": 1"}', False),
        (b"broken password", False),
        (b"", False),
        (None, False),
    ],
)
def test_a_password_is_a_member_of_that_name(value: bytes | None, expected: bool) -> None:  # noqa: FBT001 - of a table
    """Exactly so named, at any depth; in bytes that are not JSON the name in quotes is enough."""
    assert messages.carries_password(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"registrationId": "r", "tenantId": "t", "customer": 1}', ("r", "t")),
        (b'{"registrationId": "r", "tenantId": "t", "a": ' + b"9" * 5000 + b"}", ("r", "t")),
        (b'{"registrationId": "r"}', None),
        (b'{"registrationId": "r", "tenantId": 1}', None),
        (b'{"registrationId": "r\\u0000", "tenantId": "t"}', None),
        (b'{"registrationId": "\\ud800", "tenantId": "t"}', None),
        (b"[]", None),
        (b"not JSON", None),
        (None, None),
    ],
)
def test_a_command_names_its_registration_or_does_not(value: bytes | None, expected: tuple[str, str] | None) -> None:
    """What the database can't be asked for is none."""
    assert messages.registration_of(value) == expected


def test_an_event_as_agreed_has_no_fault() -> None:
    """Nor against its row."""
    fact, faults = messages.read_event(EVENT)

    assert faults == []
    assert fact is not None
    assert (fact.status, fact.ce_id) == ("REGISTRATION_COMPLETE", CE_ID)
    assert list(messages.against_row(fact, ROW)) == []


def test_a_refusal_as_agreed_has_no_fault() -> None:
    """Its key is the registration's id, for there is no customer."""
    value = {
        "registrationId": REGISTRATION,
        "tenantId": TENANT,
        "code": "email-taken",
        "faultCodes": [],
        "rejectedAt": "2026-11-24T20:30:00.125Z",
    }
    headers = {
        **HEADERS,
        "ce_id": ids.derive(ids.EVENT, TENANT, UUID, ids.REJECTION).encode(),
        "ce_type": b"customer.registration-rejected.v1",
        "ce_subject": REGISTRATION.encode(),
    }
    fact, faults = messages.read_event(Held(json.dumps(value).encode(), REGISTRATION.encode(), tuple(headers.items())))

    assert faults == []
    assert fact is not None
    row = {**dict.fromkeys(ROW), "status": "REJECTED", "code": "email-taken", "decided_at": WHEN}
    assert list(messages.against_row(fact, row)) == []
    assert [rule for rule, _ in messages.against_row(fact, {**row, "code": "customer-prohibited"})] == ["event.contradicts"]
    assert [rule for rule, _ in messages.against_row(fact, ROW)] == ["event.contradicts"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ce_source": b"/another"}, ["event.headers"]),
        ({"ce_specversion": b"0.3"}, ["event.headers"]),
        ({"ce_type": b"customer.registered.v2"}, ["event.headers"]),
        ({"ce_subject": b"another"}, ["event.headers"]),
        ({"ce_tenantid": b"another"}, ["event.headers"]),
        ({"ce_time": b"2026-11-24T20:30:00.126Z"}, ["event.headers"]),
        ({"ce_time": b"soon"}, ["event.headers"]),
        ({"ce_id": b"evt_01k8xq3c9ne6ks4v8w3mhy2gqz"}, ["registration.wrong_id"]),
        ({"email": b"marcus@example.com"}, ["event.headers"]),
        ({"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, []),
    ],
)
def test_headers_are_those_of_the_contract(change: Mapping[str, bytes], expected: list[str]) -> None:
    """Each says what the value says; a trace may come along, anything else may not."""
    headers = {**HEADERS, **change}

    assert rules(replace(EVENT, headers=tuple(headers.items()))) == expected


def test_a_header_may_neither_lack_nor_stand_twice() -> None:
    """A reader could take either."""
    pairs = tuple(HEADERS.items())

    assert rules(replace(EVENT, headers=pairs[1:])) == ["event.headers"]
    assert rules(replace(EVENT, headers=pairs[:-1])) == ["event.headers"]
    assert rules(replace(EVENT, headers=(*pairs, pairs[3]))) == ["event.headers"]
    assert rules(replace(EVENT, headers=(*pairs[:-1], ("content-type", None)))) == ["event.headers"]
    assert rules(replace(EVENT, key=b"another")) == ["event.headers"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({**VALUE, "nickname": "x"}, ["event.shape"]),
        ({**VALUE, "limits": {**VALUE["limits"], "year": 5}}, ["event.shape"]),
        ({**VALUE, "consents": [{"code": "A", "documentVersion": "1", "signedBy": "x"}]}, ["event.shape"]),
        ({**VALUE, "marcus@example.com": "x"}, ["event.shape"]),
        ({**VALUE, "password": "x"}, ["event.shape", "password.plaintext"]),
        ({**VALUE, "riskScore": "a lot"}, ["event.shape"]),
        ({**VALUE, "registrationId": "reg_x"}, ["event.shape"]),
        ({**VALUE, "registrationId": "a\0b"}, ["event.shape"]),
        ({}, ["event.shape"] * len(VALUE)),
        ([], ["event.shape"]),
    ],
)
def test_a_value_is_what_the_schema_says_and_no_more(value: object, expected: list[str]) -> None:
    """A member that it does not have is where personal data would come in; what it says is not repeated."""
    _, faults = messages.read_event(replace(EVENT, value=json.dumps(value).encode()))

    assert [rule for rule, _ in faults] == expected
    assert "marcus" not in str(faults)
    assert "a lot" not in str(faults)


@pytest.mark.parametrize("value", [None, b"", b"no JSON", b"\xff\xfe"])
def test_a_value_that_is_no_json_is_a_fault_and_no_crash(value: bytes | None) -> None:
    """A tombstone too: events are not deleted."""
    assert rules(replace(EVENT, value=value)) == ["event.shape"]


def test_an_event_without_its_row_is_a_ghost() -> None:
    """One whose row ended otherwise contradicts it."""
    assert [rule for rule, _ in told(dict.fromkeys(ROW))] == ["event.ghost"]
    assert [rule for rule, _ in told({**ROW, "status": "REJECTED"})] == ["event.contradicts"]
    assert [rule for rule, _ in told({**ROW, "risk_score": 6, "person_id": None})] == ["event.contradicts"]
    assert "person_id, risk_score" in told({**ROW, "risk_score": 6, "person_id": None})[0][1]


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("marcus@example.com", "email_normalized"),
        ("mailto:Marcus@Example.com?x", "email, username"),
        ("call +37060012345", "phone"),
        ("Marcus", "first_name"),
        ("Jensen", "last_name"),
        ("Marcus Jensen", "customer_name"),
        ("1990-05-15", "date_of_birth"),
    ],
)
def test_a_value_of_the_person_in_an_event_is_found(text: str, column: str) -> None:
    """Whatever the member is called, escaped or not; the finding names the column and not the value."""
    found = told(consents=[{"code": "A", "documentVersion": text}])
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in text)
    value = json.dumps({**VALUE, "consents": [{"code": "A", "documentVersion": "@@"}]}).replace("@@", escaped)
    fact, _ = messages.read_event(replace(EVENT, value=value.encode()))
    assert fact is not None

    assert found == [("personal.data", f"{CE_ID}: {column}")]
    assert list(messages.against_row(fact, ROW)) == found


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("first_name", "LOW"),
        ("last_name", "DAILY"),
        ("last_name", "EUR"),
        ("first_name", "2"),
        ("customer_name", "GOVERNMENT_ID"),
        ("place_of_birth", "BASIC"),
        ("last_name", "Euro"),
        ("first_name", "Gov"),
        ("date_of_birth", date(2027, 1, 1)),
    ],
)
def test_somebody_may_be_called_like_a_word_of_the_contract(column: str, value: object) -> None:
    """That is no personal data in the event."""
    assert told({**ROW, column: value}) == []


def letter_headers(**changed: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return what a dead letter adds to the original headers."""
    added = {
        "dl_code": b"json.malformed",
        "dl_topic": b"commands",
        "dl_partition": b"3",
        "dl_offset": b"77",
        "dl_at": b"2026-11-24T20:30:00.125Z",
    }
    return tuple({**added, **changed}.items())


def test_a_dead_letter_is_its_original_and_five_headers_at_the_end() -> None:
    """A sender's header of the same name is part of the original."""
    sender: Headers = (("dl_offset", b"1"), ("x", None))
    found, faults = messages.read_letter(Held(b"value", b"key", (*sender, *letter_headers())))

    assert faults == []
    assert found == messages.Letter("commands", 3, 77, WHEN, messages.digest(b"key", b"value", sender))


@pytest.mark.parametrize(
    "headers",
    [
        (),
        letter_headers()[1:],
        (*letter_headers(), ("x", b"")),
        letter_headers(dl_offset=b"many"),
        letter_headers(dl_offset=b"-1"),
        letter_headers(dl_partition=b"9999999999"),
        letter_headers(dl_at=b"now"),
    ],
)
def test_a_dead_letter_whose_headers_cannot_be_read_is_a_fault(headers: Headers) -> None:
    """Nobody could tell which command it was."""
    found, faults = messages.read_letter(Held(b"value", None, headers))

    assert found is None
    assert [rule for rule, _ in faults] == ["letter.headers"]


def test_a_dead_letter_with_a_password_is_a_breach() -> None:
    """Its payload should have been left out."""
    _, faults = messages.read_letter(Held(b'{"password": "x"}', None, letter_headers()))

    assert [rule for rule, _ in faults] == ["password.plaintext"]


def test_records_that_differ_anywhere_have_different_digests() -> None:
    """Key, value, names and values of headers, their order; null is not empty; a border can't be shifted."""
    found = [
        messages.digest(None, None, ()),
        messages.digest(b"", None, ()),
        messages.digest(None, b"", ()),
        messages.digest(b"a", b"b", ()),
        messages.digest(b"ab", b"", ()),
        messages.digest(b"a", b"b", [("c", b"d")]),
        messages.digest(b"a", b"b", [("c", None)]),
        messages.digest(b"a", b"b", [("cd", b"")]),
        messages.digest(b"a", b"b", [("c", b"d"), ("e", b"f")]),
        messages.digest(b"a", b"b", [("e", b"f"), ("c", b"d")]),
    ]

    assert len(set(found)) == len(found)
    assert all(-(2**63) <= digest < 2**63 for digest in found)


def test_a_record_has_the_time_that_the_broker_gave_it() -> None:
    """Milliseconds since 1970, exactly."""
    assert messages.recorded_at(EVENT) == WHEN
