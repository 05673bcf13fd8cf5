"""Who takes part, and how much each is given: enough for seconds of work, not more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PARTITIONS: Final = 6


@dataclass(frozen=True, slots=True)
class Contender:
    """
    One of those that are measured.

    Args:
        name: in the table and in the JSON line.
        about: in a few words.
        module: what its process runs; None for the worker, which has a command line of its own.
        share: of the records that the fastest are given.
        warm: records that it is warmed with.
        consumes: false for the limit, which is fed from memory.
        is_mixed: its backlog has repeats, taken emails and refusals.
    """

    name: str
    about: str
    module: str | None
    share: float
    warm: int
    consumes: bool = True
    is_mixed: bool = False

    @property
    def is_worker(self) -> bool:
        """It is run by `registration worker`."""
        return self.module is None


LIMIT: Final = Contender("limit", "the worker's statements fed from memory", "benchmarks.frozen.limit", 1, 2000, consumes=False)
LOOP: Final = Contender("loop", "one message, one transaction, one event, one commit", "benchmarks.frozen.loop", 1 / 20, 60)
FASTSTREAM: Final = Contender(
    "faststream", "FastStream, 10 workers, a transaction a message", "benchmarks.frozen.faststream_workers", 1 / 8, 300
)
FASTSTREAM_BATCH: Final = Contender(
    "faststream_batch", "FastStream, batches of 500, executemany a table", "benchmarks.frozen.faststream_batch", 1 / 2, 1200
)
FASTSTREAM_BARE: Final = Contender(
    "faststream_bare", "FastStream, batches, without its conveniences", "benchmarks.frozen.faststream_bare", 1 / 2, 1200
)
WORKER: Final = Contender("worker", "registration worker", None, 1, 2400)
WORKER_MIXED: Final = Contender(
    "worker_mixed", "the same, with 2 % repeats, 2 % taken emails, 5 % refusals", None, 1, 2400, is_mixed=True
)

CONTENDERS: Final = (LIMIT, LOOP, FASTSTREAM, FASTSTREAM_BATCH, WORKER, WORKER_MIXED)
ON_DEMAND: Final = (FASTSTREAM_BARE,)
"""Only where `--only` names them."""
