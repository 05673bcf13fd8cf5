"""
The command that a request becomes: `customer.register.v1` as CloudEvents in binary mode, and what is derived for it.

Source: CloudEvents 1.0, Kafka protocol binding; README, "Kafka".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from schemas.base import CONTENT_TYPE, SPEC_VERSION
from schemas.commands import COMMANDS_TOPIC, INGRESS_SOURCE, REGISTER_CUSTOMER, RegisterCustomer
from worker.core import ids
from worker.kafka import OutMessage

COMMAND: Final = "cmd"
FINGERPRINT_KEY: Final = "k1"
"""Names the key of a fingerprint, so that another one can follow it."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What every ingress knows and nobody else: made once by a migration, kept in the database."""

    tag: bytes
    partition: bytes
    fingerprint: bytes

    @classmethod
    def of(cls, named: Mapping[str, bytes]) -> Secrets:
        """Take the secrets from the rows of `ingress_keys`."""
        return cls(named["registration-tag"], named["partition-key"], named["fingerprint"])


def fingerprint(canonical: bytes, secret: bytes) -> str:
    """
    Return what tells one body from another without telling anything of it.

    Args:
        canonical: the received JSON without passwords, as RFC 8785 writes it.
        secret: the fingerprint's key.
    """
    return f"{FINGERPRINT_KEY}:{hashlib.blake2b(canonical, digest_size=32, key=secret).hexdigest()}"


def partition_key(tenant_id: str, email_normalized: str, secret: bytes) -> bytes:
    """Return a command's key: one email of a tenant always meets itself on one partition, and the key tells nobody which."""
    tenant = tenant_id.encode()
    text = len(tenant).to_bytes(4) + tenant + email_normalized.encode()
    return hashlib.blake2b(text, digest_size=16, key=secret, person=b"partition-key").hexdigest().encode()


def message(command: RegisterCustomer, registration: bytes, key: bytes, traceparent: str) -> OutMessage:
    """
    Return the record that asks for a registration.

    Args:
        command: its value.
        registration: the 16 bytes of the registration's UUID.
        key: see `partition_key`.
        traceparent: W3C trace context of the request.
    """
    headers = (
        ("ce_specversion", SPEC_VERSION.encode()),
        ("ce_id", ids.derive(COMMAND, command.tenant_id, registration).encode()),
        ("ce_type", REGISTER_CUSTOMER.encode()),
        ("ce_source", INGRESS_SOURCE.encode()),
        ("ce_time", _timestamp(command.requested_at)),
        ("ce_subject", command.registration_id.encode()),
        ("ce_tenantid", command.tenant_id.encode()),
        ("content-type", CONTENT_TYPE.encode()),
        ("traceparent", traceparent.encode()),
    )
    return OutMessage(COMMANDS_TOPIC, key, command.to_json(), headers)


def _timestamp(when: datetime) -> bytes:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
