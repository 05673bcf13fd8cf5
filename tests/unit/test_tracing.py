"""Tracing: off unless the environment asks for it, never a reason to stop, and free of what callers send."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tracing import OFF, TracingError, parent_in, start, traceparent_of
from tracing.environment import exporters
from tracing.sdk import ChosenIds, exporting
from worker.traces import is_sampled

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, []),
        ({"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}, []),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector"}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ["otlp_proto_http", "console"]),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
    ],
)
def test_the_environment_says_whether_and_where_spans_go(environment: Mapping[str, str], expected: list[str]) -> None:
    """By OpenTelemetry's own variables."""
    assert exporters(environment) == expected


def test_an_exporter_that_is_not_there_is_told_in_one_line() -> None:
    """It names the variable."""
    with pytest.raises(TracingError) as told:
        start({"OTEL_TRACES_EXPORTER": "zipkin"}, "any")

    assert str(told.value) == "OTEL_TRACES_EXPORTER: no exporter zipkin is installed"


def test_without_the_extra_all_works_and_one_line_says_that_there_are_no_traces() -> None:
    """An operator may set the variables for a whole cluster."""
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "import worker.app, worker.ingress\n"
        "from worker import logs; from worker.traces import exported\n"
        "logs.configure('INFO', 'json', sys.stdout)\n"
        "with exported('any') as traces: assert not traces.is_on"
    )
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    run = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    line = json.loads(run.stdout)

    assert (line["event"], line["level"]) == ("traces.unavailable", "warning")
    assert line["reason"] == "OTEL_TRACES_EXPORTER: the extra `telemetry` of this project is not installed"


def test_nothing_of_the_sdk_is_imported_where_no_traces_are_asked_for() -> None:
    """It takes memory and time at start."""
    code = (
        "import sys, worker.app, worker.ingress; from worker.traces import exported\n"
        "with exported('any'): print('opentelemetry.sdk' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True)  # noqa: S603 - our own code

    assert run.stdout == "False\n"


@pytest.mark.parametrize(
    ("sent", "sampled"),
    [
        (PARENT, True),
        (PARENT[:-1] + "3", True),
        (PARENT[:-1] + "0", False),
        (PARENT[:-1] + "2", False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        ("marcus.jensen@example.com", False),
        ("", False),
        (None, False),
    ],
)
def test_a_trace_is_recorded_where_its_sender_says_so(sent: str | None, *, sampled: bool) -> None:
    """What is no `traceparent` says nothing."""
    assert is_sampled(sent) == sampled


@given(st.binary(max_size=80))
def test_any_bytes_may_stand_in_the_header(value: bytes) -> None:
    """An upstream service can send what it likes."""
    headers = [("x", None), ("traceparent", value)]

    with OFF.processing("topic", headers, "group") as span:
        assert not span.is_recording()
    assert not is_sampled(parent_in(headers)) or value.count(b"-") >= 3


def test_a_span_can_have_the_id_that_was_chosen_once() -> None:
    """The next one is random again."""
    ids = ChosenIds()
    ids.choose(7)

    assert ids.generate_span_id() == 7
    assert ids.generate_span_id() != 7


def test_an_error_is_named_and_its_text_stays_out() -> None:
    """It may hold a row or a body."""
    memory = InMemorySpanExporter()
    traces = exporting([memory], "any")
    with pytest.raises(ValueError, match="marcus"), traces.processing("topic", [("traceparent", PARENT.encode())], "group"):
        raise ValueError("marcus.jensen@example.com")
    traces.stop()
    (span,) = memory.get_finished_spans()

    assert not span.status.is_ok
    assert dict(span.attributes or {})["error.type"] == "ValueError"
    assert "marcus" not in span.to_json()
    assert (span.name, span.kind) == ("process topic", SpanKind.CONSUMER)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]


def test_a_message_of_a_batch_has_a_span_of_its_own_from_where_the_batch_began() -> None:
    """In its own trace, whatever the others are in."""
    memory = InMemorySpanExporter()
    traces = exporting([memory], "any")
    for parent in (PARENT, PARENT.replace("0af7", "1111"), PARENT[:-1] + "0"):
        traces.processed("topic", [("traceparent", parent.encode())], "group", start_ns=5)
    traces.stop()

    assert [(span.name, span.start_time) for span in memory.get_finished_spans()] == [("process topic", 5)] * 2
    assert len({span.context.trace_id for span in memory.get_finished_spans()}) == 2


def test_a_trace_goes_on_to_what_is_sent_while_a_message_is_processed() -> None:
    """A downstream service that publishes in turn puts this into its own headers."""
    traces = exporting([InMemorySpanExporter()], "any")
    with traces.processing("topic", [("traceparent", PARENT.encode())], "group") as span:
        onward = traceparent_of(span) or ""
    traces.stop()

    assert onward.startswith(PARENT[:36])
    assert onward != PARENT
    assert traceparent_of(OFF.span("x", SpanKind.INTERNAL, PARENT)) is None
