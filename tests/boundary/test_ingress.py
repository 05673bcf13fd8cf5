"""The ingress on real servers: what callers send, what they are answered, and what reaches the topic."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import pytest
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from jsonschema import Draft202012Validator

from schemas import RegisterCustomer
from schemas.commands import COMMANDS_TOPIC
from tests.commands import body_of, email_of
from tests.conftest import World, settings_of, url_of
from worker import app
from worker.admin import admin
from worker.config import Settings
from worker.core import ids
from worker.core.catalogue import parse
from worker.dev.embedded import Stack
from worker.dev.stack import CATALOGUE
from worker.dev.tokens import ADMIN_ROLE, AUDIENCE, ISSUER, PRIVATE_KEY, make_keys, make_token
from worker.ingress import serving
from worker.metrics import Metrics
from worker.postgres import Connection, connect

REGISTER: Final = "/api/v2.1/customers/individual/register"
ALIAS: Final = "/api/v2.1/customer/individual/registration"
HIERARCHY: Final = "/api/v2.1/customers/individual/categorization/hierarchy"
TENANT: Final = parse(yaml.safe_load(CATALOGUE.read_text())).tenant
PASSWORD: Final = "SecurePass123!"  # noqa: S105 - the example's
IN_TIME_S: Final = 20


@dataclass(slots=True)
class Door:
    """A running ingress and a caller with a good token."""

    client: httpx.AsyncClient
    port: int
    metrics: Metrics
    keys: Path
    admin: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def sample(self, name: str, **labels: str) -> float:
        """Return a metric's value now."""
        return self.metrics.registry.get_sample_value(f"registration_{name}", labels) or 0.0


@asynccontextmanager
async def opened(settings: Settings, folder: Path, **changed: object) -> AsyncIterator[Door]:
    """Run an ingress in this loop, with its admin port."""
    keys = make_keys(folder).parent
    own = settings.model_copy(update={"jwks_file": keys / "jwks.json", "jwt_issuer": ISSUER, "development": True, **changed})
    metrics = Metrics()
    async with serving(own, metrics) as (port, health), admin("127.0.0.1", 0, health, metrics) as admin_port:
        headers = {"Authorization": f"Bearer {make_token(keys, ADMIN_ROLE, TENANT.slug, 600)}", "X-Tenant-ID": TENANT.id}
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            yield Door(client, port, metrics, keys, f"http://127.0.0.1:{admin_port}")


