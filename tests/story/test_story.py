"""A registration goes in over HTTP, through Kafka into PostgreSQL, and comes out as an event."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas import CustomerRegistered, CustomerRegistrationRejected, parse_event
from schemas.base import header
from schemas.commands import COMMANDS_TOPIC
from schemas.events import EVENTS_TOPIC, Event
from tests import commands
from tests.servers import in_containers
from tests.story.stacks import DEADLINE_S, beside_containers, developing
from worker.dev.client_script import HIERARCHY, PLURAL, SINGULAR, request_body
from worker.kafka import Partition, Reader, Record

SECRET = "SecurePass123!"


@dataclass(frozen=True, slots=True)
class Dev:
    """The stack, running: its ready line, a client with its token, what its processes log."""

    ready: Mapping[str, Any]
    client: httpx.AsyncClient
    log: Path

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command that joins the stack by the ready line's environment."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "worker",
            *arguments,
            env={**os.environ, **self.ready["environment"]},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, out.decode(), err.decode()

    async def register(self, body: Mapping[str, Any], path: str = PLURAL, **headers: str) -> httpx.Response:
        """Post a registration."""
        return await self.client.post(path, json=body, headers=headers)

    async def seen(self, topic: str, registration_id: str) -> list[Record]:
        """Return every record of a topic that is about a registration."""
        found: list[Record] = []
        async with Reader(self.ready["kafka"], client_id="story") as reader:
            for number, (start, end) in (await reader.bounds(topic)).items():
                async for records in reader.read(Partition(topic, number), start, end):
                    found += [record for record in records if registration_id.encode() in (record.value or b"")]
        return found

    async def event(self, registration_id: str) -> Event:
        """Wait for the event of a registration, and read it as a downstream service does."""
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while asyncio.get_running_loop().time() < deadline:
            for record in await self.seen(EVENTS_TOPIC, registration_id):
                return parse_event(record.headers, record.value or b"")
            await asyncio.sleep(0.05)
        raise AssertionError(f"no event of {registration_id}:\n{self.log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
async def dev(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dev]:
    """The whole stack in processes of its own: `registration dev`, or each command beside servers in containers."""
    folder = tmp_path_factory.mktemp("dev")
    async with beside_containers(folder) if in_containers() else developing(folder) as ready:
        authorized = {"Authorization": f"Bearer {ready['token']}", "X-Tenant-ID": ready["tenant"]}
        async with httpx.AsyncClient(base_url=ready["http"], headers=authorized, timeout=30) as client:
            yield Dev(ready, client, folder / "log")


async def test_the_example_becomes_a_customer_and_an_event(dev: Dev) -> None:
    """One POST; the ids of the answer, the stored customer and the event are one."""
    response = await dev.register(commands.body())
    data = response.json()["data"]
    stored = (await dev.client.get(response.headers["location"])).json()["data"]
    event = await dev.event(stored["registrationId"])

    assert response.status_code == 201
    assert data["status"] == "REGISTRATION_COMPLETE"
    assert data["user"] == {"id": data["userId"], "username": "marcus.jensen@example.com", "status": "PENDING_ACTIVATION"}
    assert isinstance(event, CustomerRegistered)
    assert (event.customer_id, event.user_id, event.person_id) == (data["id"], data["userId"], data["personId"])
    assert stored["decision"]["riskLevel"] == event.risk_level == "MEDIUM"
    assert stored["person"]["firstName"] == "Marcus"
    assert stored["user"]["isActive"] is False


async def test_what_the_client_script_sends_is_accepted_at_the_deprecated_path(dev: Dev) -> None:
    """Existing scripts go on working, and are told where to go."""
    hierarchy = (await dev.client.get(HIERARCHY)).json()["data"]
    response = await dev.register(request_body(hierarchy, commands.email_of("script")), SINGULAR)

    assert response.status_code == 201, response.text
    assert "deprecation" in response.headers
    assert 'rel="successor-version"' in response.headers["link"]


async def test_a_taken_email_is_refused_with_its_event(dev: Dev) -> None:
    """The first one keeps the address; the second registration has an outcome too."""
    email = commands.email_of("twice")
    first = await dev.register(commands.body_of(email))
    second = await dev.register(commands.body_of(email.upper()))
    problem = second.json()
    event = await dev.event(problem["registrationId"])

    assert first.status_code == 201
    assert (second.status_code, problem["code"]) == (409, "email-taken")
    assert isinstance(event, CustomerRegistrationRejected)
    assert event.code == "email-taken"


async def test_a_prohibited_customer_is_refused_without_a_reason(dev: Dev) -> None:
    """The caller learns that, and nothing of why; the event says no more."""
    hierarchy = (await dev.client.get(HIERARCHY)).json()["data"]["categories"].values()
    category = next(each for each in hierarchy if each["riskLevel"] == "PROHIBITED")
    body = commands.body_of(commands.email_of("prohibited"), customerCategory={"id": category["databaseId"]})
    body["individualCustomer"]["categorization"] = {"id": category["categoryId"], "categoryFeatureRelations": []}
    response = await dev.register(body)
    problem = response.json()

    assert (response.status_code, problem["code"]) == (422, "customer-prohibited")
    assert category["categoryId"] not in response.text
    assert problem["errors"] == []
    event = await dev.event(problem["registrationId"])
    assert isinstance(event, CustomerRegistrationRejected)
    assert event.fault_codes == []


async def test_all_faults_of_a_body_come_at_once_and_repeat_nothing(dev: Dev) -> None:
    """Three faults, one answer; nothing was published."""
    body = commands.body_of(commands.email_of("bad"), matchingPassword="Another-Secret-99", phone="call me maybe")
    body["individualCustomer"]["person"]["nationality"] = "QQ"
    response = await dev.register(body)

    assert response.status_code == 400
    assert {each["code"] for each in response.json()["errors"]} >= {"password.mismatch", "phone.not_e164", "country.unknown"}
    assert not any(sent in response.text for sent in ("Another-Secret-99", "call me maybe", "QQ", SECRET))


async def test_respond_async_is_answered_at_once_and_found_later(dev: Dev) -> None:
    """202 with a place to look; there the outcome appears."""
    response = await dev.register(commands.body_of(commands.email_of("async")), Prefer="respond-async")
    registration_id = response.json()["data"]["registrationId"]
    await dev.event(registration_id)
    found = (await dev.client.get(response.headers["location"])).json()["data"]
    code, out, _ = await dev.run("status", registration_id, "--json")

    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert found["status"] == "REGISTRATION_COMPLETE"
    assert code == 0
    assert json.loads(out)["status"] == "REGISTRATION_COMPLETE"


async def test_no_password_and_no_name_is_where_it_must_not_be(dev: Dev) -> None:
    """The password is nowhere but in the request; the person is neither in the event nor in the log."""
    response = await dev.register(commands.body_of(commands.email_of("canary"), firstName="Xanthippe"))
    assert response.status_code == 400  # the name's twin differs, and the answer does not repeat it
    assert "Xanthippe" not in response.text
    email = commands.email_of("canary")
    body = commands.body_of(email)
    body["firstName"] = body["individualCustomer"]["person"]["firstName"] = "Xanthippe"
    response = await dev.register(body)
    assert response.status_code == 201, response.text
    stored = (await dev.client.get(response.headers["location"])).json()["data"]
    await dev.event(stored["registrationId"])
    [command] = await dev.seen(COMMANDS_TOPIC, stored["registrationId"])
    [event] = await dev.seen(EVENTS_TOPIC, stored["registrationId"])
    metrics = (await dev.client.get(f"{dev.ready['admin']}/metrics")).text

    assert SECRET.encode() not in (command.value or b"")
    assert b"$argon2id$" in (command.value or b"")
    assert email.encode() not in (command.key or b"")
    assert header(command.headers, "ce_tenantid") == dev.ready["tenant"]
    for text in (event.value or b"", repr(event.headers).encode(), event.key or b"", metrics.encode(), dev.log.read_bytes()):
        assert not any(secret.encode() in text for secret in (SECRET, email, "Xanthippe", dev.ready["token"]))


async def test_the_commands_join_the_stack_by_its_environment(dev: Dev) -> None:
    """A token that works, the events from the start, and the promises checked."""
    code, token, _ = await dev.run("token", "--role", "registration-admin", "--tenant", "development", "--ttl-s", "60")
    answer = await dev.client.get(HIERARCHY, headers={"Authorization": f"Bearer {token.strip()}"})
    verified, report, told = await dev.run("verify", "--json")

    assert (code, answer.status_code) == (0, 200)
    assert verified == 0, report + told
    assert json.loads(report)["ok"] is True


async def test_a_missing_setting_is_one_line_that_names_it() -> None:
    """Exit code 2, and no stack trace."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRATION_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", "worker"), env=clean, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)

    assert process.returncode == 2
    assert err.decode().count("\n") == 1
    assert b"REGISTRATION_KAFKA_BOOTSTRAP" in err


async def test_an_unreachable_server_is_exit_code_three() -> None:
    """A command that a person runs says what does not answer."""
    environment = {
        **os.environ,
        "REGISTRATION_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "REGISTRATION_DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/none",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", "status", "reg_none"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)

    assert process.returncode == 3
    assert b"database is unavailable" in err
    assert b"secret" not in err
