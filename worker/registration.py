"""
From a record of the command topic to a verdict: parse, validate, categorize, decide.

Pure: no I/O and no clock. "Today" and the catalogue's version follow from the record's own timestamp, so that deciding
again, after any rewind, gives the same verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from argon2 import Type, extract_parameters
from argon2.exceptions import InvalidHashError
from pydantic import ValidationError

from schemas.base import SPEC_VERSION
from schemas.commands import INGRESS_SOURCE, REGISTER_CUSTOMER, RegisterCustomer
from worker.catalogues import Snapshot, Versions
from worker.core import ids
from worker.core.assess import VALIDATION_FAILED, Approved, Refused, assess, check_document
from worker.core.customer import Fault
from worker.core.shape import without_nulls
from worker.kafka import Record

_TYPE: Final = REGISTER_CUSTOMER.encode()
_SPEC_VERSION: Final = SPEC_VERSION.encode()
_REQUIRED_HEADERS: Final = ("ce_specversion", "ce_id", "ce_type", "ce_source")
_PASSWORD_NAMES: Final = frozenset({"password", "matchingPassword"})
_QUOTED_NAMES: Final = tuple(quote + name + quote for quote in (b'"', b"'") for name in (b"password", b"matchingPassword"))
"""In single quotes too, as Python and JavaScript print an object."""
_END: Final = b"assword"
"""Both names end so; to look for it first is to look once."""
_QUOTED_ENDS: Final = (_END + b'"', _END + b"'")
_ESCAPE: Final = re.compile(rb"\\u00([2-7][0-9A-Fa-f])")
_HASH_BOUNDS: Final = {"memory_cost": (19_456, 262_144), "time_cost": (2, 10), "parallelism": (1, 8)}
_HASH_VERSION: Final = 19
_DERIVED: Final = (ids.EVENT, ids.CUSTOMER, ids.USER, ids.PERSON)
_PHC: Final = re.compile(r"(.*)\$([A-Za-z0-9+/]{11,})\$([A-Za-z0-9+/]{22,})", re.DOTALL)
"""What comes first, a salt of 8 bytes and more, and a hash of 16 and more; PHC strings have no padding."""
_TIMESTAMP_MAX_MS: Final = 253_402_128_000_000
"""30 December 9999: a day that every time zone has."""
_NOT_JSON: Final = object()

Headers: TypeAlias = Mapping[str, bytes | None]
"""Those of one record by their names; the first, where a name repeats."""


class Tie(NamedTuple):
    """The registration that a record belongs to."""

    tenant_id: str
    registration_id: str
    requested_at: datetime | None = None
    requested_by: str | None = None
    fingerprint: str | None = None


class Accepted(NamedTuple):
    """A customer will exist, unless the email has one already."""

    record: Record
    decided_at: datetime
    tie: Tie
    catalogue_version: int
    approved: Approved
    password_hash: str
    event_id: str
    customer_id: str
    user_id: str
    person_id: str


class Rejected(NamedTuple):
    """A refusal: an outcome like any other."""

    record: Record
    decided_at: datetime
    tie: Tie
    catalogue_version: int | None
    refused: Refused
    suspicious: bool = False
    """Our own ingress had found it valid: versions disagree, which the breaker counts like a dead letter."""


class DeadLetter(NamedTuple):
    """A record that can never be processed. `with_payload` is false where it carries a plaintext password."""

    record: Record
    decided_at: datetime
    code: str
    tie: Tie | None
    with_payload: bool = True


Verdict = Accepted | Rejected | DeadLetter


class UnknownTenantError(Exception):
    """No catalogue for this tenant in the snapshot: read it afresh, then ask again."""


def recorded_at(record: Record) -> datetime:
    """Return the broker's timestamp of a record; a sender's, which can be beyond any calendar, is brought into its bounds."""
    return _instant(record.timestamp)


@lru_cache(maxsize=1024)
def _instant(timestamp_ms: int) -> datetime:
    """Do so for a timestamp: all records of a broker's batch have one."""
    return datetime.fromtimestamp(min(max(timestamp_ms, 0), _TIMESTAMP_MAX_MS) / 1000, UTC)


def counts_for_breaker(verdict: Verdict) -> bool:
    """Say whether a verdict is one of those that, many in a row, mean a bad deploy rather than bad data."""
    return isinstance(verdict, DeadLetter) or (isinstance(verdict, Rejected) and verdict.suspicious)


