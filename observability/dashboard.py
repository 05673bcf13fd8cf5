"""Writes the Grafana dashboard: `python -m observability.dashboard > observability/dashboard.json` (`make schemas`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

SCHEMA_VERSION: Final = 42
"""Grafana 12's; older and newer ones convert it."""
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 3
WIDTH: Final = 24 // COLUMNS
HEIGHT: Final = 8
QUANTILES: Final = (0.5, 0.95, 0.99)


class Panel(NamedTuple):
    """A chart: what it shows, in which unit of Grafana's, and its queries with the legend of each."""

    title: str
    unit: str
    description: str
    queries: tuple[tuple[str, str], ...]


def of(name: str, *by: str, where: str = "", function: str = "rate") -> str:
    """Return a query for a counter's pace, or its increase, over all processes."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} ({function}(registration_{name}{where}[$__rate_interval]))"


def quantiles(name: str, where: str = "") -> tuple[tuple[str, str], ...]:
    """Return queries for the median, 95 and 99 of 100 of a histogram, over all processes."""
    return tuple((quantile(part, name, where=where), f"{part * 100:g} of 100") for part in QUANTILES)


def quantile(part: float, name: str, *by: str, where: str = "") -> str:
    """Return a query for a quantile of a histogram, over all processes."""
    grouped = ", ".join(("le", *by))
    return f"histogram_quantile({part}, sum by ({grouped}) (rate(registration_{name}_bucket{where}[$__rate_interval])))"


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Ingress": (
        Panel(
            "Requests by status",
            "reqps",
            "How many requests are answered, by status. 5xx are ours: their `code` says what is down.",
            ((of("http_requests_total", "status"), "{{status}}"),),
        ),
        Panel(
            "Errors by code",
            "reqps",
            "What callers are told other than success; GET /problems/{code} says what each means.",
            ((of("http_requests_total", "code", where='{code!=""}'), "{{code}}"),),
        ),
        Panel(
            "Time to answer a registration",
            "s",
            "From a POST's first byte to its answer, the password's hash and the wait for the outcome included.",
            quantiles("http_request_seconds", '{method="POST"}'),
        ),
        Panel(
            "Requests in flight",
            "short",
            "Not answered yet, and how many of them wait for their outcome.",
            (("sum(registration_http_requests_in_flight)", "in flight"), ("sum(registration_waiting)", "wait for an outcome")),
        ),
        Panel(
            "From acknowledgement to outcome",
            "s",
            "What the worker and the look-up take: the time from Kafka's acknowledgement of a command to its outcome.",
            quantiles("wait_seconds"),
        ),
        Panel(
            "How waits end",
            "ops",
            "`no-outcome` means that the caller got 202 and has to ask again. Replays were answered from an earlier outcome.",
            ((of("waits_total", "end"), "{{end}}"), (of("replays_total"), "replayed")),
        ),
        Panel(
            "Passwords",
            "s",
            "Time of a password's hash, the wait for a thread included; 20 to 30 ms are the hash itself.",
            quantiles("hash_seconds"),
        ),
        Panel(
            "Passwords that wait, and refusals",
            "short",
            "Beyond REGISTRATION_HASH_QUEUE_MAX registrations are refused as `overloaded`: add an ingress.",
            (
                ("sum(registration_hash_queue)", "in the queue"),
                (of("hash_refusals_total", function="increase"), "refused"),
            ),
        ),
        Panel(
            "Age of the keys for tokens",
            "s",
            "They serve for 24 h after the identity provider was last heard.",
            (("max(registration_jwks_age_seconds)", "age"),),
        ),
        Panel(
            "What failed in the background",
            "short",
            "Refreshes of keys, by reason, and readings of the catalogues; the ingress works on by what it has.",
            (
                (of("jwks_refresh_failures_total", "reason", function="increase"), "keys: {{reason}}"),
                (of("catalogue_read_failures_total", function="increase"), "catalogues"),
            ),
        ),
        Panel(
            "Connections ended by us",
            "ops",
            "By reason: too slow, too many, idle. A burst from few callers is theirs; from all of them, look at the network.",
            ((of("http_connections_ended_total", "reason"), "{{reason}}"),),
        ),
    ),
    "Worker": (
        Panel(
            "Registrations",
            "ops",
            "Commands whose outcome was committed, and repeats, which change nothing.",
            (
                (of("records_total", "outcome"), "{{outcome}}"),
                (of("duplicates_total"), "repeated"),
                (of("duplicates_that_differ_total"), "repeated with another body"),
            ),
        ),
        Panel(
            "Lag",
            "short",
            "Commands on the log that are not yet processed, by partition.",
            (("max by (partition) (registration_lag_records)", "{{partition}}"),),
        ),
        Panel(
            "Partitions by what they do",
            "short",
            "All should be `open`; any other state is a wait with a name, which the runbook explains.",
            (("sum by (state) (registration_lanes)", "{{state}}"),),
        ),
        Panel(
            "Batch size",
            "short",
            "Commands in one transaction. At REGISTRATION_BATCH_MAX_RECORDS the worker is as fast as it gets.",
            quantiles("batch_records"),
        ),
        Panel(
            "Stages of a batch",
            "s",
            "95 of 100: deciding, the transaction, publishing; and a whole commit, which includes the wait for the batch before.",
            (
                (quantile(0.95, "stage_seconds", "stage"), "{{stage}}"),
                (quantile(0.95, "batch_seconds"), "commit"),
            ),
        ),
        Panel(
            "Dead letters",
            "short",
            "Commands that can never be processed, by code: `registration dead-letters list`.",
            ((of("dead_letters_total", "code", function="increase"), "{{code}}"),),
        ),
        Panel(
            "Outbox",
            "short",
            "Messages committed and not yet known to be published, by partition.",
            (("max by (partition) (registration_outbox_rows)", "{{partition}}"),),
        ),
        Panel(
            "Age of the outbox",
            "s",
            "Age of the oldest message that is not known to be published: beyond 60 s nobody publishes it.",
            (("max by (partition) (registration_outbox_oldest_age_seconds)", "{{partition}}"),),
        ),
        Panel(
            "Breaker and fences",
            "short",
            "Partitions that pause after nothing but dead letters, and batches refused since another worker had the partition.",
            (
                ("sum(registration_breaker_open)", "breakers open"),
                (of("fence_losses_total", function="increase"), "fences lost"),
            ),
        ),
        Panel(
            "Rows removed",
            "short",
            "Refusals and dead letters whose time was over (`docs/operating.md`).",
            ((of("rows_removed_total", "table", function="increase"), "{{table}}"),),
        ),
    ),
    "Servers": (
        Panel(
            "Kafka: time to acknowledge a command",
            "s",
            "As the ingress sees it, with all replicas in sync.",
            quantiles("produce_seconds"),
        ),
        Panel(
            "Kafka: commands not acknowledged",
            "short",
            "`unknown`: the topic may have it all the same, and the caller is told to repeat with the same key.",
            ((of("produce_failures_total", "known", function="increase"), "{{known}}"),),
        ),
        Panel(
            "PostgreSQL: look-up of outcomes",
            "s",
            "The one query that serves all who wait.",
            quantiles("look_up_seconds"),
        ),
        Panel(
            "PostgreSQL: look-ups that failed",
            "short",
            "The database did not answer the ingress; those who wait wait on.",
            ((of("look_up_failures_total", function="increase"), "failed"),),
        ),
        Panel(
            "Processor",
            "percentunit",
            "Share of a core that each process takes. One worker process can't take more than one.",
            (("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}}"),),
        ),
        Panel(
            "Memory",
            "bytes",
            "Of each process. It follows the batches, not the backlog: what only grows is a leak.",
            (("process_resident_memory_bytes", "{{instance}}"),),
        ),
        Panel(
            "Files and sockets",
            "percentunit",
            "Share of those that each process may have open.",
            (("process_open_fds / process_max_fds", "{{instance}}"),),
        ),
        Panel(
            "Tasks of the event loop",
            "short",
            "They follow requests and partitions: what only grows is a leak.",
            (("registration_tasks", "{{instance}}"),),
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "registration",
        "title": "Registration",
        "description": "Registrations from request to event. Written by observability/dashboard.py.",
        "tags": ["registration"],
        "timezone": "utc",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]},
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        for index, panel in enumerate(panels):
            left, down = index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT
            place = {"x": left, "y": top + 1 + down, "w": WIDTH, "h": HEIGHT}
            yield _panel(number + 1 + index, panel, place)
        number += len(panels) + 1
        top += 1 + -(-len(panels) // COLUMNS) * HEIGHT


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=2))  # noqa: T201 - goes into the file
