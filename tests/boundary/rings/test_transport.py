"""Servers that demand TLS and a password: with the right settings all works, with wrong ones nothing does, and nothing hangs."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from schemas.events import EVENTS_TOPIC
from tests import certificates
from tests.boundary.conditions import until
from tests.boundary.ingress_door import REGISTER, TENANT
from tests.boundary.members import Known
from tests.boundary.rings.tls_door import tls_door
from tests.certificates import Certificates
from tests.commands import body_of, email_of
from tests.conftest import settings_of
from worker import app
from worker.config import PREFIX, Settings
from worker.dev.database import DATABASE
from worker.dev.embedded import embedded_stack
from worker.dev.process import Child, temporary_folder
from worker.dev.stack import CATALOGUE
from worker.dev.tokens import ADMIN_ROLE, ISSUER, make_keys, make_token
from worker.errors import ConfigurationError, UnavailableError
from worker.ingress import serving
from worker.kafka import Member, OutMessage, Partition, Reader, create_topics, security_of
from worker.metrics import Metrics
from worker.migrate import migrate
from worker.operate import catalogue, status
from worker.tls import Pem

USER: Final = "registration-worker"
SECRET: Final = "Hq3vZ-swordfish"
MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256")
DEADLINE_S: Final = 30


@dataclass(frozen=True, slots=True)
class World:
    """Settings that are right, and the files they name."""

    settings: Settings
    files: Certificates
    database: str
    """The database's URL without its parameters."""

    @property
    def password(self) -> str:
        """The database's password."""
        return urlsplit(self.database).password or ""

    def but(self, **changed: object) -> Settings:
        """Return the settings with some of them replaced, unchecked."""
        return self.settings.model_copy(update=changed)

    def but_database(self, parameters: str, *, password: bool = True) -> Settings:
        """Return the settings with other parameters of the database's URL, or with a wrong password."""
        base = self.database if password else self.database.replace("@", "x@")
        return self.but(database_url=SecretStr(f"{base}?{parameters}"))


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    """Both servers behind TLS alone: Kafka wants a client's certificate and SCRAM, PostgreSQL SCRAM."""
    with temporary_folder("registration-tests-") as folder:
        files = certificates.make(folder)
        cert, key = Pem("cert", files.server_cert), Pem("key", files.server_key)
        async with (
            embedded_stack(None, kafka_properties=_demanding(files), kafka_format_options=_known()) as servers,
            tls_door(urlsplit(servers.postgres.url).port or 0, cert, key) as port,
        ):
            database = f"{servers.postgres.url.rpartition(':')[0]}:{port}/{DATABASE}"
            settings = settings_of(
                servers,
                f"{database}?sslmode=verify-full&sslrootcert={files.ca}",
                kafka_security_protocol="SASL_SSL",
                kafka_security_username=USER,
                kafka_security_password=SECRET,
                kafka_security_ca_file=files.ca,
                kafka_security_cert_file=files.client_cert,
                kafka_security_key_file=files.client_key,
                http_tls_cert_file=files.server_cert,
                http_tls_key_file=files.server_key,
                jwks_file=make_keys(folder),
                jwt_issuer=ISSUER,
                development=True,
            )
            code, _, err = await _registration(settings, "migrate")
            assert code == 0, err
            await catalogue.apply(settings.database_url.get_secret_value(), CATALOGUE, by="tests", yes=True)
            yield World(settings, files, database)


def _demanding(files: Certificates) -> dict[str, str]:
    """Return properties of a Kafka that lets in who has a certificate of our authority, and logs in; itself too."""
    login = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{USER}" password="{SECRET}";'
    return {
        "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:PLAINTEXT",
        "listener.name.client.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(files.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(files.ca),
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "sasl.mechanism.inter.broker.protocol": MECHANISMS[0],
        **{f"listener.name.client.{each.lower()}.sasl.jaas.config": login for each in MECHANISMS},
    }


def _known() -> list[str]:
    """Return how a new Kafka is told of its user."""
    return [part for each in MECHANISMS for part in ("--add-scram", f"{each}=[name={USER},password={SECRET}]")]


def _environment(settings: Settings) -> dict[str, str]:
    """Return these settings as environment variables."""
    values = {name: getattr(settings, name) for name in settings.model_fields_set}
    return {
        f"{PREFIX}{name.upper()}": str(value.get_secret_value() if isinstance(value, SecretStr) else value)
        for name, value in values.items()
        if value is not None
    }


