"""Strings that occur nowhere else, people made of them, and the search for both in whatever bytes there are."""

from __future__ import annotations

import base64
import json
import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests import commands

SOMEBODY: Final = "somebody, encoded"
SECRET: Final = "secret"
UPSTREAM: Final = "upstream secret"
HASH: Final = "password hash"
_LETTERS: Final = 14
_BASE64_STEPS: Final = 3


def _word() -> str:
    return "zq" + "".join(random.choices(string.ascii_lowercase, k=_LETTERS))


@dataclass(frozen=True, slots=True)
class Canaries:
    """
    The words of one run.

    Attributes:
        person: in every text about a person, followed by the person's two digits.
        digits: the same for phone numbers.
        secret: in every password, token and idempotency key that is sent to an ingress.
        upstream: in every plaintext password that is sent to Kafka.
    """

    person: str = field(default_factory=_word)
    digits: str = field(default_factory=lambda: "3" + "".join(random.choices("123456789", k=10)))
    secret: str = field(default_factory=_word)
    upstream: str = field(default_factory=_word)

    @property
    def password(self) -> str:
        """A password with a character of each kind that someone may escape."""
        return f'{self.secret} "é\\/7'

    def body(self, number: int, **top: object) -> dict[str, Any]:
        """Return a registration of that person as HTTP takes it; `top` replaces members."""
        text = f"{self.person}{number:02d}"
        body = commands.body_of(f"{text}@example.com", password=self.password, matchingPassword=self.password)
        individual = body["individualCustomer"]
        person, user = individual["person"], individual["user"]
        body["firstName"] = person["firstName"] = f"{text} Ąžuolas"
        body["lastName"] = person["lastName"] = text
        body["phone"] = person["contacts"][1]["value"] = f"+{self.digits}{number:02d}"
        person["placeOfBirth"] = f"{text} on Sea"
        person["addresses"][0]["street"] = f"{text} Street 7"
        individual["customerName"] = f"{text} & Sons"
        user["password"] = self.password
        return {**body, **top}

    def command(self, number: int, **changed: object) -> dict[str, Any]:
        """Return the data of a command that registers that person; `changed` replaces members."""
        customer = self.body(number)
        del customer["password"], customer["matchingPassword"], customer["individualCustomer"]["user"]["password"]
        return {**commands.data(""), "customer": customer, **changed}

    def found_in(self, content: bytes) -> set[str]:
        """Say who and what is in these bytes: `person 07`, or one of the constants above."""
        folded = content.lower()
        found = {
            f"person {number.decode()}"
            for word in (self.person, self.digits)
            for number in re.findall(re.escape(word.encode()) + rb"(\d\d)", folded)
        }
        if _is_encoded(self.person, content, folded) or _is_encoded(self.digits, content, folded):
            found.add(SOMEBODY)
        if self.secret.encode() in folded or _is_encoded(self.secret, content, folded):
            found.add(SECRET)
        if self.upstream.encode() in folded or _is_encoded(self.upstream, content, folded):
            found.add(UPSTREAM)
        if b"$argon2id$" in content:
            found.add(HASH)
        return found


def who(number: int) -> str:
    """Return what `found_in` calls a person."""
    return f"person {number:02d}"


def _is_encoded(word: str, content: bytes, folded: bytes) -> bool:
    """Say whether a word is there as UTF-16 of either kind, in hexadecimal digits, escaped as JSON may, or in base64."""
    text = word.encode()
    plain = (word.encode("utf-16-le")[:-1], text.hex().encode(), json_escaped(word).encode())
    return any(each in folded for each in plain) or any(each in content for each in _in_base64(text))


def json_escaped(word: str) -> str:
    """Return a text with every character escaped, as JSON allows."""
    return "".join(f"\\u{ord(character):04x}" for character in word)


def _in_base64(text: bytes) -> Iterator[bytes]:
    """Yield what is the same in every base64 that has the text in it, for each place where it may begin."""
    for before in range(_BASE64_STEPS):
        encoded = base64.b64encode(bytes(before) + text)
        yield encoded[-(-before * 4 // 3) : (before + len(text)) * 8 // 6]


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file's path from there, and what it holds; one that vanishes meanwhile holds nothing."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(folder)), path.read_bytes()
        except FileNotFoundError:
            continue


def as_json(document: object) -> bytes:
    """Return a document as most services write it: without escapes."""
    return json.dumps(document, ensure_ascii=False).encode()
