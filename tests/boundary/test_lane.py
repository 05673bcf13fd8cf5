"""A lane on real servers: where it begins, what stops it, what it notices, and that it never writes what is not its to write."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

import pytest
from aiokafka.partitioner import DefaultPartitioner

from schemas.base import header
from schemas.commands import INGRESS_SOURCE
from schemas.dead_letters import DEAD_LETTERS_TOPIC, DeadLetter
from schemas.events import EVENTS_TOPIC
from tests import commands
from tests.boundary import topics
from tests.boundary.conditions import until
from tests.boundary.databases import Home, copied
from tests.boundary.topics import fast_parser  # noqa: F401 - a fixture
from tests.commands import registration_id
from tests.conftest import World, settings_of
from tests.records import DEVELOPMENT
from worker import app
from worker.catalogues import Rules
from worker.consumer import Consumer
from worker.dev.embedded import Stack
from worker.kafka import Member, OutMessage, Partition, Producer, Record
from worker.lane import Lane
from worker.metrics import Metrics
from worker.parts import Parts
from worker.postgres import connect
from worker.sealing import Sealer

PARTITIONER: Final = DefaultPartitioner()
NUL: Final = "a\0b"
"""A fingerprint that is text to JSON and none to PostgreSQL."""


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
        key = next(k for k in (str(n).encode() for n in range(1000)) if PARTITIONER(k, numbers, numbers) == partition)
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


@dataclass
class Worker:
    """A worker in this process."""

    consumer: Consumer
    task: asyncio.Task[None]

    async def waits_for(self, reason: str | None, partition: int = 0) -> None:
        """Wait until a partition's lane says why it can't go on; None: nothing does."""

        async def so() -> bool:
            reasons = self.consumer.reasons()
            return not reasons if reason is None else f"partition {partition}: {reason}" in reasons

        await until(so, f"the reason {reason}")


@pytest.fixture(scope="module")
async def home(servers: Stack, template: str) -> AsyncIterator[Home]:
    """A database for this module; what a test's topic brings is its own."""
    async with copied(servers, template) as made:
        yield made


@pytest.fixture
async def track(servers: Stack, home: Home, logged: io.StringIO) -> AsyncIterator[Track]:
    """A topic of its own, not yet made."""
    world = World(settings_of(servers, home.url), home.connection, f"commands.{os.urandom(6).hex()}")
    producer = app.producer_of(world.settings, "tests")
    made = Track(world, producer, logged)
    await made.begin()
    yield made
    await producer.stop()


@asynccontextmanager
async def working(track: Track, group: str | None = None, **changed: object) -> AsyncIterator[Worker]:
    """Run a worker for the length of a block; at its end it drains, as after SIGTERM."""
    settings = track.world.settings.model_copy(update={"metadata_max_age_s": 1.0, **changed})
    database, producer = app.database_of(settings, "worker"), app.producer_of(settings, "worker")
    sealer = Sealer(settings.sealing_keys.get_secret_value())
    how = replace(app.membership(settings), topic=track.world.topic, group=group or track.world.topic)
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


# --- from command to event -----------------------------------------------------------------------------------------------


async def test_each_kind_of_record_ends_as_it_should(track: Track) -> None:
    """Accepted, rejected, repeated, unprocessable, refused by the database: each in its way, and none holds up the next."""
    good, refused, unstorable, odd = (registration_id() for _ in range(4))
    headers = (*commands.headers(ce_type=b"other"), ("x", None), ("traceparent", None))
    await track.make()
    await track.send(
        track.command(good),
        track.command(refused, customer={}),
        track.command(good),
        track.bad(),
        commands.message(None, track.world.topic),
        track.command(unstorable, fingerprint=NUL),
        replace(track.command(odd), headers=headers),
        replace(track.command(good), headers=(*commands.headers(), ("traceparent", None))),
    )
    async with working(track) as worker:
        await track.at(8)
        await worker.waits_for(None)

    assert await track.outcomes() == {good: "REGISTRATION_COMPLETE", refused: "REJECTED", unstorable: "FAILED", odd: "FAILED"}
    assert {header(event.headers, "ce_type") for event in await track.events()} == {
        "customer.registered.v1",
        "customer.registration-rejected.v1",
    }
    assert [(code, offset) for code, offset, _ in await track.letters()] == [
        ("json.malformed", 3),
        ("store.refused", 5),
        ("type.unexpected", 6),
        ("value.null", 4),
    ]
    assert not track.said("lane.stopped")


