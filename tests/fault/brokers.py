"""Three Kafka nodes, of which two may be lost: the first also is the controller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.errors import GroupCoordinatorNotAvailableError

from tests.boundary import topics
from tests.boundary.conditions import until
from tests.fault.cluster import Cluster, cluster_on
from worker.dev.broker import EmbeddedKafka
from worker.dev.embedded import embedded_stack
from worker.dev.process import free_port, temporary_folder

REPLICAS: Final = 3
REPLICATED: Final = {
    "default.replication.factor": "3",
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "9",
    "transaction.state.log.replication.factor": "3",
    "min.insync.replicas": "2",
}


@dataclass(slots=True)
class Brokers:
    """
    A cluster on three nodes.

    Attributes:
        nodes: the two that only are brokers, by id.
    """

    cluster: Cluster
    nodes: dict[int, EmbeddedKafka]

    async def coordinator(self, group: str) -> int:
        """Return the id of the node that coordinates a group."""
        async with topics.administering(self.cluster.servers.kafka.bootstrap) as admin:

            async def known() -> int:
                try:
                    return int(await admin.find_coordinator(group))
                except GroupCoordinatorNotAvailableError:  # the first to ask has the offsets' topic made
                    return 0

            return await until(known, "the group has a coordinator")


@asynccontextmanager
async def brokers() -> AsyncIterator[Brokers]:
    """Run three nodes and PostgreSQL for the length of a block; topics are replicated as in production."""
    with ExitStack() as ending:
        folder = ending.enter_context(temporary_folder("registration-brokers-"))
        async with embedded_stack(None, kafka_properties=REPLICATED) as servers:
            nodes = {number: _joining(servers.kafka, number, folder / str(number)) for number in (2, 3)}
            for node in nodes.values():
                ending.callback(node.kill_now)
                await node.start()
            async with cluster_on(servers, replicas=REPLICAS) as running:
                bootstrap = ",".join(node.bootstrap for node in (servers.kafka, *nodes.values()))
                running.environment = {**running.environment, "REGISTRATION_KAFKA_BOOTSTRAP": bootstrap}
                yield Brokers(running, nodes)


def _joining(first: EmbeddedKafka, number: int, data: Path) -> EmbeddedKafka:
    """Return a node that joins the cluster of another one, which is its controller."""
    port = free_port()
    properties = {
        **REPLICATED,
        "process.roles": "broker",
        "node.id": str(number),
        "listeners": f"CLIENT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{first._controller_port}",
    }
    lines = (first._data / "log" / "meta.properties").read_text().splitlines()
    cluster_id = dict(line.split("=", 1) for line in lines if "=" in line)["cluster.id"]
    return EmbeddedKafka(data, port=port, properties=properties, format_options=("-t", cluster_id))
