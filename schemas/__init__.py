"""
The wire contract: commands in, events and dead letters out, as CloudEvents 1.0 in Kafka's binary mode.

Imports pydantic only, so that a downstream service can copy this folder and read events with `parse_event`.
"""

from schemas.base import SPEC_VERSION, Headers, Message
from schemas.commands import REGISTER_CUSTOMER, Customer, RegisterCustomer
from schemas.dead_letters import DeadLetter
from schemas.events import (
    CUSTOMER_REGISTERED,
    CUSTOMER_REGISTRATION_REJECTED,
    CustomerRegistered,
    CustomerRegistrationRejected,
    Event,
    UnknownEventError,
    parse_event,
)

__all__ = [
    "CUSTOMER_REGISTERED",
    "CUSTOMER_REGISTRATION_REJECTED",
    "REGISTER_CUSTOMER",
    "SPEC_VERSION",
    "Customer",
    "CustomerRegistered",
    "CustomerRegistrationRejected",
    "DeadLetter",
    "Event",
    "Headers",
    "Message",
    "RegisterCustomer",
    "UnknownEventError",
    "parse_event",
]
