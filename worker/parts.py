"""What the lanes of a process share; wired together in `app.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from worker.catalogues import Rules
from worker.config import Settings
from worker.kafka import Producer
from worker.metrics import Metrics
from worker.postgres import Database
from worker.sealing import Sealer
from worker.traces import BatchSpans


@dataclass(frozen=True, slots=True)
class Parts:
    """Settings, the doors to the servers, the rules, and where things are counted."""

    settings: Settings
    database: Database
    producer: Producer
    sealer: Sealer
    rules: Rules
    metrics: Metrics
    spans: BatchSpans = field(default_factory=BatchSpans)
