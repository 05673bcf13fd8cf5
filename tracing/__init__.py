"""
Spans named by OpenTelemetry's conventions, in the trace that an HTTP request or a message of Kafka carries.

It imports OpenTelemetry alone, so that a downstream service can copy the folder or install it. The API makes spans
nowhere by itself: only `start` does, where the extra `telemetry` is installed and the environment asks for it.
"""

from tracing.environment import TracingError, start
from tracing.spans import OFF, Headers, Traces, failed, parent_in, traceparent_of

__all__ = ["OFF", "Headers", "Traces", "TracingError", "failed", "parent_in", "start", "traceparent_of"]
