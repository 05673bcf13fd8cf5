"""Callers of an ingress that may die at any moment: each repeats its registration under its key until it has an answer."""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx

from tests import commands
from tests.boundary.ingress_door import ALIAS, REGISTER, TENANT
from worker.dev.logins import INGRESS, login
from worker.dev.process import free_port
from worker.dev.tokens import ADMIN_ROLE, AUDIENCE, ISSUER, make_keys, make_token
from worker.postgres import Connection

TIMEOUT_S: Final = 8.0
AGAIN_S: Final = 0.05
TTL_S: Final = 4 * 3600
CREATED: Final = 201
CONFLICTS: Final = range(400, 429)
_CUSTOMERS: Final = "SELECT email, array_agg(customer_id) AS ids FROM customers WHERE email = ANY($1) GROUP BY email"


class Calls:
    """
    Registrations over HTTP.

    Args:
        folder: for the keys that sign tokens.
        url: of the database, with the ingress's own login.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.port = free_port()
        self._keys = folder / "keys"
        self._url = url
        self._jwks = make_keys(self._keys)
        self._provider = ""
        self._waiting: dict[str, str] = {}
        """Emails of registrations that have no answer, by their key."""
        self._emails: dict[str, str] = {}
        self._answers: defaultdict[str, set[str]] = defaultdict(set)

    @classmethod
    @asynccontextmanager
    async def of(cls, folder: Path, url: str) -> AsyncIterator[Calls]:
        """Make a login for ingresses, and run a provider of the keys for the length of a block."""
        made = cls(folder, await login(url, INGRESS, f"ingress_{os.urandom(4).hex()}"))
        async with provider(made._jwks.read_bytes()) as made._provider:
            yield made

    def settings(self) -> dict[str, str]:
        """Return the settings of an ingress for these callers."""
        return {
            "REGISTRATION_DATABASE_URL": self._url,
            "REGISTRATION_HTTP_PORT": str(self.port),
            "REGISTRATION_JWKS_FILE": str(self._jwks),
            "REGISTRATION_JWT_ISSUER": ISSUER,
            "REGISTRATION_JWT_AUDIENCE": AUDIENCE,
            "REGISTRATION_DEVELOPMENT": "true",
            "REGISTRATION_INGRESS_WAIT_S": "5",
        }

    def settings_by_url(self) -> dict[str, str]:
        """Return the same, with keys of a provider."""
        return {**self.settings(), "REGISTRATION_JWKS_FILE": "", "REGISTRATION_JWKS_URL": self._provider}

    def client(self) -> httpx.AsyncClient:
        """Return a client with a good token."""
        token = make_token(self._keys, ADMIN_ROLE, TENANT.slug, TTL_S)
        headers = {"Authorization": f"Bearer {token}", "X-Tenant-ID": TENANT.id}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=TIMEOUT_S)

    def more(self, count: int) -> None:
        """Have more people who want to be registered."""
        for _ in range(count):
            key, email = os.urandom(8).hex(), commands.email_of("caller")
            self._emails[key] = self._waiting[key] = email

    async def listening(self, client: httpx.AsyncClient, running: Callable[[], bool]) -> None:
        """Wait until the ingress answers, or has ended."""
        while running():
            with suppress(httpx.HTTPError):
                await client.get("/openapi.json")
                return
            await asyncio.sleep(AGAIN_S)

    async def register_all(self, client: httpx.AsyncClient, running: Callable[[], bool]) -> None:
        """Register everybody who waits, each twice at once, as a caller does that lost patience."""
        twice = [key for key in self._waiting for _ in range(2)]
        await asyncio.gather(*(self._register(client, key, running) for key in twice))

    async def look_around(self, client: httpx.AsyncClient) -> None:
        """Ask for all that there is to read, send what is no registration, and what is no HTTP."""
        told = [answer for answers in self._answers.values() for answer in answers][-1:]
        read = [f"/api/v2.1/customers/{customer}" for customer in told] + [f"/api/v2.1/registrations/{commands.registration_id()}"]
        slow = httpx.Request("POST", client.base_url.join(REGISTER), headers=client.headers, content=_in_parts())
        bad = client.post(REGISTER, content=b"[" * 40_000, headers={"Content-Type": "text/plain"})
        large = client.post(REGISTER, json={"note": "x" * 40_000})
        stranger = client.post(REGISTER, content=b"{" * 40_000, headers={"Authorization": "Bearer nobody"})
        alias = client.post(ALIAS, json=commands.body_of(commands.email_of("alias")), headers={"Prefer": "wait=1"})
        await asyncio.gather(
            *map(client.get, read), bad, large, stranger, alias, client.send(slow), self._no_http(), return_exceptions=True
        )

    async def send_slowly(self, client: httpx.AsyncClient) -> None:
        """Send a body that does not come to its end for a while."""
        await client.post(REGISTER, content=_in_parts(TIMEOUT_S))

    async def check(self, connection: Connection) -> tuple[int, int]:
        """Return how many of those who were answered are not there, and how many are there twice."""
        rows = await connection.fetch(_CUSTOMERS, list(self._emails.values()))
        there = {row["email"]: set(row["ids"]) for row in rows}
        lost = sum(not answers <= there.get(self._emails[key], set()) for key, answers in self._answers.items())
        doubled = sum(len(answers) > 1 for answers in self._answers.values()) + sum(len(found) > 1 for found in there.values())
        return lost, doubled

    async def _register(self, client: httpx.AsyncClient, key: str, running: Callable[[], bool]) -> None:
        body = commands.body_of(self._emails[key])
        while running():
            with suppress(httpx.HTTPError):
                answer = await client.post(REGISTER, json=body, headers={"Idempotency-Key": key})
                assert answer.status_code not in CONFLICTS, answer.text
                if answer.status_code == CREATED:
                    self._answers[key].add(answer.json()["data"]["id"])
                    self._waiting.pop(key, None)
                    return
            await asyncio.sleep(AGAIN_S)

    async def _no_http(self) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"\0 is no HTTP\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def _in_parts(pause_s: float = 0.1) -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(pause_s)
    yield json.dumps({"not": "a registration"}).encode()


@asynccontextmanager
async def provider(keys: bytes) -> AsyncIterator[str]:
    """Run an identity provider for the length of a block; return where it answers these keys."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):  # who asks may die meanwhile
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(keys) + keys)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
