"""Records and partitions as the rest of the worker sees them, and the deadline that every call to Kafka has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from worker.errors import UnavailableError

T = TypeVar("T")

STOP_TIMEOUT_S: Final = 5.0
CALL_TIMEOUT_S: Final = 10.0
CLIENT_ERRORS: Final = (KafkaError, OSError, RuntimeError)
"""What aiokafka raises around a connection that is being lost; RuntimeError is uvloop's word for a closed socket."""
LOG_APPEND_TIME: Final = 1
MESSAGE_MAX_BYTES: Final = 1_048_576
DEAD_LETTER_MAX_BYTES: Final = 2 * MESSAGE_MAX_BYTES


class Partition(TopicPartition):  # type: ignore[misc]  # aiokafka has no types
    """A partition of a topic: aiokafka's own, with types. It equals and hashes as the tuple that it is."""

    __slots__ = ()
    topic: str
    partition: int

    def __new__(cls, topic: str, partition: int) -> Self:
        """Name a partition."""
        new: Self = super().__new__(cls, topic, partition)
        return new


class Record(Protocol):
    """
    A record as it was read; aiokafka's own has these and more.

    `timestamp` in milliseconds since 1970: the broker's where `timestamp_type` is LOG_APPEND_TIME, else the sender's.
    """

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def timestamp_type(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(frozen=True, slots=True)
class PlainRecord:
    """A record that no consumer has read: one that is foretold, simulated or made for a measurement."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp_type: int = LOG_APPEND_TIME


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A record to be sent. `headers` in the order in which they go."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Sent(NamedTuple):
    """Where Kafka put a record."""

    partition: int
    offset: int


def size_bytes(record: Record) -> int:
    """Return what a record holds in memory, roughly: key and value."""
    return len(record.key or b"") + len(record.value or b"")


async def bounded(call: Awaitable[T], timeout_s: float, what: str) -> T:
    """
    Wait for a call to Kafka, not longer than its deadline.

    Raises:
        UnavailableError: no answer in time, or Kafka says that it can't.
    """
    try:
        async with asyncio.timeout(timeout_s):  # `wait_for` of Python 3.11 may swallow a cancel that comes with the result
            return await call
    except TimeoutError:
        raise UnavailableError("kafka", f"{what}: no answer in {timeout_s:g} s") from None
    except CLIENT_ERRORS as error:
        raise UnavailableError("kafka", f"{what}: {type(error).__name__}") from None


async def stop_client(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """
    Stop a client within a bound; `stop()` may raise what killed a task of the client's, a CancelledError, or never end.

    Then it has not closed its sockets yet, and they are closed without it.
    """
    if await _ends_well(client.stop(), STOP_TIMEOUT_S):
        return
    for task in _readers(client):
        task.cancel()  # it would connect again
    inner = client._client if isinstance(client, AIOKafkaConsumer) else client.client  # noqa: SLF001
    await _ends_well(inner.close(), 1)
    for connection in list(inner._conns.values()):  # noqa: SLF001
        connection.close()


def _readers(client: AIOKafkaProducer | AIOKafkaConsumer) -> list[asyncio.Task[object]]:
    if not isinstance(client, AIOKafkaConsumer) or client._fetcher is None:  # noqa: SLF001
        return []
    return [client._fetcher._fetch_task, client._coordinator._coordination_task]  # noqa: SLF001


async def _ends_well(call: Coroutine[Any, Any, object], timeout_s: float) -> bool:
    task = asyncio.ensure_future(call)
    done, _ = await asyncio.wait({task}, timeout=timeout_s)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=1)
    return task.done() and not task.cancelled() and task.exception() is None and bool(done)
