"""The example services downstream on real Kafka: each fact is acted on once, whatever is delivered, and whoever is killed."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from downstream.consent import CONSENT
from downstream.inbox import Inbox, Request
from downstream.service import Service, UnreadableError, handle
from downstream.verification import VERIFICATION
from tests.boundary import topics
from tests.boundary.conditions import until
from worker.kafka import OutMessage, Producer

GOLDEN = Path(__file__).parents[1] / "golden"


def message(topic: str, kind: str = "customer-registered", **changed: str) -> OutMessage:
    """Return a released version's event, as the worker sends it; `changed` replaces headers."""
    golden = json.loads((GOLDEN / f"{kind}.v1.json").read_text())
    headers = {**dict(golden["headers"]), **changed}
    return OutMessage(
        topic, b"key", json.dumps(golden["value"]).encode(), [(name, text.encode()) for name, text in headers.items()]
    )


def record(value: bytes, **changed: str) -> ConsumerRecord[bytes, bytes]:
    """Return an event as a consumer gets it."""
    headers = [(name, header or b"") for name, header in message("events", **changed).headers]
    return ConsumerRecord("events", 3, 17, 0, 0, b"key", value, None, 0, 0, tuple(headers))


@pytest.fixture
async def events(bootstrap: str, topic: str) -> str:
    """A topic of its own, with one partition."""
    await topics.make(bootstrap, topic, partitions=1)
    return topic


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a service keeps what it has acted on."""
    return tmp_path / "inbox.sqlite"


@pytest.fixture
def inbox(path: Path) -> Iterator[Inbox]:
    """An empty one."""
    with Inbox(path) as opened:
        yield opened


@pytest.fixture
async def service(bootstrap: str, events: str, inbox: Inbox) -> AsyncIterator[Service]:
    """Verification, joined."""
    joined = Service(f"verification-{os.urandom(4).hex()}", VERIFICATION, inbox, bootstrap, topic=events)
    await joined.start()
    yield joined
    await joined.close()


async def test_a_fact_that_is_delivered_twice_is_acted_on_once(service: Service, producer: Producer, events: str) -> None:
    """Two deliveries with one id, then another fact, which shows that both were read."""
    await producer.send_all([message(events), message(events), message(events, ce_id="another")])
    fresh = 0

    async def both() -> bool:
        nonlocal fresh
        fresh += await service.run_once()
        return fresh >= 2

    await until(both, "both facts are acted on")

    assert fresh == 2


async def test_what_was_acted_on_survives_a_kill_before_the_offset_was_committed(
    bootstrap: str, producer: Producer, events: str, path: Path
) -> None:
    """The next process reads the record anew, by a group that has committed nothing, and does nothing."""
    await producer.send_all([message(events)])
    for expected in (1, 0):
        with Inbox(path) as inbox:
            service = Service(f"consent-{os.urandom(4).hex()}", CONSENT, inbox, bootstrap, topic=events)
            await service.start()
            try:
                position = await until(partial(_read, service), "the record was read")
            finally:
                await service.close()

            assert position == (1, expected)
            assert len(inbox.requests()) == 1


async def _read(service: Service) -> tuple[int, int] | None:
    """Take a batch; return the offset that is committed then and how many customers were new, once there was a record."""
    fresh = await service.run_once()
    consumer = service._consumer
    [partition] = consumer.assignment() or [None]
    committed = None if partition is None else await consumer.committed(partition)
    return None if committed is None else (committed, fresh)


def test_what_is_not_for_a_service_is_passed_over() -> None:
    """A refusal, a type of tomorrow, and what is no event at all."""
    value = message("events").value or b""
    refused = json.dumps(json.loads((GOLDEN / "customer-registration-rejected.v1.json").read_text())["value"]).encode()

    assert handle(record(refused, ce_type="customer.registration-rejected.v1"), CONSENT) is None
    assert handle(record(value, ce_type="customer.erased.v1"), CONSENT) is None
    assert handle(record(value, ce_specversion="2.0"), CONSENT) is None


def test_an_event_that_cannot_be_read_is_named_by_its_place_alone() -> None:
    """Nothing of its content is in the message."""
    with pytest.raises(UnreadableError) as told:
        handle(record(b'{"customerId": "canary"}'), VERIFICATION)

    assert str(told.value) == "events, partition 3, offset 17"


def test_a_batch_that_fails_leaves_nothing_behind(inbox: Inbox) -> None:
    """One transaction: what cannot be written takes back the ids that were seen with it."""
    good, bad = Request("tenant", "customer", {}), Request("tenant", "customer", {"checks": object()})
    with pytest.raises(TypeError):
        inbox.take([("1", good), ("2", bad)])

    assert inbox.requests() == []
    assert inbox.take([("1", good)]) == [good]


def test_what_is_asked_is_what_the_decision_names() -> None:
    """Checks and documents by name, and no more of the event."""
    value = message("events").value or b""
    event = json.loads(value)
    checks, consents = handle(record(value), VERIFICATION), handle(record(value), CONSENT)

    assert checks is not None
    assert checks[1].asked == {"level": event["verificationLevel"], "checks": event["verificationChecks"]}
    assert consents is not None
    assert [each["code"] for each in consents[1].asked["consents"]] == [each["code"] for each in event["consents"]]
