"""Commands as an upstream service sends them, with made-up people."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from schemas.base import SPEC_VERSION
from schemas.commands import COMMANDS_TOPIC, REGISTER_CUSTOMER
from worker import dev
from worker.core import ids
from worker.kafka import OutMessage

EXAMPLE: Final = Path(dev.__file__).with_name("examples") / "register-request.json"
TENANT: Final = "development"
PASSWORD_HASH: Final = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo"
UPSTREAM: Final = "/upstream/branch-office"


def body() -> dict[str, Any]:
    """Return the example's body, as clients send it."""
    found: dict[str, Any] = json.loads(EXAMPLE.read_text())
    return found


def body_of(email: str, **top: object) -> dict[str, Any]:
    """Return the example's body for another email, in every place where one stands."""
    text = EXAMPLE.read_text().replace("marcus.jensen@example.com", email)
    changed: dict[str, Any] = json.loads(text)
    return {**changed, **top}


def customer(email: str) -> dict[str, Any]:
    """Return a customer as a command carries it: the body without its passwords."""
    found = body_of(email)
    del found["password"], found["matchingPassword"], found["individualCustomer"]["user"]["password"]
    return found


def registration_id() -> str:
    """Return an id as an upstream service makes one."""
    return ids.new_registration(TENANT, b"upstream-secret!", time.time_ns() // 1_000_000, os.urandom(5))


def email_of(number: int | str) -> str:
    """Return an address of nobody."""
    return f"person.{number}.{os.urandom(4).hex()}@example.com"


def data(email: str, **changed: object) -> dict[str, Any]:
    """Return the data of a command; `changed` replaces members of it."""
    return {
        "registrationId": registration_id(),
        "tenantId": TENANT,
        "requestedAt": "2026-01-01T00:00:00Z",
        "requestedBy": "branch-office",
        "passwordHash": PASSWORD_HASH,
        "customer": customer(email),
        **changed,
    }


def headers(**changed: bytes | None) -> list[tuple[str, bytes]]:
    """Return the headers of a command; `changed` replaces them, None leaves one out."""
    all_of: Mapping[str, bytes | None] = {
        "ce_specversion": SPEC_VERSION.encode(),
        "ce_id": os.urandom(8).hex().encode(),
        "ce_type": REGISTER_CUSTOMER.encode(),
        "ce_source": UPSTREAM.encode(),
        "content-type": b"application/json",
        **changed,
    }
    return [(name, value) for name, value in all_of.items() if value is not None]


def message(command: Mapping[str, object] | bytes | None, topic: str = COMMANDS_TOPIC, **changed: bytes | None) -> OutMessage:
    """Return a command as a record to send; its key is that of its email, so that repeats meet on one partition."""
    value = json.dumps(command).encode() if isinstance(command, Mapping) else command
    email = command.get("customer", {}).get("email", "") if isinstance(command, dict) else ""
    key = hashlib.sha256(email.encode()).hexdigest()[:16]
    return OutMessage(topic, key.encode(), value, headers(**changed))
