"""A cluster whose workers reach Kafka and PostgreSQL through proxies, and a PostgreSQL that may be replaced by its standby."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import httpx

from schemas.events import EVENTS_TOPIC
from tests.boundary import topics
from tests.fault.cluster import DEADLINE_S, PARTITIONS, Cluster, cluster_on
from tests.fault.proxy import Proxy, proxy
from tests.fault.standby import Standby, address_of, set_on, standby_of, through
from worker.dev.database import NONE, EmbeddedPostgres
from worker.dev.embedded import embedded_stack
from worker.dev.logins import WORKER, login
from worker.dev.process import Child
from worker.postgres import Connection, connect

_CUSTOMERS: Final = """
SELECT r.registration_id, c.customer_id
FROM registrations AS r LEFT JOIN customers AS c USING (tenant_id, registration_id)
"""


@dataclass(slots=True)
class Network:
    """
    The cluster and the ways that lead to its servers.

    Attributes:
        to_kafka, to_database: what workers connect through; this process reaches PostgreSQL directly.
        to_primary: what the standby connects through.
    """

    cluster: Cluster
    to_kafka: Proxy
    to_database: Proxy
    to_primary: Proxy
    _environment: Mapping[str, str]
    _ending: AsyncExitStack
    _standbys: int = 0

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The server that is the primary now."""
        return self.cluster.servers.postgres

    def begin(self) -> None:
        """Heal everything, and let workers be of a group of their own, which waits for no member that was killed."""
        self.heal()
        self.cluster.environment = {**self._environment, "REGISTRATION_GROUP": f"workers-{self.cluster.started}"}

    def heal(self) -> None:
        """Let every way be as it was."""
        for way in (self.to_kafka, self.to_database, self.to_primary):
            way.heal()
        self.to_database.target = address_of(self.postgres)
        self.to_kafka.target = self.cluster.servers.kafka.bootstrap

    async def standby(self, *, synchronous: bool) -> Standby:
        """Start a standby of the primary; return when it has all that is committed."""
        self._standbys += 1
        self.to_primary.heal()
        self.to_primary.lead_to(address_of(self.postgres))
        folder = self.cluster.folder / f"standby-{self._standbys}"
        replication = self.to_primary.address
        return await self._ending.enter_async_context(standby_of(self.postgres, folder, replication, synchronous=synchronous))

    async def wait_for_nobody(self) -> None:
        """Let the primary's commits wait for no standby."""
        await set_on(self.postgres, {"synchronous_standby_names": None})

    async def fail_over(self, standby: Standby) -> None:
        """Kill the primary and promote its standby; workers reach nobody until `let_through`."""
        self.to_database.lead_nowhere()
        await self.postgres.kill()
        await standby.promote()
        self.cluster.servers = replace(self.cluster.servers, postgres=standby)

    def let_through(self) -> None:
        """Lead the workers to whoever is the primary now."""
        self.to_database.lead_to(address_of(self.postgres))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Connect to the primary as its superuser."""
        opened = await connect(self.postgres.url, "tests", default_transaction_read_only="off")
        try:
            yield opened
        finally:
            await opened.close(timeout=5)

    async def customers(self) -> dict[str, str | None]:
        """Return the customer of each registration that has an outcome; None where it was refused."""
        async with self.connection() as connection:
            rows = await connection.fetch(_CUSTOMERS)
        return {row["registration_id"]: row["customer_id"] for row in rows}

    async def published(self) -> dict[str, set[str]]:
        """Return the ce_ids of each registration's events."""
        found: dict[str, set[str]] = {}
        for record in await topics.records(self.cluster.servers.kafka.bootstrap, EVENTS_TOPIC):
            registration = json.loads(record.value or b"")["registrationId"]
            found.setdefault(registration, set()).add((dict(record.headers)["ce_id"] or b"").decode())
        return found


@asynccontextmanager
async def traffic(running: Cluster, people: int = 6) -> AsyncIterator[None]:
    """Send commands for the length of a block: as many that a fault of seconds leaves no backlog of minutes."""
    stop = asyncio.Event()
    sending = asyncio.create_task(running.stream(stop, people))
    try:
        yield
    finally:
        stop.set()
        await sending


async def reasons_of(worker: Child) -> list[str]:
    """Return why a worker can't do its job just now, as `/readyz` says; empty where it can."""
    started = next(line for line in map(json.loads, worker.output().splitlines()) if line["event"] == "worker.started")
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{started['admin_port']}/readyz", timeout=DEADLINE_S)
    reasons: list[str] = answer.json()["reasons"]
    return reasons


@asynccontextmanager
async def network(
    partitions: int = PARTITIONS, postgres_settings: Mapping[str, str] = NONE, kafka_properties: Mapping[str, str] = NONE
) -> AsyncIterator[Network]:
    """Run a cluster behind proxies for the length of a block; workers log in as what they are, not as a superuser."""
    async with proxy() as to_kafka, proxy() as to_database, proxy() as to_primary:
        properties = {"advertised.listeners": f"CLIENT://{to_kafka.address}", **kafka_properties}
        async with embedded_stack(None, kafka_properties=properties, postgres_settings=postgres_settings) as servers:
            to_kafka.target, to_database.target = servers.kafka.bootstrap, address_of(servers.postgres)
            async with cluster_on(servers, partitions) as running, AsyncExitStack() as ending:
                url = await login(servers.postgres.url, WORKER, "fault_worker")
                running.environment = {
                    **running.environment,
                    "REGISTRATION_KAFKA_BOOTSTRAP": to_kafka.address,
                    "REGISTRATION_DATABASE_URL": through(url, to_database.address),
                }
                yield Network(running, to_kafka, to_database, to_primary, running.environment, ending)
