"""
Memory of `registration publish` over a file of commands, on a Kafka of its own.

    python -m benchmarks.publish [LINES]
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from schemas.commands import COMMANDS_TOPIC
from tests import commands
from worker.dev.broker import EmbeddedKafka
from worker.kafka import create_topics, topic_settings

LINES: Final = 100_000
_MIB: Final = 1024 * 1024
_LOOK_S: Final = 0.1


async def measure(lines: int, folder: Path) -> str:
    """Publish so many lines; say how long it took, and by how much the process grew after its first result."""
    kafka = EmbeddedKafka(folder / "kafka")
    await kafka.start()
    try:
        await create_topics(kafka.bootstrap, topic_settings({COMMANDS_TOPIC: 7}, 1), partitions=6, replicas=1)
        file, results = folder / "people.jsonl", folder / "results"
        _write(file, lines)
        began = time.monotonic()
        with results.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "worker", "publish", str(file), "--json"),
                env={**os.environ, "REGISTRATION_KAFKA_BOOTSTRAP": kafka.bootstrap, "REGISTRATION_PUBLISH_KEY": "x" * 32},
                stdout=out,
            )
        sizes = await _sizes(process, results)
        took_s = time.monotonic() - began
    finally:
        await kafka.stop()
    most, first = max(sizes) // _MIB, sizes[0] // _MIB
    return f"{lines:,} lines in {took_s:.0f} s: exit code {process.returncode}, {most} MiB at most, grew {most - first} MiB"


def _write(file: Path, lines: int) -> None:
    """Write commands of as many people."""
    text = json.dumps({**commands.data("person.NUMBER@example.com"), "registrationId": None})
    with file.open("w") as out:
        out.writelines(text.replace("NUMBER", str(number)) + "\n" for number in range(lines))


async def _sizes(process: asyncio.subprocess.Process, results: Path) -> list[int]:
    """Return the resident memory of a process from its first result on, in bytes, until it ends."""
    watched, sizes = psutil.Process(process.pid), []
    ended = asyncio.create_task(process.wait())
    while not ended.done():
        await asyncio.wait({ended}, timeout=_LOOK_S)
        if results.stat().st_size and not ended.done():  # noqa: ASYNC240 - nothing else waits for this loop
            sizes.append(watched.memory_info().rss)
    return sizes


def main() -> None:
    """Measure, and print it."""
    with TemporaryDirectory(prefix="registration-worker-publish-") as folder:
        print(asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else LINES, Path(folder))))


if __name__ == "__main__":
    main()