async def test_what_the_database_refuses_is_found_and_the_others_are_stored(track: Track) -> None:
    """The batch is halved until the record is alone; its payload is kept, sealed, and its registration fails."""
    registrations = [registration_id() for _ in range(16)]
    sent = [track.command(each, fingerprint=NUL if at in {3, 12} else "1:a") for at, each in enumerate(registrations)]
    await track.make()
    await track.send(*sent)
    async with working(track):
        await track.at(16)

    failed = {registrations[3], registrations[12]}
    assert {each for each, status in (await track.outcomes()).items() if status == "FAILED"} == failed
    assert await track.letters() == [("store.refused", 3, sent[3].value), ("store.refused", 12, sent[12].value)]
    assert track.said("batch.bisected")
    assert len(await track.events()) == 14


async def test_a_worker_that_is_told_to_stop_leaves_nothing_behind(track: Track) -> None:
    """What it had committed is published and deleted, and the next one goes on from there."""
    await track.make(partitions=2)
    for partition in (0, 1):
        await track.send(*(track.command() for _ in range(100)), partition=partition)
    async with working(track, batch_max_records=20):
        await track.says("batch.stored", 2)
    left = await track.count("outbox", "command_topic")
    first = len(await track.outcomes())
    async with working(track):
        await track.done()

    assert left == 0
    assert first >= 20
    assert len(await track.outcomes()) == 200
    assert len({header(event.headers, "ce_id") for event in await track.events()}) == len(await track.events()) == 200


async def test_a_tenant_that_came_a_moment_ago_loses_no_command(track: Track) -> None:
    """The catalogues are read afresh before a tenant is called unknown."""
    await track.make()
    await track.send(track.command())
    async with working(track):
        await track.at(1)
        await publish(track.world, "tenant-new")
        known, unknown = registration_id(), registration_id()
        await track.send(track.command(known, tenantId="tenant-new"), track.command(unknown, tenantId="nobody"), track.command())
        await track.at(4)

    assert (await track.outcomes())[known] == "REGISTRATION_COMPLETE"
    assert [(code, offset) for code, offset, _ in await track.letters()] == [("tenant.unknown", 2)]


async def publish(world: World, tenant: str, **changed: object) -> None:
    """Write a catalogue of a tenant of that id, as it never should be where `changed` says so."""
    document = json.loads(DEVELOPMENT.to_json())
    document["tenant"] |= {"id": tenant, "slug": tenant, **changed}
    await world.connection.execute("INSERT INTO tenants VALUES ($1, $1, $1) ON CONFLICT DO NOTHING", tenant)
    await world.connection.execute(
        "INSERT INTO catalogues (tenant_id, version, effective_at, applied_by, document) VALUES ($1, 1, now(), 'tests', $2)"
        " ON CONFLICT (tenant_id, version) DO UPDATE SET document = excluded.document",
        tenant,
        json.dumps(document),
    )


# --- where it begins -----------------------------------------------------------------------------------------------------