@pytest.fixture(scope="module")
async def door(servers: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """An ingress and a worker on a database of their own."""
    name = f"ingress_{os.urandom(6).hex()}"
    own = await connect(servers.postgres.url, "tests")
    try:
        await own.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        settings = settings_of(servers, url_of(servers, name), group=name, log_level="WARNING")
        stop = asyncio.Event()
        async with opened(settings, tmp_path_factory.mktemp("keys")) as running:
            working = asyncio.create_task(app.consume(settings, stop, running.metrics, lambda _health: None))
            try:
                yield running
            finally:
                stop.set()
                await working
        await own.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await own.close()


@pytest.fixture
async def alone(world: World, tmp_path: Path) -> AsyncIterator[Door]:
    """An ingress without any worker: commands stay on the topic."""
    async with opened(world.settings, tmp_path) as running:
        yield running


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(IN_TIME_S):
        while not condition():
            await asyncio.sleep(0.01)


async def command_of(settings: Settings, registration_id: str) -> ConsumerRecord[bytes, bytes]:
    """Return the record of a registration from the topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(COMMANDS_TOPIC, each) for each in range(settings.topic_partitions)])
        async with asyncio.timeout(IN_TIME_S):
            async for record in consumer:
                if (
                    dict(record.headers)["ce_subject" if "ce_subject" in dict(record.headers) else "ce_id"]
                    == registration_id.encode()
                ):
                    return record
    finally:
        await consumer.stop()
    raise AssertionError(registration_id)


async def decide(
    connection: Connection, registration_id: str, status: str, code: str, at: tuple[int, int], problem: object = None
) -> None:
    """Write an outcome, as a worker does."""
    await connection.execute(
        "INSERT INTO registrations (registration_id, tenant_id, status, code, problem, command_topic, command_partition,"
        " command_offset, decided_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now())",
        registration_id, TENANT.id, status, code, None if problem is None else json.dumps(problem), COMMANDS_TOPIC, *at,
    )  # fmt: skip


def problem_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return an answer's problem, once it is seen to be one."""
    told: dict[str, Any] = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert told.keys() >= {"type", "title", "status", "detail", "code", "traceId", "errors"}
    assert told["type"] == f"/problems/{code}"
    return told


async def fits(door: Door, answer: httpx.Response, path: str) -> None:
    """Hold an answer against the schema that the API's description has for it."""
    described = (await door.client.get("/openapi.json")).json()
    operation = described["paths"][path][answer.request.method.lower()]
    content = operation["responses"][str(answer.status_code)]["content"]
    schema = {**content[answer.headers["content-type"]]["schema"], "components": described["components"]}
    Draft202012Validator(schema).validate(answer.json())


async def test_a_registration_is_answered_with_its_customer(door: Door) -> None:
    """201 in the shape of the example, a customer behind Location with every field of its decision, and no password."""
    email = email_of("first")
    answer = await door.client.post(REGISTER, json=body_of(email))
    data = answer.json()["data"]
    shown = await door.client.get(answer.headers["location"])
    customer = shown.json()["data"]

    assert answer.status_code == 201
    assert data == {
        "id": customer["id"],
        "userId": customer["userId"],
        "personId": customer["personId"],
        "user": {"id": customer["userId"], "username": email, "status": "PENDING_ACTIVATION"},
        "status": "REGISTRATION_COMPLETE",
    }
    assert [data[name].split("_")[0] for name in ("id", "userId", "personId")] == ["cust", "user", "pers"]
    assert customer["person"]["email"] == customer["user"]["username"] == email
    assert (customer["user"]["isActive"], customer["status"]) == (False, "PENDING_ACTIVATION")
    assert customer["decision"].keys() >= {
        "riskLevel", "riskScore", "features", "dueDiligence", "sanctionsScreening", "monitoring", "nextReviewOn",
        "seniorApproval", "verificationLevel", "verificationChecks", "consents", "limits", "activationBlockers",
        "catalogueVersion", "explanation",
    }  # fmt: skip
    assert "argon2" not in shown.text
    assert 'assword":' not in shown.text.replace('requiresPasswordChange":', "")
    assert answer.headers["cache-control"] == shown.headers["cache-control"] == "no-store"
    await fits(door, answer, REGISTER)
    await fits(door, shown, "/api/v2.1/customers/{customerId}")


async def test_the_former_path_does_the_same_and_names_its_successor(door: Door) -> None:
    """Existing scripts go on, and are told where to go, whatever the answer."""
    made = await door.client.post(ALIAS, json=body_of(email_of("alias")))
    refused = await door.client.post(ALIAS, content=b"{", headers={"Content-Type": "application/json"})

    assert made.status_code == 201
    for answer in (made, refused):
        assert answer.headers["deprecation"].startswith("@")
        assert answer.headers["link"] == f'<{REGISTER}>; rel="successor-version"'


async def test_an_email_has_one_customer(door: Door) -> None:
    """The second registration of an address ends with 409, and its status says the same later."""
    body = body_of(email_of("twice"))
    await door.client.post(REGISTER, json=body)
    told = problem_of(await door.client.post(REGISTER, json=body), 409, "email-taken")
    later = await door.client.get(f"/api/v2.1/registrations/{told['registrationId']}")

    assert later.json()["data"]["status"] == "REJECTED"
    assert later.json()["data"]["problem"]["code"] == "email-taken"
    await fits(door, later, "/api/v2.1/registrations/{registrationId}")


async def test_who_is_prohibited_is_told_no_reason(door: Door) -> None:
    """Only the worker decides it, and the answer says nothing of why."""
    tree = (await door.client.get(HIERARCHY)).json()["data"]["categories"]
    prohibited = next(each for each in tree.values() if each["riskLevel"] == "PROHIBITED")
    body = body_of(email_of("prohibited"), customerCategory={"id": prohibited["categoryId"]})
    body["individualCustomer"]["categorization"] = {"id": prohibited["databaseId"], "categoryFeatureRelations": []}
    answer = await door.client.post(REGISTER, json=body)

    told = problem_of(answer, 422, "customer-prohibited")
    assert told["errors"] == []
    assert not {"missingKeys", "invalidValues", "reason"} & told.keys()


async def test_all_faults_of_a_body_are_told_at_once(door: Door) -> None:
    """Fields, categorization and passwords in one answer; none of what was sent is repeated."""
    body = body_of("x'); DROP TABLE customers;--", phone="+00hunter2", password="hunter2", matchingPassword="hunter3")
    body["individualCustomer"]["user"]["password"] = "hunter2"
    body["individualCustomer"]["person"]["dateOfBirth"] = "2999-01-01"
    body["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]["parametrization"][1]["value"] = "hunter2"
    answer = await door.client.post(REGISTER, json=body)
    told = problem_of(answer, 400, "validation-failed")

    assert {fault["code"] for fault in told["errors"]} >= {
        "email.invalid", "phone.not_e164", "password.mismatch", "password.weak", "date.in_future", "parameter.not_allowed",
    }  # fmt: skip
    assert told["invalidValues"] == {"riskScore": "0-100"}
    assert "hunter" not in answer.text
    assert "DROP" not in answer.text
    await fits(door, answer, REGISTER)


async def test_faults_of_the_categorization_alone_say_what_would_be_right(door: Door) -> None:
    """Missing keys and allowed values, by name."""
    body = body_of(email_of("keys"))
    relation = body["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]
    relation["parametrization"] = [each for each in relation["parametrization"] if each["name"] != "pep"]
    answer = await door.client.post(REGISTER, json=body)

    assert problem_of(answer, 400, "categorization-invalid")["missingKeys"] == ["pep"]


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("respond-async", "respond-async"), ("wait=0", "wait=0"), ("respond-async, wait=0", "respond-async, wait=0")],
)
async def test_who_does_not_wait_finds_the_outcome_later(door: Door, prefer: str, applied: str) -> None:
    """202 with the registration's Location, which ends with the same data as the answer to a registration."""
    email = email_of("later")
    answer = await door.client.post(REGISTER, json=body_of(email), headers={"Prefer": prefer})
    async with asyncio.timeout(IN_TIME_S):
        while (later := (await door.client.get(answer.headers["location"])).json()["data"])["status"] == "PENDING":
            await asyncio.sleep(0.01)

    assert (answer.status_code, answer.headers["preference-applied"]) == (202, applied)
    assert answer.json()["data"] == {"registrationId": later["registrationId"], "status": "PENDING"}
    assert (later["status"], later["user"]["username"]) == ("REGISTRATION_COMPLETE", email)
    assert later["id"].startswith("cust_")
    await fits(door, answer, REGISTER)


async def test_the_hierarchy_is_the_tenants_catalogue_and_has_a_version(door: Door) -> None:
    """Both paths give the same; who has the version is told only that."""
    plain = await door.client.get(HIERARCHY)
    named = [await door.client.get(f"{HIERARCHY}/{name}") for name in (TENANT.id, TENANT.slug)]
    tag = plain.headers["etag"]
    again = await door.client.get(HIERARCHY, headers={"If-None-Match": f'"other", W/{tag}'})

    assert plain.json()["data"]["tenantId"] == TENANT.id
    assert [answer.json() for answer in named] == [plain.json()] * 2
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await door.client.get(HIERARCHY, headers={"If-None-Match": '"other"'})).status_code == 200
    await fits(door, plain, HIERARCHY)


