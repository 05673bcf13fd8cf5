"""A network that a test may break: a TCP proxy before one server, which delays, cuts, goes silent, or leads to another server."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import Event, StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

CHUNK_BYTES: Final = 65_536
CONNECT_WITHIN_S: Final = 5.0
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing sends a reset, as a machine does that knows no such connection (socket(7))."""
_BROKEN: Final = (OSError, TimeoutError, asyncio.IncompleteReadError)


@dataclass(slots=True)
class Cut:
    """
    Where connections are to be cut by themselves.

    Attributes:
        at: bytes of a request.
        answered: false cuts before the server gets the request, true when it has answered it, and drops the answer.
        left: how many more connections are to be cut.
    """

    at: bytes
    answered: bool
    left: int


@dataclass(slots=True, eq=False)
class _Way:
    """One connection through the proxy."""

    client: StreamWriter
    server: StreamWriter
    drops_answer: bool = False

    def reset(self) -> None:
        for writer in (self.client, self.server):
            _reset(writer)


@dataclass(slots=True)
class Proxy:
    """
    One port of 127.0.0.1 that leads to a server.

    Held bytes are not lost: as TCP sends again, they arrive when the network heals, unless the connection was cut meanwhile.

    Attributes:
        target: where new connections lead, `host:port`; empty: nobody is there.
        delay_s: how much later than sent each piece arrives, in each direction.
        cut_at: what cuts connections by itself.
    """

    target: str = ""
    delay_s: float = 0.0
    cut_at: Cut | None = None
    _listening: asyncio.Server | None = None
    _requests: Event = field(default_factory=Event)
    _answers: Event = field(default_factory=Event)
    _ways: set[_Way] = field(default_factory=set)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Where clients connect, `host:port`."""
        assert self._listening is not None, "it has been started"
        host, port = self._listening.sockets[0].getsockname()
        return f"{host}:{port}"

    async def start(self) -> None:
        """Begin to listen."""
        self.heal()
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        """Cut everything and listen no more."""
        assert self._listening is not None, "it has been started"
        self._listening.close()
        self.heal()
        self.cut()
        await asyncio.gather(*self._serving)

    def cut(self) -> None:
        """Reset every connection; new ones are let through."""
        for way in list(self._ways):
            way.reset()

    def lead_nowhere(self) -> None:
        """Reset every connection, and new ones too, until `lead_to`."""
        self.target = ""
        self.cut()

    def lead_to(self, target: str) -> None:
        """Lead new connections to another server, and reset the others."""
        self.target = target
        self.cut()

    def hold(self, *, requests: bool = True, answers: bool = True) -> None:
        """Accept and pass nothing on, without an error: in both directions (half-open), or in one."""
        if requests:
            self._requests.clear()
        if answers:
            self._answers.clear()

    def heal(self) -> None:
        """Pass everything on again, what was held too."""
        self.delay_s, self.cut_at = 0.0, None
        self._requests.set()
        self._answers.set()

    def _accept(self, reader: StreamReader, client: StreamWriter) -> None:
        """Serve a connection in a task of our own, which `stop` can wait for."""
        task = asyncio.create_task(self._serve(reader, client))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: StreamReader, client: StreamWriter) -> None:
        if not self.target:
            _reset(client)
            return
        host, _, port = self.target.rpartition(":")
        try:
            answers, server = await asyncio.wait_for(asyncio.open_connection(host, int(port)), CONNECT_WITHIN_S)
        except _BROKEN:
            _reset(client)
            return
        way = _Way(client, server)
        self._ways.add(way)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_requests(reader, way))
                both.create_task(self._pass_answers(answers, way))
        finally:
            self._ways.discard(way)

    async def _pass_requests(self, reader: StreamReader, way: _Way) -> None:
        with suppress(*_BROKEN):
            while chunk := await reader.read(CHUNK_BYTES):
                await self._arrive(self._requests)
                if cut := self._due(chunk):
                    if not cut.answered:
                        break
                    way.drops_answer = True
                way.server.write(chunk)
                await way.server.drain()
        way.reset()

    async def _pass_answers(self, reader: StreamReader, way: _Way) -> None:
        with suppress(*_BROKEN):
            while (chunk := await reader.read(CHUNK_BYTES)) and not way.drops_answer:
                await self._arrive(self._answers)
                way.client.write(chunk)
                await way.client.drain()
        way.reset()

    async def _arrive(self, gate: Event) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await gate.wait()

    def _due(self, chunk: bytes) -> Cut | None:
        """Return the cut that this piece of a request is due to."""
        cut = self.cut_at
        if cut is None or not cut.left or cut.at not in chunk:
            return None
        cut.left -= 1
        return cut


@asynccontextmanager
async def proxy(target: str = "") -> AsyncIterator[Proxy]:
    """Run a proxy for the length of a block."""
    running = Proxy(target)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


def _reset(writer: StreamWriter) -> None:
    handle = writer.get_extra_info("socket")
    if handle is not None and handle.fileno() >= 0:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
