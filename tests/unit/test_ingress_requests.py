"""Requests are read strictly: what is no JSON, no preference and no trace is not taken for one."""

from __future__ import annotations

import json
import string

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from worker.ingress.problems import ProblemError
from worker.ingress.requests import DEPTH_MAX, Preference, Trace, canonical, parse, preference, without_passwords

OURS = bytes(range(24))
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_json_is_read_as_any_parser_reads_it(value: object) -> None:
    """What our parser accepts means what it means to Python's own."""
    body = json.dumps(value).encode()

    assert parse(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{} {}",
        b"{'a': 1}",
        b"[1,]",
        b"NaN",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 400 + b"}",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": 1, "\\u0061": 2}',
        b'"\xff"',
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\n"}',
        b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1),
        b"[" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_strict_json_is_malformed(body: bytes) -> None:
    """One answer for every kind of bad JSON, and none of it is repeated."""
    with pytest.raises(ProblemError) as raised:
        parse(body)

    assert raised.value.code == "malformed-json"
    assert raised.value.detail is not None
    assert "\\u0061" not in raised.value.detail


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf{}", b" {} \n", b"[" * DEPTH_MAX + b"]" * DEPTH_MAX])
def test_a_byte_order_mark_white_space_and_deep_nesting_are_json(body: bytes) -> None:
    """Strict does not mean stricter than the contract."""
    parse(body)


@given(VALUES)
def test_the_canonical_form_is_the_same_however_the_body_was_written(value: object) -> None:
    """White space, order and escapes change no fingerprint."""
    plain = json.dumps(value, ensure_ascii=False).encode()
    spread = json.dumps(value, indent=3, sort_keys=True, ensure_ascii=True).encode()

    assert canonical(parse(plain)) == canonical(parse(spread)) == rfc8785.dumps(parse(plain))


def test_the_canonical_form_exists_for_text_that_utf_8_cannot_hold() -> None:
    """A lone surrogate is JSON, so it must not end in an error of ours."""
    assert canonical(parse(b'{"\\ud800": ["\\udfff", 1]}')) == b'{"?":["?",1]}'


@given(VALUES)
def test_no_password_is_left_at_any_depth(value: object) -> None:
    """Only the members of those exact names go."""
    document = {"a": [{"password": value, "kept": value}], "matchingPassword": value, "Password": 1, "passwordHint": 2}

    assert without_passwords(document) == {
        "a": [{"kept": without_passwords(value)}],
        "Password": 1,
        "passwordHint": 2,
    }


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Preference(10, "")),
        (["respond-async"], Preference(0, "respond-async")),
        (["wait=0"], Preference(0, "wait=0")),
        (["wait=60"], Preference(60, "wait=60")),
        (['WAIT = "7"'], Preference(7, "wait=7")),
        (["wait=5; x=y"], Preference(5, "wait=5")),
        (["respond-async, wait=5"], Preference(5, "respond-async, wait=5")),
        (["wait=5", "respond-async"], Preference(5, "respond-async, wait=5")),
        (["wait=5, wait=9"], Preference(5, "wait=5")),
        (["return=minimal, wait=3"], Preference(3, "wait=3")),
        (["wait=61"], Preference(10, "")),
        (["wait=-1"], Preference(10, "")),
        (["wait=1.5"], Preference(10, "")),
        (["wait=٣"], Preference(10, "")),
        (["wait"], Preference(10, "")),
        (["wait=61, respond-async"], Preference(0, "respond-async")),
        (["nonsense ; ,,, =;"], Preference(10, "")),
        (["," * 100_000 + "wait=5"], Preference(10, "")),
    ],
)
def test_a_preference_holds_where_it_can_be_met_and_is_ignored_where_not(headers: list[str], expected: Preference) -> None:
    """RFC 7240: unknown preferences and those out of range change nothing; the first of two counts."""
    assert preference(headers, 10) == expected


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE_ID}-{PARENT_ID}-01",
        f" 00-{TRACE_ID}-{PARENT_ID}-00 ",
        f"cc-{TRACE_ID}-{PARENT_ID}-01-what-the-future-brings",
    ],
)
def test_a_callers_trace_goes_on(header: str) -> None:
    """Its trace id and parent are passed on, in the version that we speak."""
    trace = Trace.of([header], OURS)

    assert trace.trace_id == TRACE_ID
    assert trace.parent.startswith(f"00-{TRACE_ID}-{PARENT_ID}-0")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        ["00"],
        [f"ff-{TRACE_ID}-{PARENT_ID}-01"],
        [f"00-{'0' * 32}-{PARENT_ID}-01"],
        [f"00-{TRACE_ID}-{'0' * 16}-01"],
        [f"00-{TRACE_ID.upper()}-{PARENT_ID}-01"],
        [f"00-{TRACE_ID}-{PARENT_ID}-01-more"],
        [f"00-{TRACE_ID}-{PARENT_ID}-01", f"00-{TRACE_ID}-{PARENT_ID}-01"],
    ],
)
def test_a_trace_begins_where_the_caller_has_none(headers: list[str]) -> None:
    """What is no trace context is dropped (W3C Trace Context 3.2.2), and two are none."""
    trace = Trace.of(headers, OURS)

    assert trace.trace_id == OURS[:16].hex()
    assert trace.parent == f"00-{OURS[:16].hex()}-{OURS[16:].hex()}-00"


@given(st.text(string.printable))
def test_no_header_of_a_caller_ends_in_an_error_of_ours(text: str) -> None:
    """Whatever stands in them, they are read or ignored."""
    preference([text], 10)
    Trace.of([text], OURS)
