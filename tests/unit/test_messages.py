"""Messages: the same bytes for the same verdict, nothing personal in an event, nothing lost in a dead letter."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import CustomerRegistered, CustomerRegistrationRejected, DeadLetter, parse_event
from schemas.base import header
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC
from tests import commands
from tests.records import SNAPSHOT, record
from worker import messages, registration
from worker.kafka import OutMessage, PlainRecord
from worker.registration import Accepted, Rejected, Verdict, examine

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SAMPLED = TRACE[:-1] + b"1"
REGISTRATION = "reg_01h455vb4pex5vsknk084sn02q"


def outgoing(verdict: Verdict) -> messages.Outgoing:
    """Return the message that a verdict becomes, as the store makes it."""
    if isinstance(verdict, Accepted):
        return messages.registered(verdict)
    return messages.rejected(verdict) if isinstance(verdict, Rejected) else messages.letter(verdict)


def of(value: Any, **changed: Any) -> messages.Outgoing:  # noqa: ANN401 - as `record` takes them
    """Return the message that a command becomes."""
    return outgoing(examine(record(value, **changed), SNAPSHOT, fresh=True))


def person(names: tuple[str, str], email: str, street: str) -> dict[str, Any]:
    """Return a command for somebody of these names."""
    customer = commands.customer(email)
    human = customer["individualCustomer"]["person"]
    customer["firstName"] = human["firstName"] = names[0]
    customer["lastName"] = human["lastName"] = names[1]
    customer["individualCustomer"].pop("customerName", None)
    human["addresses"][0]["street"] = street
    return commands.data(email, customer=customer, registrationId=REGISTRATION)


words = st.text(st.characters(categories=["Lu", "Ll", "Lo"]), min_size=4, max_size=12).map("Zq{}".format)
emails = st.from_regex(r"q[a-z]{7}x[0-9]{4}@example\.com", fullmatch=True)


@settings(max_examples=60)
@given(names=st.tuples(words, words), email=emails, street=words, valid=st.booleans())
def test_an_event_holds_nothing_of_a_person(names: tuple[str, str], email: str, street: str, *, valid: bool) -> None:
    """No name, email, phone, address or birth date, and no digest of one: whoever the person is, the bytes are the same."""
    mine = person(names, email, street)
    another = person(("Ada", "Byron"), "ada@example.org", "St James's Square")
    if not valid:
        mine["customer"]["phone"] = another["customer"]["phone"] = "12"
    mine_out, other_out = (of(each, headers=commands.headers(ce_id=b"1")).message for each in (mine, another))

    assert mine_out == other_out
    assert mine_out.topic == EVENTS_TOPIC
    everything = b"\n".join([mine_out.key or b"", mine_out.value or b"", *(value or b"" for _, value in mine_out.headers)]).decode()
    for secret in (*names, email, street, "1990-05-15", mine["customer"].get("phone") or email, mine["passwordHash"]):
        assert secret not in everything


@pytest.mark.parametrize(
    "value",
    [
        commands.data("same@example.com"),
        commands.data("same@example.com", customer={}),
        commands.data("same@example.com", tenantId="nobody"),
    ],
)
def test_the_same_verdict_becomes_the_same_bytes(value: dict[str, Any]) -> None:
    """Built again after a rewind, by another process, on another day, a message does not differ in a bit."""
    first = record(value)
    again = PlainRecord(*(getattr(first, name) for name in PlainRecord.__slots__))

    assert of(first.value, headers=first.headers) == of(again.value, headers=again.headers)


def test_an_accepted_command_becomes_the_event_that_its_schema_says() -> None:
    """Headers say which fact it is; the key is the customer, the subject too."""
    verdict = examine(record(commands.data("one@example.com", registrationId=REGISTRATION)), SNAPSHOT, fresh=True)
    assert isinstance(verdict, Accepted)
    out = messages.registered(verdict)
    assert out.message.value is not None
    event = parse_event(out.message.headers, out.message.value)

    assert isinstance(event, CustomerRegistered)
    assert event.registered_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert event.customer_path.endswith(event.customer_id)
    assert out.message.key == event.customer_id.encode()
    assert (out.offset, out.kind) == (7, "event")
    assert dict(out.message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": verdict.event_id.encode(),
        "ce_type": b"customer.registered.v1",
        "ce_source": b"/registration/worker",
        "ce_time": b"2026-01-01T00:00:00.000Z",
        "ce_subject": event.customer_id.encode(),
        "ce_tenantid": event.tenant_id.encode(),
        "content-type": b"application/json",
    }


def test_a_rejected_command_becomes_an_event_with_codes_only() -> None:
    """Which rules were broken, each once and sorted; neither where nor by what."""
    changed = commands.customer("two@example.com")
    changed["phone"], changed["firstName"], changed["lastName"] = "12", "\x00", "\x01"
    out = of(commands.data("two@example.com", customer=changed, registrationId=REGISTRATION))
    assert out.message.value is not None
    event = parse_event(out.message.headers, out.message.value)

    assert isinstance(event, CustomerRegistrationRejected)
    assert event.code == "validation-failed"
    assert event.fault_codes == ["phone.not_e164", "text.not_allowed"]
    assert out.message.key == REGISTRATION.encode()
    assert header(out.message.headers, "ce_subject") == REGISTRATION


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([("traceparent", TRACE)], [TRACE]),
        ([("traceparent", TRACE), ("traceparent", SAMPLED)], [TRACE]),
        ([("traceparent", b"marcus.jensen@example.com")], []),
        ([("traceparent", TRACE + b"\n")], []),
        ([("traceparent", b"x" * 900_000)], []),
        ([("traceparent", b"\xff" * 55)], []),
        ([("traceparent", None)], []),
        ([("other", b"marcus.jensen@example.com")], []),
        ([], []),
    ],
)
def test_a_trace_goes_on_and_nothing_else_of_the_senders_headers(sent: list[tuple[str, bytes]], kept: list[bytes]) -> None:
    """Only what has the shape of W3C's `traceparent` travels: a header is a place for personal data too."""
    out = of(commands.data("three@example.com"), headers=[*commands.headers(), *sent])

    assert [value for name, value in out.message.headers if name == "traceparent"] == kept
    assert {name for name, _ in out.message.headers} - {"traceparent"} == {
        "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "ce_tenantid", "content-type",
    }  # fmt: skip


