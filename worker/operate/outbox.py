"""
Publishes what is left in the outbox of partitions that nobody owns.

By the protocol of a claim (README, "One batch, one transaction"): a fresh owner, then the left-over messages in order, then their
delete, fenced by that owner. A worker's partitions are left to it: it sweeps them itself. Should one claim a partition meanwhile,
it has it; what was sent is then sent again, under the same `ce_id`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Final
from uuid import UUID, uuid4

from schemas.commands import COMMANDS_TOPIC
from worker import store
from worker.config import Settings
from worker.errors import FencedError
from worker.kafka import Partition, Producer, security_of
from worker.kafka.group import assigned
from worker.operate.progress import Progress
from worker.operate.session import session
from worker.postgres import Database
from worker.sealing import Sealer
from worker.store import StaleError

OLD_S: Final = 60.0
"""A message that is older should long have been published."""
NAME: Final = "registration-outbox"


@dataclass(frozen=True, slots=True)
class Drained:
    """
    What became of a partition's outbox.

    Attributes:
        sent: messages that were published and deleted.
        done: nothing old is left; else `text` says why.
    """

    partition: int
    sent: int
    done: bool
    text: str

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))


async def drain(
    settings: Settings,
    stop: asyncio.Event,
    *,
    producer: Producer,
    progress: Progress,
    topic: str = COMMANDS_TOPIC,
    old_s: float = OLD_S,
) -> list[Drained]:
    """
    Publish what is left over on partitions that nobody owns.

    Args:
        settings: where the servers are, and the keys that open dead letters.
        stop: set it, and no further messages are begun.
        producer: to Kafka.
        progress: called with a partition, how much is done, and how much there was.
        topic: of the commands.
        old_s: how old a partition's oldest message must be.
    Returns:
        What became of each partition with such messages; nothing where there is none.
    Raises:
        UnavailableError: a server does not answer, or the workers are just dividing the partitions.
        ConfigurationError: there are no sealing keys.
    """
    sealer, url = Sealer(settings.sealing_keys.get_secret_value()), settings.database_url.get_secret_value()
    async with session(url, NAME) as opened:
        rows = [row for row in await opened.rows("partitions", topic) if (row["outbox_oldest_s"] or 0) > old_s]
    if not rows:
        return []
    owned = await assigned(settings.kafka_bootstrap, settings.group, topic, security=security_of(settings))
    database = Database(url, connections=1, timeout_s=settings.batch_timeout_s, name=NAME)
    drained = []
    try:
        for row in rows:
            if stop.is_set():
                drained.append(Drained(row["partition"], 0, done=False, text="interrupted"))
            elif row["partition"] in owned or row["owner"] is None:
                drained.append(Drained(row["partition"], 0, done=False, text=_left(row["owner"])))
            else:
                sweep = _Sweep(database, sealer, producer, Partition(topic, row["partition"]), stop)
                drained.append(await sweep.run(row["owner"], row["outbox"], progress))
    finally:
        await database.close()
    return drained


def _left(owner: UUID | None) -> str:
    if owner is None:
        return "no worker has ever claimed it; `registration worker` does"
    return "a worker has it, and publishes them itself once Kafka and the database let it; see its /readyz"


@dataclass(frozen=True, slots=True)
class _Sweep:
    """One partition's, from claim to the last delete."""

    database: Database
    sealer: Sealer
    producer: Producer
    partition: Partition
    stop: asyncio.Event

    async def run(self, seen: UUID, total: int, progress: Progress) -> Drained:
        """Claim the partition from the owner that was seen, and from no other; then publish and delete, some at a time."""
        number, sent, mine = self.partition.partition, 0, uuid4()
        try:
            await store.claim_again(self.database, self.partition, mine, (seen,))
            while outgoing := await store.leftover(self.database, self.partition, self.sealer):
                if self.stop.is_set():
                    return Drained(number, sent, done=False, text="interrupted; run it again for the rest")
                await self.producer.send_all([item.message for item in outgoing])
                await store.delete(self.database, self.partition, mine, [(item.offset, item.kind) for item in outgoing])
                sent += len(outgoing)
                progress(f"partition {number}", sent, max(total, sent))
        except (FencedError, StaleError):
            return Drained(number, sent, done=False, text="a worker claimed it meanwhile, and publishes the rest itself")
        return Drained(number, sent, done=True, text=f"{sent:,} published")
