"""
Every metric, in one list: name, help text and labels stand here and nowhere else.

Labels take few values: codes, states, route templates, partitions. None ever holds an id, a name or anything that a
caller sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

NAMESPACE: Final = "registration"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RECORDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 350, 500, 1000, 2000, 5000)


def _tasks() -> float:
    """Count the tasks of the event loop that asks; 0 where none runs, as in a command that prints metrics."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


class Listed(NamedTuple):
    """A metric as Prometheus names it, for the README's table, the dashboard and the alerts."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series."""
        return tuple(f"{self.name}_{end}" for end in ("bucket", "sum", "count")) if self.kind == "histogram" else (self.name,)


OF_THE_PROCESS: Final = (
    Listed("process_cpu_seconds_total", "counter", (), "Time that the process has computed."),
    Listed("process_resident_memory_bytes", "gauge", (), "Memory of the process."),
    Listed("process_open_fds", "gauge", (), "Files and sockets that the process has open."),
    Listed("process_max_fds", "gauge", (), "Most files and sockets that it may have open."),
    Listed("process_start_time_seconds", "gauge", (), "When the process began, in seconds since 1970."),
)
"""What the client library adds on Linux, as far as it is of use here."""

_OUTCOMES: Final = ("accepted", "rejected", "dead_letter")


