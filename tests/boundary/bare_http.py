"""HTTP as bytes, past any client's good manners: what is sent, and the answers as they come back."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tests.boundary.ingress_door import IN_TIME_S, TENANT, Door

CANARY: Final = "hunter2"
"""What no answer may repeat."""
OURS: Final = range(500, 600)
OF_SERVERS: Final = {"overloaded", "kafka-unavailable", "database-unavailable"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem's code; empty where it is none."""
        return str(json.loads(self.body)["code"]) if self.is_problem and self.body else ""

    @property
    def is_problem(self) -> bool:
        """Whether it is application/problem+json."""
        return self.headers.get("content-type") == "application/problem+json"


def headers_of(door: Door) -> str:
    """Return the headers of a caller with a good token."""
    return f"Authorization: {door.client.headers['authorization']}\r\nX-Tenant-ID: {TENANT.id}\r\n"


async def exchanged(door: Door, sent: bytes, *, ends: bool = False) -> list[Answer]:
    """Send bytes, and where `ends` an end of file; return all that comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        async with asyncio.timeout(IN_TIME_S):
            with suppress(ConnectionError):
                writer.write(sent)
                await writer.drain()
                if ends:
                    writer.write_eof()
            received = b""
            with suppress(ConnectionError):
                while part := await reader.read(65_536):
                    received += part
    finally:
        writer.transport.abort()
    return parsed(received, is_head=sent.startswith(b"HEAD "))


def parsed(received: bytes, *, is_head: bool = False) -> list[Answer]:
    """Take answers apart, each by its declared length."""
    answers = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert end, head
        assert first.startswith("HTTP/1.1 "), first
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = 0 if is_head else int(headers.get("content-length", "0"))
        answers.append(Answer(int(first.split()[1]), headers, received[:length]))
        received = received[length:]
    return answers


def hold(answers: list[Answer]) -> None:
    """Hold answers against what every one of them must be."""
    for answer in answers:
        assert answer.status not in OURS or answer.code in OF_SERVERS
        assert answer.status < 400 or answer.is_problem, (answer.status, answer.headers)
        assert answer.status != 405 or answer.headers["allow"]
        assert CANARY not in repr((answer.headers, answer.body)).lower()
