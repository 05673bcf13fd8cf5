"""How connections end that nobody should wait for, and what those are told whom the process has no more time for."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests import certificates
from tests.boundary.bare_http import headers_of, parsed
from tests.boundary.ingress_door import HIERARCHY, IN_TIME_S, REGISTER, logged_in, opened, until
from tests.commands import body_of, email_of
from tests.conftest import World
from tests.servers import Servers, signal_kafka
from worker.admin import admin_app, http_server, listening, port_of
from worker.connections import Limits, Room
from worker.dev.logins import INGRESS
from worker.dev.tokens import ISSUER, make_keys
from worker.ingress import serving
from worker.metrics import Metrics

SOON_S = 4


async def test_whoever_never_begins_tls_is_given_up_as_early_as_whoever_begins_no_request(world: World, tmp_path: Path) -> None:
    """Such a connection holds a file of the process, and no limit of connections counts it."""
    files = certificates.make(tmp_path)
    settings = (await logged_in(world.settings, INGRESS)).model_copy(
        update={
            "jwks_file": make_keys(tmp_path / "keys"),
            "jwt_issuer": ISSUER,
            "development": True,
            "http_tls_cert_file": files.server_cert,
            "http_tls_key_file": files.server_key,
            "headers_timeout_s": 0.3,
            "connections_max": 2,
        }
    )
    async with serving(settings, Metrics()) as (port, _):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        try:
            ended, still = await asyncio.wait([asyncio.create_task(reader.read()) for reader, _ in silent], timeout=SOON_S)
        finally:
            for _, writer in silent:
                writer.transport.abort()
        with suppress(ConnectionError):
            await asyncio.gather(*still)

    assert len(ended) == len(silent)


class _Well:
    """A process that is."""

    def alive(self) -> bool:
        """It is."""
        return True

    def reasons(self) -> list[str]:
        """None."""
        return []


@pytest.mark.parametrize("body", [b"", b"x"], ids=["a body that never comes", "a body that comes after the answer"])
async def test_the_admin_port_ends_who_is_answered_and_goes_on_with_a_body(body: bytes) -> None:
    """Else 128 such connections are all that it has, and a probe finds a process that is alive to be dead."""
    limits = Limits(
        connections_max=2, head_max_bytes=9_999, header_max_bytes=9_999, head_timeout_s=0.3, idle_timeout_s=0.3, answer_timeout_s=1
    )
    with listening("127.0.0.1", 0, "") as listener:
        async with http_server(admin_app(_Well(), Metrics()), listener, Room(limits), drain_s=1):
            port = port_of(listener)
            held = []
            for _ in range(limits.connections_max):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                writer.write(body)
                held.append((reader, writer))
            ended, still = await asyncio.wait([asyncio.create_task(reader.read()) for reader, _ in held], timeout=SOON_S)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as probe:
                alive = await probe.get("/livez")
            for _, writer in held:
                writer.transport.abort()
            with suppress(ConnectionError):
                await asyncio.gather(*still)

    assert alive.status_code == 200
    assert len(ended) == len(held)


async def test_a_request_that_is_cut_off_while_kafka_has_it_is_not_told_that_nothing_happened(
    world: World, servers: Servers, tmp_path: Path
) -> None:
    """The process ends while a command is on its way: its outcome is unknown, and the caller needs its id to ask."""
    async with httpx.AsyncClient(timeout=60) as outside:
        frozen = False
        try:
            async with opened(world.settings, tmp_path, drain_timeout_s=1, produce_timeout_s=8) as alone:
                url = f"http://127.0.0.1:{alone.port}{REGISTER}"
                headers = {**alone.client.headers, "Prefer": "respond-async"}
                assert (await outside.post(url, json=body_of(email_of("warm")), headers=headers)).status_code == 202
                signal_kafka(servers, signal.SIGSTOP)
                frozen = True
                posted = asyncio.create_task(outside.post(url, json=body_of(email_of("cut")), headers=headers))
                await until(lambda: alone.sample("hash_seconds_count") == 2)
                await until(lambda: alone.sample("hash_queue") == 0)
            answer = await posted
        finally:
            if frozen:
                signal_kafka(servers, signal.SIGCONT)

    assert (answer.status_code, answer.json()["code"]) == (503, "kafka-unavailable"), answer.text
    assert answer.json()["registrationId"].startswith("reg_")


async def test_a_head_that_waits_for_us_is_not_called_late(world: World, tmp_path: Path) -> None:
    """While a connection is not read, because requests before it wait for their answers, the caller's time does not run."""
    async with opened(world.settings, tmp_path, headers_timeout_s=0.3) as alone:
        content = json.dumps(body_of(email_of("pipe"))).encode()
        head = f"POST {REGISTER} HTTP/1.1\r\nHost: x\r\n{headers_of(alone)}Prefer: wait=2\r\nContent-Type: application/json\r\n"
        post = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
        get = f"GET {HIERARCHY} HTTP/1.1\r\nHost: x\r\n{headers_of(alone)}\r\n".encode()
        last = get.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost")
        reader, writer = await asyncio.open_connection("127.0.0.1", alone.port)
        writer.write(post)
        await until(lambda: alone.sample("waiting") == 1)
        writer.write(get + last[:20])
        async with asyncio.timeout(IN_TIME_S):
            first = await reader.readuntil(b"\r\n\r\n")
            writer.write(last[20:])
            answers = parsed(first + await reader.read())
        writer.transport.abort()

    assert [answer.status for answer in answers] == [202, 200, 200]