class Metrics:
    """
    The metrics of one process, in a registry of their own.

    A process has one of these, made where it is wired together; the worker uses the upper half, the ingress the lower.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each is of no use
        self.registry = CollectorRegistry(auto_describe=False)
        self.listed: list[Listed] = []
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._gauge("tasks", "Tasks of the event loop; a number that only grows is a leak.").set_function(_tasks)

        # The worker.
        self.records = self._counter("records", "Commands whose outcome was committed.", "outcome")
        for outcome in _OUTCOMES:  # from 0 on: the first one of a series that was not there is no increase to Prometheus
            self.records.labels(outcome)
        self.duplicates = self._counter("duplicates", "Commands whose registration had its outcome already.")
        self.duplicates_that_differ = self._counter(
            "duplicates_that_differ", "Duplicates with another fingerprint than the command that was first."
        )
        self.dead_letters = self._counter("dead_letters", "Commands that can never be processed.", "code")
        self.batch_records = self._histogram("batch_records", "Commands in a batch.", _RECORDS)
        self.batch_seconds = self._histogram(
            "batch_seconds", "Time to commit a batch, the wait until Kafka has the one before included.", _SECONDS
        )
        self.stage_seconds = self._histogram(
            "stage_seconds", "Time of a batch's stages: `examine`, `transaction`, `publish` until Kafka has it.", _SECONDS, "stage"
        )
        self.lag_records = self._gauge("lag_records", "Commands on the log that are not yet processed.", "partition")
        self.outbox_rows = self._gauge("outbox_rows", "Messages committed and not yet known to be published.", "partition")
        self.outbox_oldest_age_seconds = self._gauge(
            "outbox_oldest_age_seconds", "Age of the oldest message in the outbox; beyond 60 nobody publishes it.", "partition"
        )
        self.breaker_open = self._gauge(
            "breaker_open", "1 where a partition pauses after nothing but dead letters in a row.", "partition"
        )
        self.fence_losses = self._counter("fence_losses", "Batches refused since another worker had claimed the partition.")
        self.rows_removed = self._counter("rows_removed", "Rows removed since their time was over.", "table")
        self.lanes = self._gauge("lanes", "Assigned partitions by what they do.", "state")

        # The ingress.
        self.requests = self._counter("http_requests", "HTTP requests answered.", "method", "route", "status", "code")
        self.connections_ended = self._counter("http_connections_ended", "Connections that we ended, and why.", "reason")
        self.request_seconds = self._histogram("http_request_seconds", "Time to answer.", _SECONDS, "method", "route")
        self.requests_in_flight = self._gauge("http_requests_in_flight", "HTTP requests that are not answered yet.")
        self.replays = self._counter("replays", "Requests answered with the outcome of an earlier one with the same key.")
        self.waits = self._counter("waits", "Waits for an outcome, by how they ended.", "end")
        self.wait_seconds = self._histogram("wait_seconds", "Time from the command's acknowledgement to its outcome.", _SECONDS)
        self.waiting = self._gauge("waiting", "Requests that wait for their outcome now.")
        self.look_up_seconds = self._histogram("look_up_seconds", "Time of the look-up that serves all waiters.", _SECONDS)
        self.look_up_failures = self._counter("look_up_failures", "Look-ups for waiters that the database did not answer.")
        self.jwks_age_seconds = self._gauge("jwks_age_seconds", "Age of the keys that tokens are checked by; +Inf: none yet.")
        self.jwks_refresh_failures = self._counter("jwks_refresh_failures", "Refreshes of these keys that failed.", "reason")
        self.hash_queue = self._gauge("hash_queue", "Passwords that wait for a thread or are being hashed.")
        self.hash_seconds = self._histogram("hash_seconds", "Time of a password's hash, waiting for a thread included.", _SECONDS)
        self.hash_refusals = self._counter("hash_refusals", "Requests refused since too many passwords waited.")
        self.produce_seconds = self._histogram("produce_seconds", "Time until Kafka acknowledged a command.", _SECONDS)
        self.produce_failures = self._counter("produce_failures", "Commands not acknowledged, by what is known.", "known")
        for known in ("not-sent", "unknown"):
            self.produce_failures.labels(known)
        self.catalogue_read_failures = self._counter("catalogue_read_failures", "Readings of the catalogue that failed.")

    def count_batch(
        self,
        records: int,
        duration_s: float,
        *,
        accepted: int,
        rejected: int,
        dead: int,
        repeated: int,
        differing: int,
        dead_letter_codes: Sequence[str],
    ) -> None:
        """Count one batch that was committed."""
        self.batch_records.observe(records)
        self.batch_seconds.observe(duration_s)
        for outcome, count in zip(_OUTCOMES, (accepted, rejected, dead), strict=True):
            self.records.labels(outcome).inc(count)
        self.duplicates.inc(repeated)
        self.duplicates_that_differ.inc(differing)
        for code in dead_letter_codes:
            self.dead_letters.labels(code).inc()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage of a batch, unless it fails: then the batch is done again."""
        began = time.monotonic()
        yield
        self.stage_seconds.labels(name).observe(time.monotonic() - began)

    def publishing(self) -> Callable[[asyncio.Task[object]], None]:
        """Begin to measure a batch's publishing; return what is to be told when its task is done."""
        began = time.monotonic()

        def done(task: asyncio.Task[object]) -> None:
            if not task.cancelled() and task.exception() is None:
                self.stage_seconds.labels("publish").observe(time.monotonic() - began)

        return done

    def outbox(self, partition: int, rows: int, oldest_s: float) -> None:
        """Show what a lane saw of its outbox."""
        self.outbox_rows.labels(partition).set(rows)
        self.outbox_oldest_age_seconds.labels(partition).set(oldest_s)

    def given_up(self, partition: int) -> None:
        """Show nothing more of a partition's outbox: another worker has it, and an old number would be an alarm about nothing."""
        for gauge in (self.outbox_rows, self.outbox_oldest_age_seconds):
            gauge.remove(partition)

    def text(self) -> bytes:
        """Return every metric in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.listed.append(Listed(f"{NAMESPACE}_{name}_total", "counter", labels, text))
        return Counter(name, text, labels, namespace=NAMESPACE, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.listed.append(Listed(f"{NAMESPACE}_{name}", "gauge", labels, text))
        return Gauge(name, text, labels, namespace=NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        self.listed.append(Listed(f"{NAMESPACE}_{name}", "histogram", labels, text))
        return Histogram(name, text, labels, namespace=NAMESPACE, registry=self.registry, buckets=buckets)
