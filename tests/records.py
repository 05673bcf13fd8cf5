"""Records as a worker reads them, and the development tenant's rules as it knows them, with no server about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import yaml

from tests import commands
from worker import dev
from worker.catalogues import Snapshot, Versions
from worker.core.catalogue import Catalogue, parse
from worker.kafka import PlainRecord
from worker.registration import Verdict, examine

AT_MS: Final = 1_767_225_600_000
"""2026-01-01T00:00:00Z, when the records below came to the log."""
DEVELOPMENT: Final = parse(yaml.safe_load((Path(dev.__file__).with_name("catalogue") / "development.yaml").read_text()))


def record(
    value: Mapping[str, object] | bytes | None,
    *,
    headers: Sequence[tuple[str, bytes | None]] | None = None,
    offset: int = 7,
    topic: str = "commands",
    timestamp: int = AT_MS,
) -> PlainRecord:
    """Return a command as it is read; by default with the headers that it needs."""
    packed = json.dumps(value).encode() if isinstance(value, Mapping) else value
    sent = tuple(commands.headers()) if headers is None else tuple(headers)
    return PlainRecord(topic, 0, offset, timestamp, b"key", packed, sent)


def snapshot(*catalogues: Catalogue) -> Snapshot:
    """Return what a worker knows after it has read these catalogues, by default the development tenant's."""
    found = [_versions(each) for each in catalogues or (DEVELOPMENT,)]
    at = datetime.fromtimestamp(AT_MS / 1000, UTC)
    return Snapshot(at, {each.tenant_id: each for each in found}, {each.slug: each for each in found})


def _versions(catalogue: Catalogue) -> Versions:
    return Versions(catalogue.tenant.id, catalogue.tenant.slug, (datetime(2025, 1, 1, tzinfo=UTC),), (1,), (catalogue,))


SNAPSHOT: Final = snapshot()


def verdict_of(email: str, *, offset: int = 7, topic: str = "commands", **changed: object) -> Verdict:
    """Return what becomes of a command for this email; `changed` replaces members of its data."""
    return examine(record(commands.data(email, **changed), offset=offset, topic=topic), SNAPSHOT, fresh=True)
