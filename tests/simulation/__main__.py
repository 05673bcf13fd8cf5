"""
Run the simulation by hand.

`python -m tests.simulation --seed N` tells one run line by line; `--seeds N` runs many and counts what happened;
`--mutations` tells which seed notices each deliberate fault.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser

from tests.simulation import run, world
from tests.simulation.mutations import MUTATIONS, SEEDS_MOST, caught


def main() -> int:
    """Do what the arguments say; return 1 where a law does not hold, or a mutation passes."""
    parser = ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="tell this run line by line")
    parser.add_argument("--seeds", type=int, help="run so many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--each", action="store_true", help="a line for each")
    parser.add_argument("--mutations", action="store_true", help="run each mutation until it is caught")
    chosen = parser.parse_args()
    if chosen.seed is not None:
        return _one(chosen.seed)
    if chosen.mutations:
        return _mutations(chosen.first)
    return _many(range(chosen.first, chosen.first + (chosen.seeds or 1000)), each=chosen.each)


def _one(seed: int) -> int:
    outcome = world.run(seed, _say)
    _say(f"seed {seed}: {outcome.steps} steps; {', '.join(outcome.broken) or 'every law holds'}")
    return int(bool(outcome.broken))


def _many(seeds: range, *, each: bool) -> int:
    started, outcomes = time.monotonic(), []
    for outcome in run.many(seeds):
        outcomes.append(outcome)
        if each or outcome.broken:
            _say(f"seed {outcome.seed}: {outcome.steps} steps, {outcome.drawn:08x}; {', '.join(outcome.broken)}")
    took_s, failed = time.monotonic() - started, sum(bool(outcome.broken) for outcome in outcomes)
    if not each:
        for name, count in sorted(run.counted(outcomes).items()):
            _say(f"{count:8,} {name}")
        _say(f"{len(outcomes):,} seeds in {took_s:.1f} s, {len(outcomes) / took_s:.0f} a second; a law is broken in {failed}")
    return int(failed > 0)


def _mutations(first: int) -> int:
    passed = 0
    for mutation in MUTATIONS:
        started = time.monotonic()
        outcome = caught(mutation, range(first, first + SEEDS_MOST))
        passed += outcome is None
        told = f"seed {outcome.seed}: {outcome.broken[0]}" if outcome else "NOT CAUGHT"
        _say(f"{mutation.name}: {told} ({time.monotonic() - started:.1f} s)")
    return int(passed > 0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
