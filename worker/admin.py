"""
The admin port: `/livez`, `/readyz` and `/metrics`, for worker and ingress alike, and the HTTP server that both use.

It listens on a port of its own, so that no caller of the API reaches it.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol, TypeAlias

import uvicorn

from worker.connections import Limits, Room
from worker.errors import ConfigurationError
from worker.metrics import CONTENT_TYPE, Metrics
from worker.refusals import REFUSAL

AsgiMessage: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[AsgiMessage]]
Send: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[AsgiMessage, Receive, Send], Awaitable[None]]

ADMIN_DRAIN_S: Final = 1.0
ADMIN_LIMITS: Final = Limits(
    connections_max=128,
    head_max_bytes=16_384,
    header_max_bytes=8_192,
    head_timeout_s=10,
    idle_timeout_s=75,
    answer_timeout_s=10,
)
"""An idle connection is kept longer than the pauses between two questions of Prometheus or an orchestrator."""
BACKLOG: Final = 2048
METHOD_NOT_ALLOWED: Final = 405


class Health(Protocol):
    """What a process says about itself."""

    def alive(self) -> bool:
        """False where only a restart can help: stuck with work to do and no named reason to wait."""

    def reasons(self) -> list[str]:
        """Why no traffic should come here now; empty where all is well. No ids, no values."""


def admin_app(health: Health, metrics: Metrics) -> AsgiApp:
    """Return the ASGI application of the admin port."""

    def answer(path: str) -> tuple[int, str, bytes]:
        if path == "/livez":
            alive = health.alive()
            return (200 if alive else 503), "application/json", _json({"alive": alive})
        if path == "/readyz":
            reasons = health.reasons()
            return (503 if reasons else 200), "application/json", _json({"ready": not reasons, "reasons": reasons})
        if path == "/metrics":
            return 200, CONTENT_TYPE, metrics.text()
        return 404, "application/json", _json({"paths": ["/livez", "/readyz", "/metrics"]})

    async def app(scope: AsgiMessage, _receive: Receive, send: Send) -> None:
        if REFUSAL in scope:
            status, content_type, body = scope[REFUSAL].status, "text/plain", b""
        elif scope["method"] in {"GET", "HEAD"}:
            status, content_type, body = answer(scope["path"])
        else:
            status, content_type, body = METHOD_NOT_ALLOWED, "text/plain", b""
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *([(b"allow", b"GET, HEAD")] if status == METHOD_NOT_ALLOWED else []),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@asynccontextmanager
async def admin(host: str, port: int, health: Health, metrics: Metrics) -> AsyncIterator[int]:
    """
    Serve the admin port for the length of a block.

    Args:
        host: address to listen on.
        port: port to listen on; 0 picks one.
        health: what `/livez` and `/readyz` ask.
        metrics: what `/metrics` shows.
    Returns:
        The port.
    Raises:
        ConfigurationError: the port can't be had.
    """
    with listening(host, port, "REGISTRATION_ADMIN_PORT") as listener:
        async with http_server(admin_app(health, metrics), listener, Room(ADMIN_LIMITS), drain_s=ADMIN_DRAIN_S):
            yield port_of(listener)


@contextmanager
def listening(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    """
    Bind a port for the length of a block; connections are refused until `http_server` begins.

    Args:
        setting: the variable to name where the port can't be had.
    Raises:
        ConfigurationError: the port can't be had.
    """
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        msg = f"{setting}: can't listen on {host}:{port}: {error.strerror}"
        raise ConfigurationError(msg) from None
    with listener:
        yield listener


def port_of(listener: socket.socket) -> int:
    """Return the port that a listener is bound to."""
    port: int = listener.getsockname()[1]
    return port


@asynccontextmanager
async def http_server(
    app: AsgiApp, listener: socket.socket, room: Room, *, drain_s: float, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """
    Serve an application on a bound socket for the length of a block, in this event loop.

    What `room` refuses comes to the application too, as a request with a `REFUSAL` in its scope.

    At the end it takes no more connections, lets requests in flight finish, and cuts off what is left after `drain_s`
    seconds. Signals are the caller's: uvicorn's own handlers are never installed. With `tls` it speaks HTTPS only.
    """
    config = uvicorn.Config(
        app,
        http=room.protocol(),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(drain_s),
        backlog=BACKLOG,
        timeout_keep_alive=math.ceil(room.limits.idle_timeout_s),
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    server = _Server(config, handshake_timeout_s=room.limits.head_timeout_s)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.started_or_ended(task)
        yield
    finally:
        server.should_exit = True
        await _finish(task)


class _Server(uvicorn.Server):
    """
    Uvicorn without signal handlers, with a way to wait for its start, and with a bound for who does not begin TLS: such a
    connection is none yet for its protocol, so that no other limit meets it.
    """

    def __init__(self, config: uvicorn.Config, handshake_timeout_s: float) -> None:
        super().__init__(config)
        self._up = asyncio.Event()
        self._handshake_timeout_s = handshake_timeout_s

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to whoever wires the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start on the sockets, and say so."""
        await self.lifespan.startup()
        loop, tls = asyncio.get_running_loop(), self.config.ssl
        within_s = self._handshake_timeout_s if tls else None
        self.servers = [
            await loop.create_server(
                self._protocol, sock=each, ssl=tls, backlog=self.config.backlog, ssl_handshake_timeout=within_s
            )
            for each in sockets or ()
        ]
        self.started = True
        self._up.set()

    def _protocol(self) -> asyncio.Protocol:
        make = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[call-arg]

    async def started_or_ended(self, task: asyncio.Task[None]) -> None:
        """Wait until it serves; raise what it ended with, if it did."""
        up = asyncio.create_task(self._up.wait())
        try:
            await asyncio.wait({up, task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if task.done():
            task.result()


async def _finish(task: asyncio.Task[None]) -> None:
    """Wait for a server's end; where we are cancelled meanwhile, end it at once."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
