"""Passwords: which are accepted, and that only their hashes leave."""

from __future__ import annotations

import asyncio
import unicodedata
from typing import Any

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.catalogue import Passwords
from worker.ingress.passwords import MATCHING, TOP, USER, Hasher, find, judge
from worker.ingress.problems import ProblemError
from worker.metrics import Metrics

POLICY = Passwords()
GOOD = "SecurePass123!"
WHO = ("marcus.jensen@example.com", "Marcus", "Jensen")


def codes(document: dict[str, Any], policy: Passwords = POLICY) -> list[tuple[str, str]]:
    """Return pointer and code of each fault of a body's passwords."""
    return [(fault.pointer, fault.code) for fault in judge(find(document), policy, WHO)[1]]


def body(top: object = None, matching: object = None, user: object = None) -> dict[str, Any]:
    """Return a body with passwords where they are given."""
    return {"password": top, "matchingPassword": matching, "individualCustomer": {"user": {"password": user}}}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (body(GOOD, GOOD, GOOD), []),
        (body(GOOD), []),
        (body(None, None, GOOD), []),
        (body(None, GOOD, GOOD), []),
        ({}, [(TOP, "required")]),
        ({"individualCustomer": []}, [(TOP, "required")]),
        (body(None, GOOD), [(TOP, "required")]),
        (body(GOOD, "Other" + GOOD, GOOD), [(MATCHING, "password.mismatch")]),
        (body(GOOD, "Other" + GOOD, "More" + GOOD), [(MATCHING, "password.mismatch"), (USER, "password.mismatch")]),
        (body("short", "shorter"), [(MATCHING, "password.mismatch"), (TOP, "password.weak")]),
        (body(12, GOOD, ["x"]), [(TOP, "type.unexpected"), (USER, "type.unexpected")]),
        (body(GOOD + "\ud800"), [(TOP, "text.not_allowed")]),
        (body("Cafe\u0301Cafe\u0301Cafe\u0301", "Caf\u00e9Caf\u00e9Caf\u00e9"), []),
    ],
    ids=repr,
)
def test_the_three_places_agree_and_at_least_one_is_there(document: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Every fault is named at its place; a place that is left out is taken from its twin."""
    assert codes(document) == expected


@pytest.mark.parametrize(
    ("password", "accepted"),
    [
        (GOOD, True),
        ("x7#kQ", False),
        ("a2!" + "b" * 8, False),
        ("Tr0ub4dor&3x", True),
        ("correct horse battery staple", True),
        ("ab1!" * 32, True),
        ("ab1!" * 32 + "x", False),
        ("password1234", False),
        ("PassWord12345!!", False),
        ("1q2w3e4r5t6y", False),
        ("aaaaaaaaaaaa", False),
        ("marcus.jensen@example.com", False),
        ("Marcus.Jensen1990!", False),
        ("jensenmarcus", False),
        ("Marcus likes green tea", True),
        ("пароль-длинный-1", True),
        ("\u00e9" * 3 + "clair au chocolat", True),
    ],
)
def test_a_password_is_long_uncommon_and_not_about_its_owner(password: str, *, accepted: bool) -> None:
    """12 to 128 characters, not in the list of common ones, not made of email and name; no rules of composition."""
    assert codes(body(password)) == ([] if accepted else [(TOP, "password.weak")])


def test_a_tenants_policy_holds() -> None:
    """Lengths and lists are the tenant's own."""
    policy = Passwords(length_min=8, length_max=64, common_refused=False, like_email_refused=False)

    assert codes(body("password"), policy) == []
    assert codes(body("marcusjensen"), policy) == []
    assert codes(body("x" * 65), policy) == [(TOP, "password.weak")]


@given(st.text(min_size=1))
def test_no_fault_repeats_a_password(password: str) -> None:
    """A detail says what is expected, and is the same for every password."""
    details = {fault.detail for fault in judge(find(body(password, "another")), POLICY, WHO)[1]}

    assert details <= {
        "Must be the same password everywhere.",
        "Must have 12 to 128 characters.",
        "Must not be a common password.",
        "Must not be made of the email address or the name.",
        "Expected whole Unicode characters, no lone surrogates.",
    }


async def test_a_hash_is_argon2id_as_owasp_advises_and_verifies_in_either_normal_form() -> None:
    """The same characters are the same password, however a keyboard composes them."""
    hasher = Hasher(1, 1, Metrics())
    try:
        password, _ = judge(find(body("Cafe\u0301-au-lait-2026")), POLICY, WHO)
        hashed = await hasher.hash(password)
    finally:
        hasher.close()

    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert argon2.PasswordHasher().verify(hashed, unicodedata.normalize("NFC", "Caf\u00e9-au-lait-2026"))


async def test_the_hash_queue_is_bounded() -> None:
    """One is hashed, two wait, and everybody else is told to come again."""
    metrics = Metrics()
    hasher = Hasher(1, 2, metrics)
    try:
        answers = await asyncio.gather(*(hasher.hash(f"{GOOD}{n}") for n in range(8)), return_exceptions=True)
        later = await hasher.hash(GOOD)
    finally:
        hasher.close()

    refused = [answer for answer in answers if isinstance(answer, ProblemError)]
    assert [answer.code for answer in refused] == ["overloaded"] * 5
    assert len({answer for answer in answers if isinstance(answer, str)}) == 3
    assert later.startswith("$argon2id$")
    assert metrics.registry.get_sample_value("registration_hash_refusals_total") == 5
    assert metrics.registry.get_sample_value("registration_hash_queue") == 0


async def test_a_thread_counts_as_taken_until_it_is_done_also_when_nobody_waits_any_more() -> None:
    """Else whoever hangs up at once could have more hashed than the queue is long."""
    metrics = Metrics()
    hasher = Hasher(1, 0, metrics)

    def taken() -> float | None:
        return metrics.registry.get_sample_value("registration_hash_queue")

    try:
        waiting = asyncio.create_task(hasher.hash(GOOD))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        taken_after_cancel = taken()
        with pytest.raises(ProblemError):
            hasher.check_room()
        async with asyncio.timeout(10):
            while taken():
                await asyncio.sleep(0.005)
        hasher.check_room()
    finally:
        hasher.close()

    assert waiting.cancelled()
    assert taken_after_cancel == 1
