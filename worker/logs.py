"""
Structured logs on stderr, and the one list of every event that is logged.

A line holds ids, counts and durations only: no name, email, phone, address, birth date, token, key or password.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from worker.errors import DeniedError

EVENTS: Final[dict[str, str]] = {
    "batch.stored": "A batch was committed: one line a batch.",
    "batch.bisected": "The database refused a batch's data; it is halved to find the record.",
    "batch.halved": "The database could not take a batch in time; it is halved.",
    "breaker.opened": "Nothing but dead letters in a row: it pauses. Find out why, then `registration partitions resume`.",
    "breaker.closed": "A command succeeded again, or an operator resumed the partition.",
    "catalogue.applied": "A catalogue version was published.",
    "catalogue.ahead": "A record is newer than the catalogue may decide: a broker's clock runs ahead.",
    "commit.unknown": "COMMIT was not answered; the partition is claimed again to find out.",
    "connection.unencrypted": 'Whoever is on the way to this server can read and change all: README, "Encrypt it".',
    "connection.unverified": 'Encrypted, but whoever answers is believed to be the server: README, "Encrypt it".',
    "consumer.joined": "The group gave this worker its partitions.",
    "consumer.left": "This worker left the group.",
    "consumer.rejoining": "This membership is given up; the worker joins anew.",
    "database.denied": "The database's role lacks a right; the line says what to grant. Until then nothing is served.",
    "ingress.broken": "A bug of ours ended what keeps catalogues, keys or connections fresh: not alive, so restart it.",
    "ingress.started": "The ingress answers.",
    "ingress.stopped": "The ingress has stopped.",
    "kafka.client": "A message of the Kafka client.",
    "keys.expired": "The keys for access tokens are a day old and serve no more; the line says what to mend. Nobody is let in.",
    "keys.kept": "The keys for access tokens could not be read anew, and why; the last good ones serve for a day.",
    "keys.read": "The keys for access tokens were read: for the first time, changed, or again after failures.",
    "lane.claimed": "A partition was claimed: where it begins, and how many left-over messages were published.",
    "lane.closed": "A partition was given up.",
    "lane.fenced": "Another worker claimed this partition.",
    "lane.input_lost": "Commands not yet done are gone from the log. `registration partitions resume --from-log-start`.",
    "lane.input_given_up": "An operator gave up commands that the log has lost: the partition goes on at the log's start.",
    "lane.recovered": "The partition works again.",
    "lane.stalled": "It stands still with commands to do, and no wait explains it: not alive, so restart it, and keep its log.",
    "lane.stopped": "One record met a bug: its partition is stopped. Deploy a fix, or `registration partitions skip`.",
    "lane.topic_anew": "The topic was made anew: its log begins again, the inbox removes what was done before.",
    "lane.waiting": "The partition can't go on, and why; it tries again by itself.",
    "migration.applied": "A migration was applied.",
    "process.crashed": "A bug of ours ended the process; no offset was moved by it.",
    "process.ended": "A worker process ended by itself.",
    "producer.replaced": "The producer was given up after a failure; what was not acknowledged is sent again.",
    "request.answered": "An HTTP request was answered.",
    "request.failed": "A request met a bug; the caller was told `internal-error`.",
    "retention.removed": "Registrations that were refused or failed, and dead letters, were removed: their time was over.",
    "retention.stopped": "A bug or a missing right ended the removal of old rows here; the lanes go on. Mend it, then restart.",
    "settings.read": "The settings of this process, secrets masked.",
    "standby.missing": "PostgreSQL has no synchronous standby: a failover may lose the newest commits, which are then done again.",
    "tenants.unguarded": 'The ingress\'s role is free of row-level security: give it a login of its own, README, "Database roles".',
    "topic.create_time": "Records have their sender's time, and that chooses the rules: set message.timestamp.type=LogAppendTime.",
    "topic.created": "A topic was made.",
    "traces.unavailable": "Traces were asked for by `OTEL_…` and can't be had, and why; all else works without them.",
    "worker.started": "A worker process runs.",
    "worker.stopped": "A worker process has stopped.",
}


REPEAT_AFTER_S: Final = 30.0


def configure(level: str, fmt: str, stream: TextIO | None = None) -> None:
    """
    Set up logging for this process.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        fmt: `json` or `console`.
        stream: where lines go; stderr by default, since stdout is for results.
    """
    out = stream or sys.stderr
    renderer: Any = structlog.dev.ConsoleRenderer() if fmt == "console" else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _safe_exception,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)


def logger(**context: object) -> FilteringBoundLogger:
    """Return a logger that adds this context to each line."""
    bound: FilteringBoundLogger = structlog.get_logger(**context)
    return bound


def _safe_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Name an exception by type and place: its text may hold a row, a body or a key; but for one that an operator has to read."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["at"] = places(error)
        if isinstance(error, DeniedError):
            event["reason"] = str(error)
    return event


def places(error: BaseException, deepest: int = 6) -> list[str]:
    """Return where an exception came from, innermost last, as `file:line function`."""
    found: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{'/'.join(code.co_filename.rsplit('/', 2)[-2:])}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found[-deepest:]


class _Forward(logging.Handler):
    """
    Sends what libraries log through the same renderer, without their exceptions' texts.

    A client that lost its server says the same for each try: each message goes out once in a while, with how many more
    there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        key = record.name, _template(record)
        last, withheld = self._said.get(key, (-REPEAT_AFTER_S, 0))
        if record.created - last < REPEAT_AFTER_S:
            self._said[key] = last, withheld + 1
            return
        self._said[key] = record.created, 0
        more: dict[str, object] = {"withheld": withheld} if withheld else {}
        if record.exc_info:
            more["exc_info"] = record.exc_info[1]
        if record.name.startswith("aiokafka"):  # from WARNING on its messages hold nodes, partitions and error names
            structlog.get_logger().log(record.levelno, "kafka.client", message=record.getMessage(), **more)
        else:
            structlog.get_logger().log(record.levelno, record.name, message=_template(record), **more)


def _template(record: logging.LogRecord) -> str:
    """Return a message without values: behind its first words asyncio puts a task with its exception, or a callback's arguments."""
    line = str(record.msg).partition("\n")[0]
    head, callback, _ = line.partition(" callback ")
    return (head + callback).rstrip()
