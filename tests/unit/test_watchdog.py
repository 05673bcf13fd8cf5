"""A partition that stands still is noticed once it has stood long enough, and only with work and without excuse."""

from __future__ import annotations

from worker.watchdog import Watchdog


def test_standing_still_at_work_is_noticed_after_its_time() -> None:
    """Not before, and moving on ends it."""
    watchdog = Watchdog(10)
    watchdog.at_work(3, 7, 100)
    watchdog.at_work(3, 7, 109.9)
    before = watchdog.stalled
    watchdog.at_work(3, 7, 110)
    stalled = watchdog.stalled
    watchdog.at_work(3, 8, 111)

    assert (before, stalled, watchdog.stalled) == ([], [3], [])


def test_an_excuse_begins_the_time_anew() -> None:
    """A lane that waited for the database has not stood still since before that."""
    watchdog = Watchdog(10)
    watchdog.at_work(3, 7, 100)
    watchdog.excuse(3)
    watchdog.at_work(3, 7, 115)
    watchdog.at_work(3, 7, 120)

    assert watchdog.stalled == []


def test_a_partition_that_went_to_another_is_forgotten() -> None:
    """What it does there is no concern of this process."""
    watchdog = Watchdog(10)
    for partition in (3, 4):
        watchdog.at_work(partition, 7, 100)
        watchdog.at_work(partition, 7, 200)
    watchdog.keep({4})

    assert watchdog.stalled == [4]
