"""
What one message says by itself, read without the worker's own code: commands, events and dead letters as they lie on the topics.

Pure. Texts name members and headers, never a value that could be personal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from schemas.base import CONTENT_TYPE, SPEC_VERSION, Headers
from schemas.commands import INGRESS_SOURCE
from schemas.dead_letters import DeadLetter
from schemas.events import (
    CUSTOMER_REGISTERED,
    CUSTOMER_REGISTRATION_REJECTED,
    CustomerRegistered,
    CustomerRegistrationRejected,
    Event,
)
from worker.core import ids
from worker.kafka import Record

COMPLETE: Final = "REGISTRATION_COMPLETE"
REJECTED: Final = "REJECTED"
Fault: TypeAlias = tuple[str, str]
"""A rule of `verify_report`, and what is wrong."""

_PASSWORDS: Final = frozenset({"password", "matchingPassword"})
_PASSWORDS_IN_QUOTES: Final = tuple(f"{mark}{name}{mark}".encode() for name in _PASSWORDS for mark in ('"', "'"))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS: Final = {
    "ce_specversion": SPEC_VERSION.encode(),
    "ce_source": b"/registration/worker",
    "content-type": CONTENT_TYPE.encode(),
}
_ONCE: Final = frozenset({*_ALWAYS, "ce_id", "ce_type", "ce_time", "ce_subject", "ce_tenantid"})
_LETTER: Final = frozenset(DeadLetter.model_fields)
_INT_END: Final = 2**31
_BIGINT_END: Final = 2**63
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_MODELS: Final[Mapping[str, type[Event]]] = {
    CUSTOMER_REGISTERED: CustomerRegistered,
    CUSTOMER_REGISTRATION_REJECTED: CustomerRegistrationRejected,
}


class _Named(TypedDict):
    """What names a command's registration; all else is left out unread."""

    registrationId: str
    tenantId: str


_NAMED: Final = TypeAdapter(_Named)
_ADDRESSES: Final = ("email", "email_normalized", "username", "phone")
_NAMES: Final = ("first_name", "last_name", "customer_name", "place_of_birth", "date_of_birth")


@dataclass(frozen=True, slots=True)
class Fact:
    """An event that could be read."""

    event: Event
    text: str
    status: str
    ce_id: str
    digest: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter of the topic: which record it is, and a digest of what it holds of it."""

    topic: str
    partition: int
    offset: int
    recorded_at: datetime
    digest: int


def recorded_at(record: Record) -> datetime:
    """Return the broker's time of a record."""
    return _EPOCH + timedelta(milliseconds=record.timestamp)


def coordinates(topic: str, partition: int, offset: int) -> str:
    """Return where a record is, as operators write it."""
    return f"{topic}/{partition}/{offset}"


