"""From a record to a verdict: what is refused, what is a dead letter and why, and that nothing stops a lane."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.commands import INGRESS_SOURCE
from tests import commands
from tests.records import DEVELOPMENT, SNAPSHOT, record, snapshot
from worker.catalogues import NOTHING
from worker.core import ids
from worker.core.assess import VALIDATION_FAILED
from worker.kafka import PlainRecord
from worker.registration import (
    Accepted,
    DeadLetter,
    Rejected,
    UnknownTenantError,
    Verdict,
    acceptable_hash,
    carries_password,
    counts_for_breaker,
    examine,
    refuse,
)

EMAIL = "marcus.jensen@example.com"
DATA = commands.data(EMAIL, registrationId="reg_01h455vb4pex5vsknk084sn02q")
TEXT = json.dumps(DATA).encode()
SALT, HASH = "c2FsdHNhbHRzYWx0", "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo"


def with_member(member: str) -> bytes:
    """Return a good command with one more member, written as it stands."""
    return TEXT[:-1] + b", " + member.encode() + b"}"


def without(*names: str) -> dict[str, Any]:
    """Return a good command that lacks members."""
    return {name: value for name, value in DATA.items() if name not in names}


def examined(value: Mapping[str, object] | bytes | None, **headers: bytes | None) -> Verdict:
    """Return the verdict on a value, by a worker that has just read the catalogues."""
    return examine(record(value, headers=commands.headers(**headers)), SNAPSHOT, fresh=True)


NESTED = {"customer": {**DATA["customer"], "individualCustomer": {"user": {"password": "Secret-1!"}}}}
DEEP = b"[" * 300 + b"]" * 300
DEEPER = b"[" * 100_000 + b"]" * 100_000
DEAD_LETTERS: dict[str, tuple[str, bytes | Mapping[str, object] | None, dict[str, bytes | None], bool]] = {
    # name: code, value, headers, tied to its registration
    "no ce_specversion": ("envelope.invalid", DATA, {"ce_specversion": None}, True),
    "no ce_id": ("envelope.invalid", DATA, {"ce_id": None}, True),
    "no ce_type": ("envelope.invalid", DATA, {"ce_type": None}, True),
    "no ce_source": ("envelope.invalid", DATA, {"ce_source": None}, True),
    "an empty ce_id": ("envelope.invalid", DATA, {"ce_id": b""}, True),
    "no header, and not to be tied": ("envelope.invalid", b"{}", {"ce_id": None}, False),
    "another type": ("type.unexpected", DATA, {"ce_type": b"customer.registered.v1"}, True),
    "another version": ("type.unexpected", DATA, {"ce_type": b"customer.register.v2"}, True),
    "another CloudEvents": ("type.unexpected", DATA, {"ce_specversion": b"0.3"}, True),
    "a type that is no text": ("type.unexpected", DATA, {"ce_type": b"\xff\xfe"}, True),
    "another tenant in the header": ("tenant.mismatch", DATA, {"ce_tenantid": b"other"}, False),
    "another tenant, and an invalid customer": ("tenant.mismatch", {**DATA, "customer": {}}, {"ce_tenantid": b"other"}, False),
    "a header that is no text": ("tenant.mismatch", DATA, {"ce_tenantid": b"\xff"}, False),
    "an unknown tenant": ("tenant.unknown", {**DATA, "tenantId": "nobody"}, {}, False),
    "an unknown tenant, and an invalid customer": ("tenant.unknown", {**DATA, "tenantId": "nobody", "customer": 1}, {}, False),
    "a tombstone": ("value.null", None, {}, False),
    "a tombstone without headers": ("value.null", None, {"ce_type": None, "ce_id": None}, False),
    "nothing": ("json.malformed", b"", {}, False),
    "no JSON": ("json.malformed", b"customer", {}, False),
    "cut off": ("json.malformed", TEXT[:-20], {}, False),
    "something behind": ("json.malformed", TEXT + b" x", {}, False),
    "two values": ("json.malformed", TEXT + TEXT, {}, False),
    "not UTF-8": ("json.malformed", TEXT.replace(b"Marcus", b"M\xe4rcus"), {}, False),
    "UTF-16": ("json.malformed", json.dumps(DATA).encode("utf-16"), {}, False),
    "UTF-32": ("json.malformed", json.dumps(DATA).encode("utf-32-be"), {}, False),
    "a byte order mark": ("json.malformed", b"\xef\xbb\xbf" + TEXT, {}, False),
    "half a surrogate pair as bytes": ("json.malformed", with_member('"x": "').replace(b'"}', b'\xed\xa0\x80"}'), {}, False),
    "half a surrogate pair in an unknown member": ("json.malformed", with_member('"x": "\\ud800"'), {}, True),
    "half a surrogate pair beside the customer": ("json.malformed", {**DATA, "fingerprint": "\ud800"}, {}, True),
    "nested too deep for the schema": ("json.malformed", TEXT[:-1] + b', "x": ' + DEEP + b"}", {}, True),
    "nested too deep for any parser": ("json.malformed", TEXT[:-1] + b', "x": ' + DEEPER + b"}", {}, False),
    "a number of 5,000 digits": ("json.malformed", with_member('"x": ' + "9" * 5000), {}, True),
    "null": ("schema.invalid", b"null", {}, False),
    "a list": ("schema.invalid", b"[]", {}, False),
    "a text": ("schema.invalid", b'"customer"', {}, False),
    "an empty object": ("schema.invalid", b"{}", {}, False),
    "no registration id": ("schema.invalid", without("registrationId"), {}, False),
    "a registration id of another kind": (
        "schema.invalid", {**DATA, "registrationId": "cust_01h455vb4pex5vsknk084sn02q"}, {}, False,
    ),
    "a registration id in upper case": ("schema.invalid", {**DATA, "registrationId": DATA["registrationId"].upper()}, {}, False),
    "a registration id that is a number": ("schema.invalid", {**DATA, "registrationId": 1}, {}, False),
    "a registration id that is a UUID": (
        "schema.invalid", {**DATA, "registrationId": "01890a5d-ac96-774b-bcce-b302099a8057"}, {}, False,
    ),
    "no tenant": ("schema.invalid", without("tenantId"), {}, False),
    "a tenant that is a number": ("schema.invalid", {**DATA, "tenantId": 1}, {}, False),
    "an empty tenant": ("schema.invalid", {**DATA, "tenantId": ""}, {}, False),
    "names in snake_case": ("schema.invalid", {**without("registrationId"), "registration_id": DATA["registrationId"]}, {}, False),
    "password": ("password.plaintext", with_member('"password": "Secret-1!"'), {}, True),
    "password, empty": ("password.plaintext", with_member('"password": ""'), {}, True),
    "password, null": ("password.plaintext", with_member('"password": null'), {}, True),
    "matchingPassword": ("password.plaintext", with_member('"matchingPassword": "Secret-1!"'), {}, True),
    "password, nested": ("password.plaintext", {**DATA, **NESTED}, {}, True),
    "password in a list": ("password.plaintext", with_member('"x": [[{"password": "Secret-1!"}]]'), {}, True),
    "password, escaped": ("password.plaintext", with_member('"pass\\u0077ord": "Secret-1!"'), {}, True),
    "password, wholly escaped": (
        "password.plaintext",
        with_member('"' + "".join(f"\\u{ord(letter):04x}" for letter in "matchingPassword") + '": "Secret-1!"'), {}, True,
    ),
    "password in a member that is overwritten": (
        "password.plaintext", with_member('"customer": {"password": "Secret-1!"}, "customer": {}'), {}, True,
    ),
    "password twice": ("password.plaintext", with_member('"password": "Secret-1!", "password": null'), {}, True),
    "password without the headers": ("password.plaintext", with_member('"password": "Secret-1!"'), {"ce_type": None}, True),
    "password in no JSON": ("password.plaintext", b'"password"="Secret-1!"', {}, False),
    "matchingPassword in no JSON": ("password.plaintext", TEXT[:-2] + b'"matchingPassword": "Secr', {}, False),
    "password behind a byte order mark": ("password.plaintext", b"\xef\xbb\xbf" + with_member('"password": "x"'), {}, False),
    "password in UTF-16": ("password.plaintext", json.dumps({**DATA, "password": "Secret-1!"}).encode("utf-16"), {}, False),
    "password in UTF-16 that is no JSON": ("password.plaintext", '{"password": "Secret-1!'.encode("utf-16-be"), {}, False),
    "password, escaped, beside a number of 5,000 digits": (
        "password.plaintext", with_member('"pass\\u0077ord": "Secret-1!", "x": ' + "9" * 5000), {}, True,
    ),
    "password, escaped, nested too deep for any parser": (
        "password.plaintext", TEXT[:-1] + b', "pass\\u0077ord": "Secret-1!", "x": ' + DEEPER + b"}", {}, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "value", "headers", "tied"), DEAD_LETTERS.values(), ids=DEAD_LETTERS.keys())
def test_what_can_never_be_processed_is_a_dead_letter(
    code: str, value: bytes | Mapping[str, object] | None, headers: dict[str, bytes | None], *, tied: bool
) -> None:
    """Each says why, and belongs to its registration where that can be read."""
    verdict = examined(value, **headers)

    assert isinstance(verdict, DeadLetter)
    assert verdict.code == code
    assert (verdict.tie is not None) is tied
    assert verdict.with_payload is (code != "password.plaintext")
    assert counts_for_breaker(verdict)


FAULTY: dict[str, tuple[Mapping[str, object] | bytes, set[tuple[str, str]]]] = {
    # name: value, (pointer, code) of every fault
    "no customer": (without("customer"), {("", "type.unexpected")}),
    "a customer that is null": ({**DATA, "customer": None}, {("", "type.unexpected")}),
    "a customer that is a text": ({**DATA, "customer": "Marcus"}, {("", "type.unexpected")}),
    "no password hash": (without("passwordHash"), {("/passwordHash", "envelope.invalid")}),
    "a time without a zone": ({**DATA, "requestedAt": "2026-01-01T00:00:00"}, {("/requestedAt", "envelope.invalid")}),
    "nobody asked": ({**DATA, "requestedBy": ""}, {("/requestedBy", "envelope.invalid")}),
    "a fingerprint that is a number": ({**DATA, "fingerprint": 1}, {("/fingerprint", "envelope.invalid")}),
    "a plaintext where the hash belongs": ({**DATA, "passwordHash": "Secret-1!"}, {("/passwordHash", "password_hash.invalid")}),
    "a name with half a surrogate pair": (
        {**DATA, "customer": {**DATA["customer"], "firstName": "\ud800"}}, {("/firstName", "text.not_allowed")},
    ),
    "a name with a zero byte": (
        {**DATA, "customer": {**DATA["customer"], "lastName": "Jen\x00sen"}}, {("/lastName", "text.not_allowed")},
    ),
    "faults of both sorts": (
        {**without("requestedBy"), "passwordHash": 1, "customer": {**DATA["customer"], "phone": "12", "email": "nobody"}},
        {
            ("/requestedBy", "envelope.invalid"), ("/passwordHash", "envelope.invalid"),
            ("/phone", "phone.not_e164"), ("/email", "email.invalid"),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("value", "faults"), FAULTY.values(), ids=FAULTY.keys())
def test_an_invalid_command_that_can_be_tied_is_rejected_with_all_its_faults(
    value: Mapping[str, object] | bytes, faults: set[tuple[str, str]]
) -> None:
    """Whoever waits for the registration learns everything at once; it is no dead letter."""
    verdict = examined(value)

    assert isinstance(verdict, Rejected)
    assert verdict.refused.code == VALIDATION_FAILED
    assert {(fault.pointer, fault.code) for fault in verdict.refused.faults} == faults
    assert verdict.tie.registration_id == DATA["registrationId"]


def test_no_fault_repeats_what_was_sent() -> None:
    """Faults are stored, answered and published: they name places and rules, never a value."""
    mark = "Zqxwvk"
    verdict = examined(
        {**DATA, "requestedAt": mark, "passwordHash": [mark], "customer": {"firstName": {mark: mark}, "email": mark}}
    )

    assert isinstance(verdict, Rejected)
    assert len(verdict.refused.faults) > 3
    assert mark not in repr(verdict.refused)


def test_a_good_command_is_accepted_with_ids_that_follow_from_it() -> None:
    """Every id derives from tenant and registration."""
    verdict = examined(DATA)

    assert isinstance(verdict, Accepted)
    uuid = ids.registration_uuid(DATA["registrationId"])
    assert uuid is not None
    assert verdict.tie.tenant_id == DEVELOPMENT.tenant.id
    assert verdict.customer_id == ids.derive("cust", DEVELOPMENT.tenant.id, uuid)
    assert verdict.user_id == ids.derive("user", DEVELOPMENT.tenant.id, uuid)
    assert verdict.person_id == ids.derive("pers", DEVELOPMENT.tenant.id, uuid)
    assert verdict.event_id == ids.derive("evt", DEVELOPMENT.tenant.id, uuid)
    assert verdict.decided_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert not counts_for_breaker(verdict)


def test_slug_and_id_name_the_same_tenant() -> None:
    """Whichever of them a sender uses, in the data or in the header, the outcome is the same."""
    by_slug = examined({**DATA, "tenantId": DEVELOPMENT.tenant.slug}, ce_id=b"1", ce_tenantid=DEVELOPMENT.tenant.id.encode())
    by_id = examined({**DATA, "tenantId": DEVELOPMENT.tenant.id}, ce_id=b"1", ce_tenantid=DEVELOPMENT.tenant.slug.encode())

    assert isinstance(by_slug, Accepted)
    assert isinstance(by_id, Accepted)
    assert by_slug.tie == by_id.tie
    assert by_slug.customer_id == by_id.customer_id
    assert by_slug._replace(record=by_id.record) == by_id


@pytest.mark.parametrize("value", [{**DATA, "tenantId": "new"}, {**DATA, "tenantId": "new", "customer": {}}])
def test_a_tenant_is_unknown_only_after_the_catalogues_were_read_afresh(value: Mapping[str, object]) -> None:
    """A tenant that came a moment ago loses no command."""
    with pytest.raises(UnknownTenantError):
        examine(record(value), SNAPSHOT, fresh=False)
    with pytest.raises(UnknownTenantError):
        examine(record(DATA), NOTHING, fresh=False)


@pytest.mark.parametrize("member", ["lastName", "firstName"])
@pytest.mark.parametrize("text", ["password", "matchingPassword", '"password"', "say \\u0070assword", 'x", "password'])
def test_a_value_that_is_the_word_password_is_no_password(member: str, text: str) -> None:
    """Only a member of exactly that name is one; somebody may be called so."""
    changed = dict(DATA["customer"])
    changed[member] = text
    changed["individualCustomer"] = {**changed["individualCustomer"]}
    changed["individualCustomer"]["person"] = {**changed["individualCustomer"]["person"], member: text}

    assert isinstance(examined({**DATA, "customer": changed}), Accepted)


@pytest.mark.parametrize("name", ["passwordHash", "Password", "passwords", "password ", "userPassword", "matchingpassword"])
def test_other_names_are_no_password(name: str) -> None:
    """Unknown members are ignored, whatever they are called otherwise."""
    assert not carries_password(json.dumps({**DATA, name: "x"}).encode())


names = st.sampled_from(["password", "matchingPassword"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=50)
@given(
    beside=json_values,
    name=names,
    value=json_values,
    around=st.lists(st.sampled_from(["list", "object"]), max_size=6),
    ascii_only=st.booleans(),
)
def test_a_password_is_found_wherever_it_stands(
    beside: object, name: str, value: object, around: list[str], *, ascii_only: bool
) -> None:
    """At any depth, beside anything, however the rest is written."""
    document: object = {"a": beside, name: value, "b": beside}
    for layer in around:
        document = [beside, document] if layer == "list" else {"x": document, "y": beside}

    assert carries_password(json.dumps(document, ensure_ascii=ascii_only).encode(errors="surrogatepass"))


@pytest.mark.parametrize("name", ["password", "matchingPassword"])
@pytest.mark.parametrize(
    "text",
    ["{{'{}': 'x'}}", '{{"{}": "x"', '{{"\\u00{:x}{}": "x"', "{{'a': [{{'{}': None}}]}}"],
    ids=["python", "cut", "escaped and cut", "deep"],
)
def test_in_what_is_no_json_the_name_in_any_quotes_is_a_password(name: str, text: str) -> None:
    """As Python prints a dictionary, or as a broken connection leaves a document; an escape spells the same name."""
    value = text.format(ord(name[0]), name[1:]) if "u00" in text else text.format(name)

    assert carries_password(value.encode())
    assert not carries_password(value.replace(name[1:], f"{name[1:]}Hash").encode())


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (b'{"password": "x"}', []),
        (b"key", [("x-body", b'{"password": "x"}')]),
        (b"key", [("x-body", b"{}"), ("x-body", b"{'password': 'x'}")]),
        (b"key", [("x-body", b'{"password": "x"}'), ("x-body", b"{}")]),
        (b"key", [("matchingPassword", b"x")]),
        (b"key", [("password", None)]),
    ],
)
@pytest.mark.parametrize("value", [DATA, b"no JSON"])
def test_a_password_in_a_header_or_in_the_key_is_one_too(
    value: bytes | dict[str, Any], key: bytes, headers: list[tuple[str, bytes | None]]
) -> None:
    """What is refused for it is copied nowhere."""
    sent = replace(record(value, headers=[*commands.headers(), *headers]), key=key)
    verdict = examine(sent, SNAPSHOT, fresh=True)

    assert isinstance(verdict, DeadLetter)
    assert verdict.code == "password.plaintext"
    assert not verdict.with_payload


@settings(max_examples=50)
@given(json_values.filter(lambda value: "password" not in repr(value)))
def test_what_has_no_such_name_carries_no_password(value: object) -> None:
    """No innocent command loses its payload."""
    assert not carries_password(json.dumps(value).encode())


@settings(max_examples=50)
@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_sent_gets_a_verdict(value: bytes) -> None:
    """No value of a record raises: one that did would stop its lane."""
    assert isinstance(examined(value), Accepted | Rejected | DeadLetter)


@settings(max_examples=50)
@given(st.data())
def test_whatever_is_changed_in_a_good_command_gets_a_verdict(data: st.DataObject) -> None:
    """Neither does one that is nearly right: any member replaced by any JSON, any stretch of its bytes by others."""
    changed: dict[str, object] = dict(DATA)
    name = data.draw(st.sampled_from([*DATA, "unknown"]))
    changed[name] = data.draw(json_values | st.just("\ud800") | st.just(float("nan")) | st.just(10**400))
    text = json.dumps(changed).encode()
    start = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 3))
    text = text[:start] + data.draw(st.binary(max_size=3)) + text[start + cut :]

    assert isinstance(examined(text), Accepted | Rejected | DeadLetter)


@pytest.mark.parametrize(
    "headers",
    [
        [*commands.headers(), ("x", None)],
        [*commands.headers(), ("ce_tenantid", None)],
        [("ce_source", None), *commands.headers()],
        [],
        [("ce_type", b"\xff")],
    ],
)
def test_null_and_odd_headers_get_a_verdict(headers: list[tuple[str, bytes | None]]) -> None:
    """A header's value may be null in Kafka; it counts as not there."""
    assert isinstance(examine(record(DATA, headers=headers), SNAPSHOT, fresh=True), Accepted | DeadLetter)


