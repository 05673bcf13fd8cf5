"""A topic with a database behind it and a worker on it, for the tests of lanes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.dead_letters import DEAD_LETTERS_TOPIC, DeadLetter
from schemas.events import EVENTS_TOPIC
from tests import commands
from tests.boundary import topics
from tests.boundary.conditions import until
from tests.commands import registration_id
from tests.conftest import World
from tests.records import DEVELOPMENT
from worker import app
from worker.catalogues import Rules
from worker.consumer import Consumer
from worker.kafka import OutMessage, Producer, Record
from worker.kafka.producer import partition_of
from worker.lane import Lane
from worker.metrics import Metrics
from worker.parts import Parts
from worker.sealing import Sealer


@dataclass
class Track:
    """A topic, the database behind it, and what was said."""

    world: World
    producer: Producer
    lines: io.StringIO
    starts: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    partitions: int = 1

    @property
    def bootstrap(self) -> str:
        """Where Kafka is."""
        return self.world.settings.kafka_bootstrap

    async def make(self, partitions: int = 1) -> None:
        """Make the topic."""
        self.partitions = partitions
        await topics.make(self.bootstrap, self.world.topic, partitions)

    async def send(self, *messages: OutMessage, partition: int = 0) -> None:
        """Send commands to a partition."""
        numbers = list(range(self.partitions))
        key = next(k for k in (str(n).encode() for n in range(1000)) if partition_of(k, numbers, numbers) == partition)
        await self.producer.send_all([replace(each, key=key) for each in messages])

    def command(self, registration: str | None = None, **changed: object) -> OutMessage:
        """Return a good command; `changed` replaces members of its data."""
        data = commands.data(commands.email_of("lane"), registrationId=registration or registration_id())
        return commands.message({**data, **changed}, self.world.topic)

    def bad(self) -> OutMessage:
        """Return a record that becomes a dead letter."""
        return commands.message(b"{", self.world.topic)

    async def row(self, partition: int = 0) -> Any:  # noqa: ANN401 - a row
        """Return where a partition stands; None where nobody has claimed it."""
        query = "SELECT * FROM kafka_offsets WHERE topic = $1 AND partition = $2"
        return await self.world.connection.fetchrow(query, self.world.topic, partition)

    async def set(self, assignments: str, *parameters: object, partition: int = 0) -> None:
        """Change where a partition stands, as an operator or a failover does."""
        query = f"UPDATE kafka_offsets SET {assignments} WHERE topic = $1 AND partition = $2"
        await self.world.connection.execute(query, self.world.topic, partition, *parameters)

    async def at(self, offset: int, partition: int = 0) -> None:
        """Wait until a partition stands there, with nothing left to publish."""

        async def there() -> bool:
            row = await self.row(partition)
            left = await self.count(f"(SELECT * FROM outbox WHERE command_partition = {partition}) AS o", "command_topic")
            return row is not None and row["next_offset"] == offset and left == 0

        await until(there, f"partition {partition} stands at {offset}")

    async def done(self) -> None:
        """Wait until every partition stands at its log's end."""
        for number, (_, end) in (await topics.bounds(self.bootstrap, self.world.topic)).items():
            if end:
                await self.at(end, number)

    async def outcomes(self) -> dict[str, str]:
        """Return the status of each registration."""
        query = "SELECT registration_id, status FROM registrations WHERE command_topic = $1"
        rows = await self.world.connection.fetch(query, self.world.topic)
        return {row["registration_id"]: row["status"] for row in rows}

    async def count(self, table: str, topic: str) -> int:
        """Return how many rows of a table belong to this topic, by a column or an expression."""
        query = f"SELECT count(*) FROM {table} WHERE {topic} = $1"
        found: int = await self.world.connection.fetchval(query, self.world.topic)
        return found

    async def customers(self) -> int:
        """Return how many customers this topic brought."""
        return await self.count("customers JOIN registrations USING (registration_id, tenant_id)", "command_topic")

    async def begin(self) -> None:
        """Note where the topics of all tests end now."""
        self.starts = {
            topic: {number: end for number, (_, end) in (await topics.bounds(self.bootstrap, topic)).items()}
            for topic in (EVENTS_TOPIC, DEAD_LETTERS_TOPIC)
        }

    async def events(self) -> list[Record]:
        """Return the events of this test's registrations, since it began."""
        mine = await self.outcomes()
        found = await topics.records(self.bootstrap, EVENTS_TOPIC, self.starts[EVENTS_TOPIC])
        return [record for record in found if json.loads(record.value or b"{}")["registrationId"] in mine]

    async def letters(self) -> list[tuple[str, int, bytes | None]]:
        """Return code, offset and value of this topic's dead letters."""
        found = await topics.records(self.bootstrap, DEAD_LETTERS_TOPIC, self.starts[DEAD_LETTERS_TOPIC])
        read = [(DeadLetter.from_headers(record.headers), record.value) for record in found]
        return sorted((each.dl_code, each.dl_offset, value) for each, value in read if each.dl_topic == self.world.topic)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines of an event."""
        return [line for line in map(json.loads, self.lines.getvalue().splitlines()) if line["event"] == event]

    async def says(self, event: str, times: int = 1) -> None:
        """Wait for an event in the log."""

        async def said() -> bool:
            return len(self.said(event)) >= times

        await until(said, f"the log says {event}")


@asynccontextmanager
async def tracked(world: World, logged: io.StringIO) -> AsyncIterator[Track]:
    """Give a track of this world, whose topic is not yet made, with an upstream service's producer."""
    upstream = app.producer_of(world.settings, "tests")
    made = Track(world, upstream, logged)
    await made.begin()
    yield made
    await upstream.stop()


