"""
Around every request: its trace, one log line, its metrics, and an answer even where our own code fails.

Nothing of a query, a body or a header is logged, and of a path the route's template and a registration's id alone.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker import logs
from worker.ingress import answers, spans
from worker.ingress.parts import ANSWER, TRACE, Answer, Parts
from worker.ingress.problems import ProblemError, response
from worker.ingress.requests import Trace
from worker.refusals import REFUSAL, Refusal

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "_OTHER"
CLIENT_GONE: Final = 499
"""Logged, never sent: the caller left before its answer."""
TRACE_RANDOM_BYTES: Final = 24
DRAIN_TIMEOUT_S: Final = 1.0
DRAIN_FACTOR: Final = 16

_DESCRIPTION: Final = frozenset({"/openapi.json", "/docs", "/docs/oauth2-redirect"})
_SCRIPTS: Final = "/static-offline-docs"
_ALWAYS: Final = ((b"x-content-type-options", b"nosniff"),)


class Access:
    """
    ASGI middleware around the application.

    Args:
        app: what it is around.
        parts: the ingress.
        headers: more headers for every answer of a route, by the route's template.
    """

    def __init__(self, app: ASGIApp, parts: Parts, headers: Mapping[str, Sequence[tuple[bytes, bytes]]]) -> None:
        self._app = app
        self._parts = parts
        self._headers = headers
        self._log = logs.logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        caller = Trace.of(Request(scope).headers.getlist("traceparent"), os.urandom(TRACE_RANDOM_BYTES))
        span = spans.begin(self._parts.traces, scope, caller)
        scope[TRACE], scope[ANSWER] = spans.trace_of(span, caller), Answer()
        exchange = _Exchange(scope, receive, send, self._parts.settings.body_max_bytes, self._headers)
        metrics = self._parts.metrics
        metrics.requests_in_flight.inc()
        try:
            await self._serve(scope, exchange)
        finally:
            metrics.requests_in_flight.dec()
            self._record(scope, exchange.status, time.perf_counter() - began)
            spans.end(span, method_of(scope), _route(scope), exchange.status or CLIENT_GONE, scope[ANSWER])

    async def _serve(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            if REFUSAL in scope:
                await self._refuse(scope, exchange)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            scope[ANSWER].code = "client-gone"
        except asyncio.CancelledError:  # the process ends, and its time to drain is over
            if not exchange.status:
                await self._give(scope, exchange, _cut_off(scope[ANSWER]))
            raise
        except Exception as error:
            trace: Trace = scope[TRACE]
            self._log.error("request.failed", route=_route(scope), trace_id=trace.trace_id, exc_info=error)
            if exchange.status:
                raise
            await self._answer(scope, exchange, "internal-error")

    async def _refuse(self, scope: Scope, exchange: _Exchange) -> None:
        refusal: Refusal = scope[REFUSAL]
        await self._answer(scope, exchange, refusal.code, refusal.detail)

    async def _answer(self, scope: Scope, exchange: _Exchange, code: str, detail: str | None = None) -> None:
        await self._give(scope, exchange, ProblemError(code, detail))

    async def _give(self, scope: Scope, exchange: _Exchange, problem: ProblemError) -> None:
        scope[ANSWER].code = problem.code
        answer = response(problem, trace_id=scope[TRACE].trace_id, base_url=self._parts.base_url)
        await answer(scope, exchange.receive, exchange.send)

    def _record(self, scope: Scope, status: int, duration_s: float) -> None:
        answer: Answer = scope[ANSWER]
        method, route, status = method_of(scope), _route(scope), status or CLIENT_GONE
        self._parts.metrics.requests.labels(method, route, str(status), answer.code).inc()
        self._parts.metrics.request_seconds.labels(method, route).observe(duration_s)
        known = {} if answer.registration_id is None else {"registration_id": answer.registration_id}
        self._log.info(
            "request.answered",
            method=method,
            route=route,
            status=status,
            code=answer.code,
            duration_ms=round(duration_s * 1000, 1),
            trace_id=scope[TRACE].trace_id,
            **known,
        )


class _Exchange:
    """
    One request and its answer, as the application sees them.

    An answer that goes out before the body was read would leave the connection in between: a rest of moderate size is
    read and dropped first, else the connection is closed.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        body_max_bytes: int,
        headers: Mapping[str, Sequence[tuple[bytes, bytes]]],
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._rest_max_bytes = body_max_bytes * DRAIN_FACTOR
        self._headers = headers
        names = {name: value for name, value in scope["headers"] if name in {b"content-length", b"transfer-encoding", b"expect"}}
        self._is_read = names.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in names
        self._is_held_back = b"expect" in names
        self.status = 0

    async def receive(self) -> Message:
        """
        Pass on a part of the body.

        Raises:
            ProblemError: what arrives is no body.
        """
        message = await self._receive()
        self._is_held_back = False
        if REFUSAL in self._scope:
            self._is_read = True
            refusal: Refusal = self._scope[REFUSAL]
            raise ProblemError(refusal.code, refusal.detail)
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_read = True
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            of_route = self._headers.get(_route(self._scope), ())
            message["headers"] = [*message["headers"], *_ALWAYS, *self._scope[ANSWER].headers, *of_route]
            if not self._is_read and not await self._drop_rest():
                message["headers"].append((b"connection", b"close"))
        await self._send(message)

    async def _drop_rest(self) -> bool:
        """Read the rest of the body and forget it; False where it is too much, too slow, or held back by `Expect`."""
        if self._is_held_back:
            return False
        dropped = 0
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while not self._is_read and dropped <= self._rest_max_bytes:
                    dropped += len((await self.receive()).get("body", b""))
        except (TimeoutError, ProblemError):
            return False
        return self._is_read


def _cut_off(answer: Answer) -> ProblemError:
    """Return what a request is told that the process has no more time for."""
    if answer.may_be_taken_in and answer.registration_id is not None:
        return answers.unknown(answer.registration_id)
    return ProblemError("overloaded")


def method_of(scope: Scope) -> str:
    """Return a request's method; one that nobody knows goes by one name."""
    return scope["method"] if scope["method"] in METHODS else OTHER


def _route(scope: Scope) -> str:
    """Return the template of the route that a request met; what FastAPI itself serves has none, and goes by its path."""
    template = getattr(scope.get("route"), "path", None)
    if template:
        return str(template)
    path: str = scope["path"]
    return path if path in _DESCRIPTION else _SCRIPTS if path.startswith(f"{_SCRIPTS}/") else spans.UNMATCHED