def digest(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Return 64 bits, signed, that tell one record's key, value and headers from another's, as long as this process lives."""
    return hash((key, value, *headers))


NOTHING: Final = digest(None, None, ())
"""Of a record that carried a password: its dead letter holds coordinates only."""


def holds_password(record: Record) -> bool:
    """Say whether a record carries a password: in its value, its key or a header."""
    names = [name for name, _ in record.headers]
    contents = [each for each in (record.value, record.key, *[content for _, content in record.headers]) if each is not None]
    if not _PASSWORDS.isdisjoint(names):
        return True
    return _may_carry(b"\n".join(contents)) and any(map(carries_password, contents))


def carries_password(value: bytes | None) -> bool:
    """
    Say whether a value holds a member that is named like a password, at any depth.

    Source: README, Publish to it: exactly `password` or `matchingPassword`; in bytes that are not JSON, either name in quotes,
    double or single, with or without escapes.
    """
    if value is None or not _may_carry(value):
        return False
    plain = value.translate(None, b"\0")  # UTF-16 and UTF-32 too
    if not _is_password_named(plain) and b"\\u" not in plain:
        return False
    try:
        return _names_password(json.loads(value, parse_int=_no_number))
    except ValueError:
        spelled = re.sub(rb"\\u00([2-7][0-9A-Fa-f])", lambda found: bytes([int(found[1], 16)]), plain)
        return _is_password_named(spelled)
    except RecursionError:
        return True  # nested too deep to be read: what may hold one is treated as if it did


def _may_carry(value: bytes) -> bool:
    """Say whether a closer look is worth its time; two plain searches are much quicker than a regular expression."""
    return b'assword"' in value or b"assword'" in value or b"\\" in value or b"\0" in value


def _is_password_named(plain: bytes) -> bool:
    """Say whether a name of a password stands there in quotes."""
    return any(name in plain for name in _PASSWORDS_IN_QUOTES)


def _no_number(_digits: str) -> None:
    """Leave a whole number out: no number is looked at, and Python refuses to read very long ones."""


def _names_password(node: object) -> bool:
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            if not _PASSWORDS.isdisjoint(current):
                return True
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
    return False


def registration_of(value: bytes | None) -> tuple[str, str] | None:
    """Return registration id and tenant as a command names them; None where they can't be read."""
    try:
        named = _NAMED.validate_json(value or b"")
    except ValidationError:
        return _registration_of_lenient(value or b"")
    return _pair(named["registrationId"], named["tenantId"])


def _registration_of_lenient(value: bytes) -> tuple[str, str] | None:
    """Read with json.loads what a stricter and faster parser refuses."""
    try:
        document = json.loads(value, parse_int=_no_number)
    except (ValueError, RecursionError):
        return None
    return _pair(document.get("registrationId"), document.get("tenantId")) if isinstance(document, dict) else None


def _pair(registration_id: object, tenant: object) -> tuple[str, str] | None:
    if not isinstance(registration_id, str) or not isinstance(tenant, str) or not _is_text(registration_id + tenant):
        return None
    return registration_id, tenant


def _is_text(text: str) -> bool:
    """Say whether the database can be asked for it: no NUL, no lone surrogate."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def of_our_ingress(record: Record) -> bool:
    """Say whether a command names our own ingress as its source."""
    return dict(record.headers).get("ce_source") == INGRESS_SOURCE.encode()


def read_event(record: Record) -> tuple[Fact | None, list[Fault]]:
    """Read a record of the events topic, and say what is wrong with it by itself."""
    value = record.value or b""
    headers = {name: content for name, content in record.headers if content is not None}
    model = _MODELS.get(headers.get("ce_type", b"").decode(errors="replace"))
    if model is None or headers.get("ce_specversion") != _ALWAYS["ce_specversion"]:
        return None, [("event.headers", "ce_specversion or ce_type is not one of ours")]
    faults: list[Fault] = []
    try:
        event = model.model_validate_json(value, extra="forbid")
    except ValidationError as error:
        faults = [("event.shape", text) for text in _shape_faults(error)]
        try:
            event = model.model_validate_json(value)
        except ValidationError:
            return None, faults
    ce_id = headers.get("ce_id", b"").decode(errors="replace")
    if not _is_text(event.registration_id + event.tenant_id + ce_id):
        return None, [("event.shape", "an id that is no text")]
    faults += [*_header_faults(record.headers), *_fact_faults(event, headers, record.key)]
    if carries_password(value):
        faults.append(("password.plaintext", "in an event"))
    status = COMPLETE if model is CustomerRegistered else REJECTED
    # A trace belongs to one delivery: sending a stored fact again may leave it out.
    own = digest(record.key, value, [header for header in record.headers if header[0] != "traceparent"])
    return Fact(event, value.decode(), status, ce_id, own), faults


def _shape_faults(error: ValidationError) -> Iterator[str]:
    """Name what is not as the schema says; the name of an unforeseen member is its sender's, and shown only where it is a name."""
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        if fault["type"] == "extra_forbidden":
            name = str(fault["loc"][-1])
            yield f"no member of the schema: {name if _NAME.fullmatch(name) else '(a name that is no name)'}"
        else:
            yield f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


def _header_faults(headers: Headers) -> Iterator[Fault]:
    names = [name for name, _ in headers if name != "traceparent"]
    if len(names) != len(_ONCE) or set(names) != _ONCE:
        wrong = sorted(set(names) ^ _ONCE) or ["one of them stands there twice"]
        yield "event.headers", f"missing or unforeseen: {', '.join(wrong)}"
    for name, value in headers:
        if name in _ALWAYS and value != _ALWAYS[name]:
            yield "event.headers", f"{name} has another value than agreed"


def _fact_faults(event: Event, headers: Mapping[str, bytes | None], key: bytes | None) -> Iterator[Fault]:
    registered = isinstance(event, CustomerRegistered)
    subject = (event.customer_id if isinstance(event, CustomerRegistered) else event.registration_id).encode()
    if key != subject or headers.get("ce_subject") != subject:
        yield "event.headers", f"key and ce_subject are not the {'customer' if registered else 'registration'} id"
    if headers.get("ce_tenantid") != event.tenant_id.encode():
        yield "event.headers", "ce_tenantid is not the tenant of the value"
    if _time(headers.get("ce_time")) != _happened_at(event):
        yield "event.headers", "ce_time is not the time of the value"
    registration = ids.registration_uuid(event.registration_id)
    if registration is None:
        yield "event.shape", "registrationId is no TypeID of a registration"
    elif headers.get("ce_id") != ids.derive(ids.EVENT, event.tenant_id, registration, "" if registered else ids.REJECTION).encode():
        yield "registration.wrong_id", "ce_id of its event"


def against_row(fact: Fact, row: Mapping[str, Any]) -> Iterator[Fault]:
    """Say where an event differs from the rows that it is about, and where it tells what it must not."""
    if row["status"] is None:
        yield "event.ghost", f"{fact.ce_id}: an event whose registration is not in the database"
        return
    if row["status"] != fact.status:
        yield "event.contradicts", f"{fact.ce_id}: the event says {fact.status}, the row {row['status']}"
        return
    event = fact.event
    compared = _REGISTERED if isinstance(event, CustomerRegistered) else _REJECTED
    wrong = [member for member, column in compared if getattr(event, member) != row[column]]
    if wrong:
        yield "event.contradicts", f"{fact.ce_id}: other than the rows: {', '.join(wrong)}"
    if isinstance(event, CustomerRegistered):
        told = sorted(_personal(fact.text, row))
        if told:
            yield "personal.data", f"{fact.ce_id}: {', '.join(told)}"


def is_refusal_before(fact: Fact, when: datetime) -> bool:
    """Say whether an event tells of a refusal of before that time."""
    return isinstance(fact.event, CustomerRegistrationRejected) and fact.event.rejected_at < when


def read_letter(record: Record) -> tuple[Letter | None, list[Fault]]:
    """Read a record of the dead-letter topic; our five headers are its last, whatever the original's are named."""
    original, added = record.headers[:-5], record.headers[-5:]
    try:
        if {name for name, _ in added} != _LETTER:
            return None, [("letter.headers", "the last five are not those of a dead letter")]
        head = DeadLetter.from_headers(added)
    except ValidationError as error:
        names = sorted({str(fault["loc"][0]) for fault in error.errors(include_input=False, include_context=False)})
        return None, [("letter.headers", f"can't be read: {', '.join(names)}")]
    if not (0 <= head.dl_partition < _INT_END and 0 <= head.dl_offset < _BIGINT_END):
        return None, [("letter.headers", "dl_partition or dl_offset is none that Kafka has")]
    faults: list[Fault] = [("password.plaintext", "in a dead letter")] if carries_password(record.value) else []
    own = digest(record.key, record.value, original)
    return Letter(head.dl_topic, head.dl_partition, head.dl_offset, head.dl_at, own), faults


def unpack(packed: bytes) -> tuple[bytes | None, bytes | None, Headers]:
    """Return key, value and headers from what is sealed in the table: a line of JSON with their lengths, then key and value."""
    head, _, rest = packed.partition(b"\n")
    key_bytes, value_bytes, headers = json.loads(head)
    key = None if key_bytes is None else rest[:key_bytes]
    value = None if value_bytes is None else rest[key_bytes or 0 :]
    return key, value, [(name, _bytes(content)) for name, content in headers]


_REGISTERED: Final = (
    ("customer_id", "customer_id"),
    ("user_id", "user_id"),
    ("person_id", "person_id"),
    ("category_id", "category_id"),
    ("risk_level", "risk_level"),
    ("risk_score", "risk_score"),
    ("due_diligence", "due_diligence"),
    ("verification_level", "verification_level"),
    ("next_review_on", "next_review_on"),
    ("catalogue_version", "catalogue_version"),
    ("registered_at", "decided_at"),
)
_REJECTED: Final = (("code", "code"), ("rejected_at", "decided_at"))
_KNOWN: Final = frozenset(
    {"registrationId", "tenantId", "customerId", "userId", "personId", "categoryId", "customerPath", "nextReviewOn"}
)
"""Members that are compared with rows, or hold nothing else than an id that is: no name can hide there."""


def _personal(text: str, row: Mapping[str, Any]) -> Iterator[str]:
    """
    Name the columns whose value stands in an event.

    Addresses and numbers are looked for inside every text; names, places and the birth date only as a whole text, and
    not where the text has the form of a code: somebody may be called Low or Daily.
    """
    if not _may_tell(text, row):
        return
    document = json.loads(text)
    everywhere = list(_texts(document))
    for column in _ADDRESSES:
        if row[column] and any(row[column] in each for each in everywhere):
            yield column
    others = {each for name, node in document.items() if name not in _KNOWN for each in _texts(node)}
    for column in _NAMES:
        value = str(row[column] or "")
        if value in others and not _CODE.fullmatch(value):
            yield column


def _may_tell(text: str, row: Mapping[str, Any]) -> bool:
    """Say whether a closer look is worth its time: a value stands in the JSON as it is, or something is escaped there."""
    return (
        "\\" in text
        or any(row[column] and row[column] in text for column in _ADDRESSES)
        or any(row[column] and f'"{row[column]}"' in text for column in _NAMES)
    )


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for child in node.values():
            yield from _texts(child)
    elif isinstance(node, list):
        for child in node:
            yield from _texts(child)


def _happened_at(event: Event) -> datetime:
    return event.registered_at if isinstance(event, CustomerRegistered) else event.rejected_at


def _time(value: bytes | None) -> datetime | None:
    try:
        return datetime.fromisoformat((value or b"").decode())
    except ValueError:
        return None


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1")
