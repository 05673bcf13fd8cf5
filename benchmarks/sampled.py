"""
Runs `registration`, and counts what its Python spends processor time on: `python -m benchmarks.sampled FILE COMMAND…`.

A timer of processor time (ITIMER_PROF) looks at the stack each millisecond between two signals: USR1 begins, USR2 ends and
writes the counts. Nothing of it is in the product.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

from worker import __main__ as command_line

EVERY_S: Final = 0.001
BEGIN: Final = signal.SIGUSR1
END: Final = signal.SIGUSR2
OTHER: Final = "loop"
"""The event loop, its callbacks, and reading what PostgreSQL sends: none of it has a Python frame of its own."""
_FUNCTIONS: Final = {
    "model_validate_json": "parse",
    "_envelope_fault": "parse",
    "_holds_password": "parse",
    "acceptable_hash": "validate",
    "_commit": "protocol",
    "_report": "protocol",
}
_FILES: Final = (
    ("worker/core/validate.py", "validate"),
    ("worker/core/email_address.py", "validate"),
    ("worker/core/customer.py", "validate"),
    ("worker/core/", "decide"),
    ("worker/registration.py", "decide"),
    ("worker/catalogues.py", "decide"),
    ("worker/examining.py", "decide"),
    ("worker/rows.py", "encode"),
    ("worker/messages.py", "encode"),
    ("worker/settlement.py", "statement"),
    ("worker/store.py", "statement"),
    ("worker/postgres.py", "statement"),
    ("site-packages/asyncpg/", "statement"),
    ("worker/kafka/producer.py", "publish"),
    ("site-packages/aiokafka/producer/", "publish"),
    ("worker/relay.py", "acknowledge"),
    ("site-packages/aiokafka/consumer/", "fetch"),
    ("worker/kafka/", "fetch"),
    ("worker/consumer.py", "fetch"),
    ("site-packages/aiokafka/", "kafka client"),
    ("worker/lane.py", "protocol"),
)
STAGES: Final = (
    "fetch", "parse", "validate", "decide", "encode", "statement", "publish", "acknowledge", "kafka client", "protocol", OTHER,
)  # fmt: skip


def stage_of(frame: FrameType | None) -> str:
    """Return the stage of a stack: that of the innermost frame which belongs to one."""
    while frame is not None:
        code = frame.f_code
        if code.co_name in _FUNCTIONS:
            return _FUNCTIONS[code.co_name]
        for part, stage in _FILES:
            if part in code.co_filename and "/benchmarks/" not in code.co_filename:
                return stage
        frame = frame.f_back
    return OTHER


def read(path: Path) -> dict[str, int]:
    """Return how often each stage was met."""
    counts: dict[str, int] = json.loads(path.read_text())
    return {stage: counts.get(stage, 0) for stage in STAGES}


def main() -> None:
    """Become the command."""
    path, counts = Path(sys.argv[1]), Counter[str]()

    def sample(_number: int, frame: FrameType | None) -> None:
        counts[stage_of(frame)] += 1

    def begin(_number: int, _frame: FrameType | None) -> None:
        counts.clear()
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.write_text(json.dumps(counts))

    signal.signal(signal.SIGPROF, sample)
    signal.signal(BEGIN, begin)
    signal.signal(END, end)
    sys.argv = ["registration", *sys.argv[2:]]
    command_line.main()


if __name__ == "__main__":
    main()