async def test_a_problem_explains_itself_to_people_and_programs(door: Door) -> None:
    """The link in a problem's type leads to what the caller can do."""
    program = await door.client.get("/problems/email-taken")
    person = await door.client.get("/problems/email-taken", headers={"Accept": "text/html,*/*"})

    assert program.json()["advice"]
    assert person.headers["content-type"].startswith("text/html")
    assert program.json()["advice"] in person.text
    await fits(door, program, "/problems/{code}")
    problem_of(await door.client.get("/problems/unknown"), 404, "not-found")


async def test_the_documentation_needs_no_internet(door: Door) -> None:
    """Every script and style of it comes from here."""
    page = (await door.client.get("/docs")).text
    links = [part.split('"')[0] for mark in ('src="', 'href="') for part in page.split(mark)[1:]]

    assert links
    assert all(link.startswith("/") for link in links)
    assert [(await door.client.get(link)).status_code for link in links] == [200] * len(links)


JSON: Final = {"Content-Type": "application/json"}
CALLS: Final[list[tuple[str, str, dict[str, str], bytes, int, str]]] = [
    ("GET", "/", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1", {}, b"", 404, "not-found"),
    ("POST", REGISTER + "/", JSON, b"{}", 404, "not-found"),
    ("GET", HIERARCHY + "/", {}, b"", 404, "not-found"),
    ("GET", "/static-offline-docs/../../etc/passwd", {}, b"", 404, "not-found"),
    ("GET", "/redoc", {}, b"", 404, "not-found"),
    ("GET", "/metrics", {}, b"", 404, "not-found"),
    ("GET", REGISTER, {}, b"", 405, "method-not-allowed"),
    ("PUT", REGISTER, JSON, b"{}", 405, "method-not-allowed"),
    ("OPTIONS", REGISTER, {}, b"", 405, "method-not-allowed"),
    ("DELETE", "/api/v2.1/customers/cust_1", {}, b"", 405, "method-not-allowed"),
    ("GET", "/api/v2.1/customers/cust_01k8xq3c9ne6ks4v8w3mhy2gqz", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1/customers/%00", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1/customers/%ff", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1/registrations/reg_01k8xq3c9ne6ks4v8w3mhy2gqz", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1/registrations/%00", {}, b"", 404, "not-found"),
    ("GET", HIERARCHY + "/another", {}, b"", 403, "tenant-denied"),
    ("POST", REGISTER, JSON, b"", 400, "malformed-json"),
    ("POST", REGISTER, JSON, b'{"a":1,"a":2}', 400, "malformed-json"),
    ("POST", REGISTER, JSON, b"[]", 400, "validation-failed"),
    ("POST", REGISTER, JSON, b"null", 400, "validation-failed"),
    ("POST", REGISTER, JSON, b"{}", 400, "validation-failed"),
    ("POST", REGISTER, JSON, b" " * 65_537, 413, "body-too-large"),
    ("POST", REGISTER, {"Content-Type": "text/plain"}, b"{}", 415, "unsupported-media-type"),
    ("POST", REGISTER, {"Content-Type": "application/json; charset=latin-1"}, b"{}", 415, "unsupported-media-type"),
    ("POST", REGISTER, {**JSON, "Content-Encoding": "gzip"}, b"{}", 415, "unsupported-media-type"),
    ("POST", REGISTER, {**JSON, "Authorization": ""}, b"{}", 401, "token-missing"),
    ("POST", REGISTER, {**JSON, "Authorization": "Bearer x"}, b"{}", 401, "token-invalid"),
    ("POST", REGISTER, {**JSON, "X-Tenant-ID": ""}, b"{}", 400, "tenant-header-missing"),
    ("POST", REGISTER, {**JSON, "X-Tenant-ID": "another"}, b"{}", 403, "tenant-denied"),
    ("GET", "/api/v2.1/customers/cust_1", {"Authorization": ""}, b"", 401, "token-missing"),
    ("GET", HIERARCHY, {"X-Tenant-ID": ""}, b"", 400, "tenant-header-missing"),
]


@pytest.mark.parametrize(("method", "path", "headers", "content", "status", "code"), CALLS)
async def test_every_wrong_call_ends_with_a_problem(
    door: Door, method: str, path: str, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    """Whoever is at fault, the answer is application/problem+json with a code."""
    answer = await door.client.request(method, path, headers=headers, content=content)

    problem_of(answer, status, code)
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert ("allow" in answer.headers) is (status == 405)


async def test_a_head_request_is_answered_without_a_body(door: Door) -> None:
    """HEAD is not offered, and its answer has the headers of a problem."""
    answer = await door.client.head(HIERARCHY)

    assert (answer.status_code, answer.headers["content-type"], answer.content) == (405, "application/problem+json", b"")


async def test_a_tenant_is_reached_by_id_or_slug_and_by_nobody_elses_token(door: Door) -> None:
    """Token, header and path must mean one tenant."""
    for named in (TENANT.id, TENANT.slug):
        assert (await door.client.get(HIERARCHY, headers={"X-Tenant-ID": named})).status_code == 200
    for role, tenant, code in ((ADMIN_ROLE, "another", "tenant-denied"), ("reader", TENANT.id, "not-admin")):
        token = make_token(door.keys, role, tenant, 60)
        answer = await door.client.get(HIERARCHY, headers={"Authorization": f"Bearer {token}"})
        problem_of(answer, 403, code)


async def test_the_command_is_the_contracts_and_holds_no_password(alone: Door, world: World) -> None:
    """What Kafka keeps: a hash, the caller, the trace, no unknown member, and nothing personal in key and headers."""
    email, trace_id = email_of("command"), os.urandom(16).hex()
    body = body_of(email, unknown={"password": PASSWORD, "kept": "never"})
    trace = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "Prefer": "wait=0"}
    answer = await alone.client.post(REGISTER, content=b"\xef\xbb\xbf" + json.dumps(body).encode(), headers=JSON | trace)
    registration_id = answer.json()["data"]["registrationId"]
    record = await command_of(world.settings, registration_id)
    headers, value = dict(record.headers), record.value or b""
    command = RegisterCustomer.model_validate_json(value)
    uuid = ids.registration_uuid(registration_id)

    assert answer.status_code == 202, answer.text
    assert uuid is not None
    assert headers["traceparent"] == f"00-{trace_id}-00f067aa0ba902b7-01".encode()
    assert headers["ce_id"] == ids.derive("cmd", TENANT.id, uuid).encode()
    assert headers["ce_tenantid"].decode() == command.tenant_id == TENANT.id
    assert (command.registration_id, command.requested_by) == (registration_id, "developer")
    assert command.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert command.customer.email == email
    assert PASSWORD.encode() not in value
    assert b"never" not in value
    assert email.encode() not in b"".join([record.key or b"", *headers.values()])


async def test_the_same_body_has_the_same_fingerprint_and_one_email_one_key(alone: Door, world: World) -> None:
    """Spelling and passwords change no fingerprint; the case of an address changes no key."""
    email = email_of("fingerprint")
    spelled = [
        json.dumps(body_of(email)),
        json.dumps(body_of(email), indent=2, sort_keys=True).replace(PASSWORD, "Another-password-1"),
        json.dumps(body_of(email.upper())),
    ]
    records = []
    for content in spelled:
        answer = await alone.client.post(REGISTER, content=content, headers=JSON | {"Prefer": "respond-async"})
        records.append(await command_of(world.settings, answer.json()["data"]["registrationId"]))
    first, second, other = (RegisterCustomer.model_validate_json(record.value or b"") for record in records)

    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert len({record.key for record in records}) == 1


async def test_without_an_outcome_in_time_a_registration_is_pending_for_its_tenant_alone(alone: Door) -> None:
    """202 after the time that the caller chose; the id's tag tells it from one that nobody made."""
    began = time.monotonic()
    answer = await alone.client.post(REGISTER, json=body_of(email_of("pending")), headers={"Prefer": "wait=1, respond-async"})
    took_s = time.monotonic() - began
    location = answer.headers["location"]
    status = await alone.client.get(location)
    changed = location[:-1] + ("0" if location[-1] != "0" else "1")

    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async, wait=1")
    assert 1 <= took_s < 5
    assert status.json()["data"] == {
        "registrationId": location.rsplit("/", 1)[1],
        "status": "PENDING",
        "ageS": status.json()["data"]["ageS"],
    }
    assert 0 <= status.json()["data"]["ageS"] < 60
    problem_of(await alone.client.get(changed), 404, "not-found")


async def test_a_registration_older_than_its_topic_is_not_pending_any_more(alone: Door, world: World) -> None:
    """After seven days the command is gone, so nothing will come of it."""
    secret = await world.connection.fetchval("SELECT value FROM ingress_keys WHERE name = 'registration-tag'")
    now_ms = time.time_ns() // 1_000_000
    day_ms = 86_400_000
    young, old = (ids.new_registration(TENANT.id, secret, now_ms - days * day_ms, b"12345") for days in (6, 8))

    assert (await alone.client.get(f"/api/v2.1/registrations/{young}")).json()["data"]["ageS"] >= 6 * 86_400
    problem_of(await alone.client.get(f"/api/v2.1/registrations/{old}"), 404, "not-found")


async def test_a_waiter_heeds_a_dead_letter_only_of_its_own_record(alone: Door, world: World) -> None:
    """FAILED of another command of the same id may be replaced, so waiting goes on; FAILED of one's own ends it."""
    waiting = asyncio.create_task(alone.client.post(REGISTER, json=body_of(email_of("failed"))))
    await until(lambda: alone.sample("waiting") == 1)
    record = await newest_command(world.settings)
    registration_id = RegisterCustomer.model_validate_json(record.value or b"").registration_id
    await decide(world.connection, registration_id, "FAILED", "schema.invalid", (record.partition, record.offset + 1000))
    looked = alone.sample("look_up_seconds_count")
    await until(lambda: alone.sample("look_up_seconds_count") > looked + 1)
    still_waiting = not waiting.done()
    await world.connection.execute("UPDATE registrations SET command_offset = $1", record.offset)

    assert still_waiting
    problem_of(await waiting, 500, "processing-failed")
    status = (await alone.client.get(f"/api/v2.1/registrations/{registration_id}")).json()["data"]
    assert (status["status"], status["problem"]["code"]) == ("FAILED", "processing-failed")


async def newest_command(settings: Settings) -> ConsumerRecord[bytes, bytes]:
    """Return the record that was appended last, on any partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(COMMANDS_TOPIC, each) for each in range(settings.topic_partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        filled = [partition for partition in partitions if ends[partition]]
        newest = []
        for partition in filled:
            consumer.seek(partition, ends[partition] - 1)
        async with asyncio.timeout(IN_TIME_S):
            for partition in filled:
                newest.append(await consumer.getone(partition))
        return max(newest, key=lambda record: record.timestamp)
    finally:
        await consumer.stop()


async def test_a_refusal_tells_what_the_worker_stored(alone: Door, world: World) -> None:
    """Faults, missing keys and allowed values of a rejected registration reach the one who waits."""
    waiting = asyncio.create_task(alone.client.post(REGISTER, json=body_of(email_of("refused"))))
    await until(lambda: alone.sample("waiting") == 1)
    record = await newest_command(world.settings)
    registration_id = RegisterCustomer.model_validate_json(record.value or b"").registration_id
    fault = {"pointer": "/phone", "code": "phone.not_e164", "detail": "Expected E.164."}
    stored = {"errors": [fault], "missingKeys": ["pep"], "invalidValues": {"riskScore": "0-100"}}
    await decide(world.connection, registration_id, "REJECTED", "categorization-invalid", (record.partition, record.offset), stored)
    told = problem_of(await waiting, 400, "categorization-invalid")

    assert told["errors"] == [fault]
    assert (told["missingKeys"], told["invalidValues"]) == (["pep"], {"riskScore": "0-100"})


async def test_waiting_holds_no_connection_and_one_look_up_serves_all(world: World, tmp_path: Path) -> None:
    """With a single connection to the database, a crowd waits and others are still answered."""
    crowd = 40
    async with opened(world.settings, tmp_path, database_connections=1, hash_threads=4) as alone:
        waiting = [
            asyncio.create_task(
                alone.client.post(REGISTER, json=body_of(email_of(f"crowd{number}")), headers={"Prefer": "wait=30"})
            )
            for number in range(crowd)
        ]
        await until(lambda: alone.sample("waiting") == crowd)
        before = alone.sample("look_up_seconds_count")
        began = time.monotonic()
        read = await alone.client.get(HIERARCHY)
        missing = await alone.client.get("/api/v2.1/customers/cust_1")
        await until(lambda: alone.sample("look_up_seconds_count") >= before + 5)
        look_ups_per_s = (alone.sample("look_up_seconds_count") - before) / (time.monotonic() - began)
        await world.connection.execute(
            "INSERT INTO registrations (registration_id, tenant_id, status, code, command_topic, command_partition,"
            " command_offset, decided_at) SELECT unnest($1::text[]), $2, 'REJECTED', 'email-taken', 'x', 0, 0, now()",
            await commands_since(world.settings, crowd),
            TENANT.id,
        )
        answers = await asyncio.gather(*waiting)

    assert (read.status_code, missing.status_code) == (200, 404)
    assert look_ups_per_s <= 200
    assert {answer.status_code for answer in answers} == {409}


async def commands_since(settings: Settings, count: int) -> list[str]:
    """Return the registrations of the newest commands, at least so many."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(COMMANDS_TOPIC, each) for each in range(settings.topic_partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, max(0, ends[partition] - count))
        found: list[str] = []
        async with asyncio.timeout(IN_TIME_S):
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    record = await consumer.getone(partition)
                    headers = dict(record.headers)
                    if headers.get("ce_source") == b"/registration/ingress":
                        found.append(headers["ce_subject"].decode())
        return found
    finally:
        await consumer.stop()


async def test_whoever_waits_is_answered_when_the_ingress_stops(world: World, tmp_path: Path) -> None:
    """Taken in is taken in: a stop ends the waiting with 202, not with a broken connection."""
    async with httpx.AsyncClient(timeout=60) as outside:
        async with opened(world.settings, tmp_path, drain_timeout_s=2) as alone:
            headers = {**alone.client.headers, "Prefer": "wait=60"}
            url = f"http://127.0.0.1:{alone.port}{REGISTER}"
            waiting = asyncio.create_task(outside.post(url, json=body_of(email_of("stop")), headers=headers))
            await until(lambda: alone.sample("waiting") == 1)
        answer = await waiting

    assert answer.status_code == 202


async def test_a_database_that_is_gone_makes_no_waiter_fail(world: World, alone: Door) -> None:
    """Reading ends with 503 meanwhile; the waiter gets its outcome once the database is back."""
    database = await world.connection.fetchval("SELECT current_database()")
    waiting = asyncio.create_task(alone.client.post(REGISTER, json=body_of(email_of("gone")), headers={"Prefer": "wait=30"}))
    await until(lambda: alone.sample("waiting") == 1)
    record = await newest_command(world.settings)
    registration_id = RegisterCustomer.model_validate_json(record.value or b"").registration_id
    admin_url = world.settings.database_url.get_secret_value().rsplit("/", 1)[0] + "/postgres"
    own = await connect(admin_url, "tests")
    try:
        await own.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        await own.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name <> 'tests'",
            database,
        )
        await until(lambda: alone.sample("look_up_failures_total") >= 2)
        refused = await alone.client.get(f"/api/v2.1/registrations/{registration_id}")
        still_waiting = not waiting.done()
    finally:
        await own.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
        await own.close()
    await decide(world.connection, registration_id, "REJECTED", "email-taken", (record.partition, record.offset))

    assert still_waiting
    problem_of(refused, 503, "database-unavailable")
    assert refused.headers["retry-after"]
    problem_of(await waiting, 409, "email-taken")


