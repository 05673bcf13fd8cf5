"""Nothing that says something about a person, and no secret, is anywhere but where it must be: whatever goes wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

import pytest

from schemas.commands import COMMANDS_TOPIC
from tests import commands
from tests.boundary.ingress_door import HIERARCHY, REGISTER
from tests.boundary.rings.canary import HASH, SECRET, SOMEBODY, UPSTREAM, as_json, json_escaped, who
from tests.boundary.rings.watched import Watched, watched
from worker.dev.embedded import embedded_stack
from worker.kafka import OutMessage
from worker.postgres import connect

ROOT: Final = Path(__file__).parents[3]
README: Final = (ROOT / "README.md").read_text()
MIGRATIONS: Final = ROOT / "migrations"
HOSTILE: Final = {
    "log_statement": "all",
    "log_duration": "on",
    "log_min_duration_statement": "0",
    "log_error_verbosity": "verbose",
    "log_min_error_statement": "debug5",
    "log_min_messages": "debug1",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "log_lock_waits": "on",
    "deadlock_timeout": "50ms",
}
"""What makes PostgreSQL say most; the statements' parameters above all."""
SMALL_INDEXES: Final = {"log.index.size.max.bytes": "65536"}
"""Kafka's index files are 10 MB of zeros each until they are closed."""
CUSTOMERS: Final = {"table customers", "table persons", "table users"}
IN_TIME_S: Final = 60


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found, by place; and who was sent how."""

    found: dict[str, set[str]]
    nowhere: set[str]
    published: set[str]
    customers: set[str]
    letters: set[str]
    statuses: list[int]

    def places_of(self, label: str) -> set[str]:
        """Return where something was found."""
        return {place for place, labels in self.found.items() if label in labels}


def privacy_sql() -> str:
    """Return the SQL that the README has for administrators."""
    section = README.partition("\n## Privacy\n")[2].partition("\n## ")[0]
    return "\n".join(re.findall(r"```sql\n(.*?)```", section, re.DOTALL))


@pytest.fixture(scope="module")
async def evidence(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Evidence]:
    """Everything that is left after people were registered in every way, on a PostgreSQL that logs all it can."""
    folder = tmp_path_factory.mktemp("privacy")
    async with (
        embedded_stack(None, kafka_properties=SMALL_INDEXES, postgres_settings=HOSTILE) as servers,
        watched(servers, folder, privacy_sql()) as seen,
    ):
        statuses = await _over_http(seen)
        await _by_kafka(seen)
        await _in_races(seen)
        await _while_servers_fail(seen)
        await seen.done()
        await _by_operators(seen)
        await seen.connection.execute("ANALYZE")
        await seen.connection.execute("SET log_parameter_max_length = -1; SET log_error_verbosity = 'default'")
        await seen.connection.fetchval("SELECT $1::text", f"{seen.canaries.person}{LOGGED}")
        yield Evidence(
            await seen.places(),
            nowhere={who(number) for number in NEVER_PUBLISHED},
            published={who(number) for number in (*BECAME_CUSTOMERS, *REFUSED_BY_THE_WORKER, *LETTERS)},
            customers={who(number) for number in BECAME_CUSTOMERS},
            letters={who(number) for number in LETTERS},
            statuses=statuses,
        )


NEVER_PUBLISHED: Final = range(20)
BECAME_CUSTOMERS: Final = range(20, 26)
REFUSED_BY_THE_WORKER: Final = range(30, 34)
WITH_PASSWORD: Final = 34
LETTERS: Final = range(40, 48)
UNKNOWN: Final = 50
"""Kafka went away under the request, so that nobody knows whether it has the command."""
LOGGED: Final = 99
"""Whom the server was told to log, to see that it would."""
KEYS: Final = (b"0", b"2")
"""Of two partitions; a test holds that."""


async def _over_http(seen: Watched) -> list[int]:
    c, key = seen.canaries, f"{seen.canaries.secret}-key"

    async def post(content: bytes, **headers: str) -> int:
        return (await seen.ask("POST", REGISTER, content, **headers)).status_code

    async def get(path: str, **headers: str) -> int:
        return (await seen.ask("GET", path, b"", **headers)).status_code

    good, cut = as_json(c.body(20)), as_json(c.body(0))[:-40]
    faulty = c.body(1, phone=f"{c.person}01", roleIds=[f"{c.person}01"], email=f"{c.person}01", **{f"{c.person}01": c.password})
    faulty["individualCustomer"]["person"] |= {
        "dateOfBirth": f"{c.person}01",
        "nationality": f"{c.person}01",
        "gender": c.person + "01\0",
    }
    unknown = c.body(2, customerCategory={"id": f"{c.person}02"})
    relation = unknown["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]
    relation["parametrization"] += [
        {"name": f"{c.person}02", "value": f"{c.person}02"},
        {"name": "riskScore", "value": f"{c.person}02"},
    ]
    relation["feature"] = {"code": f"{c.person}02", "id": f"{c.person}02"}
    hierarchy = (await seen.ask("GET", HIERARCHY)).json()["data"]["categories"].values()
    forbidden = next(each for each in hierarchy if each["riskLevel"] == "PROHIBITED")
    prohibited = c.body(30, customerCategory={"id": forbidden["databaseId"]})
    prohibited["individualCustomer"]["categorization"] = {"id": forbidden["categoryId"], "categoryFeatureRelations": []}
    taken = c.body(31)
    for place in (taken, taken["individualCustomer"]["person"], taken["individualCustomer"]["user"]):
        place["email"] = f"{c.person}20@example.com"
    taken["individualCustomer"]["user"]["username"] = f"{c.person}20@EXAMPLE.com"
    taken["individualCustomer"]["person"]["contacts"][0]["value"] = f"{c.person}20@example.com"
    return [
        await post(good, idempotency_key=key),
        await post(good, idempotency_key=f'"{key}"'),
        await post(as_json(c.body(3)), idempotency_key=key),
        await post(as_json(taken)),
        await post(as_json(prohibited)),
        await post(cut),
        await post(as_json(faulty)),
        await post(as_json(unknown)),
        await post(good[:-1] + b',"email":"' + f"{c.person}04".encode() + b'"}'),
        await post(as_json(c.body(5, matchingPassword=f"{c.password}!"))),
        await post(as_json(c.body(6)), authorization=f"Bearer {c.secret}.{c.secret}.{c.secret}"),
        await post(as_json(c.body(7)), x_tenant_id=f"{c.person}07"),
        await post(as_json(c.body(8)), idempotency_key=f"{key} {key}"),
        await post(as_json(c.body(9)), content_type=f"text/{c.person}09"),
        await get(f"/api/v2.1/customers/{c.person}10?email={c.person}10@example.com", traceparent=f"00-{c.person}10"),
        await get(f"/api/v2.1/registrations/{c.person}11?password={c.secret}", prefer=f"wait={c.person}11"),
        await get(f"/{c.person}12/%00{c.person}12", x_tenant_id=c.secret),
        await post(as_json(c.body(13)) + b" " * 70_000),
    ]


async def _by_kafka(seen: Watched) -> None:
    c = seen.canaries

    def record(number: int, value: bytes | dict[str, object], **headers: bytes | None) -> OutMessage:
        content = value if isinstance(value, bytes) else as_json(value)
        about = [*commands.headers(**headers), (f"x-{c.person}{number:02d}", f"{c.person}{number:02d}".encode())]
        return OutMessage(COMMANDS_TOPIC, f"{c.person}{number:02d}".encode(), content, about)

    def text(number: int) -> str:
        return f"{c.person}{number:02d}"

    invalid = c.command(32, requestedBy="branch", fingerprint="k9:1")
    invalid["customer"] |= {"phone": text(32), "email": text(32)}
    unknown = c.command(33)
    unknown["customer"]["individualCustomer"]["categorization"] |= {"id": text(33)}
    unknown["customer"]["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]["parametrization"][0]["name"] = text(
        33
    )
    with_password = c.command(34)
    with_password["customer"]["individualCustomer"]["user"]["password"] = c.upstream
    value = as_json(with_password)
    await seen.send(
        record(21, c.command(21), traceparent=text(21).encode(), ce_time=text(21).encode(), ce_subject=text(21).encode()),
        record(32, invalid),
        record(33, unknown),
        record(34, value),
        record(34, value[:-1]),
        record(34, value.decode().encode("utf-16")),
        record(34, value.replace(b'"password"', f'"{json_escaped("password")}"'.encode())),
        record(34, value.replace(b'"password"', f'"{json_escaped("password")}"'.encode())[:-1]),
        record(34, repr(with_password).encode()),
        record(34, as_json(c.command(34)), **{"x-body": value}),
        record(34, as_json(c.command(34))[:-9], password=c.upstream.encode()),
        record(40, as_json(c.command(40))[:-9]),
        record(41, c.command(41), ce_type=None),
        record(42, c.command(42), ce_type=text(42).encode()),
        record(43, c.command(43, tenantId=text(43))),
        record(44, c.command(44), ce_tenantid=text(44).encode()),
        record(45, c.command(45, registrationId=text(45))),
        record(46, c.command(46, fingerprint=f"{text(46)}\0")),
        record(47, as_json([text(47)])),
    )
    await seen.done()


async def _in_races(seen: Watched) -> None:
    """Two partitions take one email, and one registration, at the same moment."""
    c = seen.canaries
    for table, number in (("customers", 22), ("registrations", 23)):
        one, other = c.command(number), c.command(number)
        if table == "registrations":
            other["registrationId"] = one["registrationId"]
        holder = await connect(seen.servers.postgres.url, "tests-holder")
        await holder.execute(f"BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE")
        assert len({crc32(partition_key) % seen.settings.topic_partitions for partition_key in KEYS}) == len(KEYS)
        both = zip(KEYS, (one, other), strict=True)
        await seen.send(
            *(OutMessage(COMMANDS_TOPIC, partition_key, as_json(each), commands.headers()) for partition_key, each in both)
        )
        await seen.waiting_for_lock(2)
        await holder.close()
        await seen.done()


async def _while_servers_fail(seen: Watched) -> None:
    """PostgreSQL, and then Kafka too, killed under requests, and started again."""
    c, key = seen.canaries, f"{seen.canaries.secret}-again"
    await seen.servers.postgres.kill()
    down = [
        await seen.ask("POST", REGISTER, as_json(c.body(24)), prefer="wait=1"),
        await seen.ask("POST", REGISTER, as_json(c.body(25)), idempotency_key=key),
        await seen.ask("GET", f"/api/v2.1/customers/{c.person}14"),
    ]
    await seen.servers.kafka.kill()
    down.append(await seen.ask("POST", REGISTER, as_json(c.body(UNKNOWN))))
    await asyncio.gather(seen.servers.postgres.start(), seen.servers.kafka.start())
    await seen.reconnect()
    async with asyncio.timeout(IN_TIME_S):
        while (await seen.ask("POST", REGISTER, as_json(c.body(25)), idempotency_key=key)).status_code != 201:
            await asyncio.sleep(0.1)
    await seen.done()
    assert [answer.status_code for answer in down] == [202, 503, 503, 503]


async def _by_operators(seen: Watched) -> None:
    rows = await seen.connection.fetch("SELECT DISTINCT ON (status, code) registration_id, code, customer_id FROM registrations")
    of_customer = next(row["customer_id"] for row in rows if row["customer_id"])
    refused = next(row["registration_id"] for row in rows if row["code"] == "validation-failed")
    await asyncio.gather(
        seen.run("status", refused, "--json"),
        seen.run("explain", of_customer, "--check"),
        seen.run("verify"),
        seen.run("partitions"),
        seen.run("tail", "--from-start", "--json", interrupt_after=of_customer.encode()),
    )


async def test_the_search_sees_what_is_there(evidence: Evidence) -> None:
    """Else it would prove nothing: customers in their tables, commands in the topic's files, a value that was to be logged."""
    assert evidence.statuses == [201, 201, 422, 409, 422, 400, 400, 400, 400, 400, 401, 403, 400, 415, 404, 404, 404, 413]
    for place in (*CUSTOMERS, "wal"):
        assert evidence.found[place] >= evidence.customers
    assert evidence.found["commands"] >= evidence.published | {UPSTREAM, HASH, SOMEBODY}
    assert evidence.found["dead letters"] >= evidence.letters
    assert evidence.places_of(who(LOGGED)) == {"postgres/postgres.log"}


