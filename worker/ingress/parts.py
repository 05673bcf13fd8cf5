"""What an ingress is made of: wired together in `server.py`, used by the routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from tracing import OFF, Traces
from worker import logs
from worker.config import Settings
from worker.ingress.idempotency import Joins
from worker.ingress.keys import Keys
from worker.ingress.limits import RateLimit
from worker.ingress.passwords import Hasher
from worker.ingress.reading import Reader
from worker.ingress.requests import Trace
from worker.ingress.tenants import Tenants
from worker.ingress.tokens import Tokens
from worker.ingress.waiting import Waiting
from worker.kafka import Producer
from worker.metrics import Metrics
from worker.postgres import Database

TRACE: Final = "registration.trace"
ANSWER: Final = "registration.answer"


@dataclass(slots=True)
class Parts:
    """Everything that a route needs."""

    settings: Settings
    database: Database
    producer: Producer
    metrics: Metrics
    tokens: Tokens
    tenants: Tenants
    hasher: Hasher
    waiting: Waiting
    traces: Traces = OFF
    joins: Joins = field(default_factory=Joins)
    reader: Reader = field(default_factory=Reader)
    rate: RateLimit = field(init=False)
    health: IngressHealth = field(init=False)

    def __post_init__(self) -> None:
        """Begin as ready as the parts are."""
        self.health = IngressHealth(self.tenants, self.tokens.keys)
        self.rate = RateLimit(self.settings.rate_requests, self.settings.rate_window_s)

    @property
    def base_url(self) -> str:
        """What links begin with; empty makes them paths."""
        return self.settings.public_url.rstrip("/")


class IngressHealth:
    """Whether registrations can be taken in now."""

    def __init__(self, tenants: Tenants, keys: Keys) -> None:
        self._tenants = tenants
        self._keys = keys
        self.kafka_answers = False
        self.kafka_tried = asyncio.Event()
        self.is_stopping = False
        self._is_broken = False

    def has_ended(self, task: asyncio.Task[None]) -> None:
        """Take note that something which runs for ever does not: a bug of ours, unless the process ends."""
        if not task.cancelled():
            self._is_broken = True
            logs.logger().error("ingress.broken", exc_info=task.exception())

    def alive(self) -> bool:
        """Whether what keeps things fresh runs: an event loop that answers is alive, and whatever is down comes back without us."""
        return not self._is_broken

    def reasons(self) -> list[str]:
        """Why no traffic should come here now."""
        said = {
            "stopping": self.is_stopping,
            "kafka does not acknowledge": not self.kafka_answers,
            "database does not answer": not self._tenants.database_answers,
        }
        return [*(reason for reason, holds in said.items() if holds), *self._keys.reasons()]


@dataclass(slots=True)
class Answer:
    """
    What the access log says of an answer beside its status, and more headers of it.

    Attributes:
        may_be_taken_in: Kafka may have the registration, so that nobody is told that nothing happened.
    """

    code: str = ""
    may_be_taken_in: bool = False
    registration_id: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


def parts_of(request: Request) -> Parts:
    """Return the parts of the ingress that a request came to."""
    parts: Parts = request.app.state.parts
    return parts


def trace_of(request: Request) -> Trace:
    """Return the trace that a request belongs to."""
    trace: Trace = request.scope[TRACE]
    return trace


def answer_of(request: Request) -> Answer:
    """Return what will be logged of a request's answer."""
    answer: Answer = request.scope[ANSWER]
    return answer
