"""Many seeds, on all processors."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import cpu_count
from typing import Final

from tests.simulation import world
from tests.simulation.world import Outcome

CHUNK: Final = 50
"""Seeds that a process runs before it collects what they left behind."""


def many(seeds: range) -> Iterator[Outcome]:
    """Run seeds in a process for each processor; yield the outcomes in their order."""
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(cpu_count(), get_context("spawn"), settle_memory) as pool:
        try:
            for outcomes in pool.map(run_chunk, chunks):
                yield from outcomes
        finally:
            pool.shutdown(cancel_futures=True)


def counted(outcomes: Iterable[Outcome]) -> Counter[str]:
    """Return how often each fault happened, and each line was logged, over all runs."""
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    return counts


def settle_memory() -> None:
    """Have garbage collected between runs only, and never what all of them share."""
    gc.collect()
    gc.freeze()
    gc.disable()


def run_chunk(seeds: range) -> list[Outcome]:
    """Run seeds one after the other."""
    outcomes = [world.run(seed) for seed in seeds]
    gc.collect()
    return outcomes