async def test_an_ingress_without_servers_says_so_and_lives(world: World, tmp_path: Path) -> None:
    """It starts, is alive and not ready, and tells each caller what is missing."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
    async with opened(world.settings, tmp_path, kafka_bootstrap=nowhere, produce_timeout_s=1) as alone:
        refused = await alone.client.post(REGISTER, json=body_of(email_of("no-kafka")))
        async with httpx.AsyncClient(base_url=alone.admin) as own:
            ready, live, metrics = await own.get("/readyz"), await own.get("/livez"), await own.get("/metrics")

    told = problem_of(refused, 503, "kafka-unavailable")
    assert "registrationId" not in told
    assert refused.headers["retry-after"]
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "reasons": ["kafka does not acknowledge"]})
    assert (live.status_code, live.json()) == (200, {"alive": True})
    assert 'registration_produce_failures_total{known="not-sent"} 1.0' in metrics.text


async def test_more_passwords_than_can_be_hashed_are_refused_at_once(world: World, tmp_path: Path) -> None:
    """Hashing is no lever against us: the queue is bounded, and what it takes in is answered."""
    async with opened(world.settings, tmp_path, hash_threads=1, hash_queue_max=1) as alone:
        answers = await asyncio.gather(
            *(
                alone.client.post(REGISTER, json=body_of(email_of(f"many{n}")), headers={"Prefer": "respond-async"})
                for n in range(12)
            )
        )

    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {202, 503}
    for answer in refused:
        assert problem_of(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "1"


async def test_a_bug_of_ours_is_a_problem_and_is_logged_without_a_value(
    world: World, alone: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    """The caller gets a trace id; the log has types and places by it."""
    await world.connection.execute("ALTER TABLE customers RENAME COLUMN phone TO telephone")
    answer = await alone.client.get("/api/v2.1/customers/cust_hunter2?q=hunter2")
    told = problem_of(answer, 500, "internal-error")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if told["traceId"] in line]

    assert [line["event"] for line in lines] == ["request.failed", "request.answered"]
    assert lines[0]["error"] == "UndefinedColumnError"
    assert lines[0]["at"]
    assert lines[1]["route"] == "/api/v2.1/customers/{customerId}"
    assert "hunter2" not in json.dumps(lines)


async def test_the_access_log_has_one_line_without_any_value(alone: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Method, route, status, code, duration and ids: nothing of body, token, query or path."""
    email = email_of("log")
    answer = await alone.client.post(
        REGISTER + "?secret=hunter2", json=body_of(email, firstName="\u0000"), headers={"Prefer": "respond-async"}
    )
    trace_id = answer.json()["traceId"]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if trace_id in line]

    assert len(lines) == 1
    assert lines[0].keys() == {"event", "level", "timestamp", "method", "route", "status", "code", "duration_ms", "trace_id"}
    assert (lines[0]["event"], lines[0]["route"], lines[0]["status"]) == ("request.answered", REGISTER, 400)


