"""
What the worker tells the world: `customer.registered.v1` and `customer.registration-rejected.v1`.

Events hold ids and facts about the decision, and no name, email, phone, address or date of birth. Delivery is at least
once with one `ce_id` for each fact: a consumer keeps the `ce_id`s it has acted on.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final, TypeAlias

from schemas.base import SPEC_VERSION, Headers, Message, header

CUSTOMER_REGISTERED: Final = "customer.registered.v1"
CUSTOMER_REGISTRATION_REJECTED: Final = "customer.registration-rejected.v1"
EVENTS_TOPIC: Final = "customer.registration.events.v1"


class Limits(Message):
    """Account limits, in whole units of `currency` (ISO 4217)."""

    currency: str
    day: int
    month: int
    transaction: int


class Consent(Message):
    """A document that the customer must agree to, at a version."""

    code: str
    document_version: str


class CustomerRegistered(Message):
    """A customer exists; verification and consent services act on this."""

    registration_id: str
    tenant_id: str
    customer_id: str
    user_id: str
    person_id: str
    category_id: str
    risk_level: str
    risk_score: int
    due_diligence: str
    sanctions_screening: str
    monitoring: str
    senior_approval: bool
    next_review_on: date
    verification_level: str
    verification_checks: list[str]
    consents: list[Consent]
    limits: Limits
    activation_blockers: list[str]
    catalogue_version: int
    registered_at: datetime
    customer_path: str


class CustomerRegistrationRejected(Message):
    """A registration ended without a customer. `code` is the problem's code; it never says why one is prohibited."""

    registration_id: str
    tenant_id: str
    code: str
    fault_codes: list[str]
    rejected_at: datetime


Event: TypeAlias = CustomerRegistered | CustomerRegistrationRejected

_TYPES: Final[dict[str, type[CustomerRegistered | CustomerRegistrationRejected]]] = {
    CUSTOMER_REGISTERED: CustomerRegistered,
    CUSTOMER_REGISTRATION_REJECTED: CustomerRegistrationRejected,
}


class UnknownEventError(ValueError):
    """This record is no event that this version of the schemas knows: skip it, or update the schemas."""


def parse_event(headers: Headers, value: bytes) -> Event:
    """
    Read an event from a Kafka record.

    Args:
        headers: the record's headers; `ce_type` says what the value is.
        value: the record's value, UTF-8 JSON.
    Returns:
        The typed event; members that this version does not know are left out.
    Raises:
        UnknownEventError: another `ce_specversion`, or a `ce_type` that is not known.
        pydantic.ValidationError: the value is not what its type says.
    """
    kind = header(headers, "ce_type")
    model = _TYPES.get(kind or "")
    if model is None or header(headers, "ce_specversion") != SPEC_VERSION:
        msg = "not a customer registration event of CloudEvents 1.0"
        raise UnknownEventError(msg)
    return model.model_validate_json(value, by_alias=True, by_name=False)
