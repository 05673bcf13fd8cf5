"""The topics and their settings (README, "Topics")."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from worker import logs
from worker.errors import UnavailableError
from worker.kafka.records import CALL_TIMEOUT_S, DEAD_LETTER_MAX_BYTES, MESSAGE_MAX_BYTES, STOP_TIMEOUT_S, bounded
from worker.kafka.security import PLAINTEXT, Security

_DAY_MS: Final = 86_400_000
_REPLICAS_THAT_MAY_LOSE_ONE: Final = 3
_BROKERS_DEFAULT: Final = -1
"""KIP-464."""


def topic_settings(name_retention_days: Mapping[str, int], replicas: int) -> dict[str, dict[str, str]]:
    """
    Return each topic's settings.

    Args:
        name_retention_days: how long each is kept.
        replicas: of each; 0 leaves `min.insync.replicas` to the brokers too.
    """
    common = {"message.timestamp.type": "LogAppendTime"}
    if replicas:
        common["min.insync.replicas"] = "2" if replicas >= _REPLICAS_THAT_MAY_LOSE_ONE else "1"
    return {
        name: {
            **common,
            "retention.ms": str(days * _DAY_MS),
            "compression.type": "uncompressed" if ".commands." in name else "producer",
            "max.message.bytes": str(DEAD_LETTER_MAX_BYTES if ".dead-letters." in name else MESSAGE_MAX_BYTES),
        }
        for name, days in name_retention_days.items()
    }


async def create_topics(
    bootstrap: str, topics: Mapping[str, dict[str, str]], *, partitions: int, replicas: int, security: Security = PLAINTEXT
) -> list[str]:
    """
    Make the topics that are missing; those that exist are left as they are.

    Args:
        replicas: of each; 0 is what the brokers have as `default.replication.factor`.
    Returns:
        The names that were made.
    Raises:
        UnavailableError: Kafka does not answer, or refuses.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(CALL_TIMEOUT_S * 1000), **security.arguments())
    try:
        await bounded(admin.start(), CALL_TIMEOUT_S, "connect")
        wanted = [_new_topic(name, partitions, replicas, config) for name, config in topics.items()]
        response: Any = await bounded(admin.create_topics(wanted), CALL_TIMEOUT_S, "create topics")
    finally:
        task = asyncio.ensure_future(admin.close())
        await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    made = []
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code == 0:
            made.append(name)
            logs.logger().info("topic.created", name=name)
        elif error is not TopicAlreadyExistsError:
            raise UnavailableError("kafka", f"create topic {name}: {error.__name__}")
    return made


def _new_topic(name: str, partitions: int, replicas: int, config: dict[str, str]) -> NewTopic:
    """Return what is asked of Kafka; the client takes no default for replicas unless it is told of no assignment of them."""
    if replicas:
        return NewTopic(name, partitions, replicas, topic_configs=config)
    return NewTopic(name, partitions, _BROKERS_DEFAULT, replica_assignments={}, topic_configs=config)
