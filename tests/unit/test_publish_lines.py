"""What `registration publish` makes of a line: a command, or pointers and codes; and ids that a second run finds again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import commands
from tests.records import SNAPSHOT, record
from worker.core import ids
from worker.operate import publish_lines
from worker.operate.publish_lines import Publisher, RefusedLineError, in_chunks, lines_of
from worker.registration import Accepted, examine

KEY = b"a secret of nobody's at all"
PUBLISHER = Publisher(KEY, commands.TENANT)
EMAIL = "somebody@example.com"
BODY = commands.body_of(EMAIL)
DATA = commands.data(EMAIL)
SHORT = "short"


def packed(line: Mapping[str, object] | bytes) -> bytes:
    """Return a line as it stands in a file."""
    return line if isinstance(line, bytes) else json.dumps(line).encode()


def id_of(line: Mapping[str, object], publisher: Publisher = PUBLISHER) -> str:
    """Return the registration that a line asks for."""
    return publisher.read(packed(line)).command.registration_id


@pytest.mark.parametrize(
    ("line", "faults"),
    [
        (b"{", {("", "malformed-json")}),
        (b'{"a": 1, "a": 2}', {("", "malformed-json")}),
        (b"\xff", {("", "malformed-json")}),
        (b"[]", {("", "type.unexpected")}),
        (b'"' + b"x" * publish_lines.LINE_MAX_BYTES + b'"', {("", "line.too_long")}),
        ({**BODY, "tenantId": "\0"}, {("/tenantId", "text.not_allowed")}),
        ({**BODY, "tenantId": 7}, {("/tenantId", "text.not_allowed")}),
        ({**BODY, "registrationId": "reg_1"}, {("/registrationId", "registration_id.invalid")}),
        ({**BODY, "idempotencyKey": ""}, {("/idempotencyKey", "type.unexpected")}),
        ({**BODY, "password": SHORT}, {("/password", "password.weak"), *(
            (each, "password.mismatch") for each in ("/matchingPassword", "/individualCustomer/user/password")
        )}),
        ({**BODY, "phone": "call me"}, {("/phone", "phone.not_e164")}),
        ({**BODY, "passwordHash": commands.PASSWORD_HASH}, {("/customer", "required")}),
        ({**DATA, "passwordHash": "$2b$12$x"}, {("/passwordHash", "password_hash.invalid")}),
        ({**DATA, "passwordHash": None}, {("/passwordHash", "password_hash.invalid")}),
        ({**DATA, "requestedAt": "yesterday"}, {("/requestedAt", "envelope.invalid")}),
        ({**DATA, "customer": 1}, {("/customer", "type.unexpected")}),
        ({**DATA, "password": "x"}, {("/password", "password.plaintext")}),
        ({**DATA, "mine": {"x": [{"matchingPassword": "x"}]}}, {("/*/*/0/matchingPassword", "password.plaintext")}),
        ({**DATA, "customer": BODY}, {(each, "password.plaintext") for each in (
            "/customer/password", "/customer/matchingPassword", "/customer/individualCustomer/user/password"
        )}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_pointers_and_codes(line: Mapping[str, object] | bytes, faults: set[tuple[str, str]]) -> None:
    """All of it, and never a value."""
    with pytest.raises(RefusedLineError) as refused:
        PUBLISHER.read(packed(line))

    assert set(refused.value.faults) == faults
    assert str(refused.value) == ""


def test_a_line_without_a_tenant_needs_one() -> None:
    """From the line, or from the command line."""
    with pytest.raises(RefusedLineError) as refused:
        Publisher(KEY).read(packed(BODY))

    assert refused.value.faults == (("/tenantId", "required"),)


@pytest.mark.parametrize("line", [BODY, DATA, {**DATA, "registrationId": None, "requestedAt": None, "requestedBy": None}])
def test_what_is_made_of_a_line_is_accepted_by_a_worker(line: Mapping[str, object]) -> None:
    """Headers and value are a command's; the password is not in them, and does not show where a draft is printed."""
    draft = PUBLISHER.read(packed(line))
    message = PUBLISHER.message(draft, commands.PASSWORD_HASH if draft.password else None)
    sent = record(message.value, headers=message.headers)

    assert isinstance(examine(sent, SNAPSHOT, fresh=True), Accepted)
    assert BODY["password"] not in repr((message, draft))
    assert EMAIL not in repr((message.key, message.headers))


def test_an_id_derives_from_the_customer_alone() -> None:
    """Not from the order of members, the password, or what is written beside the customer; a body and its command are one."""
    turned = dict(reversed(BODY.items()))
    other_password = json.loads(json.dumps(BODY).replace(BODY["password"], "Another-Secret-99"))
    command = {"customer": commands.customer(EMAIL), "passwordHash": commands.PASSWORD_HASH, "requestedBy": "somebody else"}

    assert {id_of(each) for each in (turned, other_password, command)} == {id_of(BODY)}
    assert ids.registration_uuid(id_of(BODY)) is not None