async def test_nothing_is_done_before_the_partition_is_claimed(track: Track) -> None:
    """A batch of a former owner that is still in flight holds the row: until it ends, no record is touched."""
    await track.make()
    await track.send(track.command(), track.command(), track.command())
    await track.world.connection.execute(
        "INSERT INTO kafka_offsets (topic, partition, next_offset, owner, claimed_at) VALUES ($1, 0, 0, $2, now())",
        track.world.topic,
        uuid4(),
    )
    former = await connect(track.world.settings.database_url.get_secret_value(), "tests")
    try:
        await former.execute("BEGIN")
        await former.execute("UPDATE kafka_offsets SET next_offset = 2 WHERE topic = $1", track.world.topic)
        async with working(track) as worker:
            await worker.waits_for("claiming")
            await until(lambda: blocked(track.world), "the claim waits for the row")

            assert await track.outcomes() == {}
            await former.execute("COMMIT")
            await track.at(3)
    finally:
        await former.close()

    assert len(await track.outcomes()) == 1
    assert [line["next_offset"] for line in track.said("lane.claimed")] == [2]


async def blocked(world: World) -> bool:
    """Say whether a worker's session waits for a lock."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND application_name = 'registration-worker')"
    )
    return bool(await world.connection.fetchval(query))


async def test_what_a_former_owner_left_is_published_first(track: Track) -> None:
    """Committed and not published is published before the partition's next record; a dead letter too, as it was."""
    await track.make()
    await track.send(track.command(), track.bad())
    async with working(track):
        await track.at(2)
    [event], [letter] = await track.events(), await track.letters()
    await leave_in_outbox(track.world, track.world.topic, event)
    await track.send(track.command())
    async with working(track):
        await track.at(3)

    again = await track.events()
    assert [header(each.headers, "ce_id") for each in again].count(header(event.headers, "ce_id")) == 2
    assert {(each.key, each.value) for each in again if each.key == event.key} == {(event.key, event.value)}
    assert await track.letters() == [letter]
    assert track.said("lane.claimed")[-1]["swept"] == 1


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


async def test_markers_of_transactions_are_passed(track: Track) -> None:
    """They are no records: the position passes them, also at the log's end, and a restart finds its place again."""
    committed, last = registration_id(), registration_id()
    await track.make()
    await track.send(track.command())
    await topics.transact(track.bootstrap, track.world.topic, [track.command(), track.command()], commit=False)
    await topics.transact(track.bootstrap, track.world.topic, [track.command(committed)], commit=True)
    async with working(track):
        await track.at(6)
        await topics.transact(track.bootstrap, track.world.topic, [track.command()], commit=False)
        await track.at(8)
    async with working(track):
        await track.send(track.command(last))
        await track.at(9)

    assert len(await track.outcomes()) == 3
    assert {committed, last} <= (await track.outcomes()).keys()
    assert [line["next_offset"] for line in track.said("lane.claimed")] == [0, 8]
    assert not track.said("lane.topic_anew")
    assert sum(line["repeated"] for line in track.said("batch.stored")) == 0


async def test_an_open_transaction_is_waited_for(track: Track) -> None:
    """Nothing behind its first record is read before it ends; then all is, in order."""
    await track.make()
    async with topics.producing(track.bootstrap, transactional_id=f"tests-{os.urandom(6).hex()}") as upstream, working(track):
        inside, behind = track.command(), track.command()
        await track.send(track.command())
        await track.at(1)
        await upstream.begin_transaction()
        await upstream.send_and_wait(track.world.topic, inside.value, headers=list(inside.headers), partition=0)
        await track.send(behind)
        await track.at(1)
        await upstream.commit_transaction()
        await track.at(4)

    assert len(await track.outcomes()) == 3


@pytest.mark.parametrize(
    ("more", "running"), [(4, True), (1, False)], ids=["as long as before, under a worker", "shorter than before, between two"]
)
async def test_a_topic_made_anew_begins_at_its_start(track: Track, more: int, *, running: bool) -> None:
    """Its records are others, whatever their offsets: the inbox removes what was done before, and nothing is passed over."""
    old = [track.command() for _ in range(3)]
    new = [track.command() for _ in range(more)]

    async def anew() -> None:
        await remove(track)
        await track.make()
        await track.send(old[1], *new)

    await track.make()
    await track.send(*old)
    async with working(track) as worker:
        await track.at(3)
        if running:
            await anew()
            await until(lambda: exist(track, len(old) + more), "all are registered")
            await worker.waits_for(None)
    if not running:
        await anew()
        async with working(track):
            await until(lambda: exist(track, len(old) + more), "all are registered")
            await track.at(more + 1)

    assert len(await track.events()) == len({header(event.headers, "ce_id") for event in await track.events()}) == 3 + more
    assert track.said("lane.topic_anew")


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


