"""
Commands as the ingress would send them: believable people, each other than the rest, the same ones on every run.

Everything follows from a number: command 17 is always the same customer with the same ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from typeid.base32 import encode

TENANT_ID: Final = "7c6f0f52-9d4e-4b1a-8f0e-2a5d9b3c1e47"
PHC: Final = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ"
_FOLDER: Final = Path(__file__).parent
_STARTED_AT: Final = datetime(2026, 1, 15, 9, 0, tzinfo=UTC)
_BORN_FROM: Final = date(1950, 1, 1)
_BORN_DAYS: Final = 19_000  # up to January 2002: an adult on any day of a run, none of an age that adds risk

_NAMES: Final[dict[str, list[str]]] = json.loads((_FOLDER / "names.json").read_bytes())
_WOMEN, _MEN, _FAMILIES, _STREETS = (_NAMES[kind] for kind in ("women", "men", "families", "streets"))
_HOMES: Final = (
    ("LT", "Vilnius", "+3706"),
    ("LT", "Kaunas", "+3706"),
    ("LT", "Klaipėda", "+3706"),
    ("LV", "Rīga", "+3712"),
    ("EE", "Tartu", "+3725"),
    ("PL", "Gdańsk", "+4850"),
    ("DE", "Köln", "+4915"),
    ("FR", "Lyon", "+3361"),
    ("ES", "Málaga", "+3461"),
    ("IT", "Bologna", "+3932"),
    ("SE", "Malmö", "+4670"),
    ("FI", "Oulu", "+35840"),
)
_ASCII: Final = str.maketrans(
    {**dict(zip("ąćčęėįłńņóóòöøðšśūųüžżźřáäåçéèëëíñôõ", "acceeilnnoooooossuuuzzzraaaceeeeinoo", strict=True)), "ß": "ss"}
)
_TWINS: Final = ("email", "firstName", "lastName", "phone", "dateOfBirth", "gender", "customerName", "street", "city", "postalCode")


@dataclass(frozen=True, slots=True)
class Command:
    """A record for the command topic."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def commands(first: int, count: int) -> Iterator[Command]:
    """
    Make commands by their numbers.

    Args:
        first: the first number, from 0.
        count: how many.
    """
    return map(_command, range(first, first + count))


def _template(category: dict[str, Any]) -> str:
    """Return the example request, without passwords, as a command of that category with places for what differs."""
    body = json.loads((_FOLDER / "register-request.json").read_bytes())
    body = _without_passwords(body)
    individual = body["individualCustomer"]
    body["customerCategory"] = {"id": category["id"], "name": category["name"]}
    chosen = {key: category[key] for key in ("id", "name", "description")}
    individual["categorization"].update(chosen, categoryFeatureRelations=category["relations"])
    individual["person"]["contacts"][0]["value"] = "%(email)s"
    individual["person"]["contacts"][1]["value"] = "%(phone)s"
    individual["person"]["nationality"] = individual["person"]["addresses"][0]["country"] = "%(country)s"
    individual["user"]["username"] = "%(email)s"
    for part in (body, individual, individual["person"], individual["person"]["addresses"][0], individual["user"]):
        part.update({name: f"%({name})s" for name in _TWINS if name in part})
    command = {
        "registrationId": "%(registrationId)s",
        "tenantId": TENANT_ID,
        "requestedAt": "%(requestedAt)s",
        "requestedBy": "b7d0c1de-5f0e-4a37-9c55-0d6a3f1f2b10",
        "fingerprint": "k1:%(fingerprint)s",
        "passwordHash": PHC,
        "customer": body,
    }
    return json.dumps(command, ensure_ascii=False, separators=(",", ":"))


def _without_passwords(document: object) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(document, dict):
        kept = {name: value for name, value in document.items() if name not in ("password", "matchingPassword")}
        return {name: _without_passwords(value) for name, value in kept.items()}
    return [_without_passwords(each) for each in document] if isinstance(document, list) else document


_TEMPLATES: Final = tuple(
    template
    for category in json.loads((_FOLDER / "categories.json").read_bytes())
    for template in [_template(category)] * category["share"]
)


def _command(number: int) -> Command:
    digest = blake2b(number.to_bytes(8), digest_size=32).digest()
    when = _STARTED_AT + timedelta(milliseconds=10 * number)
    suffix = _uuid7(when, digest)
    is_woman = bool(digest[0] & 1)
    first_name = _pick(_WOMEN if is_woman else _MEN, digest[1:3])
    last_name = _pick(_FAMILIES, digest[3:5])
    country, city, prefix = _HOMES[digest[5] % len(_HOMES)]
    requested_at = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    value = _TEMPLATES[digest[6] % len(_TEMPLATES)] % {
        "registrationId": f"reg_{suffix}",
        "requestedAt": requested_at,
        "fingerprint": digest.hex(),
        "firstName": first_name,
        "lastName": last_name,
        "customerName": f"{first_name} {last_name}",
        "email": f"{_plain(first_name)}.{_plain(last_name)}.{number}@example.com",
        "phone": f"{prefix}{number % 10_000_000:07}",
        "dateOfBirth": (_BORN_FROM + timedelta(days=int.from_bytes(digest[7:9]) % _BORN_DAYS)).isoformat(),
        "gender": "FEMALE" if is_woman else "MALE",
        "country": country,
        "city": city,
        "street": f"{_pick(_STREETS, digest[9:11])} {digest[11]}",
        "postalCode": f"{int.from_bytes(digest[12:14]):05}",
    }
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", f"cmd_{suffix}".encode()),
        ("ce_type", b"customer.register.v1"),
        ("ce_source", b"/registration/ingress"),
        ("ce_time", requested_at.encode()),
        ("ce_subject", f"reg_{suffix}".encode()),
        ("ce_tenantid", TENANT_ID.encode()),
        ("content-type", b"application/json"),
        ("traceparent", f"00-{digest[:16].hex()}-{digest[16:24].hex()}-01".encode()),
    )
    return Command(digest[16:].hex().encode(), value.encode(), headers)


def _uuid7(when: datetime, digest: bytes) -> str:
    """Return a UUIDv7 of that time as TypeIDs write it; all that is random in it comes from the digest."""
    time_ms = int(when.timestamp() * 1000)
    marked = bytes((0x70 | digest[20] & 0x0F, digest[21], 0x80 | digest[22] & 0x3F))
    return encode(time_ms.to_bytes(6) + marked + digest[23:30])


def _pick(names: list[str], two: bytes) -> str:
    return names[int.from_bytes(two) % len(names)]


def _plain(name: str) -> str:
    """Return a name as it stands in an email address."""
    return name.lower().translate(_ASCII).replace("'", "").replace("-", "")
