"""An operator's commands on real servers: verify finds each breach and nothing else; status, tail, orders."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from pydantic import SecretStr

from schemas.commands import COMMANDS_TOPIC, INGRESS_SOURCE
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC, CustomerRegistered
from tests import commands
from tests.boundary.shown import shown
from tests.conftest import settings_of
from tests.servers import started
from worker import app
from worker.config import Settings
from worker.dev.stack import CATALOGUE
from worker.errors import UnavailableError
from worker.kafka import OutMessage, Partition, Reader, Record
from worker.operate import catalogue, partitions, status, tail, verify_report
from worker.operate.verify import verify
from worker.operate.verify_report import RULES, Report
from worker.postgres import Connection, connect

DEADLINE_S: Final = 60.0
PEOPLE: Final = 16
PARTITIONS: Final = 5
SPARE: Final = 4
"""A partition in which none of the people is, for tests that break one."""
TENANT_ID: Final = "7c6f0f52-9d4e-4b1a-8f0e-2a5d9b3c1e47"


@dataclass(slots=True)
class Stage:
    """Servers of this file alone, for `verify` looks at whole topics; what the worker made of the commands sent."""

    settings: Settings
    connection: Connection
    producer: AIOKafkaProducer
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, *messages: OutMessage, partition: int | None = None) -> None:
        """Send messages, in order, where their keys lead or to one partition."""
        sent = [await self.producer.send(m.topic, m.value, m.key, partition=partition, headers=list(m.headers)) for m in messages]
        await asyncio.wait_for(asyncio.gather(*sent), DEADLINE_S)

    def person(self, number: int) -> str:
        """Return the registration id of one of the people."""
        return str(self.sent[number]["registrationId"])

    async def place(self, partition: int) -> tuple[int, int]:
        """Return the position of a partition, and the end of its log."""
        state = next(s for s in await partitions.partitions(self.settings) if s.partition == partition)
        assert state.next_offset is not None
        return state.next_offset, state.log_end

    async def rows(self, text: str, *parameters: object) -> list[Any]:
        """Run a statement of the test's own."""
        return list(await self.connection.fetch(text, *parameters))

    async def read(self, topic: str) -> list[Record]:
        """Return all records of a topic."""
        async with Reader(self.settings.kafka_bootstrap, client_id="tests") as reader:
            bounds = await reader.bounds(topic)
            return [
                record
                for number, (start, end) in bounds.items()
                async for records in reader.read(Partition(topic, number), start, end)
                for record in records
            ]

    async def done(self) -> None:
        """Wait until all commands on the topic are done and all messages published."""
        deadline = time.monotonic() + DEADLINE_S
        async with Reader(self.settings.kafka_bootstrap, client_id="tests") as reader:
            while True:
                ends = {number: end for number, (_, end) in (await reader.bounds(COMMANDS_TOPIC)).items()}
                rows = await self.rows("SELECT partition, next_offset FROM kafka_offsets")
                left = await self.rows("SELECT 1 FROM outbox")
                if not left and {row["partition"]: row["next_offset"] for row in rows} == ends:
                    return
                assert time.monotonic() < deadline, f"not done in {DEADLINE_S:g} s"
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Run a worker for the length of a block."""
        stop = asyncio.Event()
        running = asyncio.create_task(app.work(self.settings, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(running, DEADLINE_S)


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    """Every kind of outcome, made by the worker; it has stopped since."""
    async with started() as servers:
        settings = settings_of(servers, servers.postgres.url, topic_partitions=PARTITIONS)
        await app.prepare(settings)
        await catalogue.apply(servers.postgres.url, CATALOGUE, by="tests", yes=True)
        connection = await connect(servers.postgres.url, "tests")
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap)
        await producer.start()
        stage = Stage(settings, connection, producer)
        try:
            async with stage.worker():
                for number, message in enumerate(_commands(stage)):
                    await stage.send(message, partition=number % SPARE if number < PEOPLE else 0)
                await stage.done()
            yield stage
        finally:
            await producer.stop()
            await connection.close()


def _commands(stage: Stage) -> list[OutMessage]:
    stage.sent = [commands.data(commands.email_of(number)) for number in range(PEOPLE)]
    first = stage.sent[0]
    return [
        *(commands.message(data) for data in stage.sent),
        commands.message(first),  # a repeat
        commands.message({**first, "registrationId": commands.registration_id()}),  # the email is taken
        commands.message({**first, "registrationId": commands.registration_id(), "customer": {}}),  # rejected
        commands.message(b"not a command"),
        commands.message({**first, "registrationId": commands.registration_id(), "password": "Hunter2-Hunter2"}),
        commands.message(None),
        commands.message(b"not one either", dl_topic=b"a header of its sender"),
    ]


@pytest.fixture(scope="module")
async def healthy(stage: Stage) -> Report:
    """What verify says before anything is damaged."""
    return await verify(stage.settings)


async def test_verify_finds_nothing_where_the_worker_did_its_work(healthy: Report) -> None:
    """Every command is counted once, by what came of it."""
    counts = healthy.counts

    assert healthy.findings == []
    assert healthy.ok
    assert (counts.commands, counts.accepted, counts.rejected, counts.repeated) == (PEOPLE + 7, PEOPLE, 2, 1)
    assert (counts.dead, counts.letters, counts.passwords_refused) == (4, 4, 1)
    assert (counts.events, counts.ce_ids) == (PEOPLE + 2, PEOPLE + 2)
    assert (counts.pending, counts.outbox, counts.decided_again) == (0, 0, PEOPLE)


async def test_verify_without_keys_says_what_it_could_not_open(stage: Stage, healthy: Report) -> None:
    """What is sealed can't be compared without its key; all else is."""
    report = await verify(stage.settings.model_copy(update={"sealing_keys": SecretStr("")}))

    assert report.ok
    assert [note for note in report.notes if "REGISTRATION_SEALING_KEYS" in note]
    assert not [note for note in healthy.notes if "REGISTRATION_SEALING_KEYS" in note]


