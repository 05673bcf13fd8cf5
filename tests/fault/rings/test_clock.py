"""A machine's clock that is one hour off: of the workers, of Kafka, of PostgreSQL."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.fault.cluster import cluster_on
from tests.fault.conftest import Recovered
from tests.fault.test_faults import RESTART_RECOVERY_S
from worker.dev.embedded import EmbeddedKafka, EmbeddedPostgres, embedded_stack
from worker.dev.process import Child

Lie: TypeAlias = Callable[[str], Mapping[str, str]]
Server: TypeAlias = EmbeddedKafka | EmbeddedPostgres
FASTER, RIGHT, SLOWER = "+3600s", "+0s", "-3600s"


@pytest.fixture(scope="module")
def lie() -> Iterator[Lie]:
    """Give a function that returns the variables under which a process believes another time; how long something takes stays."""
    found = importlib.util.find_spec("libfaketime")  # unimported: it wants more than we need
    assert found is not None
    assert found.origin is not None
    library = Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    with _shared() as names:
        yield lambda off: {
            "LD_PRELOAD": str(library),
            "FAKETIME": off,
            "FAKETIME_SHARED": names,
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }


@contextmanager
def _shared() -> Iterator[str]:
    """Make the library's semaphore and memory: else each process leaves its own behind, and closes them to PostgreSQL's user."""
    name = f"/faketime-{os.urandom(6).hex()}"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sem_open.restype = ctypes.c_void_p
    assert libc.sem_open(name.encode(), os.O_CREAT | os.O_EXCL, 0o600, 1), os.strerror(ctypes.get_errno())
    semaphore, memory = Path(f"/dev/shm/sem.{name[1:]}"), Path(f"/dev/shm{name}")  # noqa: S108 - where glibc has them
    try:
        memory.write_bytes(bytes(8))
        for path in (semaphore, memory):
            path.chmod(0o666)
        yield f"{name} {name}"
    finally:
        memory.unlink(missing_ok=True)
        semaphore.unlink()


@pytest.mark.parametrize("off", [FASTER, SLOWER])
async def test_a_workers_clock_one_hour_off_changes_nothing(lie: Lie, off: str, recovered: Recovered) -> None:
    """No rule and no row asks it: two workers, one of them off, do their work as ever."""
    async with embedded_stack(None) as servers, cluster_on(servers) as cluster:
        right = cluster.environment
        cluster.environment = {**right, **lie(off)}
        cluster.start_worker()
        cluster.environment = right
        cluster.start_worker()
        await cluster.send(200)
        recovered(f"a worker's clock {off}", await cluster.done(), RESTART_RECOVERY_S)

        await cluster.verify()


@pytest.mark.parametrize(("server", "off"), [("kafka", SLOWER), ("postgres", FASTER)])
async def test_a_broker_behind_the_database_changes_nothing(
    lie: Lie, server: str, off: str, recovered: Recovered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records are of an hour ago: they are decided as such."""
    async with embedded_stack(None) as servers, cluster_on(servers) as cluster:
        cluster.start_worker()
        await cluster.send(50)
        await cluster.done()
        await _restart(getattr(servers, server), lie(off), monkeypatch)
        await cluster.send(50)
        recovered(f"the clock of {server} {off}", await cluster.done(), RESTART_RECOVERY_S)

        await cluster.verify()


@pytest.mark.parametrize(("server", "off", "database"), [("kafka", FASTER, FASTER), ("postgres", SLOWER, RIGHT)])
async def test_a_broker_ahead_of_the_database_is_waited_for_and_named(
    lie: Lie, server: str, off: str, database: str, *, recovered: Recovered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which rules hold for a record of the future nobody can know yet; when the clocks agree, it goes on."""
    async with embedded_stack(None) as servers, cluster_on(servers) as cluster:
        cluster.start_worker()
        await cluster.send(50)
        await cluster.done()
        cluster.end_workers()  # one that has read the rules by the right clock may decide half a minute more
        await _restart(getattr(servers, server), lie(off), monkeypatch)
        worker = cluster.start_worker()
        await cluster.send(50)
        await cluster.eventually(partial(_says, worker, "catalogue.ahead"), "the worker waits and says why")
        await _restart(servers.postgres, lie(database), monkeypatch)
        recovered(f"the clock of {server} {off}, until the database agrees", await cluster.done(), RESTART_RECOVERY_S)

        await cluster.verify()


async def _restart(server: Server, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    await server.stop()
    with monkeypatch.context() as patched:
        for name, value in variables.items():
            patched.setenv(name, value)
        await server.start()


async def _says(worker: Child, event: str) -> bool:
    return f'"event": "{event}"' in worker.output()
