"""
Kafka and PostgreSQL for the tests: embedded, or in containers where `REGISTRATION_TEST_SERVERS=containers` (`make test-docker`).

The tests are the same; the servers have the same settings, as far as they are not about where a server keeps its files.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import ExecWaitStrategy

from worker.dev.broker import PROPERTIES
from worker.dev.database import CLUSTER, DATABASE, SETTINGS, SUPERUSER
from worker.dev.embedded import EmbeddedKafka, embedded_stack
from worker.dev.process import free_port

CHOICE: Final = "REGISTRATION_TEST_SERVERS"
KAFKA_IMAGE: Final = "apache/kafka:4.1.1"
POSTGRES_IMAGE: Final = "postgres:17"
_EMBEDDED_ALONE: Final = frozenset({"listen_addresses", "unix_socket_directories", "dynamic_shared_memory_type"})


class Text(Protocol):
    """What a server has to say."""

    def read_text(self) -> str:
        """Return all of it."""


class Kafka(Protocol):
    """A Kafka node."""

    @property
    def bootstrap(self) -> str:
        """Where clients connect, as `host:port`."""


class Postgres(Protocol):
    """A PostgreSQL server."""

    @property
    def url(self) -> str:
        """Where clients connect, as its superuser."""

    @property
    def log(self) -> Text:
        """What it has to say."""


class Servers(Protocol):
    """Both, running."""

    @property
    def kafka(self) -> Kafka:
        """The node."""

    @property
    def postgres(self) -> Postgres:
        """The server."""


def in_containers() -> bool:
    """Whether the servers of this run are containers."""
    return os.environ.get(CHOICE, "embedded") == "containers"


@asynccontextmanager
async def started() -> AsyncIterator[Servers]:
    """Run both servers for the length of a block; nothing is left of them."""
    if in_containers():
        with _kafka() as kafka, _postgres() as postgres:
            yield Containers(kafka, postgres)
    else:
        async with embedded_stack(None) as stack:
            yield stack


def signal_kafka(servers: Servers, number: signal.Signals) -> None:
    """Send a signal to the node's process."""
    if isinstance(servers.kafka, KafkaInContainer):
        servers.kafka.container.get_wrapped_container().kill(signal=number.name)
    elif isinstance(servers.kafka, EmbeddedKafka):
        os.kill(servers.kafka.pid, number)


# --- containers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KafkaInContainer:
    """A node."""

    container: DockerContainer
    bootstrap: str


@dataclass(frozen=True, slots=True)
class ContainerLog:
    """What a container has written to its output."""

    container: DockerContainer

    def read_text(self) -> str:
        """Return all of it."""
        return "".join(stream.decode() for stream in self.container.get_logs())


@dataclass(frozen=True, slots=True)
class PostgresInContainer:
    """A server."""

    url: str
    log: ContainerLog


@dataclass(frozen=True, slots=True)
class Containers:
    """Both, running."""

    kafka: KafkaInContainer
    postgres: PostgresInContainer


@contextmanager
def _kafka() -> Iterator[KafkaInContainer]:
    port = free_port()  # the same inside: the node tells it to its clients, and to itself
    properties = {
        **PROPERTIES,
        "listeners": f"CLIENT://:{port},CONTROLLER://:9093",
        "advertised.listeners": f"CLIENT://127.0.0.1:{port}",
        "controller.quorum.voters": "1@127.0.0.1:9093",
        "heap.opts": "-Xms128m -Xmx512m",
    }
    open_port = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
    container = DockerContainer(KAFKA_IMAGE).waiting_for(ExecWaitStrategy(open_port))
    for name, value in properties.items():
        container.with_env(f"KAFKA_{name.upper().replace('.', '_')}", value)
    container.ports = {port: ("127.0.0.1", port)}  # type: ignore[dict-item] # Docker's form, of this machine alone
    with container:
        yield KafkaInContainer(container, f"127.0.0.1:{port}")


@contextmanager
def _postgres() -> Iterator[PostgresInContainer]:
    port = free_port()
    container = PostgresContainer(POSTGRES_IMAGE, username=SUPERUSER, password=os.urandom(16).hex(), dbname=DATABASE, driver=None)
    container.with_env("POSTGRES_INITDB_ARGS", " ".join(option for option in CLUSTER if not option.startswith("--auth")))
    options = [part for name, value in SETTINGS.items() if name not in _EMBEDDED_ALONE for part in ("-c", f"{name}={value}")]
    container.with_command(["postgres", *options])
    container.ports = {container.port: ("127.0.0.1", port)}  # type: ignore[dict-item] # likewise
    with container:
        url = f"postgresql://{container.username}:{container.password}@127.0.0.1:{port}/{container.dbname}"
        yield PostgresInContainer(url, ContainerLog(container))
