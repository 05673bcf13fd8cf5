"""An ingress that runs inside a test: a caller with a good token, what reaches the topic, and outcomes as a worker writes them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from schemas import RegisterCustomer
from schemas.commands import COMMANDS_TOPIC, INGRESS_SOURCE
from worker.admin import admin
from worker.config import Settings
from worker.core.catalogue import parse
from worker.dev.logins import INGRESS, login
from worker.dev.stack import CATALOGUE
from worker.dev.tokens import ADMIN_ROLE, ISSUER, make_keys, make_token
from worker.ingress import serving
from worker.ingress.keys import Clock
from worker.metrics import Metrics
from worker.postgres import Connection

REGISTER: Final = "/api/v2.1/customers/individual/register"
ALIAS: Final = "/api/v2.1/customer/individual/registration"
HIERARCHY: Final = "/api/v2.1/customers/individual/categorization/hierarchy"
TENANT: Final = parse(yaml.safe_load(CATALOGUE.read_text())).tenant
JSON: Final = {"Content-Type": "application/json"}
IN_TIME_S: Final = 20
NEWEST: Final = 100


@dataclass(frozen=True, slots=True)
class Door:
    """A running ingress and a caller with a good token; `keys` is the folder of its keys."""

    client: httpx.AsyncClient
    port: int
    admin: str
    metrics: Metrics
    keys: Path
    settings: Settings

    def sample(self, name: str) -> float:
        """Return a metric's value now."""
        return self.sample_of(name)

    def sample_of(self, name: str, **labels: str) -> float:
        """Return a metric's value with these labels."""
        return self.metrics.registry.get_sample_value(f"registration_{name}", labels) or 0.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A command of ours as Kafka has it."""

    record: ConsumerRecord[bytes, bytes]
    headers: dict[str, bytes]
    command: RegisterCustomer


async def logged_in(settings: Settings, group: str) -> Settings:
    """Return settings with a new login, a member of that group."""
    url = await login(settings.database_url.get_secret_value(), group, f"{group}_{os.urandom(4).hex()}")
    return settings.model_copy(update={"database_url": SecretStr(url)})


@asynccontextmanager
async def opened(settings: Settings, folder: Path, *, clock: Clock = time.monotonic, **changed: object) -> AsyncIterator[Door]:
    """Run an ingress in this loop, with its admin port and a login of its own; `changed` replaces settings."""
    jwks = make_keys(folder)
    own = (await logged_in(settings, INGRESS)).model_copy(
        update={"jwks_file": jwks, "jwt_issuer": ISSUER, "development": True, **changed}
    )
    metrics = Metrics()
    async with serving(own, metrics, clock=clock) as (port, health), admin("127.0.0.1", 0, health, metrics) as admin_port:
        headers = {"Authorization": f"Bearer {make_token(folder, ADMIN_ROLE, TENANT.slug, 600)}", "X-Tenant-ID": TENANT.id}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            yield Door(client, port, f"http://127.0.0.1:{admin_port}", metrics, folder, settings)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(IN_TIME_S):
        while not condition():
            await asyncio.sleep(0.01)


async def newest_commands(settings: Settings) -> list[Sent]:
    """Return the last commands that ingresses have sent, oldest first."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition(COMMANDS_TOPIC, each) for each in range(settings.topic_partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        records: list[ConsumerRecord[bytes, bytes]] = []
        async with asyncio.timeout(IN_TIME_S):
            for partition in partitions:
                consumer.seek(partition, max(0, ends[partition] - NEWEST))
                while await consumer.position(partition) < ends[partition]:
                    records.append(await consumer.getone(partition))
    finally:
        await consumer.stop()
    sent = [Sent(record, dict(record.headers), _command(record)) for record in records if _is_ours(record)]
    return sorted(sent, key=lambda each: (each.record.timestamp, each.command.requested_at))


async def command_of(settings: Settings, registration_id: str) -> Sent:
    """Return the command of a registration."""
    (found,) = [each for each in await newest_commands(settings) if each.command.registration_id == registration_id]
    return found


async def decide(connection: Connection, sent: Sent, status: str, code: str, *, later: int = 0, problem: object = None) -> None:
    """Write an outcome as a worker does, of this command or of one that is `later` by so many offsets."""
    await connection.execute(
        "INSERT INTO registrations (registration_id, tenant_id, status, code, problem, command_topic, command_partition,"
        " command_offset, decided_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now())",
        sent.command.registration_id,
        sent.command.tenant_id,
        status,
        code,
        None if problem is None else json.dumps(problem),
        sent.record.topic,
        sent.record.partition,
        sent.record.offset + later,
    )


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


def _command(record: ConsumerRecord[bytes, bytes]) -> RegisterCustomer:
    return RegisterCustomer.model_validate_json(record.value or b"")


def _is_ours(record: ConsumerRecord[bytes, bytes]) -> bool:
    return dict(record.headers).get("ce_source") == INGRESS_SOURCE.encode()