def test_the_first_of_headers_of_one_name_counts() -> None:
    """Whoever appends headers on the way can't change what a command is."""
    headers = [*commands.headers(), ("ce_type", b"other"), ("ce_tenantid", b"development"), ("ce_tenantid", b"other")]

    assert isinstance(examine(record(DATA, headers=headers), SNAPSHOT, fresh=True), Accepted)


@pytest.mark.parametrize(
    "value", [DATA, {**DATA, "customer": {}}, with_member('"password": "x"'), None, b"{", {**DATA, "tenantId": "x"}]
)
def test_the_same_record_has_the_same_verdict_whenever_it_is_read(value: bytes | Mapping[str, object] | None) -> None:
    """Deciding again after a rewind, in another process, decides the same."""
    first = record(value)
    again = PlainRecord(*(getattr(first, name) for name in PlainRecord.__slots__))

    assert examine(first, SNAPSHOT, fresh=True) == examine(again, snapshot(DEVELOPMENT), fresh=True)


INVALID_FOR_US = {**DATA, "customer": {**DATA["customer"], "phone": "12"}}
WRONG_CATEGORY = json.loads(json.dumps(DATA).replace("e50bb9ad-6a97-41da-8e66-4c3c0f7e2a3d", "NO_SUCH_CATEGORY"))


