"""OpenTelemetry's SDK, the extra `telemetry`: imported where traces are exported, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from tracing.spans import Traces


class ChosenIds(RandomIdGenerator):
    """
    Random ids, and now and then one that was chosen before.

    An event names the span of its own sending before that span is made, and without knowing whether one ever will be.
    """

    def __init__(self) -> None:
        self._next: int | None = None

    def choose(self, span_id: int) -> None:
        """Give the next span this id. Whoever chooses makes that span at once, in the same thread."""
        self._next = span_id

    def generate_span_id(self) -> int:
        """Return the id that was chosen, once, else a random one."""
        chosen, self._next = self._next, None
        return chosen or super().generate_span_id()


def exporter(name: str) -> SpanExporter:
    """
    Return an exporter by its name, as it is when the environment says no more.

    Raises:
        LookupError: none of that name is installed.
    """
    found = next(iter(entry_points(group="opentelemetry_traces_exporter", name=name)), None)
    if found is None:
        raise LookupError(f"no exporter {name} is installed")
    made: SpanExporter = found.load()()
    return made


def exporting(exporters: Sequence[SpanExporter], service: str | None) -> Traces:
    """
    Return traces that go to these exporters, in batches, from a thread that drops what it has no room for.

    Args:
        exporters: where spans go.
        service: the process's name in a trace; None: the environment has one.
    """
    ids = ChosenIds()
    resource = Resource.create({} if service is None else {SERVICE_NAME: service})
    provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
    for each in exporters:
        provider.add_span_processor(BatchSpanProcessor(each))
    return Traces(provider.get_tracer("registration"), ids.choose, provider.shutdown)
