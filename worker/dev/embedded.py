"""Kafka and PostgreSQL on this machine, together: nothing is installed, and nothing is left when they end."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.dev.broker import NONE, EmbeddedKafka
from worker.dev.database import EmbeddedPostgres
from worker.dev.process import StartError, ending_in_order, owned, temporary_folder

__all__ = ["EmbeddedKafka", "EmbeddedPostgres", "Stack", "StartError", "embedded_stack"]

TEMPORARY_PREFIX = "registration-worker-"


@dataclass(frozen=True, slots=True)
class Stack:
    """Both servers, running."""

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres


@asynccontextmanager
async def embedded_stack(
    data: Path | None,
    *,
    kafka_properties: Mapping[str, str] = NONE,
    kafka_format_options: Sequence[str] = (),
    postgres_settings: Mapping[str, str] = NONE,
) -> AsyncIterator[Stack]:
    """
    Run both servers for the length of a block.

    Args:
        data: where they keep their data, for the next time too; None is a temporary folder that goes with them.
        kafka_properties, kafka_format_options: see `EmbeddedKafka`.
        postgres_settings: settings that replace or add to ours.

    Raises:
        StartError: one of them did not start, or another process uses this folder.
    """
    with ExitStack() as ending:
        ending.enter_context(ending_in_order())
        folder = ending.enter_context(owned(data) if data else temporary_folder(TEMPORARY_PREFIX))
        kafka = EmbeddedKafka(folder / "kafka", properties=kafka_properties, format_options=kafka_format_options)
        postgres = EmbeddedPostgres(folder / "postgres", settings=postgres_settings)
        # At the very end, whatever happens: no await, so that nothing can interrupt it.
        ending.callback(kafka.kill_now)
        ending.callback(postgres.end_now)
        try:
            async with asyncio.TaskGroup() as starting:
                starting.create_task(kafka.start())
                starting.create_task(postgres.start())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        try:
            yield Stack(kafka, postgres)
        finally:
            if data:  # else it is thrown away, and a kill is the quickest end
                await asyncio.gather(kafka.stop(), postgres.stop())
