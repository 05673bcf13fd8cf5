"""How fast one caller may ask: never more in a window than allowed, never refused below it, and all are remembered apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.ingress.limits import CALLERS_MAX, RateLimit, headers

ALICE, BOB = ("t-1", "alice"), ("t-1", "bob")


def test_a_window_may_come_at_once_and_then_one_for_each_share_of_it() -> None:
    """Ten in five seconds: ten at once, the eleventh half a second later."""
    rate = RateLimit(10, 5)
    burst = [rate.take(ALICE, 100.0) for _ in range(11)]
    later = [rate.take(ALICE, 100.5).is_granted for _ in range(2)]

    assert [allowance.is_granted for allowance in burst] == [True] * 10 + [False]
    assert [allowance.remaining for allowance in burst] == [*range(9, -1, -1), 0]
    assert (burst[-1].retry_after_s, burst[-1].full_in_s) == (1, 5)
    assert later == [True, False]


@given(
    requests=st.integers(1, 20),
    window_s=st.integers(1, 10),
    gaps_s=st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=100),
)
def test_no_stretch_of_time_has_more_than_the_burst_and_what_flows_in(requests: int, window_s: int, gaps_s: list[float]) -> None:
    """In any stretch at most the window's requests plus those that its length refills."""
    rate, now_s, granted = RateLimit(requests, window_s), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        if rate.take(ALICE, now_s).is_granted:
            granted.append(now_s)

    for first, began_s in enumerate(granted):
        for last in range(first, len(granted)):
            assert last - first + 1 <= requests + (granted[last] - began_s) * requests / window_s + 1


@given(requests=st.integers(1, 50), window_s=st.integers(1, 10))
def test_who_keeps_the_pace_is_never_refused(requests: int, window_s: int) -> None:
    """One request for each share of the window, for ever."""
    rate = RateLimit(requests, window_s)

    assert all(rate.take(ALICE, number * window_s / requests).is_granted for number in range(200))


@given(requests=st.integers(1, 20), window_s=st.integers(1, 10), taken=st.integers(1, 60))
def test_who_waits_as_told_is_granted(requests: int, window_s: int, taken: int) -> None:
    """Retry-After is kept, and RateLimit's `r` requests go through at once."""
    rate = RateLimit(requests, window_s)
    last = [rate.take(ALICE, 0.0) for _ in range(taken)][-1]

    assert all(rate.take(ALICE, 0.0).is_granted for _ in range(last.remaining))
    waited = RateLimit(requests, window_s)
    refused = [waited.take(ALICE, 0.0) for _ in range(requests + 1)][-1]
    assert waited.take(ALICE, float(refused.retry_after_s)).is_granted


def test_callers_do_not_share_and_memory_is_bounded() -> None:
    """One caller's haste is nobody else's; of very many the one is forgotten who has been silent for longest."""
    rate = RateLimit(1, 1000, callers_max=100)
    first = [rate.take(caller, 0.0).is_granted for caller in (ALICE, BOB, ("t-2", "alice"))]
    again = [rate.take(caller, 0.0).is_granted for caller in (ALICE, BOB, ("t-2", "alice"))]
    for number in range(1000):
        rate.take(("t-1", str(number)), 0.0)

    assert (first, again) == ([True] * 3, [False] * 3)
    assert len(rate) == 100
    assert CALLERS_MAX >= 1000


def test_what_is_told_is_a_structured_field() -> None:
    """RateLimit-Policy and RateLimit as the draft has them: an item of a list, with integers."""
    rate = RateLimit(10, 5)
    told = dict(headers(rate.policy, rate.take(ALICE, 0.0)))

    assert told == {b"ratelimit-policy": b'"caller";q=10;w=5', b"ratelimit": b'"caller";r=9;t=1'}