async def _registration(settings: Settings, *arguments: str) -> tuple[int | None, str, str]:
    """Run a command with these settings to its end; return exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments),
        env={**os.environ, **_environment(settings)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def _running(settings: Settings, command: str, log: Path) -> AsyncIterator[Child]:
    """Run a process with these settings for the length of a block; SIGTERM ends it well."""
    variables = [f"{name}={value}" for name, value in _environment(settings).items()]
    command_line = ["/usr/bin/env", *variables, sys.executable, "-m", "worker", command]
    child = Child(command_line, log=log, death_signal=signal.SIGKILL)
    try:
        yield child
        child.signal(signal.SIGTERM)
        assert await child.ended(DEADLINE_S), child.last_lines()
        assert child.exit_code == 0, child.last_lines()
    finally:
        child.kill()


async def _port_of(ingress: Child) -> int:
    """Return where an ingress listens, once it says so."""

    async def told() -> int:
        lines = [json.loads(line) for line in ingress.output().splitlines(keepends=True) if line.endswith("\n")]
        return next((int(line["http_port"]) for line in lines if line["event"] == "ingress.started"), 0)

    return await until(told, "the ingress listens")


@asynccontextmanager
async def _working(settings: Settings) -> AsyncIterator[app.Starting]:
    """Run a worker for the length of a block."""
    stop, health = asyncio.Event(), app.Starting()
    working = asyncio.create_task(app.consume(settings, stop, Metrics(), health.become))
    try:
        yield health
    finally:
        stop.set()
        await asyncio.wait_for(working, DEADLINE_S)


@asynccontextmanager
async def _calling(world: World, port: int) -> AsyncIterator[httpx.AsyncClient]:
    """Call an ingress as an administrator who trusts our authority alone."""
    token = make_token(world.files.ca.parent, ADMIN_ROLE, TENANT.slug, 600)
    headers = {"Authorization": f"Bearer {token}", "X-Tenant-ID": TENANT.id, "Prefer": "wait=30"}
    url, context = f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=world.files.ca)
    async with httpx.AsyncClient(base_url=url, headers=headers, verify=context, timeout=60) as client:
        yield client


async def test_a_registration_goes_encrypted_from_request_to_event(world: World, tmp_path: Path) -> None:
    """Over HTTPS in, through Kafka into PostgreSQL and out again, each connection by TLS; then nothing is found wrong."""
    logs = tmp_path / "worker.log", tmp_path / "ingress.log"
    async with (
        _running(world.settings, "worker", logs[0]),
        _running(world.settings, "ingress", logs[1]) as ingress,
        _calling(world, await _port_of(ingress)) as client,
    ):
        answer = await client.post(REGISTER, json=body_of(email_of("encrypted")))
        location = await client.get(answer.headers["location"])
    customer = answer.json()["data"]["id"]
    security = security_of(world.settings)
    async with Reader(world.settings.kafka_bootstrap, client_id="tests", security=security) as reader:
        keys = [
            record.key
            for number, (start, end) in (await reader.bounds(EVENTS_TOPIC)).items()
            async for records in reader.read(Partition(EVENTS_TOPIC, number), start, end)
            for record in records
        ]
    code, out, err = await _registration(world.settings, "verify")

    assert (answer.status_code, location.status_code) == (201, 200)
    assert keys == [customer.encode()]
    assert code == 0, out
    assert SECRET not in out + err + "".join(log.read_text() for log in logs)


async def test_the_older_mechanism_works_too(world: World) -> None:
    """Some clusters have no other."""
    security = security_of(world.but(kafka_security_mechanism="SCRAM-SHA-256"))
    async with Reader(world.settings.kafka_bootstrap, client_id="tests", security=security) as reader:
        assert await reader.bounds(EVENTS_TOPIC)


WRONG_KAFKA: Final[dict[str, Callable[[World], Settings]]] = {
    "password": lambda w: w.but(kafka_security_password=SecretStr(f"{SECRET}x")),
    "user": lambda w: w.but(kafka_security_username="nobody"),
    "authority": lambda w: w.but(kafka_security_ca_file=w.files.other_ca),
    "no certificate": lambda w: w.but(kafka_security_cert_file=None, kafka_security_key_file=None),
    "no login": lambda w: w.but(kafka_security_protocol="SSL"),
    "no encryption": lambda w: w.but(kafka_security_protocol="SASL_PLAINTEXT"),
    "nothing": lambda w: w.but(kafka_security_protocol="PLAINTEXT"),
}


async def _member(settings: Settings) -> None:
    member = Member(app.membership(settings), Known())
    try:
        await member.join()
    finally:
        await member.leave()


async def _producer(settings: Settings) -> None:
    producer = app.producer_of(settings, "tests")
    try:
        await producer.send_all([OutMessage(EVENTS_TOPIC, None, b"", ())])
    finally:
        await producer.stop()


async def _reader(settings: Settings) -> None:
    async with Reader(settings.kafka_bootstrap, client_id="tests", security=security_of(settings)) as reader:
        await reader.bounds(EVENTS_TOPIC)


async def _topics(settings: Settings) -> None:
    await create_topics(settings.kafka_bootstrap, {}, partitions=1, replicas=1, security=security_of(settings))


@pytest.mark.parametrize("client", [_member, _producer, _reader, _topics])
@pytest.mark.parametrize("wrong", WRONG_KAFKA)
async def test_kafka_is_unavailable_to_each_client_that_is_not_let_in(
    world: World, logged: io.StringIO, wrong: str, client: Callable[[Settings], Coroutine[Any, Any, None]]
) -> None:
    """Within the deadline of a call, and no log repeats the password."""
    with pytest.raises(UnavailableError, match="kafka"):
        await asyncio.wait_for(client(WRONG_KAFKA[wrong](world)), DEADLINE_S)

    assert "kafka.client" in logged.getvalue()
    assert SECRET not in logged.getvalue()


WRONG_DATABASE: Final[dict[str, Callable[[World], Settings]]] = {
    "password": lambda w: w.but_database(f"sslmode=verify-full&sslrootcert={w.files.ca}", password=False),
    "authority": lambda w: w.but_database(f"sslmode=verify-full&sslrootcert={w.files.other_ca}"),
    "no encryption": lambda w: w.but_database("sslmode=disable"),
}


async def _pool(settings: Settings) -> None:
    database = app.database_of(settings, "tests")
    try:
        await database.run(lambda connection: connection.fetchval("SELECT 1"))
    finally:
        await database.close()


async def _session(settings: Settings) -> None:
    await status.status(settings, "reg_none")


async def _migrator(settings: Settings) -> None:
    await migrate(settings.database_url.get_secret_value())


@pytest.mark.parametrize("door", [_pool, _session, _migrator])
@pytest.mark.parametrize("wrong", WRONG_DATABASE)
async def test_the_database_is_unavailable_through_each_door_that_is_not_let_in(
    world: World, logged: io.StringIO, wrong: str, door: Callable[[Settings], Coroutine[Any, Any, None]]
) -> None:
    """Within the deadline of a connection, and the message holds no password."""
    settings = WRONG_DATABASE[wrong](world)
    with pytest.raises(UnavailableError, match="database") as raised:
        await asyncio.wait_for(door(settings), DEADLINE_S)

    assert world.password not in str(raised.value) + logged.getvalue()


@pytest.mark.parametrize(
    ("service", "wrong"), [("kafka", WRONG_KAFKA["password"]), ("database", WRONG_DATABASE["authority"])], ids=["kafka", "database"]
)
async def test_a_command_that_is_not_let_in_says_so(world: World, service: str, wrong: Callable[[World], Settings]) -> None:
    """Exit code 3, the last line names the server, and none holds a password."""
    code, out, err = await _registration(wrong(world), "verify")

    assert code == 3, err
    assert err.splitlines()[-1].startswith(f"registration: {service} is unavailable: ")
    assert "Traceback" not in err
    assert SECRET not in out + err
    assert world.password not in out + err


async def test_a_worker_that_is_not_let_in_says_so_and_still_ends(world: World, logged: io.StringIO) -> None:
    """It waits for better times, is not ready, and does what SIGTERM asks."""
    async with _working(WRONG_KAFKA["password"](world)) as health:

        async def told() -> bool:
            return bool(health.reasons())

        await until(told, "it is not ready")

    assert "worker.stopped" in logged.getvalue()
    assert SECRET not in logged.getvalue()


async def test_https_answers_neither_plain_http_nor_those_who_do_not_trust_it(world: World) -> None:
    """A caller that expects another authority or no encryption gets no answer, and others go on."""
    async with serving(world.settings, Metrics()) as (port, _), _calling(world, port) as client:
        other = ssl.create_default_context(cafile=world.files.other_ca)
        async with httpx.AsyncClient(verify=other) as stranger:
            with pytest.raises(httpx.ConnectError):
                await stranger.get(f"https://127.0.0.1:{port}/openapi.json")
            with pytest.raises(httpx.TransportError):
                await stranger.get(f"http://127.0.0.1:{port}/openapi.json")
        answer = await client.get("/openapi.json")

    assert answer.status_code == 200


async def test_a_file_that_is_wrong_ends_the_process_with_the_name_of_its_setting(world: World) -> None:
    """One line after the settings, exit code 2: no restart would mend it."""
    code, _, err = await _registration(world.but(http_tls_key_file=world.files.client_key), "ingress")

    assert code == 2, err
    assert err.splitlines()[-1].startswith("registration: REGISTRATION_HTTP_TLS_KEY_FILE: ")
    assert SECRET not in err


async def test_each_door_looks_at_its_files_before_it_knocks(world: World) -> None:
    """A worker would else wait for a server that it can never trust."""
    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_KAFKA_SECURITY_CA_FILE: "):
        app.producer_of(world.but(kafka_security_ca_file=world.files.client_key), "tests")
    nowhere = world.but_database("sslmode=verify-full&sslrootcert=/none.pem")
    for door in (_pool, _session, _migrator):
        with pytest.raises(ConfigurationError, match=r"^REGISTRATION_DATABASE_URL: sslrootcert: can't read /none.pem"):
            await door(nowhere)