@pytest.mark.parametrize(
    ("value", "source", "suspicious"),
    [
        (INVALID_FOR_US, INGRESS_SOURCE, True),
        ({**DATA, "passwordHash": "x"}, INGRESS_SOURCE, True),
        ({**DATA, "requestedAt": "x"}, INGRESS_SOURCE, True),
        (INVALID_FOR_US, "/upstream/branch-office", False),
        (INVALID_FOR_US, f"{INGRESS_SOURCE}/", False),
    ],
)
def test_only_our_own_ingress_makes_a_refusal_suspicious(value: Mapping[str, object], source: str, *, suspicious: bool) -> None:
    """It has checked the body by the same rules: a fault means that versions disagree. Upstream services have not."""
    verdict = examined(value, ce_source=source.encode())

    assert isinstance(verdict, Rejected)
    assert verdict.suspicious is suspicious
    assert counts_for_breaker(verdict) is suspicious


def test_a_categorization_that_is_invalid_is_not_suspicious() -> None:
    """The catalogue may have changed since the ingress looked."""
    verdict = examined(WRONG_CATEGORY, ce_source=INGRESS_SOURCE.encode())

    assert isinstance(verdict, Rejected)
    assert verdict.refused.code == "categorization-invalid"
    assert not verdict.suspicious