@pytest.mark.parametrize("flags", [b"01", b"03", b"ff"])
def test_the_event_of_a_sampled_trace_names_the_span_of_its_own_sending(flags: bytes) -> None:
    """In the same trace, and by nothing but the fact: whoever decides it again, from wherever it was sent, names the same span."""
    value = commands.data("four@example.com", registrationId=REGISTRATION)
    another = SAMPLED[:36] + b"00f067aa0ba902b7" + SAMPLED[52:]
    first, again = (
        dict(of(value, headers=[*commands.headers(), ("traceparent", each[:-2] + flags)]).message.headers)["traceparent"] or b""
        for each in (SAMPLED, another)
    )

    assert first == again
    assert (first[:36], first[52:]) == (SAMPLED[:36], b"-" + flags)
    assert re.fullmatch(rb"[0-9a-f]{16}", first[36:52])
    assert first[36:52] not in {SAMPLED[36:52], another[36:52]}


def test_facts_of_one_trace_name_different_spans() -> None:
    """That somebody was registered and that another was refused."""
    sent = [*commands.headers(), ("traceparent", SAMPLED)]
    found = {
        dict(of(commands.data(email, customer=customer), headers=sent).message.headers)["traceparent"]
        for email, customer in (
            ("one@example.com", {}),
            ("two@example.com", {}),
            ("six@example.com", commands.customer("six@example.com")),
        )
    }

    assert len(found) == 3


