"""Idempotency-Key: one key is one registration, however often, at which ingress and at the same time as what."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.events import EVENTS_TOPIC
from tests.boundary.ingress_door import JSON, REGISTER, TENANT, Door, decide, newest_commands, opened, problem_of
from tests.commands import body_of, email_of
from tests.conftest import World
from worker.core import ids
from worker.dev.tokens import ADMIN_ROLE, make_token
from worker.kafka import Partition, Reader

CROWD = 64


def with_key(key: str, **more: str) -> dict[str, str]:
    """Return the headers of a request with a key."""
    return {"Idempotency-Key": key, **more}


async def post(door: Door, key: str, body: dict[str, Any], **more: str) -> httpx.Response:
    """Send a registration with a key."""
    return await door.client.post(REGISTER, json=body, headers=with_key(key, **more))


async def test_a_retry_is_answered_like_the_first_request(door: Door) -> None:
    """Quoted or bare, with the members in another order: the same customer, and the answer says that it is a replay."""
    body = body_of(email_of("retry"))
    first = await post(door, "retry-1", body)
    reordered = json.dumps(dict(reversed(body.items())), indent=2)
    again = await door.client.post(REGISTER, content=reordered, headers=JSON | with_key('"retry-1"'))

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_retry_is_answered_before_the_rules_are_asked(door: Door) -> None:
    """They may have changed since: here the password, which no fingerprint knows, would no longer do."""
    body = body_of(email_of("rules"))
    first = await post(door, "rules-1", body)
    weak = json.loads(json.dumps(body).replace("SecurePass123!", "short"))
    again = await post(door, "rules-1", weak)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    problem_of(await door.client.post(REGISTER, json=weak), 400, "validation-failed")


async def test_another_ingress_and_one_that_was_started_later_know_the_key(door: Door, tmp_path: Path) -> None:
    """Nothing of it is kept in a process."""
    body = body_of(email_of("replica"))
    first = await post(door, "replica-1", body)
    async with opened(door.settings, tmp_path) as other:
        again = await post(other, "replica-1", body)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_refusal_is_replayed_too(door: Door) -> None:
    """The email was taken when it was first asked: so it stays, under this key."""
    email = email_of("taken")
    await door.client.post(REGISTER, json=body_of(email))
    first, again = [await post(door, "taken-1", body_of(email)) for _ in range(2)]

    problem_of(first, 409, "email-taken")
    problem_of(again, 409, "email-taken")
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_key_belongs_to_its_first_body(door: Door) -> None:
    """Another body is refused, and nobody is registered by it."""
    first = await post(door, "body-1", body_of(email_of("body")))
    other = email_of("other")
    refused = await post(door, "body-1", body_of(other))

    assert first.status_code == 201
    assert "idempotency-replayed" not in refused.headers
    problem_of(refused, 422, "idempotency-key-reused")
    assert (await door.client.post(REGISTER, json=body_of(other))).status_code == 201


@pytest.mark.parametrize("number", range(3))
async def test_of_two_bodies_in_flight_one_wins(door: Door, number: int) -> None:
    """The first to commit; every waiter compares, so that the other one is told."""
    bodies = [body_of(email_of(f"race{number}")) for _ in range(2)]
    answers = await asyncio.gather(*(post(door, f"race-{number}", body) for body in bodies))
    again = await asyncio.gather(*(post(door, f"race-{number}", body) for body in bodies))

    assert sorted(answer.status_code for answer in answers) == [201, 422]
    assert [answer.status_code for answer in again] == [answer.status_code for answer in answers]


async def test_a_crowd_with_one_key_makes_one_customer(door: Door, tmp_path: Path) -> None:
    """At two ingresses at once: one customer, one event, one hash for each process at most."""
    body, hashed = body_of(email_of("crowd")), door.sample("hash_seconds_count")
    async with opened(door.settings, tmp_path) as other:
        answers = await asyncio.gather(*(post(door if n % 2 else other, "crowd-1", body) for n in range(CROWD)))
    data = {json.dumps(answer.json()) for answer in answers}
    customer_id = answers[0].json()["data"]["id"]

    assert {answer.status_code for answer in answers} == {201}
    assert len(data) == 1
    assert door.sample("hash_seconds_count") == hashed + 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) <= 1
    assert len(await ce_ids_of(door, customer_id)) == 1


async def test_a_crowd_with_one_email_makes_one_customer(door: Door) -> None:
    """Without keys: all others are told that it is taken."""
    body = body_of(email_of("crowd"))
    answers = await asyncio.gather(*(door.client.post(REGISTER, json=body) for _ in range(CROWD)))

    assert sorted(answer.status_code for answer in answers) == [201, *[409] * (CROWD - 1)]


async def test_a_key_is_its_callers_own(door: Door) -> None:
    """The same key of another subject is another registration."""
    token = make_token(door.keys, ADMIN_ROLE, TENANT.slug, 600, subject="somebody-else")
    first = await post(door, "own-1", body_of(email_of("own")))
    other = await post(door, "own-1", body_of(email_of("own")), Authorization=f"Bearer {token}")

    assert (first.status_code, other.status_code) == (201, 201)
    assert first.json()["data"]["id"] != other.json()["data"]["id"]


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, '"open', '"a"b"', "clé", '""', "tab\there"])
async def test_a_key_that_is_none_is_refused(door: Door, key: str) -> None:
    """1 to 255 visible ASCII characters."""
    headers = [*door.client.headers.raw, (b"idempotency-key", key.encode()), (b"content-type", b"application/json")]
    answer = await door.client.post(REGISTER, content=json.dumps(body_of(email_of("none"))), headers=headers)

    told = problem_of(answer, 400, "idempotency-key-invalid")
    assert not key.strip(' "') or key not in json.dumps(told)


async def test_two_keys_are_none(door: Door) -> None:
    """Which of them would it be?"""
    headers = [*door.client.headers.raw, (b"idempotency-key", b"one"), (b"idempotency-key", b"two")]
    answer = await door.client.post(REGISTER, json=body_of(email_of("two")), headers=headers)

    problem_of(answer, 400, "idempotency-key-invalid")


async def test_the_longest_key_in_quotes_does(door: Door) -> None:
    """Escapes stand for themselves."""
    body = body_of(email_of("long"))
    bare = '\\"' + "k" * 253
    quoted = '"' + bare.replace("\\", "\\\\").replace('"', '\\"') + '"'
    answers = [await post(door, key, body) for key in (bare, quoted)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


async def test_without_an_outcome_the_key_leads_to_what_is_pending(alone: Door) -> None:
    """The id has no time, so that there is no age; and no key in it or anywhere."""
    body = body_of(email_of("later"))
    first, again = [await post(alone, "a-key-of-the-caller", body, Prefer="respond-async") for _ in range(2)]
    status = await alone.client.get(first.headers["location"])
    uuid = ids.registration_uuid(first.json()["data"]["registrationId"])

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json() == status.json()
    assert uuid is not None
    assert ids.made_at_ms(uuid) is None


async def test_what_failed_is_tried_again(alone: Door, world: World) -> None:
    """A dead letter is no outcome: the command goes out again, whatever the body; no key stands in what is sent."""
    first = await post(alone, "a-key-that-failed", body_of(email_of("failed")), Prefer="respond-async")
    registration_id = first.json()["data"]["registrationId"]
    sent = [each for each in await newest_commands(world.settings) if each.command.registration_id == registration_id]
    await decide(world.connection, sent[0], "FAILED", "schema.invalid")
    again = await post(alone, "a-key-that-failed", body_of(email_of("mended")), Prefer="respond-async")
    after = [each for each in await newest_commands(world.settings) if each.command.registration_id == registration_id]

    assert again.status_code == 202
    assert len(after) == len(sent) + 1
    assert all(b"a-key-that-failed" not in b"".join([each.record.value or b"", *each.headers.values()]) for each in after)


async def test_a_key_is_not_guessed_about_while_the_database_is_away(world: World, tmp_path: Path) -> None:
    """Whether it was sent before nobody can say: the caller is asked to come again, and nothing is sent."""
    async with opened(world.settings, tmp_path) as alone:
        body = body_of(email_of("away"))
        await world.connection.execute("BEGIN; LOCK TABLE registrations IN ACCESS EXCLUSIVE MODE")
        answer = await post(alone, "away-1", body)
        await world.connection.execute("ROLLBACK")
        later = await post(alone, "away-1", body, Prefer="respond-async")

    assert problem_of(answer, 503, "database-unavailable")
    assert answer.headers["retry-after"]
    assert later.status_code == 202
    assert "idempotency-replayed" not in later.headers


async def ce_ids_of(door: Door, customer_id: str) -> set[bytes | None]:
    """Return the ids of a customer's events."""
    async with Reader(door.settings.kafka_bootstrap, client_id="tests") as reader:
        bounds = await reader.bounds(EVENTS_TOPIC)
        return {
            dict(record.headers)["ce_id"]
            for number, (start, end) in bounds.items()
            async for records in reader.read(Partition(EVENTS_TOPIC, number), start, end)
            for record in records
            if record.key == customer_id.encode()
        }
