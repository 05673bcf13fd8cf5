"""Which catalogue holds: the version in force at the record's own time, whoever asks and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import DEVELOPMENT
from worker import dev
from worker.catalogues import COMPLETE_FOR, NOTHING, Snapshot, Versions
from worker.core.catalogue import Catalogue
from worker.operate.catalogue_file import validate

READ_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
APPLIED = (READ_AT - timedelta(days=60), READ_AT - timedelta(days=30), READ_AT - timedelta(days=1))
OTHERS = tuple(DEVELOPMENT.model_copy(update={"documents": {}}) for _ in APPLIED)
VERSIONS = Versions("tenant-1", "one", APPLIED, (1, 2, 5), OTHERS)
SNAPSHOT = Snapshot(READ_AT, {"tenant-1": VERSIONS}, {"one": VERSIONS})


@pytest.mark.parametrize(
    ("when", "version"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 1),
        (APPLIED[0] - timedelta(microseconds=1), 1),
        (APPLIED[0], 1),
        (APPLIED[1] - timedelta(microseconds=1), 1),
        (APPLIED[1], 2),
        (APPLIED[2] - timedelta(microseconds=1), 2),
        (APPLIED[2], 5),
        (datetime(9999, 1, 1, tzinfo=UTC), 5),
    ],
)
def test_a_version_holds_from_its_moment_and_the_first_for_all_before(when: datetime, version: int) -> None:
    """A tenant's first version holds for every record, a later one from `effective_at` on, that moment included."""
    number, catalogue = VERSIONS.at(when)

    assert number == version
    assert catalogue is OTHERS[(1, 2, 5).index(version)]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6, unique=True).map(sorted), st.integers(-10, 1010))
def test_exactly_one_version_holds_at_any_time(starts: list[int], at: int) -> None:
    """The last that has begun; before all, the first."""
    base = READ_AT
    times = tuple(base + timedelta(seconds=start) for start in starts)
    versions = Versions("t", "t", times, tuple(range(1, len(starts) + 1)), tuple(DEVELOPMENT for _ in starts))

    assert versions.at(base + timedelta(seconds=at))[0] == max(sum(start <= at for start in starts), 1)


@given(st.integers(-100_000, 100_000))
def test_a_snapshot_covers_half_a_minute_beyond_its_reading(seconds: int) -> None:
    """A version that is applied later is effective a minute later: up to half of it nobody can be wrong."""
    assert SNAPSHOT.covers(READ_AT + timedelta(seconds=seconds)) is (timedelta(seconds=seconds) <= COMPLETE_FOR)


@pytest.mark.parametrize("zone", ["Nowhere/City", "Europe", "UTC0", "europe/vilnius"])
def test_a_time_zone_that_there_is_not_is_no_part_of_a_catalogue(tmp_path: Path, zone: str) -> None:
    """Each record of that tenant would meet a bug, and stop its partition: whoever publishes it learns where it stands."""
    path = tmp_path / "catalogue.yaml"
    text = (Path(dev.__file__).with_name("catalogue") / "development.yaml").read_text()
    path.write_text(text.replace("time_zone: UTC", f"time_zone: {zone}"))
    line = 1 + next(number for number, each in enumerate(text.splitlines()) if "time_zone: UTC" in each)
    found = validate(path)

    assert not isinstance(found, Catalogue)
    assert [(fault.line, fault.path) for fault in found] == [(line, "tenant.time_zone")]


def test_a_tenant_is_found_by_id_and_by_slug() -> None:
    """Both are the same tenant; another name is none."""
    assert SNAPSHOT.tenant("tenant-1") is SNAPSHOT.tenant("one") is VERSIONS
    assert SNAPSHOT.tenant("two") is None
    assert SNAPSHOT.tenant("") is None


def test_an_id_goes_before_a_slug() -> None:
    """A tenant can't take another's commands by choosing that tenant's id for a slug."""
    thief = Versions("tenant-2", "tenant-1", APPLIED, (1, 2, 3), OTHERS)
    both = Snapshot(READ_AT, {"tenant-1": VERSIONS, "tenant-2": thief}, {"one": VERSIONS, "tenant-1": thief})

    assert both.tenant("tenant-1") is VERSIONS


def test_whoever_has_read_nothing_covers_nothing() -> None:
    """A worker reads before it decides its first record."""
    assert not NOTHING.covers(datetime(1970, 1, 1, tzinfo=UTC))
    assert NOTHING.tenant("tenant-1") is None
