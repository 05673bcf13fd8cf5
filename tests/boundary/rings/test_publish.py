"""`registration publish`: files become registrations, once, whatever happens in between; and no password leaves this process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from schemas.base import header
from schemas.commands import COMMANDS_TOPIC
from schemas.events import EVENTS_TOPIC
from tests import commands
from tests.boundary import topics
from tests.boundary.conditions import until
from tests.conftest import World
from worker import app
from worker.config import Settings
from worker.kafka import Producer, Record
from worker.metrics import Metrics
from worker.operate import publish
from worker.operate.publish_lines import Publisher

KEY = "a secret of nobody's at all"
PASSWORD = "SecurePass123!"
READY_S = 30.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command ended with, and said."""

    code: int
    out: str
    err: str

    @property
    def results(self) -> list[dict[str, Any]]:
        """What it says of each line, with `--json`."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service that publishes, and a worker that takes it in."""

    world: World
    folder: Path

    def file(self, *lines: Mapping[str, object] | bytes, name: str = "people.jsonl") -> str:
        """Write a file of these lines."""
        path = self.folder / name
        path.write_bytes(b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines))
        return str(path)

    async def start(self, *words: str, **environment: str) -> asyncio.subprocess.Process:
        """Start the command."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker", "publish", *words),
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("REGISTRATION_")},
                "REGISTRATION_KAFKA_BOOTSTRAP": self.world.settings.kafka_bootstrap,
                "REGISTRATION_PUBLISH_KEY": KEY,
                **environment,
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str, said: bytes = b"", **environment: str) -> Ran:
        """Run the command; `said` is its standard input."""
        process = await self.start(*words, **environment)
        try:
            out, err = await asyncio.wait_for(process.communicate(said), READY_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def outcomes(self, registrations: Sequence[str]) -> dict[str, tuple[str, str | None]]:
        """Wait for the outcome of each; return status and code."""

        async def all_of_them() -> dict[str, tuple[str, str | None]] | None:
            rows = await self.world.connection.fetch(
                "SELECT registration_id, status, code FROM registrations WHERE registration_id = ANY($1::text[])", registrations
            )
            found = {row["registration_id"]: (row["status"], row["code"]) for row in rows}
            return found if len(found) == len(set(registrations)) else None

        return await until(all_of_them, "every registration has its outcome", READY_S) or {}

    async def customers(self, email_like: str) -> int:
        """Count the customers whose email is like this."""
        count: int = await self.world.connection.fetchval("SELECT count(*) FROM customers WHERE email LIKE $1", email_like)
        return count

    async def records(self, topic: str, registration: str) -> list[Record]:
        """Return the records of a topic that are about a registration."""
        found = await topics.records(self.world.settings.kafka_bootstrap, topic)
        return [
            record
            for record in found
            if header(record.headers, "ce_subject") == registration or registration.encode() in (record.value or b"")
        ]


@pytest.fixture
async def upstream(world: World, tmp_path: Path) -> AsyncIterator[Upstream]:
    """A worker in a group and a database of its own."""
    settings = world.settings.model_copy(update={"group": f"publish-{os.urandom(4).hex()}"})
    stop = asyncio.Event()
    working = asyncio.create_task(app.consume(settings, stop, Metrics(), lambda _health: None))
    yield Upstream(world, tmp_path)
    stop.set()
    await working


def person(number: int, **top: object) -> dict[str, Any]:
    """Return a registration as HTTP takes it, of a tenant."""
    return {**commands.body_of(commands.email_of(number)), "tenantId": commands.TENANT, **top}


async def test_lines_of_both_kinds_become_customers_with_their_events(upstream: Upstream) -> None:
    """One has its password hashed here, one brought its hash; a faulty one is refused, and the others go on."""
    command = commands.data(commands.email_of("hashed"))
    faulty = person(2, phone="call me maybe", matchingPassword="Another-Secret-99")
    ran = await upstream.run(upstream.file(person(1), b"", command, faulty, {**command, "customer": person(3)}), "--json")
    sent = [each["registrationId"] for each in ran.results if each["status"] == "sent"]
    outcomes = await upstream.outcomes(sent)

    assert ran.code == 1
    assert [(each["line"], each["status"]) for each in ran.results] == [(1, "sent"), (3, "sent"), (4, "refused"), (5, "refused")]
    assert {(each["pointer"], each["code"]) for each in ran.results[2]["faults"]} >= {
        ("/phone", "phone.not_e164"),
        ("/matchingPassword", "password.mismatch"),
    }
    assert {each["pointer"] for each in ran.results[3]["faults"]} >= {
        "/customer/password",
        "/customer/individualCustomer/user/password",
    }
    assert set(outcomes.values()) == {("REGISTRATION_COMPLETE", None)}
    assert "2 refused, 2 sent" in ran.err
    assert not any(value in ran.out + ran.err for value in (PASSWORD, "Another-Secret-99", "call me maybe", "@example.com"))
    for registration in sent:
        await until(partial(upstream.records, EVENTS_TOPIC, registration), "its event")


async def test_a_password_is_hashed_here_and_its_command_says_nothing_outside_the_customer(upstream: Upstream) -> None:
    """The hash verifies; neither key nor headers hold anything of the person; one email has one key."""
    line = person(1)
    ran = await upstream.run("-", "--json", "--tenant", commands.TENANT, said=json.dumps({**line, "tenantId": None}).encode())
    again = await upstream.run("-", "--json", said=json.dumps({**line, "idempotencyKey": "another"}).encode())
    [registration], [other] = ([each["registrationId"] for each in each_ran.results] for each_ran in (ran, again))
    [first], [second] = [await upstream.records(COMMANDS_TOPIC, each) for each in (registration, other)]
    phc = json.loads(first.value or b"")["passwordHash"]
    outcomes = await upstream.outcomes([registration, other])

    assert PasswordHasher().verify(phc, PASSWORD)
    assert PASSWORD.encode() not in (first.value or b"")
    assert first.key == second.key
    assert first.partition == second.partition
    assert line["email"] not in repr((first.key, first.headers))
    assert (outcomes[registration], outcomes[other]) == (("REGISTRATION_COMPLETE", None), ("REJECTED", "email-taken"))


async def test_a_file_that_is_sent_again_registers_nobody_twice(upstream: Upstream) -> None:
    """The same ids come out: also for new hashes, another order of members, and a line that stands twice."""
    lines = [person(number) for number in range(3)]
    turned = [dict(reversed(each.items())) for each in lines]
    first = await upstream.run(upstream.file(*lines), "--json")
    second = await upstream.run(upstream.file(*turned, turned[0], name="again.jsonl"), "--json")
    sent = [each["registrationId"] for each in first.results]
    outcomes = await upstream.outcomes(sent)

    assert (first.code, second.code) == (0, 0)
    assert [each["registrationId"] for each in second.results] == [*sent, sent[0]]
    assert set(outcomes.values()) == {("REGISTRATION_COMPLETE", None)}


async def test_a_run_that_is_killed_in_the_middle_is_made_whole_by_the_next(upstream: Upstream) -> None:
    """Nobody is lost, and nobody twice."""
    word = os.urandom(4).hex()
    lines = [commands.data(f"{word}.{number}@example.com") for number in range(1500)]
    for each in lines:
        del each["registrationId"]
    file = upstream.file(*lines)
    process = await upstream.start(file, "--json")
    assert process.stdout is not None
    first = json.loads(await asyncio.wait_for(process.stdout.readline(), READY_S))
    process.kill()
    await process.communicate()
    ran = await upstream.run(file, "--json")
    sent = [each["registrationId"] for each in ran.results]
    outcomes = await upstream.outcomes(sent)

    assert ran.code == 0, ran.err
    assert len(set(sent)) == len(lines)
    assert first["registrationId"] == sent[0]
    assert set(outcomes.values()) == {("REGISTRATION_COMPLETE", None)}
    assert await upstream.customers(f"{word}.%") == len(lines)


async def test_ctrl_c_ends_it_and_says_how_far_it_came(upstream: Upstream) -> None:
    """Also while it waits for a line that does not come."""
    process = await upstream.start("-", "--json")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    many = [json.dumps(commands.data(commands.email_of(number))).encode() for number in range(250)]
    process.stdin.write(b"\n".join(many) + b"\n")
    await process.stdin.drain()
    await asyncio.wait_for(process.stdout.readline(), READY_S)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    await asyncio.wait_for(process.wait(), READY_S)
    process.stdin.close()

    assert process.returncode == 130
    assert f"{len(out.splitlines()) + 1} sent; not all lines were read" in err.decode()
    assert "Traceback" not in err.decode()


async def test_a_dry_run_looks_at_every_line_and_asks_no_server(upstream: Upstream) -> None:
    """The ids are those of the real run."""
    file = upstream.file(b"{", person(1))
    checked = await upstream.run(file, "--dry-run", REGISTRATION_KAFKA_BOOTSTRAP="")
    sent = await upstream.run(file, "--json")

    assert checked.code == 1
    assert checked.out.splitlines() == [
        f"{file}: line 1: refused: / malformed-json",
        f"{file}: line 2: checked: {sent.results[1]['registrationId']}",
    ]
    assert await upstream.outcomes([sent.results[1]["registrationId"]])


async def test_without_kafka_it_says_so_and_what_is_not_acknowledged(upstream: Upstream) -> None:
    """Exit code 3; the lines are to be sent again."""
    ran = await upstream.run(
        upstream.file(person(1)), REGISTRATION_KAFKA_BOOTSTRAP="127.0.0.1:1", REGISTRATION_PRODUCE_TIMEOUT_S="0.5"
    )

    assert ran.code == 3
    assert "line 1: unacknowledged: reg_" in ran.out
    assert "kafka is unavailable" in ran.err


@pytest.mark.parametrize(("key", "file"), [("short", "README.md"), (KEY, "no such file")])
async def test_a_missing_secret_or_file_is_one_line_that_names_it(key: str, file: str, upstream: Upstream) -> None:
    """Exit code 2, and nothing was sent."""
    ran = await upstream.run(file, REGISTRATION_PUBLISH_KEY=key)

    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert ("REGISTRATION_PUBLISH_KEY" if key == "short" else file) in ran.err


async def test_an_interrupted_publish_leaves_no_thread_with_an_error(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever presses Ctrl-C reads how far it came, and no traceback."""
    failed: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: failed.append(told.exc_type.__qualname__))
    file = tmp_path / "people.jsonl"
    file.write_text("".join(f"{json.dumps(commands.data(commands.email_of(number)))}\n" for number in range(1_500)))
    settings = world.settings

    def run() -> None:
        asyncio.run(_interrupted(settings, str(file)))

    await asyncio.to_thread(run)
    for thread in threading.enumerate():
        if thread.name == "read":
            await asyncio.to_thread(thread.join, 10)

    assert failed == []


async def _interrupted(settings: Settings, file: str) -> None:
    """Send a file, and be told to stop after the first line."""
    stop = asyncio.Event()
    producer = Producer(settings.kafka_bootstrap, timeout_s=5, client_id="tests")
    try:
        await publish.publish(
            settings,
            [file],
            Publisher(b"a secret of nobody's at all", commands.TENANT),
            stop,
            producer=producer,
            told=lambda _result: stop.set(),
            progress=lambda _file, _done, _total: None,
        )
    finally:
        await producer.stop()
