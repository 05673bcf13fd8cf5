"""Golden messages: what a released version sent stays readable, and what the worker makes of it stays the same, byte for byte."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from schemas import (
    CUSTOMER_REGISTERED,
    CUSTOMER_REGISTRATION_REJECTED,
    REGISTER_CUSTOMER,
    CustomerRegistered,
    CustomerRegistrationRejected,
    DeadLetter,
    RegisterCustomer,
    parse_event,
)
from schemas.commands import COMMANDS_TOPIC
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC
from tests.records import AT_MS, snapshot
from worker import messages
from worker.core.catalogue import Catalogue
from worker.kafka import OutMessage, PlainRecord
from worker.registration import Accepted, Rejected, examine
from worker.registration import DeadLetter as Letter

FOLDER: Final = Path(__file__).parent
SCHEMAS: Final = FOLDER.parents[1] / "schemas" / "json"
CATALOGUE: Final = Catalogue.from_json((FOLDER / "catalogue.v1.json").read_bytes())
EVENTS: Final = {
    "customer-registered.v1": CustomerRegistered,
    "customer-registration-rejected.v1": CustomerRegistrationRejected,
}
CLOUD_EVENTS: Final = {
    "register-customer.v1": REGISTER_CUSTOMER,
    "customer-registered.v1": CUSTOMER_REGISTERED,
    "customer-registration-rejected.v1": CUSTOMER_REGISTRATION_REJECTED,
}


@dataclass(frozen=True, slots=True)
class Golden:
    """A message as its file has it."""

    headers: tuple[tuple[str, bytes], ...]
    key: bytes
    value: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The value as an object."""
        found: dict[str, Any] = json.loads(self.value)
        return found


def golden(name: str) -> Golden:
    """Read a golden message; a value that is an object stands for its compact JSON."""
    content = json.loads((FOLDER / f"{name}.json").read_text())
    value = content["value"]
    text = value if isinstance(value, str) else compact(value)
    return Golden(tuple((key, each.encode()) for key, each in content["headers"]), content["key"].encode(), text.encode())


def compact(document: object) -> str:
    """Return JSON as our producers write it."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def validator(name: str) -> Draft202012Validator:
    """Return what checks values by a committed JSON Schema."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def read(value: bytes) -> PlainRecord:
    """Return the golden command's record with this value."""
    command = golden("register-customer.v1")
    return PlainRecord(COMMANDS_TOPIC, 3, 41, AT_MS, command.key, value, command.headers)


@pytest.mark.parametrize(("name", "model"), EVENTS.items())
def test_a_golden_event_is_read_by_parse_event_whole(name: str, model: type[CustomerRegistered]) -> None:
    """What a downstream service vendors reads it, and loses no member of it."""
    message = golden(name)
    event = parse_event(message.headers, message.value)

    assert isinstance(event, model)
    assert event.to_json() == message.value


def test_the_golden_command_is_read_whole() -> None:
    """No member is lost, none is made up."""
    message = golden("register-customer.v1")

    assert RegisterCustomer.model_validate_json(message.value).to_json() == message.value


