"""Email addresses: what is accepted, and what is the same."""

from __future__ import annotations

import unicodedata
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.core.email_address import normalize, normalize_by_library

_PIECES: Final = st.sampled_from(
    [
        *'aB0-._+c1@ \n"\\(éKſİ',
        "--",
        "..",
        "xn--",
        "xn--bcher-kva",
        "ab--",
        "a" * 61,
        "!#$%&'*/=?^`{|}~",
        "[127.0.0.1]",
        *("test", "local", "example", "com"),
    ]
)
_MADE: Final = st.tuples(st.lists(_PIECES, max_size=5), st.lists(_PIECES, max_size=6)).map(
    lambda parts: f"{''.join(parts[0])}@{''.join(parts[1])}"
)


@given(address=st.one_of(st.emails(), _MADE, st.text(max_size=40)), test_domains=st.booleans())
@example(address="a@b.TEST", test_domains=False)
@example(address="a@b.test", test_domains=True)
@example(address="a@example.com\n", test_domains=True)
@example(address="a@ab--c.de", test_domains=True)
@example(address=f"a@{'b' * 64}.de", test_domains=True)
@example(address=f"a@{'b.' * 130}de", test_domains=True)
@example(address=f"{'a' * 250}@b.de", test_domains=True)
@example(address="a@b.invalid", test_domains=True)
def test_the_quick_way_gives_the_same_answer_as_the_whole_library(address: str, test_domains: bool) -> None:  # noqa: FBT001 - drawn
    """What the pattern accepts is what email-validator accepts, in the same form."""
    assert normalize(address, test_domains=test_domains) == normalize_by_library(address, test_domains=test_domains)


@given(address=st.one_of(st.emails(), _MADE))
def test_a_normal_form_is_its_own(address: str) -> None:
    """Normalizing twice changes nothing, so that stored forms can be compared with new ones."""
    form = normalize(address, test_domains=True)

    assert form is None or normalize(form, test_domains=True) == form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Marcus.Jensen@Example.COM", "marcus.jensen@example.com"),
        ("jos\u00e9@example.com", "jose\u0301@example.com"),
        ("a@b\u00fccher.de", "A@XN--BCHER-KVA.DE"),
        ("a@b\u00fccher.de", "a@BU\u0308CHER.de"),
    ],
)
def test_two_ways_to_write_an_address_are_one(one: str, other: str) -> None:
    """Addresses compare NFC, in lower case, by the ASCII form of their domain."""
    assert normalize(one, test_domains=False) == normalize(other, test_domains=False) is not None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a@",
        "@b.de",
        "a@b",
        "a b@c.de",
        '"a b"@c.de',
        "a@[127.0.0.1]",
        "A <a@b.de>",
        "a@b..de",
        "a.@b.de",
        "a@b.local",
        "a@-b.de",
    ],
)
def test_what_is_no_address_has_no_form(address: str) -> None:
    """Display names, quoted strings, address literals and special-use domains are refused."""
    assert normalize(address, test_domains=False) is None


def test_the_reserved_test_domain_passes_only_where_a_tenant_accepts_it() -> None:
    """`.test` addresses are for development (RFC 2606); example.com passes everywhere."""
    assert normalize("a@b.test", test_domains=True) == "a@b.test"
    assert normalize("a@b.test", test_domains=False) is None
    assert normalize("a@example.com", test_domains=False) == "a@example.com"


def test_forms_are_nfc() -> None:
    """Lower-casing may take a text apart again; the form is put together after it."""
    form = normalize("\u0130nci@example.com", test_domains=False)

    assert form is not None
    assert unicodedata.is_normalized("NFC", form)
