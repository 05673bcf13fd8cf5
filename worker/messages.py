"""
The messages that a verdict becomes, byte for byte the same whenever they are built: no clock, no randomness.

Source: CloudEvents 1.0, Kafka protocol binding, binary content mode.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from typing import Final, Literal, NamedTuple, TypeAlias

from pydantic_core import to_json

from schemas.base import CONTENT_TYPE, SPEC_VERSION
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import (
    CUSTOMER_REGISTERED,
    CUSTOMER_REGISTRATION_REJECTED,
    EVENTS_TOPIC,
    CustomerRegistrationRejected,
)
from worker.core import ids
from worker.kafka import OutMessage
from worker.registration import Accepted, DeadLetter, Rejected

SOURCE: Final = b"/registration/worker"
EVENT: Final = "event"
LETTER: Final = "dead-letter"
Kind: TypeAlias = Literal["event", "dead-letter"]
Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

_SPEC: Final = ("ce_specversion", SPEC_VERSION.encode())
_SOURCE: Final = ("ce_source", SOURCE)
_JSON: Final = ("content-type", CONTENT_TYPE.encode())
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_SAMPLED: Final = b"13579bdf"
"""Last digits of flags whose lowest bit, `sampled`, is set."""
_FACTS: Final = (
    "riskLevel", "riskScore", "dueDiligence", "sanctionsScreening", "monitoring", "seniorApproval", "nextReviewOn",
    "verificationLevel", "verificationChecks", "consents", "limits", "activationBlockers",
)  # fmt: skip
_TOPICS: Final[dict[str, str]] = {EVENT: EVENTS_TOPIC, LETTER: DEAD_LETTERS_TOPIC}


class Outgoing(NamedTuple):
    """
    A message with its key in the outbox: the offset of its command, and its kind.

    `packed_headers` is what the outbox keeps of the headers; a dead letter's are sealed with the rest of it.
    """

    offset: int
    kind: Kind
    message: OutMessage
    packed_headers: str = "[]"


def registered(verdict: Accepted) -> Outgoing:
    """
    Tell the world that a customer exists.

    The members are those of `schemas.CustomerRegistered` in its order, and a test holds the one against the other. Many
    customers share a decision, so its part is encoded once for all of them; a model for each event would take six times
    as long.
    """
    tie, customer_id = verdict.tie, verdict.customer_id
    event = (
        f'{{"registrationId":"{tie.registration_id}","tenantId":{_json(tie.tenant_id)},"customerId":"{customer_id}",'
        f'"userId":"{verdict.user_id}","personId":"{verdict.person_id}",'
        f'"categoryId":{_json(verdict.approved.categorized.category_id)},{_facts(verdict.approved.decision.to_json())},'
        f'"catalogueVersion":{verdict.catalogue_version},"registeredAt":{_json(verdict.decided_at)},'
        f'"customerPath":"/api/v2.1/customers/{customer_id}"}}'
    )
    return _event(verdict, CUSTOMER_REGISTERED, verdict.event_id, customer_id, event.encode())


def rejected(verdict: Rejected) -> Outgoing:
    """Tell the world that a registration ended without a customer."""
    registration = ids.registration_uuid(verdict.tie.registration_id)
    assert registration is not None, "a tie is to a registration"  # noqa: S101 - narrows the type
    event_id = ids.derive(ids.EVENT, verdict.tie.tenant_id, registration, ids.REJECTION)
    event = CustomerRegistrationRejected(
        registration_id=verdict.tie.registration_id,
        tenant_id=verdict.tie.tenant_id,
        code=verdict.refused.code,
        fault_codes=sorted({fault.code for fault in verdict.refused.faults}),
        rejected_at=verdict.decided_at,
    )
    return _event(verdict, CUSTOMER_REGISTRATION_REJECTED, event_id, verdict.tie.registration_id, event.to_json())


def letter(verdict: DeadLetter) -> Outgoing:
    """Pass on a record that can't be processed, with where it came from and why."""
    record = verdict.record
    added = (
        ("dl_code", verdict.code.encode()),
        ("dl_topic", record.topic.encode()),
        ("dl_partition", str(record.partition).encode()),
        ("dl_offset", str(record.offset).encode()),
        ("dl_at", timestamp(verdict.decided_at)),
    )
    if verdict.with_payload:
        message = OutMessage(DEAD_LETTERS_TOPIC, record.key, record.value, (*record.headers, *added))
    else:
        message = OutMessage(DEAD_LETTERS_TOPIC, None, None, added)
    return Outgoing(record.offset, LETTER, message)


