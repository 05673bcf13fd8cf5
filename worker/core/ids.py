"""
Ids: TypeIDs of a registration, and the ids that follow from it.

Source: TypeID specification 0.3; RFC 9562 (UUIDv7, UUIDv8).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from typeid.base32 import decode, encode

REGISTRATION: Final = "reg"
CUSTOMER: Final = "cust"
USER: Final = "user"
PERSON: Final = "pers"
EVENT: Final = "evt"
REJECTION: Final = "rejection"
"""The fact that a registration was refused; the id of its event is not that of the event that it was accepted."""

_REGISTRATION_ID: Final = re.compile(f"{REGISTRATION}_[0-7][0-9a-hjkmnp-tv-z]{{25}}")
"""The specification's suffix: 128 bits in Crockford's base 32, lower case, so the first digit ends at 7."""
_TAG_BYTES: Final = 5
_VERSION_7: Final = 0x70
_VERSION_8: Final = 0x80


def registration_uuid(registration_id: str) -> bytes | None:
    """Return the 16 bytes of a `reg_…` TypeID; None where it is no TypeID of that kind."""
    if _REGISTRATION_ID.fullmatch(registration_id) is None:
        return None
    return bytes(decode(registration_id[len(REGISTRATION) + 1 :]))


def derive(kind: str, tenant_id: str, registration: bytes, fact: str = "") -> str:
    """
    Return the id of that kind which belongs to a registration: the same whenever and wherever it is worked out.

    Args:
        kind: the TypeID's prefix: `cust`, `user`, `pers` or `evt`.
        tenant_id: the tenant's id, not its slug.
        registration: the 16 bytes of the registration's UUID; its time bits and its version are kept.
        fact: what tells ids of one kind from each other, such as `REJECTION`; with the kind at most 16 letters.
    """
    digest = hashlib.blake2b(
        len(tenant_id).to_bytes(4) + tenant_id.encode() + registration, digest_size=10, person=(kind + fact).encode()
    ).digest()
    return f"{kind}_{encode(registration[:6] + _marked(digest, registration[6] & 0xF0))}"


def new_registration(tenant_id: str, secret: bytes, time_ms: int, random: bytes) -> str:
    """
    Make the id of a registration that has no idempotency key: a UUIDv7 whose last five bytes are a keyed tag.

    Args:
        tenant_id: the tenant whose registration it is.
        secret: the key of the tag, at least 16 bytes, the same for every ingress and never changed.
        time_ms: milliseconds since 1970.
        random: 5 bytes.
    """
    head = time_ms.to_bytes(6) + _marked(random + bytes(_TAG_BYTES), _VERSION_7)[:5]
    return f"{REGISTRATION}_{encode(head + _tag(tenant_id, secret, head))}"


def keyed_registration(tenant_id: str, subject: str, key: str, secret: bytes) -> str:
    """
    Make the id of a registration that has an idempotency key: a UUIDv8, the same for the same caller and key, with the tag.

    The key is hashed without a secret, so that no secret's rotation could give a retry another id.

    Args:
        tenant_id: the tenant whose registration it is.
        subject: who calls; the same key of another caller is another registration.
        key: as the caller chose it.
        secret: the key of the tag, as for `new_registration`.
    """
    parts = (tenant_id.encode(), subject.encode(), key.encode())
    text = b"".join(len(part).to_bytes(4) + part for part in parts)
    digest = hashlib.blake2b(text, digest_size=16, person=b"reg-key").digest()
    head = digest[:6] + _marked(digest[6:], _VERSION_8)[:5]
    return f"{REGISTRATION}_{encode(head + _tag(tenant_id, secret, head))}"


def upstream_registration(tenant: str, text: bytes, secret: bytes) -> str:
    """
    Make the id of a registration that an upstream service publishes: a UUIDv8, the same for the same text and secret.

    Args:
        tenant: as the service names it, by id or slug.
        text: what tells one registration from another.
        secret: the service's own, 16 to 64 bytes: the id tells nobody of the text.
    """
    named = tenant.encode()
    digest = hashlib.blake2b(len(named).to_bytes(4) + named + text, digest_size=16, key=secret, person=b"reg-upstream").digest()
    return f"{REGISTRATION}_{encode(digest[:6] + _marked(digest[6:], _VERSION_8))}"


def is_ours(uuid: bytes, tenant_id: str, secret: bytes) -> bool:
    """Say whether an ingress of ours handed out the registration of these 16 bytes for that tenant."""
    return hmac.compare_digest(uuid[11:], _tag(tenant_id, secret, uuid[:11]))


def made_at_ms(uuid: bytes) -> int | None:
    """Return when a registration's id was made, in ms since 1970; None where it came from a key and has no time."""
    return int.from_bytes(uuid[:6]) if uuid[6] & 0xF0 == _VERSION_7 else None


def _tag(tenant_id: str, secret: bytes, head: bytes) -> bytes:
    return hashlib.blake2b(head + tenant_id.encode(), digest_size=_TAG_BYTES, key=secret, person=b"reg-tag").digest()


def _marked(ten: bytes, version: int) -> bytes:
    """Put the version and the variant of RFC 9562 into the last ten bytes of a UUID."""
    return bytes((version | ten[0] & 0x0F, ten[1], 0x80 | ten[2] & 0x3F)) + ten[3:]
