"""
HTTP connections, bounded in number, in time and in size; what is no HTTP is answered as any other request is.

Uvicorn waits for ever for a request that does not come, and says in plain text what it can't read. Here both become a
request with a `Refusal` in its scope, which the application answers in its own form; then the connection ends.

Source: RFC 9112 (framing; 9.6 for how a connection ends), RFC 9110.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httptools
from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from worker import refusals
from worker.refusals import REFUSAL, Refusal

LINGER_S: Final = 1.0
"""How long a connection that is ended while something still arrives is read on: closed at once, it would lose the answer."""
PIPELINED_MAX: Final = 64
FRAMING_FACTOR: Final = 8
"""Bytes of framing for each byte of a body: a chunk of one byte takes five more."""
_REFUSED_SHARE: Final = 8
"""One connection more for each so many is still told that there are too many."""
_MARKS_BYTES: Final = len(b": \r\n")
_OF_BODIES: Final = frozenset({b"content-length", b"transfer-encoding"})
_UNSAFE_IN_PATH: Final = (b"%2f", b"%5c", b"%00")


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What a connection may take.

    Args:
        connections_max: how many there may be; a new one then ends the one that has been without a request for longest.
        head_max_bytes: of a request's target and headers.
        header_max_bytes: of one header, or of the target.
        head_timeout_s: within which target and headers arrive.
        idle_timeout_s: how long a connection is kept after an answer.
        answer_timeout_s: how long an answer may stand still.
    """

    connections_max: int
    head_max_bytes: int
    header_max_bytes: int
    head_timeout_s: float
    idle_timeout_s: float
    answer_timeout_s: float


@dataclass(slots=True)
class Room:
    """
    The connections of one server.

    Args:
        limits: what each may take.
        ended: told why a connection was ended by us.
        waiting: those that have no request under way, the one that waits for longest first.
    """

    limits: Limits
    ended: Callable[[str], None] = lambda _reason: None
    waiting: dict[Connection, None] = field(default_factory=dict)

    def protocol(self) -> type[Connection]:
        """Return the protocol of these connections, as uvicorn wants it."""

        class OfThisRoom(Connection):
            room = self

        return OfThisRoom

    def make_room(self) -> bool:
        """End the connection that has been without a request for longest; False where each has one."""
        longest = next(iter(self.waiting), None)
        if longest is None:
            return False
        longest.end("full")
        return True