@pytest.mark.parametrize(
    "other",
    [
        {**BODY, "phone": "+37060012346"},
        {**BODY, "tenantId": "another"},
        {**BODY, "idempotencyKey": "one"},
        {**BODY, "idempotencyKey": "two"},
    ],
)
def test_another_customer_tenant_or_key_is_another_registration(other: Mapping[str, object]) -> None:
    """What was corrected is sent as a new one; a key of the service's own tells whatever it wants told apart."""
    assert id_of(other) != id_of(BODY)


def test_a_key_of_the_services_own_decides_alone() -> None:
    """Whatever the body says; and a registration id says more than a key."""
    keyed: dict[str, Any] = {**BODY, "idempotencyKey": "one"}

    assert id_of({**keyed, "phone": "+37060012346"}) == id_of(keyed)
    assert id_of({**keyed, "registrationId": DATA["registrationId"]}) == DATA["registrationId"]


def test_another_secret_gives_other_ids_and_keys() -> None:
    """So that nobody who guesses an email or a person can tell from either that they are right."""
    other = Publisher(b"another secret!!", commands.TENANT)
    key = PUBLISHER.message(PUBLISHER.read(packed(DATA)), None).key

    assert id_of(BODY, other) != id_of(BODY)
    assert other.message(other.read(packed(DATA)), None).key != key


@pytest.mark.parametrize("place", ["EMAIL", "person", "username"])
def test_one_email_has_one_partition_key_wherever_it_stands(place: str) -> None:
    """Also in capitals: as customers compare it."""
    customer = commands.customer(EMAIL.upper())
    individual = customer["individualCustomer"]
    del customer["email"], individual["user"]["email"]
    if place != "person":
        del individual["person"]["email"]
    if place == "EMAIL":
        del individual["user"]["username"]
    keys = [
        PUBLISHER.message(PUBLISHER.read(packed({**DATA, "customer": each})), None).key for each in (DATA["customer"], customer)
    ]

    assert keys[0] == keys[1]


def test_lines_are_read_one_by_one_and_a_giant_is_passed_over(tmp_path: Path) -> None:
    """Numbers count every line, ends every byte; a giant is never held whole."""
    path, giant = tmp_path / "lines", b"x" * 5_000_000
    path.write_bytes(b"\xef\xbb\xbf{}\n\n  \r\n" + giant + b"\n{}\r\n{}")
    lines = list(lines_of(str(path)))

    assert [line.number for line in lines] == [1, 4, 5, 6]
    assert [line.text for line in lines if line.number != 4] == [b"\xef\xbb\xbf{}", b"{}", b"{}"]
    assert publish_lines.LINE_MAX_BYTES < len(lines[1].text) < publish_lines.LINE_MAX_BYTES + 3
    assert lines[-1].end == lines[-1].total == path.stat().st_size


def test_chunks_are_bounded_in_lines_and_in_bytes() -> None:
    """So memory is, whatever a file holds."""
    small = [publish_lines.Line("f", number, b"{}", 0, 0) for number in range(450)]
    large = [publish_lines.Line("f", number, b"x" * 1_000_000, 0, 0) for number in range(7)]

    assert [len(chunk) for chunk in in_chunks(iter(small))] == [200, 200, 50]
    assert [len(chunk) for chunk in in_chunks(iter(large))] == [3, 3, 1]
    assert list(in_chunks(iter(()))) == []


@pytest.mark.parametrize("named", ["", 0, False, []], ids=repr)
def test_a_line_with_an_empty_tenant_is_refused_and_not_given_to_another(named: object) -> None:
    """As any tenant that is none: a bank's customer must not end at the one that `--tenant` names for lines without."""
    with pytest.raises(RefusedLineError) as refused:
        PUBLISHER.read(json.dumps({**commands.body_of("somebody@example.com"), "tenantId": named}).encode())

    assert refused.value.faults == (("/tenantId", "text.not_allowed"),)


def test_two_keys_of_a_service_are_never_one_registration() -> None:
    """Half a surrogate pair is no text; whatever it is taken for, it is not another key: its person would be taken for a repeat."""
    ids = []
    for key in ("?", "\ud800", "\udfff"):
        with suppress(RefusedLineError):
            line = json.dumps({**commands.body_of("somebody@example.com"), "idempotencyKey": key})
            ids.append(PUBLISHER.read(line.encode()).command.registration_id)

    assert len(set(ids)) == len(ids) >= 1