def examine(record: Record, snapshot: Snapshot, *, fresh: bool) -> Verdict:
    """
    Decide what becomes of one record.

    Args:
        record: from the command topic.
        snapshot: the catalogues; it must cover the record's timestamp.
        fresh: the snapshot was read after the record arrived, so a tenant that is not in it does not exist.
    Raises:
        UnknownTenantError: only where `fresh` is false.
    """
    headers = dict(reversed(record.headers))
    is_secret = _holds_password(record)
    fault = _envelope_fault(record, headers, is_secret=is_secret)
    if fault is not None:
        return _letter(record, fault, snapshot, is_secret=is_secret)
    assert record.value is not None, "a tombstone is an envelope fault"  # noqa: S101 - narrows the type
    try:
        command = RegisterCustomer.model_validate_json(record.value, by_alias=True, by_name=False)
    except ValidationError as error:
        return _examine_faulty(record, headers, snapshot, error, fresh=fresh)
    tenant = snapshot.tenant(command.tenant_id)
    if tenant is None:
        return _unknown_tenant(record, fresh=fresh)
    registration = ids.registration_uuid(command.registration_id)
    if registration is None or not _same_tenant(headers, tenant, snapshot):
        code = "schema.invalid" if registration is None else "tenant.mismatch"
        return DeadLetter(record, recorded_at(record), code, None)
    if b"null" in record.value:
        command = command.model_copy(update={"customer": without_nulls(command.customer)})
    return _judge(record, headers, command, tenant, registration)


def _judge(record: Record, headers: Headers, command: RegisterCustomer, tenant: Versions, registration: bytes) -> Verdict:
    """Decide a command whose registration and tenant are known."""
    tenant_id, decided_at = tenant.tenant_id, recorded_at(record)
    tie = Tie(tenant_id, command.registration_id, command.requested_at, command.requested_by, command.fingerprint)
    version, catalogue = tenant.at(decided_at)
    if not acceptable_hash(command.password_hash):
        refused = Refused(VALIDATION_FAILED, (_HASH_FAULT,))
        return Rejected(record, decided_at, tie, version, refused, _suspicious(headers, refused))
    verdict = assess(command.customer, catalogue, version, local_day(decided_at, catalogue.tenant.time_zone))
    if isinstance(verdict, Refused):
        return Rejected(record, decided_at, tie, version, verdict, _suspicious(headers, verdict))
    derived = [ids.derive(kind, tenant_id, registration) for kind in _DERIVED]
    return Accepted(record, decided_at, tie, version, verdict, command.password_hash, *derived)


def refuse(record: Record, code: str, snapshot: Snapshot) -> DeadLetter:
    """Make a dead letter of a record, tied to its registration where that can be read."""
    return _letter(record, code, snapshot, is_secret=_holds_password(record))


def _letter(record: Record, code: str, snapshot: Snapshot, *, is_secret: bool) -> DeadLetter:
    return DeadLetter(record, recorded_at(record), code, _tie_of(_document(record.value), snapshot), not is_secret)


def _holds_password(record: Record) -> bool:
    """Say whether a record carries a password in its value, its key or a header; nearly none does, so all is searched at once."""
    names = [name for name, _ in record.headers]
    present = [value for value in (record.value, record.key, *[value for _, value in record.headers]) if value is not None]
    if not _PASSWORD_NAMES.isdisjoint(names):
        return True
    return _may_carry(b"\n".join(present)) and any(map(carries_password, present))


def _may_carry(text: bytes) -> bool:
    """Say whether a closer look is worth its time: a name may end there, or something is escaped, or it is UTF-16."""
    return _QUOTED_ENDS[0] in text or _QUOTED_ENDS[1] in text or b"\\" in text or b"\0" in text


def carries_password(value: bytes) -> bool:
    """
    Say whether bytes hold a member named exactly `password` or `matchingPassword`, at any depth.

    Where they are not JSON, either name in quotes, double or single, is enough; escaped it is the same name.
    """
    # UTF-16 and UTF-32 are no JSON on a wire, and must hide nothing all the same.
    plain = value.translate(None, b"\0") if b"\0" in value else value
    quoted, escaped = _is_quoted(plain), b"\\" in plain and b"\\u" in plain
    if not quoted and not escaped:
        return False
    try:
        json.loads(value, object_pairs_hook=_refuse_password_names, parse_int=_no_integer)
    except _PasswordFoundError:
        return True
    except ValueError:
        return quoted or _is_quoted(_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), plain))
    except RecursionError:
        return True  # nested too deep to be read: it may, and nothing of it is worth the risk
    return False


def _is_quoted(text: bytes) -> bool:
    return any(end in text for end in _QUOTED_ENDS) and any(name in text for name in _QUOTED_NAMES)


@lru_cache(maxsize=256)
def _parameters_accepted(head: str) -> bool:
    try:
        found = extract_parameters(f"{head}$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA")
    except (InvalidHashError, ValueError):
        return False
    return (
        found.type is Type.ID
        and found.version == _HASH_VERSION
        and all(low <= getattr(found, name) <= high for name, (low, high) in _HASH_BOUNDS.items())
        # As libargon2 writes it: it would not read numbers such as "1_9456", which Python does.
        and head == f"$argon2id$v={found.version}$m={found.memory_cost},t={found.time_cost},p={found.parallelism}"
    )


