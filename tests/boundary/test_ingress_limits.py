"""The limits of the door: sizes, times, numbers and pace, each with its answer, and none that keeps the others out."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.boundary.bare_http import Answer, exchanged, headers_of, hold, parsed
from tests.boundary.ingress_door import ALIAS, HIERARCHY, IN_TIME_S, JSON, REGISTER, Door, opened, problem_of, until
from tests.commands import body, body_of, email_of
from tests.conftest import World
from worker.dev.tokens import ADMIN_ROLE, make_token
from worker.ingress.tokens import TOKEN_MAX

TURN_MAX_S = 0.05


@asynccontextmanager
async def connected(door: Door, sent: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect for the length of a block, and send something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(IN_TIME_S):
            yield reader, writer
    finally:
        writer.transport.abort()


async def to_the_end(reader: asyncio.StreamReader) -> list[Answer]:
    """Return all that comes until the connection is closed."""
    received = b""
    with suppress(ConnectionError):
        received = await reader.read(-1)
    return parsed(received)


def line(door: Door) -> bytes:
    """Return a good request."""
    return f"GET {HIERARCHY} HTTP/1.1\r\nHost: x\r\n{headers_of(door)}\r\n".encode()


# --- pace


async def test_whoever_asks_too_often_is_told_when_to_come_back(world: World, tmp_path: Path) -> None:
    """429 with Retry-After; every answer says what is left; another subject of the tenant goes on."""
    async with opened(world.settings, tmp_path, rate_requests=3, rate_window_s=300) as alone:
        answers = [await alone.client.get(HIERARCHY) for _ in range(4)]
        posted = await alone.client.post(REGISTER, content=b"{", headers=JSON)
        token = make_token(alone.keys, ADMIN_ROLE, "development", 60, "another")
        other = await alone.client.get(HIERARCHY, headers={"Authorization": f"Bearer {token}"})
        stranger = await alone.client.get(HIERARCHY, headers={"Authorization": "Bearer x"})
        problem = await alone.client.get("/problems/too-many-requests")

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    for refused in (answers[-1], posted):
        problem_of(refused, 429, "too-many-requests")
        assert 1 <= int(refused.headers["retry-after"]) <= 100
    left = [answer.headers["ratelimit"].partition(";t=")[0] for answer in answers]
    assert left == [f'"caller";r={each}' for each in (2, 1, 0, 0)]
    assert answers[0].headers["ratelimit-policy"] == '"caller";q=3;w=300'
    assert (other.status_code, stranger.status_code, problem.status_code) == (200, 401, 200)
    assert "ratelimit" not in stranger.headers


async def test_the_pace_is_judged_before_the_body_is_read(world: World, tmp_path: Path) -> None:
    """Who sends too much does not even get to send it."""
    head = "Content-Type: application/json\r\nContent-Length: 60000\r\nExpect: 100-continue\r\n\r\n"
    async with opened(world.settings, tmp_path, rate_requests=1, rate_window_s=300) as alone:
        await alone.client.get(HIERARCHY)
        request = f"POST {ALIAS} HTTP/1.1\r\nHost: x\r\n{headers_of(alone)}{head}"
        async with connected(alone, request.encode()) as (reader, _):
            answers = await to_the_end(reader)

    assert [(answer.status, answer.code) for answer in answers] == [(429, "too-many-requests")]


# --- size


async def test_the_largest_token_passes_and_larger_headers_do_not(door: Door) -> None:
    """What a header may have is what a token may have, and its name."""
    for more, status in ((0, 401), (1_000, 413)):
        token = "t" * (TOKEN_MAX - 100 + more)
        (answer,) = await exchanged(
            door, f"GET {HIERARCHY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        assert answer.status == status


async def test_a_head_that_grows_by_pieces_is_bounded(door: Door) -> None:
    """It need not be complete to be too large."""
    async with connected(door, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ") as (reader, writer):
        ended = asyncio.create_task(to_the_end(reader))
        with suppress(ConnectionError):
            while not ended.done():
                writer.write(b"a" * 4_096)
                await writer.drain()
                await asyncio.sleep(0)
        answers = await ended

    assert [(answer.status, answer.code) for answer in answers] == [(413, "body-too-large")]


# --- time


async def test_a_head_that_does_not_arrive_is_given_up(world: World, tmp_path: Path) -> None:
    """A problem for what was begun, silence for what was not; bytes that come slowly gain no time."""
    async with opened(world.settings, tmp_path, headers_timeout_s=0.3, idle_timeout_s=0.3) as alone:
        async with connected(alone) as (silent, _), connected(alone, b"GET / HTTP/1.1\r\nX-A: ") as (slow, writer):
            began = time.monotonic()
            ended = asyncio.create_task(to_the_end(slow))
            while not ended.done() and time.monotonic() - began < 5:
                writer.write(b"a")
                await asyncio.sleep(0.05)
            assert await to_the_end(silent) == []
            answers = await ended
        async with connected(alone, line(alone)) as (idle, writer):
            kept = await to_the_end(idle)
        async with connected(alone, line(alone)) as (stray, writer):
            ended = asyncio.create_task(to_the_end(stray))
            while not ended.done() and time.monotonic() - began < 10:
                writer.write(b"\r\n")
                await asyncio.sleep(0.05)
            await ended
        ends = [alone.sample_of("http_connections_ended_total", reason=reason) for reason in ("head", "idle")]

    assert [(answer.status, answer.code) for answer in answers] == [(400, "malformed-json")]
    hold(answers)
    assert [answer.status for answer in kept] == [200]
    assert ends == [1, 3]


async def test_a_body_that_does_not_arrive_is_given_up(world: World, tmp_path: Path) -> None:
    """The caller is told so, and the connection ends."""
    async with opened(world.settings, tmp_path, body_timeout_s=0.3) as alone:
        declared = "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        head = f"POST {REGISTER} HTTP/1.1\r\nHost: x\r\n{headers_of(alone)}{declared}"
        async with connected(alone, head.encode() + b"{") as (reader, _):
            answers = await to_the_end(reader)

    assert [(answer.status, answer.code) for answer in answers] == [(400, "malformed-json")]


async def test_an_answer_that_nobody_reads_is_given_up(world: World, tmp_path: Path) -> None:
    """Questions without end, and no ear for the answers: the connection ends, and gives back what it held."""
    async with opened(world.settings, tmp_path, answer_timeout_s=0.3, rate_requests=10**6) as alone:
        page = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        async with connected(alone) as (reader, writer):
            reader.set_exception(ConnectionError())  # it reads no more
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of a socket can
            for _ in range(30):
                writer.write(page * 2)
                await asyncio.sleep(0.01)
            await until(lambda: alone.sample_of("http_connections_ended_total", reason="answer") >= 1)
        assert (await alone.client.get(HIERARCHY)).status_code == 200


# --- number


async def test_a_full_house_makes_room_by_ending_who_has_no_request(world: World, tmp_path: Path) -> None:
    """Whoever has waited longest without a request goes; whoever waits for an outcome stays; a new caller is answered."""
    async with opened(world.settings, tmp_path, connections_max=6, drain_timeout_s=1) as alone:
        waits = {"Prefer": "wait=30"}
        waiting = asyncio.create_task(alone.client.post(REGISTER, json=body_of(email_of("stays")), headers=waits))
        await until(lambda: alone.sample("waiting") == 1)
        slow = [await asyncio.open_connection("127.0.0.1", alone.port) for _ in range(20)]
        for _, writer in slow:
            writer.write(b"GET / HTTP/1.1\r\nX-A: ")
        async with connected(alone, line(alone).replace(b"Host", b"Connection: close\r\nHost")) as (reader, _):
            answers = await to_the_end(reader)
        ended = alone.sample_of("http_connections_ended_total", reason="full")
        stays = not waiting.done()
        waiting.cancel()
        for _, writer in slow:
            writer.transport.abort()

    assert [answer.status for answer in answers] == [200]
    assert ended >= 15
    assert stays


async def test_where_everybody_has_a_request_a_new_caller_is_told_to_come_back(world: World, tmp_path: Path) -> None:
    """503 `overloaded` with Retry-After, at once; those who are inside get their answers."""
    async with opened(world.settings, tmp_path, connections_max=4) as alone:
        inside = [
            asyncio.create_task(alone.client.post(REGISTER, json=body_of(email_of(f"in{n}")), headers={"Prefer": "wait=2"}))
            for n in range(4)
        ]
        await until(lambda: alone.sample("waiting") == 4)
        async with httpx.AsyncClient() as outside:
            refused = await outside.get(f"http://127.0.0.1:{alone.port}/problems/overloaded")
        answers = await asyncio.gather(*inside)
        again = await alone.client.get(HIERARCHY)

    problem_of(refused, 503, "overloaded")
    assert refused.headers["retry-after"]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert again.status_code == 200


# --- the loop


@pytest.mark.parametrize("kind", ["faults", "values", "controls"])
async def test_the_worst_bodies_keep_the_loop_for_less_than_a_twentieth_of_a_second(alone: Door, kind: str) -> None:
    """5,000 faults, 15,000 values and 6,000 escapes: in the best of five tries no turn of the loop computes for longer."""
    worst = body()
    bad = {"feature": {"id": 1, "code": 1}, "enabled": 1, "parametrization": [{"name": 1, "value": 1}] * 50}
    if kind == "faults":
        worst["individualCustomer"]["categorization"]["categoryFeatureRelations"] = [bad] * 50
    else:
        worst["more"] = [""] * 15_000 if kind == "values" else ["\x01"] * 6_000
        worst["phone"] = 7
    content = json.dumps(worst, separators=(",", ":")).encode()
    longest_s = []
    for _ in range(5):
        turns = asyncio.create_task(_longest_turn_s(answered := asyncio.Event()))
        answer = await alone.client.post(REGISTER, content=content, headers=JSON)
        answered.set()
        longest_s.append(await turns)
        problem_of(answer, 400, "validation-failed")

    assert min(longest_s) < TURN_MAX_S


async def _longest_turn_s(ended: asyncio.Event) -> float:
    """Return how long this thread computed at most until it was this task's turn again; others' load counts for nothing."""
    longest_s = 0.0
    while not ended.is_set():
        began = time.thread_time()
        await asyncio.sleep(0)
        longest_s = max(longest_s, time.thread_time() - began)
    return longest_s


# --- the admin port


async def test_the_admin_port_has_limits_too(alone: Door) -> None:
    """What is no HTTP, too large or of another method is refused there as well, and health is told."""
    own = int(alone.admin.rpartition(":")[2])
    statuses = []
    for sent in (b"\0\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", own)
        writer.write(sent)
        statuses += [answer.status for answer in await to_the_end(reader)]
        writer.transport.abort()
    async with httpx.AsyncClient(base_url=alone.admin) as client:
        other, alive = await client.post("/livez"), await client.get("/livez")

    assert statuses == [400, 413]
    assert (other.status_code, other.headers["allow"], alive.status_code) == (405, "GET, HEAD", 200)


# --- what is counted


async def test_every_route_has_its_name_in_the_metrics(alone: Door) -> None:
    """The description and the documentation too; whatever is not there shares one name."""
    page = (await alone.client.get("/docs")).text
    script = page.split('src="')[1].split('"')[0]
    for path in ("/openapi.json", script, "/none", "/static-offline-docs/none"):
        await alone.client.get(path)
    for method in ("POST", "PUT"):
        for path in ("/openapi.json", "/docs", script):
            assert (await alone.client.request(method, path)).headers["allow"]
    counted = {
        route: alone.sample_of("http_requests_total", method="GET", route=route, status="200", code="")
        for route in ("/openapi.json", "/docs", "/static-offline-docs")
    }

    assert counted == {"/openapi.json": 1, "/docs": 1, "/static-offline-docs": 1}
    assert alone.sample_of("http_requests_total", method="GET", route="unmatched", status="404", code="not-found") == 1
