"""Whether and where spans go, as OpenTelemetry's own environment variables say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tracing.spans import OFF, Traces

EXPORTERS: Final = "OTEL_TRACES_EXPORTER"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class TracingError(Exception):
    """The environment asks for traces that can't be had; the message says why, in one line."""


def start(environment: Mapping[str, str], service: str) -> Traces:
    """
    Begin to export spans, where the environment asks for it.

    It does where `OTEL_TRACES_EXPORTER` names exporters (`otlp`, `console`), or where an OTLP endpoint is set. All else,
    from the endpoint to the sampler, the SDK itself reads from `OTEL_…`.

    Args:
        environment: the process's own.
        service: its name, where `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` give it none.
    Raises:
        TracingError: the SDK or an exporter is not installed, or a variable is wrong.
    """
    names = exporters(environment)
    if not names:
        return OFF
    try:
        from tracing import sdk  # noqa: PLC0415 - an extra that need not be installed
    except ImportError:
        raise TracingError(f"{EXPORTERS}: the extra `telemetry` of this project is not installed") from None
    try:
        return sdk.exporting([sdk.exporter(name) for name in names], None if _is_named(environment) else service)
    except (LookupError, ValueError, ImportError) as error:
        raise TracingError(f"{EXPORTERS}: {error}") from None


def exporters(environment: Mapping[str, str]) -> list[str]:
    """Return the entry points of the exporters that the environment asks for; empty where it asks for none."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    default = "otlp" if any(map(environment.get, _ENDPOINTS)) else ""
    named = [name.strip() for name in (environment.get(EXPORTERS) or default).split(",")]
    protocol = next(filter(None, map(environment.get, _PROTOCOLS)), "http/protobuf")
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    return [otlp if name == "otlp" else name for name in named if name not in {"", "none"}]


def _is_named(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("OTEL_SERVICE_NAME")) or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
