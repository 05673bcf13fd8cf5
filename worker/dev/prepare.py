"""
Do once what every first start would have to wait for: Kafka's jars, and the JVM's start-up cache for them.

    python -m worker.dev.prepare

The cache (JEP 483 and 515) holds Kafka's classes as the JVM wants them, taken from one start: later ones need a third of the
time and of the processor. Without it everything works the same, later.
"""

import asyncio
import os
import sys
from pathlib import Path

from worker.dev import jars
from worker.dev.broker import EmbeddedKafka, java, startup_cache
from worker.dev.embedded import TEMPORARY_PREFIX
from worker.dev.process import StartError, ending_in_order, run, temporary_folder

RECORD_WITHIN_S = 60.0
CREATE_WITHIN_S = 120.0


async def prepare() -> None:
    """
    Bring what is missing; returns at once when nothing is.

    Raises:
        StartError: Kafka does not start on this machine.
        JarsError: its jars cannot be brought.
    """
    class_path = jars.bring()
    target = startup_cache()
    if target is None or target.exists():
        return
    jars.say("Preparing Kafka's start (once) ...")
    for old in target.parent.glob("kafka-????????????.aot"):
        old.unlink(missing_ok=True)
    with ending_in_order(), temporary_folder(TEMPORARY_PREFIX) as folder:
        await _make(target, class_path, folder)


async def _make(target: Path, class_path: list[Path], folder: Path) -> None:
    """Let a broker start and stop, recording; then make the cache of the record."""
    record, new = folder / "record", target.with_suffix(f".{os.getpid()}")
    kafka = EmbeddedKafka(folder / "kafka", jvm=["-XX:AOTMode=record", f"-XX:AOTConfiguration={record}"])
    try:
        await kafka.start()
        await kafka.stop(RECORD_WITHIN_S)
        options = ["-XX:AOTMode=create", f"-XX:AOTConfiguration={record}", f"-XX:AOTCache={new}"]
        await run([*java(class_path), *options], log=folder / "create.log", timeout_s=CREATE_WITHIN_S)
        new.replace(target)
    finally:
        kafka.kill_now()
        new.unlink(missing_ok=True)


def main() -> int:
    """Prepare; return the exit code."""
    try:
        asyncio.run(prepare())
    except (StartError, jars.JarsError) as error:
        jars.say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
