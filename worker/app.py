"""Wires a process together from its settings, and owns its signals: SIGTERM and Ctrl-C finish what is in flight, then end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop

from schemas.commands import COMMANDS_TOPIC
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC
from worker import kafka, logs
from worker.admin import Health, admin
from worker.catalogues import Rules
from worker.config import Settings
from worker.consumer import Consumer
from worker.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USAGE, TooSlowError, UnavailableError
from worker.kafka import Membership, Producer, security_of
from worker.metrics import Metrics
from worker.migrate import migrate
from worker.parts import Parts
from worker.postgres import Database, statement
from worker.retention import Retention
from worker.sealing import Sealer
from worker.traces import WORKER, BatchSpans, exported

RETENTION_DAYS: Final = {COMMANDS_TOPIC: 7, EVENTS_TOPIC: 30, DEAD_LETTERS_TOPIC: 14}
SUPERVISOR: Final = "REGISTRATION_SUPERVISOR_PID"
GC_OBJECTS: Final = 500_000
GC_EVERY_S: Final = 60.0
_PARENT_CHECK_S: Final = 1.0
_STANDBY_RETRY_S: Final = 5.0
_RESTART_FIRST_S: Final = 1.0
_RESTART_MAX_S: Final = 30.0
_HEALTHY_AFTER_S: Final = 60.0


def run(main: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """
    Run a process until it ends by itself or a signal sets its event.

    Returns:
        The exit code.
    """

    async def signalled() -> int:
        stop = asyncio.Event()
        with _signals(stop):
            return await main(stop)

    return uvloop.run(signalled())


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def run_until_signalled(main: Coroutine[Any, Any, int]) -> int:
    """
    Run something to its end, or until a signal cancels it; then it unwinds, which ends what it started.

    Returns:
        Its exit code; 130 after Ctrl-C, 0 after SIGTERM.
    """
    received: list[int] = []

    async def cancellable() -> int:
        task, loop = asyncio.ensure_future(main), asyncio.get_running_loop()

        def cancel(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, cancel, number)
        try:
            return await task
        except asyncio.CancelledError:
            return EXIT_INTERRUPTED if signal.SIGINT in received else EXIT_DONE

    return uvloop.run(cancellable())


def database_of(settings: Settings, name: str) -> Database:
    """Return a pool as a process of that name wants it."""
    return Database(
        settings.database_url.get_secret_value(),
        connections=settings.database_connections,
        timeout_s=settings.batch_timeout_s,
        name=f"registration-{name}",
    )


def producer_of(settings: Settings, name: str) -> Producer:
    """Return a producer as a process of that name wants it."""
    return Producer(
        settings.kafka_bootstrap,
        timeout_s=settings.produce_timeout_s,
        client_id=f"registration-{name}-{os.getpid()}",
        security=security_of(settings),
    )


async def work(settings: Settings, stop: asyncio.Event) -> int:
    """
    Be one worker process: drains and returns once `stop` is set.

    Args:
        settings: of this process.
        stop: set by a signal.
    """
    metrics, health = Metrics(), Starting()
    async with admin(settings.admin_host, settings.admin_port, health, metrics) as port:
        logs.logger().info("worker.started", admin_port=port)
        await consume(settings, stop, metrics, health.become)
    return 0


async def consume(settings: Settings, stop: asyncio.Event, metrics: Metrics, started: Callable[[Health], None]) -> None:
    """
    Do the worker's job until told to stop.

    Args:
        started: gets what the worker says of itself.
    Raises:
        ConfigurationError: there are no sealing keys, or a file for TLS is not as it should be.
    """
    sealer = Sealer(settings.sealing_keys.get_secret_value())
    database, producer = database_of(settings, "worker"), producer_of(settings, "worker")
    with exported(WORKER) as traces:
        parts = Parts(settings, database, producer, sealer, Rules(database), metrics, BatchSpans(traces, settings.group))
        consumer = Consumer(parts, membership(settings))
        retention = Retention(database, Rules(database), metrics)
        started(consumer)
        _settle_memory()
        try:
            beside = _watch_supervisor(stop), _warn_of_missing_standby(database), _collect(), _remove_old(retention)
            async with _beside(*beside):
                await consumer.run(stop)
        finally:
            await parts.spans.finish()
            await producer.stop()
            await database.close()
            logs.logger().info("worker.stopped")


def _settle_memory() -> None:
    """
    Keep the garbage collector from looking through everything that a batch holds, again and again.

    The batches in flight are some 200,000 objects that all die by their reference counts; the default thresholds would
    start hundreds of collections for each batch, which cost more than the work itself (README, D-10).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 10, 10)


@dataclass(slots=True)
class Starting:
    """What a process says of itself until its part can."""

    health: Health | None = None

    def become(self, health: Health) -> None:
        """From now on the part speaks."""
        self.health = health

    def alive(self) -> bool:
        """As alive as its part."""
        return self.health is None or self.health.alive()

    def reasons(self) -> list[str]:
        """Why no work is done just now."""
        return ["starting"] if self.health is None else self.health.reasons()