async def test_lost_input_stops_a_partition_until_an_operator_goes_on(track: Track) -> None:
    """Commands that retention removed unprocessed are not passed over in silence; what is left is done after the order."""
    await track.make(partitions=2)
    await track.send(track.command(), track.command())
    async with working(track):
        await track.at(2)
    await track.send(*(track.command() for _ in range(4)))
    await topics.forget_before(track.bootstrap, Partition(track.world.topic, 0), 4)
    await track.send(track.command(), partition=1)
    async with working(track) as worker:
        await worker.waits_for("input_lost")
        await track.at(1, partition=1)

        assert (await track.row())["next_offset"] == 2
        assert len(await track.outcomes()) == 3
        await track.set("resume_at_offset = 4")
        await track.at(6)
        await worker.waits_for(None)

    assert len(await track.outcomes()) == 5
    assert track.said("lane.input_lost")
    assert (await track.row())["resume_at_offset"] is None


# --- what stops it -------------------------------------------------------------------------------------------------------


async def test_a_bug_stops_its_lane_and_skip_makes_a_dead_letter_of_its_record(track: Track) -> None:
    """A catalogue that no rule foresaw: what came before is stored, other partitions go on, and only that record is skipped."""
    await publish(track.world, "tenant-of-nowhere", time_zone="Nowhere/City")
    before, met, after, beside = (registration_id() for _ in range(4))
    fatal = track.command(met, tenantId="tenant-of-nowhere")
    await track.make(partitions=2)
    await track.send(track.command(before), fatal, track.command(after))
    await track.send(track.command(beside), partition=1)
    async with working(track) as worker:
        await worker.waits_for("stopped_by_bug")
        await track.at(1)
        await track.at(1, partition=1)

        assert await track.outcomes() == dict.fromkeys((before, beside), "REGISTRATION_COMPLETE")
        [line] = track.said("lane.stopped")
        assert (line["offset"], line["partition"], line["error"]) == (1, 0, "ZoneInfoNotFoundError")
        await track.send(track.command(), partition=1)
        await track.at(2, partition=1)
        await track.set("skip_offset = 0")
        await track.set("skip_offset = 1")
        await track.at(3)
        await worker.waits_for(None)

    assert await track.letters() == [("operator.skipped", 1, fatal.value)]
    outcomes = await track.outcomes()
    assert (outcomes[met], outcomes[after]) == ("FAILED", "REGISTRATION_COMPLETE")
    assert (await track.row())["skip_offset"] is None
    assert len(track.said("lane.stopped")) == 1


async def test_a_fixed_deploy_goes_on_where_a_bug_stopped(track: Track) -> None:
    """Nobody has to skip anything: the record is decided again."""
    await publish(track.world, "tenant-of-nowhere", time_zone="Nowhere/City")
    met = registration_id()
    await track.make()
    await track.send(track.command(met, tenantId="tenant-of-nowhere"), track.command())
    async with working(track) as worker:
        await worker.waits_for("stopped_by_bug")
    await publish(track.world, "tenant-of-nowhere", time_zone="Europe/Vilnius")
    async with working(track):
        await track.at(2)

    assert (await track.outcomes())[met] == "REGISTRATION_COMPLETE"
    assert await track.letters() == []


