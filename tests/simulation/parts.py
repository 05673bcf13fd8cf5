"""What a simulated worker is wired from: the worker's own, with short times, and a database that is watched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from functools import cache
from typing import TypeVar

from tests.conftest import SEALING_KEYS
from tests.simulation.invariants import Witness
from tests.simulation.pool import Pool
from worker.config import Settings, load
from worker.errors import CommitUnknownError
from worker.metrics import Metrics
from worker.postgres import Connection, Database
from worker.sealing import Sealer

T = TypeVar("T")


class Watched(Database):
    """The real one; it also tells the witness which transactions it said had failed."""

    witness: Witness

    async def transact(self, work: Callable[[Connection], Awaitable[T]], timeout_s: float | None = None) -> T:
        """Do work in one transaction."""
        begun = []

        async def watched(connection: Connection) -> T:
            begun.append(connection.session.transaction)  # type: ignore[attr-defined]  # the simulated one
            return await work(connection)

        try:
            return await super().transact(watched, timeout_s)
        except CommitUnknownError:
            raise
        except Exception:
            for transaction in begun:
                self.witness.told_failed(transaction)
            raise


def database(witness: Witness, pool: Pool) -> Watched:
    """Return a worker's database on a simulated pool."""
    new = copy(_database())
    new.witness, new._pool = witness, pool  # type: ignore[assignment]  # a pool in all but its type
    return new


@cache
def _database() -> Watched:
    """Each is a copy of this one: to check a URL makes a TLS context, which takes as long as a third of a run."""
    limits = settings(500, 100)
    return Watched(limits.database_url.get_secret_value(), connections=4, timeout_s=limits.batch_timeout_s, name="simulated")


@cache
def settings(batch_most: int, breaker_run: int) -> Settings:
    """Return a worker's settings, with short times."""
    return load(
        kafka_bootstrap="simulated:9092",
        database_url="postgresql://simulated",
        sealing_keys=SEALING_KEYS,
        session_timeout_s=3,
        heartbeat_interval_s=0.5,
        rebalance_timeout_s=6,
        look_interval_s=1,
        batch_timeout_s=2,
        produce_timeout_s=2,
        drain_timeout_s=3,
        batch_max_records=batch_most,
        breaker_run=breaker_run,
        breaker_pause_s=2,
        breaker_pause_max_s=4,
    )


@cache
def metrics() -> Metrics:
    """Return one for all runs: they count, and nobody reads them."""
    return Metrics()


@cache
def sealer() -> Sealer:
    """Return the one that seals dead letters."""
    return Sealer(SEALING_KEYS)
