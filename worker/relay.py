"""
Publishes from memory what a lane has committed, and remembers what may then be deleted from the outbox.

One batch is on its way at a time, so that a partition's messages keep their order; the next batch may be in its
transaction meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from worker.kafka import Producer
from worker.messages import Outgoing
from worker.store import DeleteKey


class Relay:
    """The outgoing side of one lane."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._sending: asyncio.Task[object] | None = None
        self._sent: Sequence[Outgoing] = ()
        self._acknowledged: list[DeleteKey] = []

    @property
    def idle(self) -> bool:
        """Nothing is on its way, and nothing waits to be deleted."""
        return self._sending is None and not self._acknowledged

    def lowest_pending(self, next_offset: int) -> int:
        """Return the lowest offset whose messages may still be in the outbox."""
        offsets = [offset for offset, _ in self._acknowledged] + [item.offset for item in self._sent]
        return min(offsets, default=next_offset)

    def publish(self, outgoing: Sequence[Outgoing]) -> asyncio.Task[object] | None:
        """Send a batch; the one before must have been acknowledged. Return the task that does; None: there is nothing to send."""
        assert self._sending is None, "one batch at a time"  # noqa: S101 - a bug of ours, not an input
        if outgoing:
            self._sent = outgoing
            self._sending = asyncio.create_task(self._producer.send_all([item.message for item in outgoing]))
        return self._sending

    async def acknowledged(self, timeout_s: float) -> bool:
        """
        Wait until what is on its way is acknowledged; False where it still is not after that time.

        Raises:
            UnavailableError: it failed; only a new claim's sweep sends it again.
        """
        if self._sending is None:
            return True
        done, _ = await asyncio.wait({self._sending}, timeout=timeout_s)
        if not done:
            return False
        sending, self._sending = self._sending, None
        sent, self._sent = self._sent, ()
        sending.result()
        self._acknowledged += [(item.offset, item.kind) for item in sent]
        return True

    def take_acknowledged(self) -> list[DeleteKey]:
        """Return, once, what Kafka has: it may be deleted from the outbox."""
        taken, self._acknowledged = self._acknowledged, []
        return taken

    def put_back(self, keys: Sequence[DeleteKey]) -> None:
        """Keep keys whose delete was rolled back."""
        self._acknowledged = [*keys, *self._acknowledged]

    async def forget(self, timeout_s: float) -> None:
        """
        Drop everything: a claim begins from what the database says, and drops deletes that are pending.

        What is on its way is waited for, up to a bound, so that it can't arrive between messages that are sent again later.
        """
        sending, self._sending = self._sending, None
        self._sent, self._acknowledged = (), []
        if sending is None:
            return
        try:
            await asyncio.wait({sending}, timeout=timeout_s)
        finally:
            if not sending.done():
                sending.cancel()
            elif not sending.cancelled():
                sending.exception()
