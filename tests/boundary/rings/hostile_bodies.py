"""Bodies that no client of good will sends: JSON, texts, numbers, days and ids, each with the codes that may answer it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from tests.boundary.bare_http import CANARY
from tests.commands import body_of, email_of

MALFORMED: Final = "malformed-json"
FAULTY: Final = "validation-failed"
TAKEN_IN: Final = ""
Path: TypeAlias = tuple[str | int, ...]

PERSON: Final[Path] = ("individualCustomer", "person")
_GOOD: Final = json.dumps(body_of(email_of("hostile")))
_REST: Final = _GOOD[1:]
_NUMBERS: Final = ("1e400", "-1e400", "9" * 400, "1" * 5_000, "-0", "1e-400", "0.1e1", "123456789012345678901234567890", "1E+2")

DOCUMENTS: Final[Mapping[str, tuple[bytes, str]]] = {
    "nothing": (b"", MALFORMED),
    "spaces": (b"   \n", MALFORMED),
    "half an object": (_GOOD[: len(_GOOD) // 2].encode(), MALFORMED),
    "cut off at the end": (_GOOD[:-1].encode(), MALFORMED),
    "something after it": ((_GOOD + CANARY).encode(), MALFORMED),
    "twice": ((_GOOD + _GOOD).encode(), MALFORMED),
    "lines": ((_GOOD + "\n" + _GOOD).encode(), MALFORMED),
    "a nul after it": ((_GOOD + "\0").encode(), MALFORMED),
    "a nul before it": (("\0" + _GOOD).encode(), MALFORMED),
    "a comment": (("/* x */" + _GOOD).encode(), MALFORMED),
    "single quotes": (b"{'email': 'a@b.c'}", MALFORMED),
    "no quotes": (b"{email: 1}", MALFORMED),
    "a comma too many": (b'{"email": "a",}', MALFORMED),
    "python": (b'{"email": None}', MALFORMED),
    "javascript": (b'{"email": undefined}', MALFORMED),
    "NaN": (b'{"email": NaN}', MALFORMED),
    "Infinity": (b'{"email": -Infinity}', MALFORMED),
    "hexadecimal": (b'{"email": 0x1}', MALFORMED),
    "octal": (b'{"email": 01}', MALFORMED),
    "plus": (b'{"email": +1}', MALFORMED),
    "a point alone": (b'{"email": .5}', MALFORMED),
    "a line end in a text": (b'{"email": "\n"}', MALFORMED),
    "a tab in a text": (b'{"email": "\t"}', MALFORMED),
    "a wrong escape": (b'{"email": "\\x41"}', MALFORMED),
    "half an escape": (b'{"email": "\\u12"}', MALFORMED),
    "a member twice": (b'{"email": "a", "email": "b"}', MALFORMED),
    "a member twice, escaped": (b'{"email": "a", "em\\u0061il": "b"}', MALFORMED),
    "a member twice, deep": (b'{"individualCustomer": {"person": {"x": {"y": 1, "y": 2}}}}', MALFORMED),
    "passwords that differ by place in one object": (b'{"password": "a", "password": "b"}', MALFORMED),
    "a list in 33 lists": (b"[" * 33 + b"]" * 33, MALFORMED),
    "30,000 lists": (b"[" * 30_000, MALFORMED),
    "30,000 lists, closed": (b"[" * 30_000 + b"]" * 30_000, MALFORMED),
    "10,000 objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, MALFORMED),
    "32 lists": (b"[" * 32 + b"]" * 32, FAULTY),
    "utf-16": (_GOOD.encode("utf-16"), MALFORMED),
    "utf-16, big end first": (_GOOD.encode("utf-16-be"), MALFORMED),
    "utf-32": (_GOOD.encode("utf-32"), MALFORMED),
    "latin-1": ('{"email": "ä"}'.encode("latin-1"), MALFORMED),
    "overlong utf-8": (b'{"email": "\xc0\xaf"}', MALFORMED),
    "a surrogate in utf-8": (b'{"email": "\xed\xa0\x80"}', MALFORMED),
    "beyond unicode": (b'{"email": "\xf4\x90\x80\x80"}', MALFORMED),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbf" + _GOOD.encode(), MALFORMED),
    "a byte order mark at the end": (_GOOD.encode() + b"\xef\xbb\xbf", MALFORMED),
    "another kind of space": (b"\xc2\xa0{}", MALFORMED),
    "gzip": (b"\x1f\x8b\x08\x00" + b"\0" * 20, MALFORMED),
    "xml": (b"<?xml version='1.0'?><a>&x;</a>", MALFORMED),
    "a form": (b"email=a&password=b", MALFORMED),
    "null": (b"null", FAULTY),
    "a list": (b"[]", FAULTY),
    "a text": (f'"{CANARY}"'.encode(), FAULTY),
    "a number": (b"1", FAULTY),
    "true": (b"true", FAULTY),
    "an empty object": (b"{}", FAULTY),
    "a lone surrogate": (b'{"email": "\\ud800"}', FAULTY),
    "a lone surrogate in a name": (b'{"\\ud800": 1}', FAULTY),
    "surrogates in the wrong order": (b'{"email": "\\udc00\\ud800"}', FAULTY),
    "a nul, escaped": (b'{"email": "\\u0000"}', FAULTY),
    "an empty name": (b'{"": {"": ""}}', FAULTY),
    "names of methods": (b'{"__proto__": {"isAdmin": true}, "constructor": 1, "__class__": 1}', FAULTY),
    "5,000 members": (json.dumps({f"k{n}": n for n in range(5_000)}, separators=(",", ":")).encode(), FAULTY),
    "20,000 numbers": (b"[" + b"1," * 20_000 + b"1]", FAULTY),
    "5,000 floats": (b"[" + b"1.1e-7," * 5_000 + b"1]", FAULTY),
    **{f"the number {number[:24]}": (b'{"x": ' + number.encode() + b"}", FAULTY) for number in _NUMBERS[4:]},
    **{f"the number {number[:6]}, of {len(number)}": (b'{"x": ' + number.encode() + b"}", MALFORMED) for number in _NUMBERS[:4]},
}
"""Whole bodies, and the code that answers them."""

_NOT_ALLOWED: Final[Mapping[str, str]] = {
    "nul": "A\0",
    "escape": "A\x1b[31m",
    "line end": "A\r\nB",
    "delete": "A\x7f",
    "c1": "A\x85",
    "override": "A\u202eB",
    "isolate": "A\u2066B",
    "left mark": "A\u200eB",
    "arabic mark": "A\u061cB",
    "lone surrogate": "A\ud83d",
    "spaces": "   ",
    "nothing": "",
    "wide spaces": "\u3000\u2003",
    "101 letters": "a" * 101,
    "101 emoji": "😀" * 101,
}
_ALLOWED: Final[Mapping[str, str]] = {
    "one letter": "王",
    "composed": "José",
    "decomposed": unicodedata.normalize("NFD", "José Ångström"),
    "100 letters": "Ж" * 100,
    "100 emoji": "😀" * 100,
    "100 with marks": "e\u0301" * 50,
    "a tower of marks": "Z" + "\u0301" * 99,
    "arabic": "محمد عبد الله",
    "hebrew with points": "שָׁלוֹם",
    "devanagari": "क्षत्रिय",
    "thai": "กำแพง",
    "hangul, decomposed": unicodedata.normalize("NFD", "김철수"),
    "look-alikes": "Аdmin",
    "full width": "Ａｄｍｉｎ",
    "zero width joiner": "क्\u200dष",
    "zero width space": "a\u200bb",
    "soft hyphen": "a\u00adb",
    "byte order mark": "\ufeffa",
    "a noncharacter": "a\uffff",
    "private use": "\ue000",
    "a family": "👨\u200d👩\u200d👧\u200d👦",
    "markup": "<script>alert(1)</script>",
    "sql": "Robert'); DROP TABLE customers;--",
    "template": "{{7*7}}${7*7}%s%n",
    "path": "../../../../etc/passwd",
    "copy": "a\\N\\.b\\x00",
    "formula": "=cmd|' /C calc'!A0",
    "json in json": '","isAdmin":true,"x":"',
    "dotless i": "İıſß",
    "apostrophe": "O’Brien-O'Neill",
}
_DAYS: Final[Mapping[str, bool]] = {
    "2000-02-29": True,
    "1900-02-28": True,
    "1900-02-29": False,
    "2100-02-29": False,
    "2001-02-29": False,
    "2000-02-31": False,
    "0000-01-01": False,
    "0001-01-01": False,
    "9999-12-31": False,
    "10000-01-01": False,
    "1990-00-10": False,
    "1990-13-10": False,
    "1990-01-00": False,
    "1990-01-32": False,
    "1990-1-1": False,
    "19900101": False,
    "1990-W01-1": False,
    "1990-001": False,
    "1990-05-15T00:00:00Z": False,
    " 1990-05-15": False,
    "1990-05-15\n": False,
    "1990-05-15\0": False,
    "-1990-05-15": False,
    "+1990-05-15": False,
    "15.05.1990": False,
    "05/15/1990": False,
    "١٩٩٠-٠٥-١٥": False,
    "１９９０-05-15": False,
    "1990‐05‐15": False,
    "today": False,
    "": False,
    "1990-04-31": False,
    "1992-02-29": True,
}
_EMAILS: Final = (
    "a",
    "@",
    "a@",
    "@b.example.com",
    "a@b@c.example.com",
    "a@example",
    "a b@example.com",
    "a@exa mple.com",
    '"a b"@example.com',
    "a@[127.0.0.1]",
    "a@localhost",
    "a@127.0.0.1",
    "a..b@example.com",
    ".a@example.com",
    "a@-example.com",
    "a@example..com",
    "a@" + "b" * 64 + ".com",
    "a" * 250 + "@example.com",
    "a@" + "b." * 130 + "com",
    "a\0@example.com",
    "a\n@example.com",
    "a@example.com\nBcc: x@example.com",
    "<a@example.com>",
    "mailto:a@example.com",
    "a@example.com,b@example.com",
    "a\u202e@example.com",
    "a@\u202eexample.com",
    "a@xn--.com",
    "a@\ud800.com",
    "a@ex\u200bample.com",
)
_PHONES: Final = (
    "0037060012345",
    "+0",
    "+",
    "+1",
    "+37060012345x",
    "+370 600 12345",
    "+370-600-12345",
    "tel:+37060012345",
    "+" + "1" * 16,
    "+٣٧٠٦٠٠١٢٣٤٥",
    "+37060012345\n",
    "++37060012345",
)
_IDS: Final = (
    "",
    " ",
    "\0",
    "\ud800",
    "\u202e",
    "x" * 256,
    "../x",
    "' OR 1=1 --",
    CANARY,
    "{}",
    "null",
    "00000000-0000-0000-0000-000000000000",
)
_COUNTRIES: Final = ("lt", "ZZ", "LTU", "L", "ＬＴ", "L\0", "", "🇱🇹", "ŁT")
_ADMINISTRATORS: Final = ("ADMIN", "ADMINISTRATOR", "registration-admin")
_KINDS: Final[Mapping[str, object]] = {
    "null": None,
    "true": True,
    "0": 0,
    "1.5": 1.5,
    "a list": [],
    "an object": {},
    "nested": [[[{}]]],
}


def _at(path: Path, value: object) -> dict[Path, object]:
    return {path: value}


def _email(value: str) -> dict[Path, object]:
    places: tuple[Path, ...] = (("email",), (*PERSON, "email"), (*PERSON, "contacts", 0, "value"))
    user = ("individualCustomer", "user")
    return dict.fromkeys((*places, (*user, "username"), (*user, "email")), value)


def _name(value: str) -> dict[Path, object]:
    return {("firstName",): value, (*PERSON, "firstName"): value}


CHANGES: Final[Mapping[str, tuple[Mapping[Path, object], bool]]] = {
    **{f"name: {name}": (_name(text), False) for name, text in _NOT_ALLOWED.items()},
    **{f"name: {name}": (_name(text), True) for name, text in _ALLOWED.items()},
    **{f"born {day!a}": (_at((*PERSON, "dateOfBirth"), day), is_good) for day, is_good in _DAYS.items()},
    **{f"email {text[:30]!a}": (_email(text), False) for text in _EMAILS},
    **{f"phone {text!a}": (_at(("phone",), text), False) for text in _PHONES},
    **{f"category {text[:30]!a}": (_at(("customerCategory", "id"), text), False) for text in _IDS},
    **{f"role {text[:30]!a}": (_at(("roleIds",), [text]), False) for text in _IDS},
    **{f"country {text!a}": (_at((*PERSON, "nationality"), text), False) for text in _COUNTRIES},
    **{f"an administrator's role {text!a}": (_at(("roleIds",), [text]), False) for text in _ADMINISTRATORS},
    **{f"email {kind}": (_email(value), False) for kind, value in _KINDS.items()},  # type: ignore[arg-type]  # that is the point
    **{f"person {kind}": (_at(PERSON, value), False) for kind, value in _KINDS.items()},
    **{f"addresses {kind}": (_at((*PERSON, "addresses"), value), False) for kind, value in _KINDS.items()},
    "30,000 roles": (_at(("roleIds",), [1] * 15_000), False),
    "15,000 addresses": (_at((*PERSON, "addresses"), [1] * 15_000), False),
    "5,000 wrong parameters": (
        _at(
            ("individualCustomer", "categorization", "categoryFeatureRelations"),
            [{"feature": 1, "enabled": 1, "parametrization": [{"name": 1, "value": 1}] * 50}] * 45,
        ),
        False,
    ),
    "what the server sets": (
        {("individualCustomer", "user", "status"): "ACTIVE", ("individualCustomer", "user", "isActive"): True},
        True,
    ),
    "members that nobody knows": (_at((CANARY,), {CANARY: [CANARY]}), True),
    "a password that is long": (_at(("password",), "p" * 10_000), False),
    "a password of marks": (_at(("password",), "e\u0301" * 200), False),
    "a password with a surrogate": (_at(("password",), "Secure\ud800Pass123!"), False),
    "a password with a nul": (_at(("matchingPassword",), "SecurePass123!\0"), False),
}
"""What is changed of a good body, and whether it is taken in."""


def changed(email: str, changes: Mapping[Path, object]) -> dict[str, Any]:
    """Return a good body, changed."""
    body = body_of(email)
    for path, value in changes.items():
        place: Any = body
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
    return body
