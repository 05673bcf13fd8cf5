"""Metrics: from 0 on, of what is so now, and of what succeeded."""

from __future__ import annotations

import asyncio

import pytest

from worker.metrics import Metrics


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return a series' value; None where there is none."""
    return metrics.registry.get_sample_value(f"registration_{name}", labels)


@pytest.mark.parametrize("outcome", ["accepted", "rejected", "dead_letter"])
def test_a_series_that_an_alert_waits_for_begins_at_0(outcome: str) -> None:
    """Prometheus sees no increase in a series that was not there before."""
    assert sample(Metrics(), "records_total", outcome=outcome) == 0


def test_an_outbox_that_another_worker_has_is_shown_by_that_one_alone() -> None:
    """An old age would be an alarm about nothing; of a partition that never was looked at nothing is to be forgotten."""
    metrics = Metrics()
    metrics.outbox(3, 5, 70.0)
    metrics.given_up(3)
    metrics.given_up(4)

    assert sample(metrics, "outbox_rows", partition="3") is None
    assert sample(metrics, "outbox_oldest_age_seconds", partition="3") is None


def test_a_stage_that_failed_is_not_measured() -> None:
    """The batch is done again."""
    metrics = Metrics()
    with metrics.stage("transaction"):
        pass
    with pytest.raises(TimeoutError), metrics.stage("transaction"):
        raise TimeoutError

    assert sample(metrics, "stage_seconds_count", stage="transaction") == 1


async def test_publishing_is_measured_where_kafka_acknowledged() -> None:
    """Neither an error nor an end of the process is a time of Kafka's."""
    metrics, loop = Metrics(), asyncio.get_running_loop()
    tasks = [loop.create_task(asyncio.sleep(0)), loop.create_task(failing()), loop.create_task(asyncio.sleep(60))]
    for task in tasks:
        task.add_done_callback(metrics.publishing())
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert sample(metrics, "stage_seconds_count", stage="publish") == 1


async def failing() -> None:
    """Be a producer whose broker is away."""
    raise TimeoutError