def test_a_dead_letter_is_the_record_and_why() -> None:
    """The original key, bytes and headers, and five headers of ours behind them."""
    read = record(b"no JSON", headers=[*commands.headers(), ("x", None), ("x", b"\xff")], offset=12, topic="origin")
    out = outgoing(examine(read, SNAPSHOT, fresh=True))

    assert out.message.topic == DEAD_LETTERS_TOPIC
    assert (out.message.key, out.message.value) == (b"key", b"no JSON")
    assert list(out.message.headers)[: len(read.headers)] == list(read.headers)
    assert DeadLetter.from_headers(out.message.headers) == DeadLetter(
        dl_code="json.malformed", dl_topic="origin", dl_partition=0, dl_offset=12, dl_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


def test_a_dead_letter_that_was_sent_again_says_where_it_came_from_last() -> None:
    """A sender's own `dl_` headers, forged or left from the first time, are not believed."""
    forged = [("dl_code", b"forged"), ("dl_topic", b"forged"), ("dl_partition", b"9"), ("dl_offset", b"x"), ("dl_at", b"")]
    read = record(b"no JSON", headers=[*forged, *commands.headers()], offset=12, topic="origin")
    letter = DeadLetter.from_headers(outgoing(examine(read, SNAPSHOT, fresh=True)).message.headers)

    assert (letter.dl_code, letter.dl_topic, letter.dl_partition, letter.dl_offset) == ("json.malformed", "origin", 0, 12)


def test_a_dead_letter_of_a_plaintext_password_holds_coordinates_only() -> None:
    """No key, no value, no header of the sender's: any of them may hold it."""
    value = json.dumps(commands.data("four@example.com", password="Secret-1!")).encode()  # noqa: S106 - of nobody
    out = of(value, headers=[*commands.headers(), ("x", b"Secret-1!")])

    assert out.message.key is None
    assert out.message.value is None
    assert [name for name, _ in out.message.headers] == ["dl_code", "dl_topic", "dl_partition", "dl_offset", "dl_at"]
    assert b"Secret" not in repr(out).encode()


some_bytes = st.none() | st.binary(max_size=60)
some_headers = st.lists(st.tuples(st.text(max_size=10), some_bytes), max_size=5)


@given(some_bytes, some_bytes, some_headers)
def test_a_dead_letter_survives_being_sealed_bit_for_bit(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    """Any bytes, and null where it was null: key, value, and each header."""
    message = OutMessage(DEAD_LETTERS_TOPIC, key, value, tuple(headers))

    assert messages.unpack(messages.pack(message)) == message


@given(some_headers)
def test_headers_survive_the_outbox(headers: list[tuple[str, bytes]]) -> None:
    """In order, with names that repeat."""
    packed = messages.pack_headers(headers)

    assert messages.unpack_headers(packed) == tuple(headers)


@pytest.mark.parametrize("trace", [b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None])
@pytest.mark.parametrize("value", [commands.data("six@example.com"), commands.data("six@example.com", customer={})])
def test_the_outbox_keeps_an_events_headers_as_they_were_sent(value: dict[str, Any], trace: bytes | None) -> None:
    """What a sweep publishes after a crash is what would have been published."""
    out = of(value, headers=commands.headers(traceparent=trace))

    assert out.packed_headers == messages.pack_headers(out.message.headers)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_rfc_3339_in_utc_with_milliseconds(when: datetime) -> None:
    """Source: CloudEvents 1.0, `time`; as long as every other one, so that they sort as text."""
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", messages.timestamp(when))


def test_every_verdict_is_counted_once() -> None:
    """The breaker counts dead letters and our own ingress's mistakes, and a success ends the run."""
    accepted = examine(record(commands.data("five@example.com")), SNAPSHOT, fresh=True)
    letter = examine(record(b"{"), SNAPSHOT, fresh=True)

    assert not registration.counts_for_breaker(accepted)
    assert registration.counts_for_breaker(letter)
