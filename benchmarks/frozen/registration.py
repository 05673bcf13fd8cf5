"""
What a contender stores and tells for one command: the same rows, columns and event as the worker's.

The work of validating and deciding is done beforehand (`categories.json`), so the opponents do not pay for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter

from benchmarks.frozen.commands import Address, CategoryFeatureRelation, Contact, RegisterCustomer

Row: TypeAlias = tuple[object, ...]

PENDING: Final = "PENDING_ACTIVATION"
COMPLETE: Final = "REGISTRATION_COMPLETE"
_FOLDER: Final = Path(__file__).parent
_ADDRESSES: Final = TypeAdapter(list[Address])
_CONTACTS: Final = TypeAdapter(list[Contact])
_RELATIONS: Final = TypeAdapter(list[CategoryFeatureRelation])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command stands on the log, and when the broker took it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


def place_of(record: Any) -> Place:  # noqa: ANN401 - aiokafka has no types
    """Return the place of a record of aiokafka's."""
    return Place(record.topic, record.partition, record.offset, record.timestamp)


@dataclass(frozen=True, slots=True)
class Registration:
    """One row of each table, and the event's key, value and headers."""

    registration: Row
    customer: Row
    person: Row
    user: Row
    decision: Row
    outbox: Row
    event_key: bytes
    event_value: bytes
    event_headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Category:
    """What was decided for a category, ready to be stored and told."""

    category_id: str
    decision: Row
    event: str


def _categories() -> dict[str, _Category]:
    return {each["id"]: _category(each) for each in json.loads((_FOLDER / "categories.json").read_bytes())}


def _category(document: dict[str, Any]) -> _Category:
    decision = document["decision"]
    columns = (
        decision["catalogueVersion"],
        decision["riskLevel"],
        decision["riskScore"],
        decision["dueDiligence"],
        decision["verificationLevel"],
        date.fromisoformat(decision["nextReviewOn"]),
        _compact(decision),
    )
    return _Category(document["categoryId"], columns, _compact(document["event"])[1:-1])


def _compact(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


_CATEGORIES: Final = _categories()


def registration_of(command: RegisterCustomer, place: Place) -> Registration:
    """
    Say what is to be stored and told.

    Args:
        command: the record's value, parsed.
        place: the record's place.
    """
    customer, tenant_id = command.customer, command.tenant_id
    individual = customer.individual_customer
    person, user = individual.person, individual.user
    category = _CATEGORIES[customer.customer_category.id]
    suffix = command.registration_id[4:]
    customer_id, user_id, person_id = f"cust_{suffix}", f"user_{suffix}", f"pers_{suffix}"
    decided_at = datetime.fromtimestamp(place.timestamp_ms / 1000, UTC)
    time = decided_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    relations = individual.categorization.category_feature_relations
    event = (
        f'{{"registrationId":"{command.registration_id}","tenantId":"{tenant_id}","customerId":"{customer_id}",'
        f'"userId":"{user_id}","personId":"{person_id}",{category.event},"registeredAt":"{time}",'
        f'"customerPath":"/api/v2.1/customers/{customer_id}"}}'
    ).encode()
    headers = {
        "ce_specversion": "1.0", "ce_id": f"evt_{suffix}", "ce_type": "customer.registered.v1",
        "ce_source": "/registration/worker", "ce_time": time, "ce_subject": customer_id, "ce_tenantid": tenant_id,
        "content-type": "application/json",
    }  # fmt: skip
    return Registration(
        registration=(
            command.registration_id, tenant_id, COMPLETE, None, None, None, customer_id, command.fingerprint,
            category.decision[0], place.topic, place.partition, place.offset, decided_at, command.requested_at,
            command.requested_by,
        ),
        customer=(
            customer_id, tenant_id, command.registration_id, customer.email, customer.email.lower(), customer.phone,
            PENDING, category.category_id, _categorization(customer.customer_category.id, relations), decided_at,
        ),
        person=(
            customer_id, tenant_id, person_id, person.first_name, person.last_name, individual.customer_name,
            date.fromisoformat(person.date_of_birth), person.place_of_birth, person.gender, person.nationality,
            person.nationalities, _json(_ADDRESSES, person.addresses),
            _json(_CONTACTS, person.contacts),
        ),
        user=(
            customer_id, tenant_id, user_id, user.username, command.password_hash, PENDING, user.roles, False,
            bool(user.requires_password_change), bool(user.two_factor_enabled),
        ),
        decision=(customer_id, tenant_id, *category.decision),
        outbox=(
            place.topic, place.partition, place.offset, "event", customer_id.encode(), event, _headers(headers), False,
        ),
        event_key=customer_id.encode(),
        event_value=event,
        event_headers=headers,
    )  # fmt: skip


def kafka_headers(headers: dict[str, str]) -> list[tuple[str, bytes]]:
    """Return headers as aiokafka takes them."""
    return [(name, value.encode()) for name, value in headers.items()]


def _categorization(category: str, relations: list[CategoryFeatureRelation]) -> str:
    return f'{{"categoryReferences":["{category}","{category}"],"categoryFeatureRelations":{_json(_RELATIONS, relations)}}}'


def _json(adapter: TypeAdapter[Any], value: object) -> str:
    return adapter.dump_json(value, by_alias=True, exclude_none=True).decode()


def _headers(headers: dict[str, str]) -> str:
    return "[" + ",".join(f'["{name}","{value}"]' for name, value in headers.items()) + "]"
