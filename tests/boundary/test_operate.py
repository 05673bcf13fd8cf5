"""An operator's commands on real servers: verify finds each breach and nothing else; status, tail, orders, catalogues."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from rich.console import Console, RenderableType

from schemas.commands import COMMANDS_TOPIC, INGRESS_SOURCE
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC, CustomerRegistered
from tests import commands
from tests.conftest import settings_of
from worker import app
from worker.catalogues import READ_LOCK
from worker.config import Settings
from worker.core.catalogue import Catalogue
from worker.dev.embedded import embedded_stack
from worker.dev.stack import CATALOGUE
from worker.errors import UnavailableError
from worker.kafka import OutMessage, Partition, Producer, Reader, Record
from worker.operate import catalogue, partitions, status, tail, verify_report
from worker.operate.catalogue_file import CatalogueFault, validate
from worker.operate.verify import verify
from worker.operate.verify_report import RULES, Report
from worker.postgres import Connection, connect

DEADLINE_S: Final = 60.0
PEOPLE: Final = 16
TENANT_ID: Final = "7c6f0f52-9d4e-4b1a-8f0e-2a5d9b3c1e47"


@dataclass(slots=True)
class Stage:
    """Servers of this file alone, for `verify` looks at whole topics; what the worker made of the commands sent."""

    settings: Settings
    connection: Connection
    producer: Producer
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, *messages: OutMessage) -> None:
        """Send messages, in order."""
        await self.producer.send_all(messages)

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
    async with embedded_stack(None) as servers:
        settings = settings_of(servers, servers.postgres.url)
        await app.prepare(settings)
        await catalogue.apply(servers.postgres.url, CATALOGUE, by="tests", yes=True)
        connection = await connect(servers.postgres.url, "tests")
        producer = Producer(settings.kafka_bootstrap, timeout_s=10, client_id="tests")
        stage = Stage(settings, connection, producer)
        try:
            async with stage.worker():
                await stage.send(*_commands(stage))
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
    assert (counts.pending, counts.outbox) == (0, 0)


# --- damage ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Damage:
    """Plants breaches, and remembers what verify must say of each."""

    stage: Stage
    expected: set[tuple[str, str]] = field(default_factory=set)

    def person(self, number: int) -> str:
        """Return the registration id of one of the people, each damaged in one way."""
        return str(self.stage.sent[number]["registrationId"])

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


async def lose_a_registration(damage: Damage) -> None:
    """The row of a committed outcome is gone, its event is not."""
    mine = damage.person(0)
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
    command = await damage.command_of(damage.person(1))
    await damage.stage.rows(
        'INSERT INTO dead_letters (topic, partition, "offset", code, recorded_at) VALUES ($1, $2, $3, $4, $5)',
        COMMANDS_TOPIC, command["p"], command["o"], "planted", command["decided_at"],
    )  # fmt: skip
    damage.expect("command.two_outcomes", at(command["p"], command["o"]))
    damage.expect("letter.missing", at(command["p"], command["o"]))
    damage.expect("letter.differs", at(command["p"], command["o"]))


async def lose_a_decision(damage: Damage) -> None:
    """An accepted registration lacks a row, which its event then contradicts."""
    mine = damage.person(2)
    await damage.stage.rows(
        "DELETE FROM decisions WHERE customer_id = (SELECT customer_id FROM registrations WHERE registration_id = $1)", mine
    )
    damage.expect("registration.incomplete", mine)
    damage.expect("event.contradicts", mine)


async def change_an_id(damage: Damage) -> None:
    """An id is not the one that derives from tenant and registration."""
    mine = damage.person(3)
    await damage.stage.rows(
        "UPDATE persons SET person_id = 'pers_01k8xq3c9ne6ks4v8w3mhy2gqz'"
        " WHERE customer_id = (SELECT customer_id FROM registrations WHERE registration_id = $1)", mine,
    )  # fmt: skip
    damage.expect("registration.wrong_id", mine)
    damage.expect("event.contradicts", mine)


async def forget_an_event(damage: Damage) -> None:
    """An outcome whose event nobody ever sent; its customer is none, though there is a row of one."""
    mine = commands.registration_id()
    command = await damage.command_of(damage.person(4))
    await damage.stage.rows(
        "INSERT INTO registrations (registration_id, tenant_id, status, code, command_topic, command_partition, command_offset,"
        " decided_at) VALUES ($1, $2, 'REJECTED', 'validation-failed', $3, $4, $5, $6)",
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
    mine = damage.person(5)
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
    first, second = [(await damage.stage.rows(query, damage.person(number)))[0] for number in (6, 7)]
    await damage.stage.rows(
        "UPDATE customers SET email_normalized = $2 WHERE customer_id = $1", second["customer_id"], first["email_normalized"]
    )
    damage.expect("customer.email_doubled", min(first["customer_id"], second["customer_id"]))


async def contradict_an_event(damage: Damage) -> None:
    """The rows say another risk than was published."""
    mine = damage.person(8)
    await damage.stage.rows(
        "UPDATE decisions SET risk_score = 99"
        " WHERE customer_id = (SELECT customer_id FROM registrations WHERE registration_id = $1)", mine,
    )  # fmt: skip
    damage.expect("event.contradicts", mine)


async def tell_a_name_and_an_email(damage: Damage) -> None:
    """Personal data under a member that the schema has: only the rows show it."""
    mine = damage.person(9)
    event = await damage.event_of(mine)
    names = [{"code": "PRIVACY_POLICY", "documentVersion": "Marcus"}, {"code": "X", "documentVersion": damage.stage.sent[9]["customer"]["email"]}]
    await damage.stage.send(changed(event, consents=names))
    damage.expect("personal.data", mine)
    ce_id = dict(event.headers)["ce_id"]
    assert ce_id is not None
    damage.expect("event.differs", ce_id.decode())


async def add_a_password_to_an_event(damage: Damage) -> None:
    """A member that the schema does not have, and the worst of them."""
    mine = damage.person(10)
    event = await damage.event_of(mine)
    await damage.stage.send(changed(event, password="Hunter2-Hunter2"))  # noqa: S106 - planted
    damage.expect("event.shape", mine)
    damage.expect("password.plaintext", mine)
    damage.expect("event.differs", (dict(event.headers)["ce_id"] or b"").decode())


async def change_a_key(damage: Damage) -> None:
    """The key is the customer's id, so that one customer's events stay in order."""
    mine = damage.person(11)
    event = await damage.event_of(mine)
    await damage.stage.send(replace(event, key=b"another"))
    damage.expect("event.headers", mine)
    damage.expect("event.differs", (dict(event.headers)["ce_id"] or b"").decode())


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
    gone = await damage.stage.rows("UPDATE dead_letters SET sealed = NULL WHERE code = 'value.null' RETURNING partition, \"offset\"")
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
)
