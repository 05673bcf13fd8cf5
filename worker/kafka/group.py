"""Which partitions of a topic the living members of a group have, as Kafka says."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code

from worker.errors import UnavailableError
from worker.kafka.records import CALL_TIMEOUT_S, STOP_TIMEOUT_S, bounded
from worker.kafka.security import PLAINTEXT, Security

_SETTLED: Final = frozenset({"Stable", "Empty", "Dead"})


async def assigned(bootstrap: str, group: str, topic: str, *, security: Security = PLAINTEXT) -> frozenset[int]:
    """
    Return the partitions that a member has; a member that is silent for its session timeout is none any more.

    Raises:
        UnavailableError: Kafka does not answer, or the group is just dividing its partitions.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(CALL_TIMEOUT_S * 1000), **security.arguments())
    try:
        await bounded(admin.start(), CALL_TIMEOUT_S, "connect")
        [response] = await bounded(admin.describe_consumer_groups([group]), CALL_TIMEOUT_S, "describe group")
    finally:
        task = asyncio.ensure_future(admin.close())
        await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    return _partitions(response, group, topic)


def _partitions(response: Any, group: str, topic: str) -> frozenset[int]:  # noqa: ANN401 - aiokafka has no types
    code, _, state, _, _, members, *_ = response.groups[0]
    if code:
        raise UnavailableError("kafka", f"describe group {group}: {for_code(code).__name__}")
    if state not in _SETTLED:
        raise UnavailableError("kafka", f"group {group} is just dividing its partitions; try again")
    found: set[int] = set()
    for _, _, _, _, assignment in (member[:5] for member in members):
        places = ConsumerProtocolMemberAssignment.decode(assignment).assignment if assignment else ()
        found.update(number for name, numbers in places if name == topic for number in numbers)
    return frozenset(found)