def membership(settings: Settings) -> Membership:
    """Return how a worker with these settings takes part in its group."""
    return Membership(
        bootstrap=settings.kafka_bootstrap,
        group=settings.group,
        topic=COMMANDS_TOPIC,
        client_id=f"registration-worker-{os.getpid()}",
        session_timeout_s=settings.session_timeout_s,
        heartbeat_interval_s=settings.heartbeat_interval_s,
        rebalance_timeout_s=settings.rebalance_timeout_s,
        metadata_max_age_s=settings.metadata_max_age_s,
        security=security_of(settings),
    )


async def prepare(settings: Settings) -> list[str]:
    """
    Bring the database and the topics up to date.

    Returns:
        What was made: file names of migrations, names of topics.
    Raises:
        UnavailableError, ConfigurationError: see `security_of`, `migrate` and `create_topics`.
    """
    security = security_of(settings)
    made = await migrate(settings.database_url.get_secret_value())
    topics = kafka.topic_settings(RETENTION_DAYS, settings.topic_replicas)
    return made + await kafka.create_topics(
        settings.kafka_bootstrap,
        topics,
        partitions=settings.topic_partitions,
        replicas=settings.topic_replicas,
        security=security,
    )


@asynccontextmanager
async def _beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do work beside a block, and end it with the block."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _watch_supervisor(stop: asyncio.Event) -> None:
    """Stop when the supervisor that started this process is gone, so that no worker is left behind."""
    supervisor = os.environ.get(SUPERVISOR)
    if not supervisor:
        return
    while os.getppid() == int(supervisor):
        await asyncio.sleep(_PARENT_CHECK_S)
    stop.set()


async def _collect() -> None:
    """
    Look for circles each minute, beside `_settle_memory`: a batch leaves none, and so would never cause a look.

    A client that was replaced is one, with all that it had fetched: some mebibytes for each time that Kafka was away.
    """
    while True:
        await asyncio.sleep(GC_EVERY_S)
        gc.collect()


async def _warn_of_missing_standby(database: Database) -> None:
    """Warn once where no standby holds what a failover would otherwise lose."""

    async def names() -> str:
        while True:
            with suppress(UnavailableError, TooSlowError):
                return str(await database.run(lambda c: c.fetchval(statement("synchronous_standbys"))))
            await asyncio.sleep(_STANDBY_RETRY_S)

    if not await names():
        logs.logger().warning("standby.missing")


async def _remove_old(retention: Retention) -> None:
    """Remove old rows beside the lanes: a bug in that ends it, and never a lane."""
    try:
        await retention.run()
    except Exception as error:  # noqa: BLE001 - told, with its place
        logs.logger().error("retention.stopped", exc_info=error)


@dataclass(slots=True)
class Supervisor:
    """
    Runs several worker processes of one command line, and starts anew the one that ends by itself.

    Args:
        arguments: of `python -m worker`, for each of them.
        count: how many.
        admin_port: the first one's; the others count on from it (0: each picks one).
    """

    arguments: list[str]
    count: int
    admin_port: int
    pids: list[int | None] = field(default_factory=list)

    async def run(self, stop: asyncio.Event, timeout_s: float) -> int:
        """Run them until told to stop; then each gets SIGTERM, and SIGKILL after its time."""
        self.pids = [None] * self.count
        async with asyncio.TaskGroup() as group:
            kept = [group.create_task(self._keep(index, stop, timeout_s)) for index in range(self.count)]
        return max(task.result() for task in kept)

    async def _keep(self, index: int, stop: asyncio.Event, timeout_s: float) -> int:
        """Run one process until told to stop; a setting that is wrong stops all, since no restart would mend it."""
        pause_s = _RESTART_FIRST_S
        while not stop.is_set():
            started_at = time.monotonic()
            process = await self._start(index)
            self.pids[index] = process.pid
            ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopped.cancel()
                await _end(process, ended, timeout_s)
            if process.returncode == EXIT_USAGE:
                stop.set()
                return EXIT_USAGE
            if not stop.is_set():
                pause_s = pause_s if time.monotonic() - started_at < _HEALTHY_AFTER_S else _RESTART_FIRST_S
                logs.logger().error("process.ended", process=index, exit_code=process.returncode, restart_in_s=pause_s)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause_s)
                pause_s = min(pause_s * 2, _RESTART_MAX_S)
        return EXIT_DONE

    async def _start(self, index: int) -> asyncio.subprocess.Process:
        port = self.admin_port + index if self.admin_port else 0
        environment = {
            **os.environ,
            "REGISTRATION_ADMIN_PORT": str(port),
            "REGISTRATION_PROCESSES": "1",
            SUPERVISOR: str(os.getpid()),
        }
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", *self.arguments, env=environment, start_new_session=True
        )


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Task[Any], timeout_s: float) -> None:
    if not ended.done():
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait({ended}, timeout=timeout_s)
    if not ended.done():
        with suppress(ProcessLookupError):
            process.kill()
        await ended
