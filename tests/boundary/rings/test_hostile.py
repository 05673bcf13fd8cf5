"""
What a stranger may send: bytes, headers, tokens and bodies of every kind, each followed by a good request.

No answer is an error of ours, none repeats what was sent, and nothing ends but the connection.
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.boundary.bare_http import CANARY, Answer, exchanged, headers_of, hold
from tests.boundary.ingress_door import HIERARCHY, JSON, REGISTER, Door
from tests.boundary.rings import hostile_bodies, hostile_http, hostile_tokens
from tests.boundary.rings.hostile_tokens import Forge
from tests.commands import body_of, email_of


async def is_well(door: Door) -> None:
    """A good request is answered."""
    assert (await door.client.get(HIERARCHY)).status_code == 200


@pytest.fixture(autouse=True, scope="module")
async def _registers_at_the_end(door: Door) -> AsyncIterator[None]:
    """After everything else a registration is made as if nothing had been."""
    yield
    assert (await door.client.post(REGISTER, json=body_of(email_of("after")))).status_code == 201


@pytest.mark.parametrize("name", hostile_http.CASES)
async def test_whatever_is_sent_in_place_of_http_is_a_problem_or_silence(door: Door, name: str) -> None:
    """Where HTTP allows an answer at all, it is application/problem+json; another request goes through."""
    sent, statuses = hostile_http.CASES[name]
    auth = headers_of(door).encode()
    token = auth.partition(b"\r\n")[0] + b"\r\n"
    answers = await exchanged(door, sent.replace(b"{auth}", auth).replace(b"{token}", token), ends=not statuses)

    hold(answers)
    assert tuple(answer.status for answer in answers) == statuses
    await is_well(door)


@pytest.fixture(scope="module")
def forge(door: Door) -> Forge:
    """Whoever makes tokens."""
    return Forge(door.keys)


@pytest.mark.parametrize("name", hostile_tokens.CASES)
async def test_a_token_that_is_none_opens_nothing(door: Door, forge: Forge, name: str) -> None:
    """Only the trusted key and its own algorithm, for us, now, for this tenant."""
    make, expected = hostile_tokens.CASES[name]
    answer = await door.client.get(HIERARCHY, headers={"Authorization": f"Bearer {make(forge)}"})
    told = Answer(answer.status_code, dict(answer.headers), answer.content)

    hold([told])
    assert (told.status, told.code) == expected
    await is_well(door)


async def posted(door: Door, content: bytes) -> Answer:
    """Post a body; return what came back."""
    answer = await door.client.post(REGISTER, content=content, headers=JSON)
    return Answer(answer.status_code, dict(answer.headers), answer.content)


@pytest.mark.parametrize("name", hostile_bodies.DOCUMENTS)
async def test_a_body_that_no_client_of_good_will_sends_is_a_problem(door: Door, name: str) -> None:
    """JSON of every kind, and what is none."""
    content, code = hostile_bodies.DOCUMENTS[name]
    answer = await posted(door, content)

    hold([answer])
    assert (answer.status, answer.code) == (400, code)
    await is_well(door)


@pytest.mark.parametrize("name", hostile_bodies.CHANGES)
async def test_a_body_with_an_odd_value_is_taken_in_as_it_is_or_refused(door: Door, name: str) -> None:
    """Texts in any script come back as they were sent; what is not allowed is named, and not repeated."""
    changes, is_good = hostile_bodies.CHANGES[name]
    body = hostile_bodies.changed(email_of("odd"), changes)
    answer = await posted(door, json.dumps(body).encode())

    hold([answer])
    if is_good:
        shown = (await door.client.get(answer.headers["location"])).json()["data"]
        assert answer.status == 201
        assert shown["person"]["firstName"] == body["firstName"]
        assert shown["user"]["isActive"] is False
    else:
        assert (answer.status, answer.code) in {(400, "validation-failed"), (400, "categorization-invalid")}
        await is_well(door)


async def test_one_email_at_once_makes_one_customer(door: Door) -> None:
    """Ten who come together: one customer, nine refusals."""
    body = json.dumps(body_of(email_of("race"))).encode()
    answers = await asyncio.gather(*(posted(door, body) for _ in range(10)))

    hold(answers)
    assert sorted((answer.status, answer.code) for answer in answers) == [(201, ""), *[(409, "email-taken")] * 9]


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99, 1.0])
async def test_whoever_leaves_in_the_middle_harms_nobody(door: Door, part: float) -> None:
    """A body that ends in the middle makes no customer; one that is whole makes its own, whoever waits for the answer."""
    content = json.dumps(body_of(email_of("gone"))).encode()
    head = f"POST {REGISTER} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers_of(door)}"
    for _ in range(10):
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[: int(len(content) * part)])
        await writer.drain()
        writer.transport.abort()
    answer = await posted(door, content)

    hold([answer])
    assert answer.status == 201 if part < 1 else answer.status in {201, 409}


async def test_posts_in_a_row_on_one_connection_are_answered_in_their_order(door: Door) -> None:
    """Pipelining: a registration, a question and another registration, each with its own answer."""
    contents = [json.dumps(body_of(email_of(f"row{number}"))).encode() for number in range(2)]
    head = f"Host: x\r\nContent-Type: application/json\r\n{headers_of(door)}"
    posts = [f"POST {REGISTER} HTTP/1.1\r\n{head}Content-Length: {len(each)}\r\n\r\n".encode() + each for each in contents]
    last = f"GET /none HTTP/1.1\r\nConnection: close\r\n{head}\r\n".encode()
    answers = await exchanged(door, posts[0] + f"GET {HIERARCHY} HTTP/1.1\r\n{head}\r\n".encode() + posts[1] + last)

    hold(answers)
    assert [answer.status for answer in answers] == [201, 200, 201, 404]


async def test_whoever_sends_no_more_is_still_answered(door: Door) -> None:
    """Half a connection is closed once the request is whole; the answer comes on the other."""
    request = f"GET {HIERARCHY} HTTP/1.1\r\nHost: x\r\n{headers_of(door)}\r\n".encode()

    assert [answer.status for answer in await exchanged(door, request * 3 + b"\0\r\n", ends=True)] == [200, 200, 200, 400]


async def test_a_thousand_slow_connections_keep_nobody_out(door: Door) -> None:
    """Silence, half a head, or half a body behind a good token; a registration meanwhile is answered in under two seconds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8_192), hard), hard))
    slow: list[asyncio.StreamWriter] = []
    try:
        for number in range(1_000):
            _, writer = await asyncio.open_connection("127.0.0.1", door.port)
            slow.append(writer)
            head = f"POST {REGISTER} HTTP/1.1\r\nHost: x\r\n{headers_of(door)}Content-Type: application/json\r\n"
            writer.write(("", f"{head}X-A: {CANARY}", f"{head}Content-Length: 99\r\n\r\n{{")[number % 3].encode())
        began = time.monotonic()
        for writer in slow[1::3]:
            writer.write(b"a")
        async with httpx.AsyncClient(base_url=str(door.client.base_url), headers=door.client.headers) as fresh:
            answer = await fresh.post(REGISTER, json=body_of(email_of("fast")), timeout=10)
        took_s = time.monotonic() - began
    finally:
        for writer in slow:
            writer.transport.abort()

    assert answer.status_code == 201
    assert took_s < 2