PHC = {
    "at the lower bounds": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH}", True),
    "at the upper bounds": (f"$argon2id$v=19$m=262144,t=10,p=8${SALT}${HASH}", True),
    "salt of 8 bytes, hash of 16": ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", True),
    "memory below": (f"$argon2id$v=19$m=19455,t=2,p=1${SALT}${HASH}", False),
    "memory above": (f"$argon2id$v=19$m=262145,t=2,p=1${SALT}${HASH}", False),
    "time below": (f"$argon2id$v=19$m=19456,t=1,p=1${SALT}${HASH}", False),
    "time above": (f"$argon2id$v=19$m=19456,t=11,p=1${SALT}${HASH}", False),
    "lanes below": (f"$argon2id$v=19$m=19456,t=2,p=0${SALT}${HASH}", False),
    "lanes above": (f"$argon2id$v=19$m=19456,t=2,p=9${SALT}${HASH}", False),
    "version 16": (f"$argon2id$v=16$m=19456,t=2,p=1${SALT}${HASH}", False),
    "no version": (f"$argon2id$m=19456,t=2,p=1${SALT}${HASH}", False),
    "argon2i": (f"$argon2i$v=19$m=19456,t=2,p=1${SALT}${HASH}", False),
    "argon2d": (f"$argon2d$v=19$m=19456,t=2,p=1${SALT}${HASH}", False),
    "bcrypt": ("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", False),
    "salt too short": (f"$argon2id$v=19$m=19456,t=2,p=1$c2FsdA${HASH}", False),
    "hash too short": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT}$aGFzaA", False),
    "no hash": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT}", False),
    "salt with a zero byte": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT[:-1]}\0${HASH}", False),
    "hash with a zero byte": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH[:-1]}\0", False),
    "salt that is no base64": (f"$argon2id$v=19$m=19456,t=2,p=1$!!!!!!!!!!!!!!!!${HASH}", False),
    "salt of no length that base64 has": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT[:13]}${HASH}", False),
    "padded": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH[:-2]}==", False),
    "not ASCII": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH[:-1]}é", False),
    "numbers as Python writes them": (f"$argon2id$v=19$m=19_456,t=2,p=1${SALT}${HASH}", False),
    "numbers with a sign": (f"$argon2id$v=19$m=+19456,t=2,p=1${SALT}${HASH}", False),
    "numbers with a space": (f"$argon2id$v=19$m= 19456,t=2,p=1${SALT}${HASH}", False),
    "numbers with leading zeros": (f"$argon2id$v=19$m=19456,t=02,p=1${SALT}${HASH}", False),
    "a line break at the end": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH}\n", False),
    "another order": (f"$argon2id$v=19$t=2,m=19456,p=1${SALT}${HASH}", False),
    "one parameter more": (f"$argon2id$v=19$m=19456,t=2,p=1,keyid=1${SALT}${HASH}", False),
    "a parameter twice": (f"$argon2id$v=19$m=19456,t=2,p=1,m=19456${SALT}${HASH}", False),
    "a field more": (f"$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH}${HASH}", False),
    "something before": (f"x$argon2id$v=19$m=19456,t=2,p=1${SALT}${HASH}", False),
    "a plaintext": ("SecurePass123!", False),
    "dollars": ("$$$$$", False),
    "nothing": ("", False),
}