@dataclass
class Worker:
    """A worker in this process."""

    consumer: Consumer
    task: asyncio.Task[None]

    async def ended(self) -> bool:
        """Say whether it has ended."""
        return self.task.done()

    @property
    def client(self) -> Any:  # noqa: ANN401 - aiokafka has no types
        """Kafka's client of the present membership."""
        assert self.consumer._member is not None
        return self.consumer._member._consumer

    def lane(self, partition: int = 0) -> Lane:
        """Return the lane of a partition."""
        return next(lane for key, (lane, _) in self.consumer._lanes.items() if key.partition == partition)

    async def waits_for(self, reason: str | None, partition: int = 0) -> None:
        """Wait until a partition's lane says why it can't go on; None: nothing does."""

        async def so() -> bool:
            reasons = self.consumer.reasons()
            return not reasons if reason is None else f"partition {partition}: {reason}" in reasons

        await until(so, f"the reason {reason}")


@asynccontextmanager
async def working(track: Track, group: str | None = None, **changed: object) -> AsyncIterator[Worker]:
    """Run a worker for the length of a block; at its end it drains, as after SIGTERM."""
    settings = track.world.settings.model_copy(update={"metadata_max_age_s": 1.0, **changed})
    database, producer = app.database_of(settings, "worker"), app.producer_of(settings, "worker")
    sealer = Sealer(settings.sealing_keys.get_secret_value())
    how = replace(app.membership(settings), topic=track.world.topic, group=group or track.world.topic, fetch_max_wait_s=0.05)
    consumer = Consumer(Parts(settings, database, producer, sealer, Rules(database), Metrics()), how)
    stop = asyncio.Event()
    task = asyncio.create_task(consumer.run(stop))
    try:
        yield Worker(consumer, task)
    finally:
        stop.set()
        try:
            await asyncio.wait_for(task, 20)
        finally:
            await producer.stop()
            await database.close()


async def publish(world: World, tenant: str, **changed: object) -> None:
    """Write a catalogue of a tenant of that id, as it never should be where `changed` says so."""
    document = json.loads(DEVELOPMENT.to_json())
    document["tenant"] |= {"id": tenant, "slug": tenant, **changed}
    await world.connection.execute("INSERT INTO tenants VALUES ($1, $1, $1) ON CONFLICT DO NOTHING", tenant)
    async with world.connection.transaction():
        await world.connection.execute("SET LOCAL session_replication_role = replica")  # a trigger keeps versions as they are
        await world.connection.execute(
            "INSERT INTO catalogues (tenant_id, version, effective_at, applied_by, document) VALUES ($1, 1, now(), 'tests', $2)"
            " ON CONFLICT (tenant_id, version) DO UPDATE SET document = excluded.document",
            tenant,
            json.dumps(document),
        )


async def blocked(world: World) -> bool:
    """Say whether a worker's session waits for a lock."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND application_name = 'registration-worker')"
    )
    return bool(await world.connection.fetchval(query))


async def leave_in_outbox(world: World, topic: str, event: Record, offset: int = 0) -> None:
    """Put an event back into the outbox."""
    await world.connection.execute(
        "INSERT INTO outbox (command_topic, command_partition, command_offset, kind, key, value, headers, sealed)"
        " VALUES ($1, 0, $2, 'event', $3, $4, $5, false)",
        topic,
        offset,
        event.key,
        event.value,
        json.dumps([[name, (value or b"").decode()] for name, value in event.headers]),
    )


async def remove(track: Track) -> None:
    """Delete the topic, and wait until it is gone."""
    async with topics.administering(track.bootstrap) as admin:
        await admin.delete_topics([track.world.topic])

        async def gone() -> bool:
            return track.world.topic not in await admin.list_topics()

        await until(gone, "the topic is gone")


async def exist(track: Track, count: int) -> bool:
    """Say whether so many registrations have an outcome."""
    return len(await track.outcomes()) == count


async def lose(world: World, registrations: list[str], row: Any) -> None:  # noqa: ANN401 - a row
    """Take registrations away and set a position back, in one moment, as an asynchronous failover does."""
    async with world.connection.transaction():
        ids = "SELECT customer_id FROM customers WHERE registration_id = ANY($1)"
        for table in ("persons", "users", "decisions"):
            await world.connection.execute(f"DELETE FROM {table} WHERE customer_id IN ({ids})", registrations)
        for table in ("customers", "registrations"):
            await world.connection.execute(f"DELETE FROM {table} WHERE registration_id = ANY($1)", registrations)
        await world.connection.execute(
            "UPDATE kafka_offsets SET next_offset = $2, last_offset = $3, last_digest = $4 WHERE topic = $1",
            row["topic"],
            row["next_offset"],
            row["last_offset"],
            row["last_digest"],
        )