async def test_a_catalogue_of_a_later_release_is_waited_for(track: Track) -> None:
    """In a rolling deploy the old workers neither end nor guess: they say what they wait for, and go on when they can."""
    await publish(track.world, "tenant-later", of_a_later_release=True)
    await track.make()
    await track.send(track.command())
    async with working(track) as worker:
        try:
            await worker.waits_for("catalogue")
            assert await track.outcomes() == {}
        finally:
            await publish(track.world, "tenant-later")
        await track.at(1)
        await worker.waits_for(None)


@pytest.mark.usefixtures("fast_parser")
async def test_a_record_that_the_client_can_not_read_stops_nothing(track: Track) -> None:
    """A header's name that is no UTF-8 makes aiokafka raise for ever: what came before, behind and beside it is done."""
    await track.make(partitions=2)
    await track.send(track.command(), track.command())
    offset = await topics.send_undecodable(track.bootstrap, Partition(track.world.topic, 0), b"no JSON")
    await track.send(track.command())
    await track.send(track.command(), partition=1)
    async with working(track) as worker:
        await track.at(4)
        await track.at(1, partition=1)
        await worker.waits_for(None)
        await track.send(track.command(), track.command(), partition=1)
        await track.at(3, partition=1)

    assert offset == 2
    assert len(await track.outcomes()) == 6
    assert await track.letters() == [("envelope.invalid", 2, b"no JSON")]


async def test_a_run_of_dead_letters_pauses_a_partition(track: Track) -> None:
    """The batch is cut there, the count is in the row, the partition says why; after the pause one small batch is tried."""
    await track.make(partitions=2)
    await track.send(track.command(), *(track.bad() for _ in range(5)), track.command())
    async with working(track, breaker_run=3, breaker_pause_s=1.5) as worker:
        await worker.waits_for("breaker_open")
        await track.at(4)
        assert (await track.row())["dead_letter_run"] == 3
        await track.send(track.command(), partition=1)
        await track.at(1, partition=1)
        assert (await track.row())["next_offset"] == 4
        await track.at(7)
        await worker.waits_for(None)

    assert (await track.row())["dead_letter_run"] == 0
    assert [line["dead_letters_in_a_row"] for line in track.said("breaker.opened")] == [3]
    assert len(track.said("breaker.closed")) == 1
    assert len(await track.letters()) == 5


async def test_an_operator_ends_a_pause_at_once(track: Track) -> None:
    """And a new owner keeps it: neither a restart nor a rebalance is a success."""
    await track.make()
    await track.send(*(track.bad() for _ in range(4)), track.command())
    async with working(track, breaker_run=3, breaker_pause_s=600, breaker_pause_max_s=600) as worker:
        await worker.waits_for("breaker_open")
    async with working(track, breaker_run=3, breaker_pause_s=600, breaker_pause_max_s=600) as worker:
        await worker.waits_for("breaker_open")
        assert (await track.row())["next_offset"] == 3
        await track.set("resume_at_offset = 3")
        await track.at(5)
        await worker.waits_for(None)

    assert (await track.row())["resume_at_offset"] is None


async def test_refusals_of_what_our_ingress_has_validated_pause_a_partition_too(track: Track) -> None:
    """They are outcomes, and a sign that versions disagree; an upstream service's are only outcomes."""
    await track.make(partitions=2)
    ours = [replace(track.command(customer={}), headers=commands.headers(ce_source=INGRESS_SOURCE.encode())) for _ in range(4)]
    await track.send(*ours)
    await track.send(*(track.command(customer={}) for _ in range(4)), partition=1)
    async with working(track, breaker_run=3, breaker_pause_s=600) as worker:
        await worker.waits_for("breaker_open")
        await track.at(3)
        await track.at(4, partition=1)

    assert set((await track.outcomes()).values()) == {"REJECTED"}
    assert await track.letters() == []


# --- what it notices -----------------------------------------------------------------------------------------------------