@pytest.mark.parametrize(("phc", "accepted"), PHC.values(), ids=PHC.keys())
def test_a_password_hash_is_argon2id_within_bounds(phc: str, *, accepted: bool) -> None:
    """Weaker ones can be guessed, heavier ones are a lever against whoever checks them at login."""
    assert acceptable_hash(phc) is accepted


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_no_text_makes_the_check_of_a_hash_raise(text: str) -> None:
    """It is a sender's text."""
    assert acceptable_hash(text) in {True, False}


def test_today_is_the_records_day_in_the_tenants_time_zone() -> None:
    """Somebody who turns 18 at midnight in Auckland is of age there while it is yesterday in London."""
    auckland = DEVELOPMENT.model_copy(update={"tenant": DEVELOPMENT.tenant.model_copy(update={"time_zone": "Pacific/Auckland"})})
    born = date(2008, 6, 1).isoformat()
    text = json.dumps(DATA)
    person = DATA["customer"]["individualCustomer"]["person"]
    text = text.replace(person["dateOfBirth"], born)
    at_noon = int(datetime(2026, 5, 31, 12, 30, tzinfo=UTC).timestamp() * 1000)
    read = record(text.encode(), timestamp=at_noon)

    assert isinstance(examine(read, snapshot(auckland), fresh=True), Accepted)
    assert isinstance(examine(read, snapshot(DEVELOPMENT), fresh=True), Rejected)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Niue"])