def acceptable_hash(phc: str) -> bool:
    """Say whether a PHC string is argon2id, version 19, m 19 to 256 MiB, t 2 to 10, p 1 to 8."""
    parts = _PHC.fullmatch(phc)
    if parts is None:
        return False
    head, salt, tail = parts.groups()
    return len(salt) % 4 != 1 and len(tail) % 4 != 1 and _parameters_accepted(head)


_HASH_FAULT: Final = Fault(
    "/passwordHash", "password_hash.invalid", "must be a PHC string of argon2id v=19, m 19 to 256 MiB, t 2 to 10, p 1 to 8"
)


def _envelope_fault(record: Record, headers: Headers, *, is_secret: bool) -> str | None:
    if record.value is None:
        return "value.null"
    if is_secret:
        return "password.plaintext"
    if not all(map(headers.get, _REQUIRED_HEADERS)):
        return "envelope.invalid"
    if headers["ce_type"] != _TYPE or headers["ce_specversion"] != _SPEC_VERSION:
        return "type.unexpected"
    return None


def _examine_faulty(record: Record, headers: Headers, snapshot: Snapshot, error: ValidationError, *, fresh: bool) -> Verdict:
    """A value that is no valid command: rejected where it can be tied to a registration, else a dead letter."""
    decided_at, document = recorded_at(record), _document(record.value)
    if not isinstance(document, dict):
        return DeadLetter(record, decided_at, "json.malformed" if document is _NOT_JSON else "schema.invalid", None)
    named = document.get("tenantId")
    tenant = snapshot.tenant(named) if isinstance(named, str) else None
    if tenant is None and isinstance(named, str) and named:
        return _unknown_tenant(record, fresh=fresh)
    tie = _tie_of(document, snapshot)
    if tie is None or tenant is None:
        return DeadLetter(record, decided_at, "schema.invalid", None)
    if not _same_tenant(headers, tenant, snapshot):
        return DeadLetter(record, decided_at, "tenant.mismatch", None)
    version, catalogue = tenant.at(decided_at)
    checked = check_document(
        document.get("customer"), catalogue, local_day(decided_at, catalogue.tenant.time_zone), _envelope_faults(error)
    )
    if not isinstance(checked, Refused):
        if not any(each["type"] == "json_invalid" for each in error.errors(include_url=False, include_input=False)):
            raise AssertionError("a value that is no command has a fault")
        # Python reads it and a strict parser does not: half a surrogate pair, say, in a member that nobody looks at.
        return DeadLetter(record, decided_at, "json.malformed", tie)
    return Rejected(record, decided_at, tie, version, checked, _suspicious(headers, checked))


def _envelope_faults(error: ValidationError) -> tuple[Fault, ...]:
    """Name the members beside the customer that are wrong."""
    return tuple(
        Fault(f"/{each['loc'][0]}", "envelope.invalid", "Expected what the command's JSON Schema says.")
        for each in error.errors(include_url=False, include_input=False, include_context=False)
        if each["loc"] and each["loc"][0] != "customer"
    )


def _unknown_tenant(record: Record, *, fresh: bool) -> DeadLetter:
    if not fresh:
        raise UnknownTenantError
    return DeadLetter(record, recorded_at(record), "tenant.unknown", None)


def _same_tenant(headers: Headers, tenant: Versions, snapshot: Snapshot) -> bool:
    named = headers.get("ce_tenantid")
    return named is None or snapshot.tenant(named.decode(errors="replace")) is tenant


def _suspicious(headers: Headers, refused: Refused) -> bool:
    return refused.code == VALIDATION_FAILED and headers.get("ce_source") == INGRESS_SOURCE.encode()


def _document(value: bytes | None) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return _NOT_JSON if value is None else json.loads(value.decode(), parse_int=_no_integer)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _tie_of(document: object, snapshot: Snapshot) -> Tie | None:
    if not isinstance(document, dict):
        return None
    registration_id, named = document.get("registrationId"), document.get("tenantId")
    if not isinstance(registration_id, str) or not isinstance(named, str):
        return None
    tenant = snapshot.tenant(named)
    if tenant is None or ids.registration_uuid(registration_id) is None:
        return None
    return Tie(tenant.tenant_id, registration_id)


def _no_integer(_digits: str) -> int:
    """No member of a command is a number, and Python refuses to read one of more than 4,300 digits."""
    return 0


class _PasswordFoundError(Exception):
    """Ends the parse at the first member that is named like a password."""


def _refuse_password_names(pairs: list[tuple[str, object]]) -> None:
    if any(name in _PASSWORD_NAMES for name, _ in pairs):
        raise _PasswordFoundError


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local_day(when: datetime, time_zone: str) -> date:
    """Return "today": the day of a record's time in the tenant's time zone."""
    return when.date() if time_zone == "UTC" else when.astimezone(_zone(time_zone)).date()