def pack(message: OutMessage) -> bytes:
    """
    Put key, value and headers of a dead letter into one piece, to be sealed.

    A line of JSON, `[length of the key or null, length of the value or null, headers]`, then key and value as they are: escaped,
    a mebibyte of random bytes would take tens of milliseconds.
    """
    key_bytes, value_bytes = (None if part is None else len(part) for part in (message.key, message.value))
    head = f"[{json.dumps(key_bytes)},{json.dumps(value_bytes)},{pack_headers(message.headers)}]\n"
    return b"".join((head.encode(), message.key or b"", message.value or b""))


def unpack(packed: bytes) -> OutMessage:
    """Return the dead letter of `pack`."""
    head, _, rest = packed.partition(b"\n")
    key_bytes, value_bytes, headers = json.loads(head)
    key = None if key_bytes is None else rest[:key_bytes]
    value = None if value_bytes is None else rest[key_bytes or 0 :]
    return OutMessage(DEAD_LETTERS_TOPIC, key, value, tuple((name, _bytes(content)) for name, content in headers))


def pack_headers(headers: Headers) -> str:
    """Return headers as JSON; bytes as Latin-1, which keeps each of them."""
    return f"[{','.join([f'[{quote(name)},{_quoted(value)}]' for name, value in headers])}]"


def unpack_headers(packed: str) -> Headers:
    """Return the headers of `pack_headers`."""
    return tuple((name, _bytes(value)) for name, value in json.loads(packed))


def restored(kind: str, key: bytes | None, value: bytes | None, headers: Headers) -> OutMessage:
    """Return a message as the outbox kept it."""
    return OutMessage(_TOPICS[kind], key, value, headers)


@lru_cache(maxsize=1024)
def timestamp(when: datetime) -> bytes:
    """Return a time as CloudEvents has it: RFC 3339, UTC, milliseconds. All records of a broker's batch have one."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


@lru_cache(maxsize=4096)
def _json(value: str | datetime) -> str:
    return to_json(value).decode()


@lru_cache(maxsize=4096)
def _facts(decision: bytes) -> str:
    """Return the members of the event that follow from a decision, without braces."""
    decided = json.loads(decision)
    return to_json({name: decided[name] for name in _FACTS}).decode()[1:-1]


def _event(verdict: Accepted | Rejected, kind: str, event_id: str, key: str, value: bytes) -> Outgoing:
    tie, record, key_bytes, trace = verdict.tie, verdict.record, key.encode(), _trace(verdict.record.headers, event_id)
    (middle, packed_middle), (end, packed_end) = _shared(kind, verdict.decided_at, tie.tenant_id)
    headers: Headers = (_SPEC, ("ce_id", event_id.encode()), *middle, ("ce_subject", key_bytes), *end)
    packed = f'[["ce_specversion","{SPEC_VERSION}"],["ce_id","{event_id}"],{packed_middle},["ce_subject","{key}"],{packed_end}'
    if trace is None:
        return Outgoing(record.offset, EVENT, OutMessage(EVENTS_TOPIC, key_bytes, value, headers), f"{packed}]")
    headers, packed = (*headers, ("traceparent", trace)), f'{packed},["traceparent","{trace.decode()}"]]'
    return Outgoing(record.offset, EVENT, OutMessage(EVENTS_TOPIC, key_bytes, value, headers), packed)


@lru_cache(maxsize=1024)
def _shared(kind: str, decided_at: datetime, tenant_id: str) -> tuple[tuple[Headers, str], tuple[Headers, str]]:
    """Return the headers before and after `ce_subject` that a tenant's events of one moment share, and as they are packed."""
    middle: Headers = (("ce_type", kind.encode()), _SOURCE, ("ce_time", timestamp(decided_at)))
    end: Headers = (("ce_tenantid", tenant_id.encode()), _JSON)
    return (middle, pack_headers(middle)[1:-1]), (end, pack_headers(end)[1:-1])


def _trace(headers: Headers, event_id: str) -> bytes | None:
    """
    Return the event's `traceparent`: the command's, where it is one, for a header could hold anything and be of any size.

    In a sampled trace it names the span of the event's own sending, whose id derives from the event's: README, Decisions.
    """
    for name, value in headers:
        if name == "traceparent":
            if value is None or not _TRACEPARENT.fullmatch(value):
                return None
            return value[:36] + _span_id(event_id) + value[52:] if value[-1] in _SAMPLED else value
    return None


def _span_id(event_id: str) -> bytes:
    return hashlib.blake2b(event_id.encode(), digest_size=8).hexdigest().encode()


def _quoted(value: bytes | None) -> str:
    return "null" if value is None else quote(value.decode("latin-1"))


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1")