def test_the_golden_dead_letter_says_where_it_came_from() -> None:
    """Its five headers are typed for whoever looks after dead letters."""
    assert DeadLetter.from_headers(golden("dead-letter.v1").headers) == DeadLetter(
        dl_code="json.malformed",
        dl_topic=COMMANDS_TOPIC,
        dl_partition=3,
        dl_offset=41,
        dl_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("name", CLOUD_EVENTS)
def test_a_golden_value_is_as_its_json_schema_says(name: str) -> None:
    """Consumers in other languages have only the schema."""
    validator(name).validate(golden(name).document)


def test_the_golden_dead_letters_headers_are_as_their_json_schema_says() -> None:
    """Read as numbers and times, by the names that the headers have."""
    letter = DeadLetter.from_headers(golden("dead-letter.v1").headers)

    validator("dead-letter.v1").validate(letter.model_dump(mode="json"))


@pytest.mark.parametrize("name", CLOUD_EVENTS)
def test_each_required_member_is_required_by_the_json_schema(name: str) -> None:
    """A schema that accepts anything would prove nothing."""
    check, document = validator(name), golden(name).document
    optional = {"fingerprint"}

    for member in document.keys() - optional:
        with pytest.raises(ValidationError):
            check.validate({key: value for key, value in document.items() if key != member})


@pytest.mark.parametrize(("name", "kind"), CLOUD_EVENTS.items())
def test_a_golden_message_is_a_cloud_event_to_the_sdk(name: str, kind: str) -> None:
    """The CloudEvents SDK is the oracle: it validates each attribute of binary mode, and finds the same data."""
    message = golden(name)
    event = from_binary_event(KafkaMessage(dict(message.headers), message.key, message.value))

    assert event.get_specversion() == "1.0"
    assert event.get_type() == kind
    assert event.get_datacontenttype() == "application/json"
    assert event.get_time() == datetime(2026, 1, 1, tzinfo=UTC)
    assert event.get_extension("tenantid")
    assert event.get_data() == message.document


@pytest.mark.parametrize("name", CLOUD_EVENTS)
def test_a_member_that_a_later_version_adds_is_ignored(name: str) -> None:
    """The contract only grows: an older reader reads a newer message, at any depth, and a newer header."""
    message = golden(name)
    grown = grow(message.document)
    headers = [*message.headers, ("ce_later", b"1")]

    validator(name).validate(grown)
    if name in EVENTS:
        assert parse_event(headers, compact(grown).encode()).to_json() == message.value
    else:
        assert RegisterCustomer.model_validate_json(compact(grown)).to_json() == message.value


def grow(node: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Add a member to every object."""
    if isinstance(node, dict):
        return {"later": {"a": [1, None]}, **{name: grow(inner) for name, inner in node.items()}}
    return [grow(inner) for inner in node] if isinstance(node, list) else node


def test_the_golden_command_becomes_the_golden_event_byte_for_byte() -> None:
    """Whoever decides it again, with the catalogue of that time, publishes the same fact: key, headers and value."""
    verdict = examine(read(golden("register-customer.v1").value), snapshot(CATALOGUE), fresh=True)
    assert isinstance(verdict, Accepted)

    assert messages.registered(verdict).message == out(EVENTS_TOPIC, golden("customer-registered.v1"))


def test_the_golden_command_is_decided_as_it_was_byte_for_byte() -> None:
    """`explain --check` and `verify` hold stored decisions against today's rules: their bytes are part of the contract."""
    verdict = examine(read(golden("register-customer.v1").value), snapshot(CATALOGUE), fresh=True)
    assert isinstance(verdict, Accepted)

    assert verdict.approved.decision.to_json() + b"\n" == (FOLDER / "decision.v1.json").read_bytes()


def test_an_invalid_command_becomes_the_golden_refusal_byte_for_byte() -> None:
    """The golden command with two faults."""
    document = golden("register-customer.v1").document
    document["customer"] |= {"phone": "12", "firstName": ""}
    verdict = examine(read(compact(document).encode()), snapshot(CATALOGUE), fresh=True)
    assert isinstance(verdict, Rejected)

    assert messages.rejected(verdict).message == out(EVENTS_TOPIC, golden("customer-registration-rejected.v1"))


def test_a_command_cut_off_becomes_the_golden_dead_letter_byte_for_byte() -> None:
    """The first bytes of the golden command."""
    verdict = examine(read(golden("register-customer.v1").value[:64]), snapshot(CATALOGUE), fresh=True)
    assert isinstance(verdict, Letter)
    letter, expected = messages.letter(verdict).message, golden("dead-letter.v1")

    assert letter == out(DEAD_LETTERS_TOPIC, expected)
    assert messages.unpack(messages.pack(letter)) == letter


def test_a_stored_catalogue_of_that_version_is_still_read() -> None:
    """Records are decided again by the version that held for them."""
    assert json.loads(CATALOGUE.to_json()) == json.loads((FOLDER / "catalogue.v1.json").read_bytes())


def out(topic: str, message: Golden) -> OutMessage:
    """Return a golden message as the worker sends it."""
    return OutMessage(topic, message.key, message.value, message.headers)
