"""What callers read: outcomes, customers and the hierarchy as documents. Never a password, never a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from worker.core import ids
from worker.core.catalogue import Catalogue
from worker.core.customer import Fault
from worker.ingress.problems import ProblemError
from worker.ingress.waiting import COMPLETE, FAILED, PENDING, Outcome

_UNKNOWN: Final = (
    "Kafka did not acknowledge the registration in time, so whether it was taken in is unknown. "
    "Ask for its status, and repeat with the same Idempotency-Key."
)
API: Final = "/api/v2.1"
CUSTOMERS: Final = f"{API}/customers"
REGISTRATIONS: Final = f"{API}/registrations"


def registered(outcome: Outcome, registration: bytes) -> dict[str, Any]:
    """
    Return `data` of a registration that has its customer.

    Args:
        outcome: a complete one.
        registration: the 16 bytes of the registration's UUID, from which the ids follow.
    """
    user_id = ids.derive(ids.USER, outcome.tenant_id, registration)
    return {
        "id": outcome.customer_id,
        "userId": user_id,
        "personId": ids.derive(ids.PERSON, outcome.tenant_id, registration),
        "user": {"id": user_id, "username": outcome.username, "status": outcome.user_status},
        "status": COMPLETE,
    }


def pending(registration_id: str, age_s: int | None = None) -> dict[str, Any]:
    """Return `data` of a registration that has no outcome yet."""
    age = {} if age_s is None else {"ageS": age_s}
    return {"registrationId": registration_id, "status": PENDING, **age}


def unknown(registration_id: str) -> ProblemError:
    """Return the problem of a registration that Kafka may have, or may not."""
    return ProblemError("kafka-unavailable", _UNKNOWN, members={"registrationId": registration_id})


def refusal(outcome: Outcome) -> ProblemError:
    """Return the problem of a registration that ended without a customer."""
    if outcome.status == FAILED:
        return ProblemError("processing-failed", members={"registrationId": outcome.registration_id})
    told = outcome.problem
    faults = [Fault(fault["pointer"], fault["code"], fault["detail"]) for fault in told.get("errors", ())]
    members: dict[str, Any] = {"registrationId": outcome.registration_id}
    if outcome.code == "categorization-invalid":
        members |= categorization_members(told.get("missingKeys", []), told.get("invalidValues", {}))
    return ProblemError(outcome.code or "internal-error", errors=faults, members=members)


def categorization_members(missing_keys: object, invalid_values: Mapping[str, object]) -> dict[str, Any]:
    """Return what `categorization-invalid` adds to a problem."""
    return {"missingKeys": missing_keys, "invalidValues": dict(invalid_values)}


def customer(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` of a customer, from a row of `customer.sql`; what was not told is left out."""
    registered_at = row["registered_at"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    person = {
        "id": row["person_id"],
        "firstName": row["first_name"],
        "lastName": row["last_name"],
        "customerName": row["customer_name"],
        "email": row["email"],
        "phone": row["phone"],
        "dateOfBirth": row["date_of_birth"].isoformat(),
        "placeOfBirth": row["place_of_birth"],
        "gender": row["gender"],
        "nationality": row["nationality"],
        "nationalities": row["nationalities"] or [row["nationality"]],
        "addresses": json.loads(row["addresses"]),
        "contacts": json.loads(row["contacts"]),
    }
    return {
        "id": row["customer_id"],
        "userId": row["user_id"],
        "personId": row["person_id"],
        "registrationId": row["registration_id"],
        "status": row["status"],
        "registeredAt": registered_at,
        "person": {name: value for name, value in person.items() if value is not None},
        "user": {
            "id": row["user_id"],
            "username": row["username"],
            "status": row["user_status"],
            "roles": list(row["roles"]),
            "isActive": row["is_active"],
            "requiresPasswordChange": row["requires_password_change"],
            "twoFactorEnabled": row["two_factor_enabled"],
        },
        "categorization": {"categoryId": row["category_id"], **json.loads(row["categorization"])},
        "decision": json.loads(row["decision"]),
    }


def hierarchy(catalogue: Catalogue) -> dict[str, Any]:
    """Return `data` of a tenant's active catalogue: what a caller may choose, and which keys that takes, alphabetically."""
    tenant = catalogue.tenant
    categories = {
        category_id: {
            "categoryId": category_id,
            "databaseId": category.database_id,
            "categoryName": category.name,
            "description": category.description,
            "riskLevel": category.risk_level,
            "features": [_feature(catalogue, code) for code in sorted(category.features)],
        }
        for category_id, category in sorted(catalogue.categories.items())
        if category.active
    }
    return {"tenantId": tenant.id, "tenantName": tenant.name, "categories": categories}


def _feature(catalogue: Catalogue, code: str) -> dict[str, Any]:
    feature = catalogue.features[code]
    return {
        "featureCode": code,
        "featureName": feature.name,
        "databaseId": feature.database_id,
        "mandatoryKeys": feature.mandatory_keys,
        "allowedValues": feature.allowed_values,
        "multiValueKeys": feature.multi_value_keys,
    }


def etag(tenant_id: str, version: int) -> str:
    """Return the entity tag of a tenant's catalogue; two tenants never share one, since they share a path."""
    return f'"{hashlib.blake2b(tenant_id.encode(), digest_size=6).hexdigest()}-{version}"'


def matches(condition: str, tag: str) -> bool:
    """Say whether an `If-None-Match` header names a tag. Source: RFC 9110 13.1.2 (weak comparison)."""
    named = [each.strip().removeprefix("W/") for each in condition.split(",")]
    return "*" in named or tag in named