class Connection(HttpToolsProtocol):
    """One connection: uvicorn's, with limits, and with an answer to what can't be read."""

    room: Room

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = self.room.limits
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._socket: asyncio.Transport | None = None
        self._is_in_head = False
        self._is_in_body = False
        self._is_deaf = False
        self._is_over = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0

    @property
    def is_receiving(self) -> bool:
        """Whether something of a request may still arrive."""
        return not self._is_over and (self._is_in_head or self._is_in_body or self._is_deaf)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection in, where there is room."""
        self._socket = transport
        super().connection_made(_Ending(transport, self))
        most = self._limits.connections_max
        if len(self.connections) > most and not self.room.make_room():
            if len(self.connections) > most + most // _REFUSED_SHARE + 1:
                self.end("full")
            else:
                self.room.ended("overloaded")
                self._refuse(refusals.TOO_MANY)
            return
        self.room.waiting[self] = None
        self._end_in(self._limits.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.room.waiting.pop(self, None)
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        self._timer = self._stalled = None
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's protocol has it so
        """The caller sends no more: what is whole is answered still, and what is not never will be."""
        self._is_over = True
        last: RequestResponseCycle | None = self.cycle
        if self.scheme != "http" or self._is_in_head or self._is_in_body or last is None or last.response_complete:
            return None
        self._is_deaf = True
        last.keep_alive = False
        return True

    def end(self, reason: str) -> None:
        """Close it at once, whatever is under way."""
        self.room.waiting.pop(self, None)
        self.room.ended(reason)
        self._is_deaf = True
        if self._socket is not None:
            self._socket.abort()

    def linger(self) -> None:
        """Drop whatever still arrives; whoever needs room may have this one's."""
        self._is_deaf = True
        self.room.waiting[self] = None

    def pause_writing(self) -> None:
        """Wait for a reader, and not for ever."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._limits.answer_timeout_s, self.end, "answer")

    def resume_writing(self) -> None:
        """The reader goes on."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _end_in(self, seconds: float | None) -> None:
        """Set when the connection ends if nothing happens before; None: it is busy."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self._is_in_head:
            self.room.ended("head")
            self._refuse(refusals.TOO_SLOW)
        else:
            self.end("idle")

    def data_received(self, data: bytes) -> None:
        """Read what arrives; what is wrong is refused once, and nothing after it is read."""
        if self._is_deaf:
            return
        was_in_head, was_in_body, body_bytes = self._is_in_head, self._is_in_body, self._body_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._is_deaf = True
        except httptools.HttpParserError:
            if not self._is_deaf:
                self._refuse(refusals.BROKEN_BODY if self._is_in_body else refusals.NO_HTTP)
        else:
            if was_in_head and self._is_in_head:
                self._head_bytes += len(data)
                if self._head_bytes > self._limits.head_max_bytes:
                    self._refuse(refusals.TOO_LARGE)
            elif was_in_body and self._is_in_body:
                self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
                if self._framing_bytes > self._limits.head_max_bytes + FRAMING_FACTOR * self._body_bytes:
                    self._refuse(refusals.BROKEN_BODY)

    def on_message_begin(self) -> None:
        """Begin a request: its head has a time to arrive in."""
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = self._body_bytes = self._framing_bytes = 0
        self._time_head()

    def _time_head(self) -> None:
        """Let the head's time run, but not while requests before it keep us from reading on."""
        self._end_in(None if self.pipeline else self._limits.head_timeout_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. What follows a chunked body is none: added to the others it could pass for the caller's token."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, where the head is one."""
        refusal = self._fault()
        if refusal is not None:
            self._refuse(refusal)
            raise _StopError
        self._is_in_head, self._is_in_body = False, True
        self.room.waiting.pop(self, None)
        self._end_in(None)
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Pass on a part of a body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._is_in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, for a while; whoever has the answer and sends a body all the same is not waited for."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        is_busy = not self.cycle.response_complete or bool(self.pipeline)
        if self._is_in_body and self.cycle.response_complete:
            self.transport.close()
        elif self._is_in_head and not self._is_deaf:
            self._time_head()
        elif not (is_busy or self.is_receiving or self.transport.is_closing()):
            self.room.waiting[self] = None
            self._end_in(self._limits.idle_timeout_s)

    def _fault(self) -> Refusal | None:
        """Look at a head that is complete; a target in another form than a path is made one."""
        sizes = [len(self.url), *(len(name) + len(value) + _MARKS_BYTES for name, value in self.headers)]
        if max(sizes) > self._limits.header_max_bytes or sum(sizes) > self._limits.head_max_bytes:
            return refusals.TOO_LARGE
        if len(self.pipeline) >= PIPELINED_MAX:
            return refusals.TOO_MANY_AT_ONCE
        version = self.parser.get_http_version()
        if not version.startswith("1."):
            return refusals.NO_HTTP
        names = [name for name, _ in self.headers]
        if names.count(b"host") != 1 and version != "1.0":
            return refusals.NO_HOST
        if self.parser.get_method() == b"CONNECT" or self.url == b"*":
            self.url = b"/"
        elif self.parser.should_upgrade() and _OF_BODIES.intersection(names):
            return refusals.NO_UPGRADE
        return self._fault_of_target()

    def _fault_of_target(self) -> Refusal | None:
        try:
            path = httptools.parse_url(self.url).path
        except httptools.HttpParserError:
            return refusals.NO_HTTP
        if path is None:
            self.url = b"/"
        elif not path.isascii() or b"#" in self.url:
            return refusals.NO_HTTP
        elif any(unsafe in path.lower() for unsafe in _UNSAFE_IN_PATH):
            return refusals.NO_PATH
        return None

    def _method(self) -> str:
        """Return the method of what is refused, where it was read: the answer to HEAD has no body."""
        return self.parser.get_method().decode() if self._is_in_head and self.headers else ""

    def _refuse(self, refusal: Refusal) -> None:
        """Let the application answer for us, after what came before on this connection; then the connection ends."""
        self._is_deaf = True
        self._end_in(None)
        self.room.waiting.pop(self, None)
        last: RequestResponseCycle | None = self.cycle
        if last is not None and self._is_in_body:
            last.keep_alive = False
            last.more_body = False
            last.scope[REFUSAL] = refusal  # type: ignore[typeddict-unknown-key]  # a scope takes more
            last.message_event.set()
            if last.response_complete:
                self.transport.close()
            return
        self.cycle = self._cycle(refusal)
        self._is_in_head = False
        if last is None or last.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.pipeline.appendleft((self.cycle, self.app))

    def _cycle(self, refusal: Refusal) -> RequestResponseCycle:
        """Return a request without a body that holds nothing but why it is refused."""
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": self._method(),
            "root_path": "",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [],
            "state": {},
            REFUSAL: refusal,
        }
        cycle = RequestResponseCycle(
            scope=cast("HTTPScope", scope),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        cycle.more_body = False
        cycle.message_event.set()
        return cycle


class _StopError(Exception):
    """The parser is to read no further."""


class _Ending(asyncio.Transport):
    """
    A connection's transport that ends well: while a request still arrives, it says its last word, listens on for a
    moment and only then closes, so that the answer is not lost in a reset.
    """

    def __init__(self, inner: asyncio.Transport, connection: Connection) -> None:
        super().__init__()
        self._inner = inner
        self._connection = connection
        self._is_closing = False
        self.write = inner.write  # type: ignore[method-assign]  # called for each answer
        self.pause_reading = inner.pause_reading  # type: ignore[method-assign]
        self.get_extra_info = inner.get_extra_info  # type: ignore[method-assign]

    def resume_reading(self) -> None:
        """Read on, where there is somebody to read from."""
        if not self._inner.is_closing():
            self._inner.resume_reading()

    def is_closing(self) -> bool:
        """Whether it has ended or is about to."""
        return self._is_closing or self._inner.is_closing()

    def close(self) -> None:
        """End it."""
        if self.is_closing():
            return
        self._is_closing = True
        loop, timeout_s = self._connection.loop, self._connection.room.limits.answer_timeout_s
        if self._connection.is_receiving and self._inner.can_write_eof():
            self._connection.linger()
            self._inner.write_eof()
            self._inner.resume_reading()
            loop.call_later(LINGER_S, self._inner.close)
        else:
            self._inner.close()
        if self._inner.get_write_buffer_size():
            loop.call_later(timeout_s, self._inner.abort)