async def test_an_idle_lane_notices_a_database_that_went_back(track: Track) -> None:
    """A failover lost the newest commits: without any traffic they are done again, with the same ids and the same event."""
    registrations = [registration_id() for _ in range(3)]
    await track.make()
    async with working(track) as worker:
        rows = []
        for number, each in enumerate(registrations):
            await track.send(track.command(each))
            await track.at(number + 1)
            rows.append(await track.row())
        before = {header(event.headers, "ce_id"): event.value for event in await track.events()}
        await lose(track.world, registrations[1:], rows[0])
        await until(lambda: exist(track, 3), "all are registered again", within_s=4)
        await track.at(3)
        await worker.waits_for(None)

    found = await track.events()
    assert {header(event.headers, "ce_id"): event.value for event in found} == before
    assert len(found) == 5
    assert not track.said("lane.topic_anew")


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


async def test_a_message_that_is_back_in_the_outbox_is_published_again(track: Track) -> None:
    """Its delete was lost: the idle lane sees a row that it had removed, and nobody has to send a command first."""
    await track.make()
    await track.send(track.command(), track.command())
    async with working(track):
        await track.at(2)
        event = (await track.events())[0]
        await leave_in_outbox(track.world, track.world.topic, event)
        await track.at(2)

    assert [each.value for each in await track.events()].count(event.value) == 2


async def test_another_owner_in_the_row_is_a_lost_fence(track: Track) -> None:
    """The lane drops everything, waits, proves by a commit that the group still counts it, and claims the partition back."""
    await track.make()
    await track.send(track.command())
    async with working(track) as worker:
        await track.at(1)
        thief = uuid4()
        await track.set("owner = $3", thief)
        await track.says("lane.fenced")
        await track.send(track.command())
        await track.at(2)
        await worker.waits_for(None)
        owner = (await track.row())["owner"]

    assert owner != thief
    assert len(track.said("lane.fenced")) == 1
    assert len(track.said("lane.claimed")) == 2
    assert not track.said("consumer.rejoining")


async def test_who_is_fenced_twice_leaves_the_group_and_joins_anew(track: Track) -> None:
    """Something is wrong with that membership; a new one begins with its own claims."""
    await track.make()
    async with working(track) as worker:
        await track.send(track.command())
        await track.at(1)
        for times in (1, 2):
            await track.says("lane.claimed", times)
            await track.set("owner = $3", uuid4())
            await track.says("lane.fenced", times)
        await track.says("consumer.joined", 2)
        await track.send(track.command())
        await track.at(2)
        await worker.waits_for(None)

    assert len(track.said("consumer.rejoining")) == 1
    assert len(await track.outcomes()) == 2


async def test_who_the_group_no_longer_counts_claims_nothing_back(track: Track) -> None:
    """Two lanes of a member that slept through a rebalance are fenced: one partition is still its own, the other is given up."""
    await track.make(partitions=2)
    settings, topic = track.world.settings, track.world.topic
    database, sealer = app.database_of(settings, "worker"), Sealer(settings.sealing_keys.get_secret_value())
    parts = Parts(settings, database, track.producer, sealer, Rules(database), Metrics())
    how = replace(app.membership(settings), topic=topic, group=topic)
    sleeper, newcomer = Asleep(), Asleep()
    old, new = Member(how, sleeper), Member(how, newcomer)
    tasks: dict[Partition, asyncio.Task[None]] = {}
    try:
        await old.join()
        await until(lambda: sleeper.has(2), "the first has both partitions")
        tasks = {each: asyncio.create_task(Lane(each, old, parts, lambda: None).run()) for each in sleeper.mine}
        await track.says("lane.claimed", 2)
        await new.join()
        await until(lambda: newcomer.has(1), "each has one partition")
        await until(lambda: sleeper.has(1), "each has one partition")
        [kept], [lost] = sleeper.mine, newcomer.mine
        thief = uuid4()
        for each in (kept, lost):
            await track.set("owner = $3", thief, partition=each.partition)
        await asyncio.wait_for(tasks[lost], 10)
        await track.says("lane.claimed", 3)

        assert (await track.row(lost.partition))["owner"] == thief
        assert (await track.row(kept.partition))["owner"] != thief
        assert not tasks[kept].done()
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await new.leave()
        await old.leave()
        await database.close()