async def test_what_an_ingress_is_told_in_secret_is_nowhere(evidence: Evidence) -> None:
    """No password, token or idempotency key, however it is written: in no log, topic, table, answer, or file of a server."""
    assert evidence.places_of(SECRET) == set()


async def test_a_password_that_another_service_sends_is_copied_nowhere(evidence: Evidence) -> None:
    """It stays in the one record that it came with, as does whoever it belongs to."""
    assert evidence.places_of(UPSTREAM) == {"commands"}
    assert evidence.places_of(who(WITH_PASSWORD)) == {"commands"}


async def test_a_password_hash_is_only_in_commands_dead_letters_and_users(evidence: Evidence) -> None:
    """Not in what PostgreSQL samples of a column, either."""
    assert evidence.places_of(HASH) <= {"commands", "dead letters", "table users", "wal"}


async def test_who_was_refused_by_the_ingress_is_nowhere(evidence: Evidence) -> None:
    """A faulty request leaves nothing behind, and its problem repeats nothing."""
    assert {place: names for place, found in evidence.found.items() if (names := found & evidence.nowhere)} == {}


async def test_a_person_is_only_in_commands_dead_letters_and_the_tables_of_customers(evidence: Evidence) -> None:
    """In no log, metric, event, key of an event, problem, other table, or line of an operator's command."""
    allowed = {"commands", "dead letters", "wal", "answers", *CUSTOMERS}
    strangers = evidence.published | {who(UNKNOWN), SOMEBODY}
    found = {place: names for place, labels in evidence.found.items() if place not in allowed and (names := labels & strangers)}

    # The least and the greatest email: the planner has to know that each occurs once.
    assert len(found.pop("table pg_statistic", set())) <= 2
    assert found == {}
    assert evidence.found["dead letters"] & strangers == evidence.letters
    assert evidence.found["answers"] <= evidence.customers
    for table in CUSTOMERS:
        assert evidence.found[table] & evidence.published == evidence.customers


def test_the_readme_tells_administrators_what_the_migration_does() -> None:
    """Where who migrates may not say what the server logs, somebody else has to."""
    migration = next(MIGRATIONS.glob("*_privacy.sql")).read_text()
    stated = [set(re.findall(r"ALTER DATABASE \S+ SET (log_\w+) =", text)) for text in (migration, privacy_sql())]

    assert stated[0] == stated[1] == {"log_parameter_max_length", "log_error_verbosity"}
