"""Waiting: for an outcome in time, without one, with a crowd, and while servers are gone."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import httpx

from tests.boundary.ingress_door import (
    HIERARCHY,
    REGISTER,
    TENANT,
    Door,
    decide,
    newest_commands,
    opened,
    problem_of,
    until,
)
from tests.commands import body_of, email_of
from tests.conftest import World
from worker.core import ids
from worker.postgres import connect


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


async def test_a_broker_that_never_answers_keeps_nobody_beyond_the_deadline(world: World, tmp_path: Path) -> None:
    """Callers who come together are refused together, not one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nowhere = f"127.0.0.1:{silent.getsockname()[1]}"
        async with opened(world.settings, tmp_path, kafka_bootstrap=nowhere, produce_timeout_s=2) as alone:
            bodies = [body_of(email_of(f"silent{number}")) for number in range(6)]
            began = time.monotonic()
            answers = await asyncio.gather(*(alone.client.post(REGISTER, json=body) for body in bodies))
            took_s = time.monotonic() - began

    assert took_s < 2 * len(bodies) - 2
    for answer in answers:
        assert "registrationId" not in problem_of(answer, 503, "kafka-unavailable")


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


async def test_a_full_queue_of_hashes_refuses_before_a_body_is_checked_and_never_a_replay(world: World, tmp_path: Path) -> None:
    """What costs no hash is answered all the same; what would is refused before it costs anything else."""
    async with opened(world.settings, tmp_path, hash_threads=1, hash_queue_max=1) as alone:
        known, key = body_of(email_of("known")), {"Idempotency-Key": "known", "Prefer": "respond-async"}
        await alone.client.post(REGISTER, json=known, headers=key)
        await decide(world.connection, (await newest_commands(world.settings))[-1], "REJECTED", "email-taken")
        crowd = [alone.client.post(REGISTER, json=body_of(email_of(f"crowd{n}")), headers={"Prefer": "wait=0"}) for n in range(12)]
        faulty = [alone.client.post(REGISTER, json={"email": 1}) for _ in range(6)]
        replays = [alone.client.post(REGISTER, json=known, headers=key) for _ in range(6)]
        answers = [answer.status_code for answer in await asyncio.gather(*crowd, *faulty, *replays)]

    assert 503 in answers[:12]
    assert 503 in answers[12:18]
    assert answers[18:] == [409] * 6


async def test_a_waiter_heeds_a_dead_letter_only_of_its_own_record(alone: Door, world: World) -> None:
    """FAILED of another command of the same id may be replaced, so waiting goes on; FAILED of one's own ends it."""
    waiting = asyncio.create_task(alone.client.post(REGISTER, json=body_of(email_of("failed"))))
    await until(lambda: alone.sample("waiting") == 1)
    sent = (await newest_commands(world.settings))[-1]
    await decide(world.connection, sent, "FAILED", "schema.invalid", later=1000)
    looked = alone.sample("look_up_seconds_count")
    await until(lambda: alone.sample("look_up_seconds_count") > looked + 1)
    still_waiting = not waiting.done()
    await world.connection.execute("UPDATE registrations SET command_offset = $1", sent.record.offset)
    answer = await waiting
    status = (await alone.client.get(f"/api/v2.1/registrations/{sent.command.registration_id}")).json()["data"]

    assert still_waiting
    problem_of(answer, 500, "processing-failed")
    assert (status["status"], status["problem"]["code"]) == ("FAILED", "processing-failed")


async def test_a_refusal_tells_what_the_worker_stored(alone: Door, world: World) -> None:
    """Faults, missing keys and allowed values of a rejected registration reach the one who waits."""
    waiting = asyncio.create_task(alone.client.post(REGISTER, json=body_of(email_of("refused"))))
    await until(lambda: alone.sample("waiting") == 1)
    fault = {"pointer": "/phone", "code": "phone.not_e164", "detail": "Expected E.164."}
    stored = {"errors": [fault], "missingKeys": ["pep"], "invalidValues": {"riskScore": "0-100"}}
    sent = (await newest_commands(world.settings))[-1]
    await decide(world.connection, sent, "REJECTED", "categorization-invalid", problem=stored)
    told = problem_of(await waiting, 400, "categorization-invalid")

    assert told["errors"] == [fault]
    assert (told["missingKeys"], told["invalidValues"]) == (["pep"], {"riskScore": "0-100"})


async def test_waiting_holds_no_connection_and_one_look_up_serves_all(world: World, tmp_path: Path) -> None:
    """With a single connection to the database, a crowd waits and others are still answered."""
    crowd, wait = 16, {"Prefer": "wait=30"}
    async with opened(world.settings, tmp_path, database_connections=1) as alone:
        bodies = [body_of(email_of(f"crowd{number}")) for number in range(crowd)]
        waiting = [asyncio.create_task(alone.client.post(REGISTER, json=body, headers=wait)) for body in bodies]
        await until(lambda: alone.sample("waiting") == crowd)
        before, began = alone.sample("look_up_seconds_count"), time.monotonic()
        read = await alone.client.get(HIERARCHY)
        missing = await alone.client.get("/api/v2.1/customers/cust_1")
        await until(lambda: alone.sample("look_up_seconds_count") >= before + 5)
        look_ups_per_s = (alone.sample("look_up_seconds_count") - before) / (time.monotonic() - began)
        for sent in (await newest_commands(world.settings))[-crowd:]:
            await decide(world.connection, sent, "REJECTED", "email-taken")
        answers = await asyncio.gather(*waiting)

    assert (read.status_code, missing.status_code) == (200, 404)
    assert look_ups_per_s <= 200
    assert [answer.status_code for answer in answers] == [409] * crowd


async def test_a_database_that_is_gone_makes_no_waiter_fail(world: World, alone: Door) -> None:
    """Reading ends with 503 meanwhile; the waiter gets its outcome once the database is back."""
    waiting = asyncio.create_task(alone.client.post(REGISTER, json=body_of(email_of("gone")), headers={"Prefer": "wait=30"}))
    await until(lambda: alone.sample("waiting") == 1)
    sent = (await newest_commands(world.settings))[-1]
    server, _, database = world.settings.database_url.get_secret_value().rpartition("/")
    own = await connect(f"{server}/postgres", "tests")
    try:
        await own.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        await own.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name <> 'tests'",
            database,
        )
        await until(lambda: alone.sample("look_up_failures_total") >= 2)
        refused = await alone.client.get(f"/api/v2.1/registrations/{sent.command.registration_id}")
        still_waiting = not waiting.done()
    finally:
        await own.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
        await own.close()
    await decide(world.connection, sent, "REJECTED", "email-taken")

    assert still_waiting
    problem_of(refused, 503, "database-unavailable")
    assert refused.headers["retry-after"]
    problem_of(await waiting, 409, "email-taken")