@pytest.mark.parametrize("timestamp", [-(2**63), -1, 0, 10**15, 2**63 - 1])
def test_a_time_that_no_calendar_has_stops_nothing(timestamp: int, zone: str) -> None:
    """A topic whose timestamps are the sender's can hold any; an operator's order to skip the record must work."""
    read = record(DATA, timestamp=timestamp)
    rules = DEVELOPMENT.model_copy(update={"tenant": DEVELOPMENT.tenant.model_copy(update={"time_zone": zone})})

    assert refuse(read, "operator.skipped", snapshot(rules)).decided_at.year in {1970, 9999}
    assert isinstance(examine(record({**DATA, "customer": {}}, timestamp=timestamp), snapshot(rules), fresh=True), Rejected)


def test_null_is_as_if_it_were_left_out() -> None:
    """At any depth, and also in what is stored: a reader of the customer finds no member that says nothing."""
    told, silent = json.loads(json.dumps(DATA)), json.loads(json.dumps(DATA))
    individual = told["customer"]["individualCustomer"]
    individual["person"]["addresses"][0] |= {"region": None}
    individual["person"] |= {"placeOfBirth": None, "nationalities": None}
    individual["categorization"]["categoryFeatureRelations"][0] |= {"enabled": None}
    del silent["customer"]["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]["enabled"]
    verdicts = [examine(record(data), SNAPSHOT, fresh=True) for data in (told, silent)]
    one, other = verdicts

    assert isinstance(one, Accepted)
    assert isinstance(other, Accepted)
    assert one._replace(record=other.record) == other
    assert "null" not in one.approved.categorized.sent
    assert None not in one.approved.applicant.addresses[0].values()


def test_an_operators_refusal_keeps_payload_and_registration() -> None:
    """`partitions skip` makes a dead letter of a record that would stop its lane; it can be sent again later."""
    letter = refuse(record(DATA), "operator.skipped", SNAPSHOT)

    assert letter.code == "operator.skipped"
    assert letter.with_payload
    assert letter.tie is not None
    assert letter.tie.registration_id == DATA["registrationId"]
    assert not refuse(record(with_member('"password": "x"')), "operator.skipped", SNAPSHOT).with_payload