async def raw(door: Door, request: bytes, *later: bytes) -> list[bytes]:
    """Send bytes over a connection of their own; return what came back for each part, at the end until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    answers = []
    try:
        async with asyncio.timeout(IN_TIME_S):
            for part in (request, *later):
                writer.write(part)
                await writer.drain()
                answers.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write_eof()
            with suppress(ConnectionError):
                answers.append(await reader.read())
    finally:
        writer.close()
    return answers


def head(door: Door, *lines: str) -> bytes:
    """Return the head of a POST of a registration."""
    token = door.client.headers["authorization"]
    fixed = [f"POST {REGISTER} HTTP/1.1", "Host: x", f"Authorization: {token}", f"X-Tenant-ID: {TENANT.id}"]
    return "\r\n".join([*fixed, "Content-Type: application/json", *lines, "", ""]).encode()


async def test_a_client_may_ask_before_it_sends(door: Door) -> None:
    """`Expect: 100-continue` is answered with 100 where the body is wanted, and at once where it is not."""
    content = json.dumps(body_of(email_of("expect"))).encode()
    wanted = await raw(door, head(door, f"Content-Length: {len(content)}", "Expect: 100-continue"), content)
    unwanted = await raw(door, head(door, "Content-Length: 70000", "Expect: 100-continue"))

    assert wanted[0].startswith(b"HTTP/1.1 100")
    assert wanted[1].startswith(b"HTTP/1.1 201")
    assert unwanted[0].startswith(b"HTTP/1.1 413")
    assert b"connection: close" in unwanted[0]


async def test_a_chunked_body_is_bounded_too(door: Door) -> None:
    """Without a declared length, what arrives is counted."""
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    answers = await raw(door, head(door, "Transfer-Encoding: chunked") + chunk * 17 + b"0\r\n\r\n")

    assert answers[0].startswith(b"HTTP/1.1 413")


async def test_a_refusal_before_the_body_leaves_the_connection_in_order(door: Door) -> None:
    """The body that nobody read is not taken for the next request."""
    smuggled = b"GET /problems/email-taken HTTP/1.1\r\nHost: x\r\n\r\n"
    refused = f"POST {REGISTER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(smuggled)}\r\n\r\n".encode() + smuggled
    answers = b"".join(await raw(door, refused))

    assert answers.startswith(b"HTTP/1.1 401")
    assert answers.count(b"HTTP/1.1 ") == 1


async def test_a_token_of_another_key_with_the_same_id_is_refused(door: Door, tmp_path: Path) -> None:
    """The signature decides, whatever the header says."""
    own = make_keys(tmp_path).parent
    kid = json.loads((door.keys / "jwks.json").read_text())["keys"][0]["kid"]
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": time.time() + 60, "roles": [ADMIN_ROLE], "tenant": TENANT.id}
    forged = jwt.encode(claims, (own / PRIVATE_KEY).read_text(), algorithm="ES256", headers={"kid": kid})
    answer = await door.client.get(HIERARCHY, headers={"Authorization": f"Bearer {forged}"})

    problem_of(answer, 401, "token-invalid")