async def test_verify_names_the_server_that_is_away(stage: Stage) -> None:
    """No answer is no verdict."""
    nowhere = "postgresql://postgres@127.0.0.1:9/registration"
    with pytest.raises(UnavailableError) as kafka:
        await verify(stage.settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:9"}))
    with pytest.raises(UnavailableError) as database:
        await verify(stage.settings.model_copy(update={"database_url": SecretStr(nowhere)}))

    assert (kafka.value.service, database.value.service) == ("kafka", "database")


# --- status and tail -------------------------------------------------------------------------------------------------


async def test_status_says_what_became_of_a_registration(stage: Stage) -> None:
    """An accepted one has its ids, a refused one its codes; neither has a word about the person."""
    accepted = await status.status(stage.settings, stage.person(0))
    refused = await stage.rows("SELECT registration_id FROM registrations WHERE code = 'validation-failed'")
    rejected = await status.status(stage.settings, refused[0]["registration_id"], "development")
    words = shown(status.render(accepted[0])) + accepted[0].to_json() + rejected[0].to_json()

    assert [(each.status, each.event, each.catalogue_version) for each in accepted] == [("REGISTRATION_COMPLETE", "published", 1)]
    assert (accepted[0].customer_id or "").startswith("cust_")
    assert [(each.status, each.code, each.customer_id) for each in rejected] == [("REJECTED", "validation-failed", None)]
    assert rejected[0].fault_codes
    assert "@" not in words
    assert "Marcus" not in words


async def test_status_of_an_unknown_registration_is_nothing(stage: Stage) -> None:
    """Another id, or another tenant's eyes."""
    nobody = await status.status(stage.settings, commands.registration_id())
    elsewhere = await status.status(stage.settings, stage.person(0), "another-tenant")

    assert (nobody, elsewhere) == ((), ())


async def test_tail_from_the_start_shows_every_event_that_is_kept(stage: Stage) -> None:
    """One line each, and it ends when told to."""
    kept = len(await stage.read(EVENTS_TOPIC))
    stop, seen = asyncio.Event(), []
    async with asyncio.timeout(DEADLINE_S):
        async for each in tail.tail(stage.settings, stop, from_start=True):
            seen.append(each)
            if len(seen) == kept:
                stop.set()
    registered = next(each for each in seen if isinstance(each.event, CustomerRegistered))
    assert registered.event is not None
    line = shown(tail.line(registered))

    assert len({each.ce_id for each in seen}) == kept
    assert line.count("\n") == 1
    for part in ("registered", registered.event.registration_id, registered.event.tenant_id, "MEDIUM 55", "PROOF_OF_ADDRESS"):
        assert part in line
    assert json.loads(registered.to_json())["data"]["registrationId"] == registered.event.registration_id


async def test_tail_begins_with_the_next_event(stage: Stage) -> None:
    """What was there before is left out where nobody asked for it."""
    stop, first = asyncio.Event(), asyncio.Event()
    seen: list[tail.Seen] = []

    async def follow() -> None:
        async for each in tail.tail(stage.settings, stop):
            seen.append(each)
            first.set()

    before = {record.offset for record in await stage.read(EVENTS_TOPIC)}
    following = asyncio.create_task(follow())
    async with asyncio.timeout(DEADLINE_S), stage.worker():
        while not first.is_set():
            await stage.send(commands.message(commands.data(commands.email_of("tail"))))
            await stage.done()
    stop.set()
    await following
    old = {data["registrationId"] for data in stage.sent}

    assert before
    assert [each for each in seen if each.event is None or each.event.registration_id in old] == []


# --- partitions ------------------------------------------------------------------------------------------------------


async def test_partitions_shows_where_each_stands(stage: Stage) -> None:
    """Position, log and lag agree; an order that waits is shown."""
    await stage.send(replace(commands.message(b"waits"), key=b"p"))
    states = await partitions.partitions(stage.settings)
    waiting = next(state for state in states if state.lag)
    ordered = await partitions.resume(stage.settings, waiting.partition)
    after = {state.partition: state for state in await partitions.partitions(stage.settings)}
    table = shown(partitions.render(list(after.values())))

    assert [state.partition for state in states] == list(range(PARTITIONS))
    assert [state.lag for state in states if state is not waiting] == [0] * (PARTITIONS - 1)
    assert (waiting.lag, waiting.next_offset) == (1, waiting.log_end - 1)
    assert [each.done for each in ordered] == [True]
    assert after[waiting.partition].resume_at_offset == waiting.next_offset
    assert f"resume at {waiting.next_offset}" in table
    assert [len(state.owner or "") for state in states] == [8] * PARTITIONS
    async with stage.worker():
        await stage.done()


async def test_only_the_record_that_is_next_can_be_skipped(stage: Stage) -> None:
    """Also where an aborted transaction lies between the position and it; the record then becomes a dead letter."""
    partition = SPARE
    position, end = await stage.place(partition)
    assert position == end
    await send_aborted(stage.settings, partition)
    nothing = await partitions.skip(stage.settings, partition, position)
    await stage.send(*map(commands.message, (b"stops the lane", b"comes after")), partition=partition)
    _, end = await stage.place(partition)
    stopped = end - 2
    refused = [await partitions.skip(stage.settings, partition, offset) for offset in (position, stopped + 1)]
    ordered = await partitions.skip(stage.settings, partition, stopped)
    async with stage.worker():
        await stage.done()
    codes = await stage.rows('SELECT code FROM dead_letters WHERE partition = $1 AND "offset" = $2', partition, stopped)
    unknown = await partitions.skip(stage.settings, 99, 0)

    assert stopped > position
    assert [each.done for each in (nothing, *refused, ordered, unknown)] == [False, False, False, True, False]
    assert [row["code"] for row in codes] == ["operator.skipped"]
    assert (await verify(stage.settings)).findings == []


async def test_lost_commands_are_given_up_only_by_name(stage: Stage) -> None:
    """Retention took commands that were not done: `resume` says how many, and goes on only with `--from-log-start`."""
    partition = SPARE
    position, _ = await stage.place(partition)
    await stage.send(*map(commands.message, (b"lost", b"lost too", b"left")), partition=partition)
    await delete_records(stage.settings, COMMANDS_TOPIC, partition, position + 2)
    before = await verify(stage.settings)
    refused = await partitions.resume(stage.settings, partition)
    skipped = await partitions.skip(stage.settings, partition, position + 2)
    ordered = await partitions.resume(stage.settings, partition, from_log_start=True)
    async with stage.worker():
        await stage.done()
    after = await verify(stage.settings)

    assert [(finding.rule, finding.id) for finding in before.findings] == [("position.before_log", at(partition, position))]
    assert before.findings[0].text.startswith("2 offsets")
    assert [each.done for each in (*refused, skipped, *ordered)] == [False, False, True]
    assert refused[0].text.startswith(f"2 offsets from {position} are gone")
    assert "giving up 2 offsets" in ordered[0].text
    assert after.findings == []


async def test_verify_beside_a_working_worker_calls_nothing_in_flight_damage(stage: Stage) -> None:
    """Commands come, rows commit, events are published and deleted from the outbox while it looks."""

    async def stream() -> None:
        for _ in range(40):
            await stage.send(*(commands.message(commands.data(commands.email_of("live"))) for _ in range(10)))

    reports = []
    async with stage.worker():
        streaming = asyncio.create_task(stream())
        while not streaming.done():
            reports.append(await verify(stage.settings))
        await streaming
        await stage.done()
    last = await verify(stage.settings)

    assert [report.findings for report in (*reports, last)] == [[]] * (len(reports) + 1)
    assert reports[0].counts.commands < last.counts.commands
    assert last.counts.pending == 0


# --- damage ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Damage:
    """Plants breaches, and remembers what verify must say of each."""

    stage: Stage
    expected: set[tuple[str, str]] = field(default_factory=set)

    async def event_of(self, registration_id: str) -> OutMessage:
        """Return the event of a registration, to be sent again with a change."""
        record = next(r for r in await self.stage.read(EVENTS_TOPIC) if registration_id.encode() in (r.value or b""))
        return OutMessage(EVENTS_TOPIC, record.key, record.value, record.headers)

    async def command_of(self, registration_id: str) -> Any:  # noqa: ANN401 - a row
        """Return the coordinates of a registration's command."""
        query = "SELECT command_partition AS p, command_offset AS o, decided_at FROM registrations WHERE registration_id = $1"
        return (await self.stage.rows(query, registration_id))[0]

    def expect(self, rule: str, *places: str) -> None:
        """Note what must be found."""
        self.expected |= {(rule, place) for place in places}


def at(partition: int, offset: int, topic: str = COMMANDS_TOPIC) -> str:
    """Return coordinates as reports have them."""
    return f"{topic}/{partition}/{offset}"


def changed(event: OutMessage, **members: object) -> OutMessage:
    """Return an event with other members in its value."""
    return replace(event, value=json.dumps({**json.loads(event.value or b"{}"), **members}).encode())


def with_header(message: OutMessage, name: str, value: bytes) -> OutMessage:
    """Return a message with another value of one header."""
    return replace(message, headers=[(key, value if key == name else old) for key, old in message.headers])


def ce_id_of(event: OutMessage) -> str:
    """Return an event's id."""
    return (dict(event.headers)["ce_id"] or b"").decode()


async def lose_a_registration(damage: Damage) -> None:
    """The row of a committed outcome is gone, its event is not."""
    mine = damage.stage.person(0)
    command = await damage.command_of(mine)
    for table in ("decisions", "users", "persons"):
        await damage.stage.rows(
            f"DELETE FROM {table} WHERE customer_id = (SELECT customer_id FROM registrations WHERE registration_id = $1)", mine
        )
    await damage.stage.rows("DELETE FROM customers WHERE registration_id = $1", mine)
    await damage.stage.rows("DELETE FROM registrations WHERE registration_id = $1", mine)
    repeats = [r for r in await damage.stage.read(COMMANDS_TOPIC) if mine.encode() in (r.value or b"")]
    damage.expect("command.without_outcome", *(at(r.partition, r.offset) for r in repeats))
    damage.expect("event.ghost", mine)
    assert (command["p"], command["o"]) in {(r.partition, r.offset) for r in repeats}


async def make_an_accepted_command_a_dead_letter_too(damage: Damage) -> None:
    """It has two outcomes then, and a letter that was never published."""
    command = await damage.command_of(damage.stage.person(1))
    await damage.stage.rows(
        'INSERT INTO dead_letters (topic, partition, "offset", code, recorded_at) VALUES ($1, $2, $3, $4, $5)',
        COMMANDS_TOPIC, command["p"], command["o"], "planted", command["decided_at"],
    )  # fmt: skip
    damage.expect("command.two_outcomes", at(command["p"], command["o"]))
    damage.expect("letter.missing", at(command["p"], command["o"]))
    damage.expect("letter.differs", at(command["p"], command["o"]))


async def lose_a_decision(damage: Damage) -> None:
    """An accepted registration lacks a row, which its event then contradicts."""
    mine = damage.stage.person(2)
    await damage.stage.rows(
        "DELETE FROM decisions WHERE customer_id = (SELECT customer_id FROM registrations WHERE registration_id = $1)", mine
    )
    damage.expect("registration.incomplete", mine)
    damage.expect("event.contradicts", mine)


async def change_an_id(damage: Damage) -> None:
    """An id is not the one that derives from tenant and registration."""
    mine = damage.stage.person(3)
    await damage.stage.rows(
        "UPDATE persons SET person_id = 'pers_01k8xq3c9ne6ks4v8w3mhy2gqz'"
        " WHERE customer_id = (SELECT customer_id FROM registrations WHERE registration_id = $1)", mine,
    )  # fmt: skip
    damage.expect("registration.wrong_id", mine)
    damage.expect("event.contradicts", mine)


async def forget_an_event(damage: Damage) -> None:
    """An outcome whose event nobody ever sent; its customer is none, though there is a row of one."""
    mine = commands.registration_id()
    command = await damage.command_of(damage.stage.person(4))
    await damage.stage.rows(
        "INSERT INTO registrations (registration_id, tenant_id, status, code, catalogue_version, command_topic, command_partition,"
        " command_offset, decided_at) VALUES ($1, $2, 'REJECTED', 'validation-failed', 1, $3, $4, $5, $6)",
        mine, TENANT_ID, COMMANDS_TOPIC, command["p"], command["o"], command["decided_at"],
    )  # fmt: skip
    await damage.stage.rows(
        "INSERT INTO customers (customer_id, tenant_id, registration_id, email, email_normalized, status, category_id,"
        " categorization, registered_at) VALUES ('cust_planted', $1, $2, 'x@example.com', 'x@example.com', 'ACTIVE', 'c', '{}',"
        " now())",
        TENANT_ID, mine,
    )  # fmt: skip
    damage.expect("registration.without_event", mine)
    damage.expect("customer.alone", "cust_planted")


async def send_a_second_ce_id(damage: Damage) -> None:
    """The same fact under another id: a consumer would act twice."""
    mine = damage.stage.person(5)
    event = await damage.event_of(mine)
    await damage.stage.send(with_header(event, "ce_id", b"evt_01k8xq3c9ne6ks4v8w3mhy2gqz"))
    damage.expect("registration.two_ce_ids", mine)
    damage.expect("registration.wrong_id", mine)


async def fail_without_a_dead_letter(damage: Damage) -> None:
    """FAILED says that there is a dead letter."""
    mine = commands.registration_id()
    await damage.stage.rows(
        "INSERT INTO registrations (registration_id, tenant_id, status, code, command_topic, command_partition, command_offset,"
        " decided_at) VALUES ($1, $2, 'FAILED', 'store.refused', $3, 0, 777777, now())",
        mine, TENANT_ID, COMMANDS_TOPIC,
    )  # fmt: skip
    damage.expect("registration.failed_alone", mine)


async def double_an_email(damage: Damage) -> None:
    """Two customers with one email, as after a restore without its index."""
    await damage.stage.rows("ALTER TABLE customers DROP CONSTRAINT customers_email_unique")
    query = "SELECT customer_id, email_normalized FROM customers WHERE registration_id = $1"
    first, second = [(await damage.stage.rows(query, damage.stage.person(number)))[0] for number in (6, 7)]
    await damage.stage.rows(
        "UPDATE customers SET email_normalized = $2 WHERE customer_id = $1", second["customer_id"], first["email_normalized"]
    )
    damage.expect("customer.email_doubled", min(first["customer_id"], second["customer_id"]))


async def contradict_an_event(damage: Damage) -> None:
    """The rows say another risk than was published."""
    mine = damage.stage.person(8)
    await damage.stage.rows(
        "UPDATE decisions SET risk_score = 99"
        " WHERE customer_id = (SELECT customer_id FROM registrations WHERE registration_id = $1)", mine,
    )  # fmt: skip
    damage.expect("event.contradicts", mine)


async def tell_a_name_and_an_email(damage: Damage) -> None:
    """Personal data under a member that the schema has: only the rows show it."""
    mine = damage.stage.person(9)
    event = await damage.event_of(mine)
    told = ("Marcus", f"for {damage.stage.sent[9]['customer']['email']}")
    await damage.stage.send(changed(event, consents=[{"code": "X", "documentVersion": value} for value in told]))
    damage.expect("personal.data", mine)
    damage.expect("event.differs", ce_id_of(event))


async def add_a_password_to_an_event(damage: Damage) -> None:
    """A member that the schema does not have, and the worst of them."""
    mine = damage.stage.person(10)
    event = await damage.event_of(mine)
    await damage.stage.send(changed(event, password="Hunter2-Hunter2"))  # noqa: S106 - planted
    damage.expect("event.shape", mine)
    damage.expect("password.plaintext", mine)
    damage.expect("event.differs", ce_id_of(event))


async def change_a_key(damage: Damage) -> None:
    """The key is the customer's id, so that one customer's events stay in order."""
    mine = damage.stage.person(11)
    event = await damage.event_of(mine)
    await damage.stage.send(replace(event, key=b"another"))
    damage.expect("event.headers", mine)
    damage.expect("event.differs", ce_id_of(event))


async def damage_dead_letters(damage: Damage) -> None:
    """One with other bytes, one of nobody, one without its headers, one whose sealed copy is another's, one without bytes."""
    letters = await damage.stage.read(DEAD_LETTERS_TOPIC)
    by_value = {letter.value: letter for letter in letters}
    first, last = by_value[b"not a command"], by_value[b"not one either"]
    place = {name: int(value or b"0") for name, value in first.headers if name in {"dl_partition", "dl_offset"}}
    await damage.stage.send(
        OutMessage(DEAD_LETTERS_TOPIC, first.key, b"other bytes", first.headers),
        with_header(OutMessage(DEAD_LETTERS_TOPIC, None, b"x", first.headers), "dl_offset", b"888888"),
        OutMessage(DEAD_LETTERS_TOPIC, None, b"x", []),
    )
    damage.expect("letter.differs", at(place["dl_partition"], place["dl_offset"]))
    damage.expect("letter.ghost", at(place["dl_partition"], 888888))
    bare = [letter for letter in await damage.stage.read(DEAD_LETTERS_TOPIC) if not letter.headers]
    damage.expect("letter.headers", at(bare[0].partition, bare[0].offset, DEAD_LETTERS_TOPIC))
    place = {name: int(value or b"0") for name, value in last.headers if name in {"dl_partition", "dl_offset"}}
    await damage.stage.rows(
        'UPDATE dead_letters AS d SET sealed = o.sealed FROM dead_letters AS o WHERE d.partition = $1 AND d."offset" = $2'
        " AND o.sealed IS NOT NULL AND o.code = 'value.null'",
        place["dl_partition"], place["dl_offset"],
    )  # fmt: skip
    damage.expect("letter.differs", at(place["dl_partition"], place["dl_offset"]))
    gone = await damage.stage.rows(
        "UPDATE dead_letters SET sealed = NULL WHERE code = 'value.null' RETURNING partition, \"offset\""
    )
    damage.expect("letter.differs", at(*gone[0]))


async def pass_an_unfinished_command(damage: Damage) -> None:
    """The position went past a command of our own ingress, and that carries a password."""
    await damage.stage.send(
        commands.message({**commands.data("late@example.com"), "password": "Hunter2-Hunter2"}, ce_source=INGRESS_SOURCE.encode())
    )
    record = next(r for r in await damage.stage.read(COMMANDS_TOPIC) if b"late@example.com" in (r.value or b""))
    await damage.stage.rows("UPDATE kafka_offsets SET next_offset = $2 WHERE partition = $1", record.partition, record.offset + 1)
    damage.expect("command.without_outcome", at(record.partition, record.offset))
    damage.expect("password.plaintext", at(record.partition, record.offset))


async def leave_a_message(damage: Damage) -> None:
    """A message stays in the outbox."""
    await damage.stage.rows(
        "INSERT INTO outbox (command_topic, command_partition, command_offset, kind, headers, sealed)"
        " VALUES ($1, 0, 999999, 'event', '[]', false)",
        COMMANDS_TOPIC,
    )
    damage.expect("outbox.left", at(0, 999999))


async def lose_positions(damage: Damage) -> None:
    """A position of a partition that the topic does not have: it was made anew with fewer."""
    await damage.stage.rows(
        "INSERT INTO kafka_offsets (topic, partition, next_offset, owner, claimed_at) VALUES ($1, 99, 5, gen_random_uuid(), now())",
        COMMANDS_TOPIC,
    )
    damage.expect("position.beyond_log", at(99, 5))


async def name_another_version(damage: Damage) -> None:
    """A refusal that names rules which did not hold when its record came."""
    rows = await damage.stage.rows(
        "UPDATE registrations SET catalogue_version = 7 WHERE code = 'email-taken' RETURNING registration_id"
    )
    damage.expect("outcome.wrong_version", *(row["registration_id"] for row in rows))


async def change_a_decision(damage: Damage) -> None:
    """One byte of what was decided is another."""
    rows = await damage.stage.rows(
        "UPDATE decisions AS d SET decision = replace(d.decision::text, '\"automated\":true', '\"automated\":false')::json"
        " FROM registrations AS r WHERE r.customer_id = d.customer_id AND r.registration_id = $1 RETURNING d.customer_id",
        damage.stage.person(12),
    )
    damage.expect("decision.differs", *(row["customer_id"] for row in rows))


PLANTS: Final = (
    lose_a_registration,
    make_an_accepted_command_a_dead_letter_too,
    lose_a_decision,
    change_an_id,
    forget_an_event,
    send_a_second_ce_id,
    fail_without_a_dead_letter,
    double_an_email,
    contradict_an_event,
    tell_a_name_and_an_email,
    add_a_password_to_an_event,
    change_a_key,
    damage_dead_letters,
    pass_an_unfinished_command,
    leave_a_message,
    lose_positions,
    name_another_version,
    change_a_decision,
)


@pytest.fixture(scope="module")
async def damage(stage: Stage, healthy: Report) -> Damage:
    """Every breach, planted at once: the last thing that this stage is good for."""
    assert healthy.ok
    damage = Damage(stage)
    for plant in PLANTS:
        await plant(damage)
    return damage


async def test_verify_finds_every_breach_and_nothing_else(damage: Damage) -> None:
    """By rule, with the id or the coordinates of what is affected."""
    report = await verify(damage.stage.settings, settle_s=0)
    found = {(finding.rule, finding.id) for finding in report.findings}

    assert found == damage.expected
    assert set(report.totals) == set(RULES) - {"position.before_log"}
    assert not report.ok


async def test_a_report_tells_no_personal_data_and_reads_as_json(damage: Damage) -> None:
    """It goes into tickets and chats."""
    report = await verify(damage.stage.settings, settle_s=0)
    words = shown(verify_report.render(report)) + report.to_json()
    read = json.loads(report.to_json())

    assert "@" not in words
    assert "Marcus" not in words
    assert "Hunter2" not in words
    assert read["ok"] is False
    assert read["totals"]["event.ghost"] == 1
    assert {finding["rule"] for finding in read["findings"]} == set(report.totals)


async def test_tail_goes_on_after_a_record_that_is_no_event(damage: Damage) -> None:
    """It says so, and shows the next."""
    await damage.stage.send(OutMessage(EVENTS_TOPIC, None, b"no event", [("ce_type", b"another.type.v1")]))
    kept = len(await damage.stage.read(EVENTS_TOPIC))
    stop, seen = asyncio.Event(), []
    async with asyncio.timeout(DEADLINE_S):
        async for each in tail.tail(damage.stage.settings, stop, from_start=True):
            seen.append(each)
            if len(seen) == kept:
                stop.set()
    unreadable = [each for each in seen if each.event is None]

    assert [each.ce_type for each in unreadable] == ["another.type.v1"]
    assert "unreadable" in shown(tail.line(unreadable[0]))


async def test_what_retention_has_removed_is_not_missed(damage: Damage) -> None:
    """Where messages were removed by age, an outcome that is older than what is left has none; all else is still found."""
    for topic in (EVENTS_TOPIC, DEAD_LETTERS_TOPIC):
        oldest = min(await damage.stage.read(topic), key=lambda record: record.timestamp)
        await delete_records(damage.stage.settings, topic, oldest.partition, oldest.offset + 1)
    report = await verify(damage.stage.settings, settle_s=0)

    assert {finding.rule for finding in report.findings} >= {"customer.alone", "command.without_outcome", "letter.ghost"}
    assert not {"registration.without_event", "letter.missing"} & set(report.totals)


# --- what the tests above need ---------------------------------------------------------------------------------------


async def send_aborted(settings: Settings, partition: int) -> None:
    """Send a record in a transaction that is aborted: it and its marker take offsets, and nobody reads them."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, transactional_id="tests")
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(COMMANDS_TOPIC, b"never", partition=partition)
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def delete_records(settings: Settings, topic: str, partition: int, before: int) -> None:
    """Remove a partition's oldest records, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=before)})
    finally:
        await admin.close()