class Asleep:
    """Hears what the group says of its partitions, and tells no lane."""

    def __init__(self) -> None:
        self.mine: set[Partition] = set()

    async def on_revoked(self, partitions: set[Partition]) -> None:
        """Lose partitions."""
        self.mine -= partitions

    async def on_assigned(self, partitions: set[Partition]) -> None:
        """Get partitions."""
        self.mine |= partitions

    async def has(self, count: int) -> bool:
        """Say whether that many are mine."""
        return len(self.mine) == count


async def test_a_stale_owner_never_writes(track: Track) -> None:
    """Another took over while this one waited for the row: its batch is gone whole, and done again by who owns it then."""
    await track.make()
    await track.send(track.command())
    thief = await connect(track.world.settings.database_url.get_secret_value(), "tests")
    try:
        async with working(track):
            await track.at(1)
            await thief.execute("BEGIN")
            await thief.execute("UPDATE kafka_offsets SET owner = $2 WHERE topic = $1", track.world.topic, uuid4())
            await track.send(track.command(), track.bad())
            await until(lambda: blocked(track.world), "the batch waits for the row")
            await thief.execute("COMMIT")
            await track.says("lane.fenced")
            assert len(await track.outcomes()) == 1
            assert await track.count("dead_letters", "topic") == 0
            await track.at(3)
    finally:
        await thief.close()

    assert len(await track.outcomes()) == 2
    assert len(await track.letters()) == 1


async def test_two_groups_on_one_topic_double_nothing(track: Track) -> None:
    """The position belongs to the partition, whatever the group is called: they take it from each other, and no more."""
    await track.make(partitions=2)
    async with working(track, "one", batch_max_records=5), working(track, "two", batch_max_records=5):
        await track.says("lane.claimed", 4)
        for partition in (0, 1):
            await track.send(*(track.command() for _ in range(60)), partition=partition)
        await until(lambda: exist(track, 120), "all are registered", within_s=30)
    async with working(track):
        await track.done()

    events = await track.events()
    assert track.said("lane.fenced")
    assert len({header(event.headers, "ce_id") for event in events}) == 120
    assert await track.customers() == 120


async def test_sessions_that_die_at_any_moment_double_nothing(track: Track) -> None:
    """Under load, again and again: whatever a COMMIT's answer was, each command has one outcome and one event."""
    await track.make(partitions=2)
    for partition in (0, 1):
        await track.send(*(track.command() for _ in range(200)), partition=partition)
    async with working(track, batch_max_records=20) as worker:
        for times in range(1, 5):
            await track.says("batch.stored", 2 * times)
            await track.world.connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'registration-worker' AND datname = current_database()"
            )
        await until(lambda: exist(track, 400), "all are registered", within_s=30)
        await track.done()
        await worker.waits_for(None)
        assert not worker.task.done()

    events = await track.events()
    assert len({header(event.headers, "ce_id") for event in events}) == 400
    assert await track.customers() == 400


async def test_a_box_whose_key_is_gone_is_waited_for(track: Track) -> None:
    """A dead letter that was sealed with a key that is no longer there keeps its partition, and says which setting it needs."""
    await track.make()
    await track.send(track.bad())
    async with working(track):
        await track.at(1)
    await track.world.connection.execute(
        "INSERT INTO outbox (command_topic, command_partition, command_offset, kind, value, headers, sealed)"
        " VALUES ($1, 0, 0, 'dead-letter', $2, '[]', true)",
        track.world.topic,
        b"gone\0" + bytes(40),
    )
    async with working(track) as worker:
        await worker.waits_for("sealing")
        [line] = track.said("lane.waiting")
        assert "REGISTRATION_SEALING_KEYS" in line["reason"]
        await track.world.connection.execute("DELETE FROM outbox WHERE command_topic = $1", track.world.topic)
        await worker.waits_for(None)
