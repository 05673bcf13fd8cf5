"""The size of a batch: it follows what the database takes, to the goal and back, and never stands still."""

from __future__ import annotations

from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pace import Pace

MOST = 500
times = st.floats(0.0, 30.0)
batches = st.lists(st.tuples(st.integers(1, MOST), times), max_size=60)


def paced(fixed_s: float, each_s: float, goal_s: float, waiting: tuple[int, ...] = (MOST,)) -> Pace:
    """Return the pace after a hundred batches at a database of these times, where so many records waited in turn."""
    pace = Pace(MOST, goal_s)
    for queued in islice(cycle(waiting), 100):
        records = min(queued, pace.records)
        pace.took(records, fixed_s + each_s * records)
    return pace


@given(batches, st.floats(0.001, 10.0))
def test_a_batch_always_has_a_size(seen: list[tuple[int, float]], goal_s: float) -> None:
    """Whatever was measured, at least one record goes, and never more than a transaction may hold."""
    pace = Pace(MOST, goal_s)
    for records, seconds in seen:
        pace.took(records, seconds)

        assert 1 <= pace.records <= MOST


@pytest.mark.parametrize(
    ("fixed_s", "each_s", "goal_s", "low", "high"),
    [
        pytest.param(0.005, 0.0002, 0.5, MOST, MOST, id="a quick database: as many as may be"),
        pytest.param(0.005, 0.005, 0.5, 80, 110, id="one that needs 5 ms a record: what fits"),
        pytest.param(0.2, 0.005, 0.5, 50, 110, id="with a slow commit: what fits beside it"),
        pytest.param(0.001, 1.0, 0.5, 1, 4, id="one that takes a second a record: one, and now and then a trial"),
    ],
)
def test_a_batch_is_as_large_as_the_goal_allows(fixed_s: float, each_s: float, goal_s: float, low: int, high: int) -> None:
    """The goal holds where the size can make it hold."""
    pace = paced(fixed_s, each_s, goal_s, waiting=(MOST, 30, 100, 7, 250))

    assert low <= pace.records <= high


def test_a_commit_that_is_slow_by_itself_makes_no_batch_small() -> None:
    """A second for any commit: batches of one would be one registration a second."""
    assert paced(1.0, 0.0002, 0.5, waiting=(MOST, 1, 100, 7, 250)).records == MOST


@pytest.mark.parametrize("waiting", [(MOST,), (1, MOST), (1, 1, 1, MOST)])
def test_after_a_rest_a_slow_commit_makes_no_batch_small_either(waiting: tuple[int, ...]) -> None:
    """Batches of one say nothing of how long two would take: it is tried."""
    pace = Pace(MOST, 0.5)
    for _ in range(40):
        pace.took(1, 0.6)
    for queued in islice(cycle(waiting), 60):
        records = min(queued, pace.records)
        pace.took(records, 0.6 + 0.0002 * records)

    assert pace.records == MOST


def test_nothing_but_full_batches_become_smaller_too() -> None:
    """A long backlog gives one size alone, and it is beyond the goal."""
    assert 80 <= paced(0.005, 0.005, 0.5).records <= 110


def test_a_database_that_is_quick_again_gets_large_batches_again() -> None:
    """What was measured in a bad minute is forgotten."""
    pace = Pace(MOST, 0.5)
    for _ in range(40):
        pace.took(pace.records, 0.01 * pace.records)
    slow = pace.records
    for _ in range(40):
        pace.took(pace.records, 0.0002 * pace.records)

    assert slow <= 60
    assert pace.records == MOST
