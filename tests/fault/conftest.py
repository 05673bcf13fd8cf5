"""What the tests of faults measured: each one's times to recover are shown at the end of the run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, TypeAlias

import pytest
from _pytest.terminal import TerminalReporter

from tests.fault.network import Network, network

Recovered: TypeAlias = Callable[[str, float, float], None]
"""Notes from what the workers recovered, in how many seconds, and of how many at most."""
RECOVERED: Final = "recovered"


@pytest.fixture(scope="module")
async def ways() -> AsyncIterator[Network]:
    """Servers behind proxies for a module: each test adds to the history that the next one's `verify` checks too."""
    async with network() as running:
        yield running


@pytest.fixture
async def world(ways: Network) -> AsyncIterator[Network]:
    """A cluster to break, without workers, and whole ways to its servers."""
    ways.begin()
    try:
        yield ways
    finally:
        ways.heal()
        ways.cluster.end_workers()


@pytest.fixture
def recovered(record_property: Callable[[str, object], None]) -> Recovered:
    """Give a function that notes how long a recovery took, and fails beyond its bound."""

    def note(from_what: str, took_s: float, bound_s: float) -> None:
        record_property(RECOVERED, f"{took_s:6.2f} s of at most {bound_s:g} s: {from_what}")
        assert took_s <= bound_s, f"{from_what}: {took_s:.2f} s"

    return note


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Show the times to recover of tests that passed and of those that failed."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [str(value) for report in reports for name, value in report.user_properties if name == RECOVERED]
    if lines:
        terminalreporter.write_sep("=", "times to recover")
        for line in lines:
            terminalreporter.write_line(line)
