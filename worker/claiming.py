"""
A claim: from "this partition is assigned to us" to "read on from here".

First the owner is written, then, in a later statement, what an earlier owner left in the outbox is read, published in
order and deleted, then the position is held against the log that there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from worker import logs, store
from worker.kafka import LOG_APPEND_TIME, Member, Partition, Record
from worker.parts import Parts
from worker.relay import Relay
from worker.store import Claim, Look


def gives_up(order: Claim | Look) -> bool:
    """Say whether an operator gave up records that are lost: only that order names an offset beyond the position."""
    return order.resume_at_offset is not None and order.resume_at_offset > order.next_offset


class InputLostError(Exception):
    """Commands that were not yet done are gone from the log: only an operator can say go on."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """
    Where a partition stands, and from where to read.

    Attributes:
        claim: what the database says.
        seek: the offset to read from: that of the last record that was done where it may be held against the log.
        log_start: the log's first offset.
        log_end: the one after its last committed record.
        swept: left-over messages that were published.
    """

    claim: Claim
    seek: int
    log_start: int
    log_end: int
    swept: int


class Claimant:
    """
    Claims one partition, again and again, for one lane.

    Attributes:
        owner: the claim under which this lane may write; None before the first one, and after a fence was lost.
    """

    def __init__(self, partition: Partition, member: Member, parts: Parts, relay: Relay) -> None:
        self.owner: UUID | None = None
        self._candidate = uuid4()
        self._partition = partition
        self._member = member
        self._parts = parts
        self._relay = relay
        self._log = logs.logger(partition=partition.partition)

    async def claim(self) -> Claimed:
        """
        Claim, sweep, and find the place in the log.

        A claim whose answer was lost is tried again under the same fresh owner: it may have been written.

        Raises:
            FencedError: another owner has it.
            InputLostError: the position is before the log's start, and nobody has said go on.
            UnavailableError: a server does not answer.
        """
        await self._relay.forget(self._parts.settings.produce_timeout_s)
        start, _ = await self._member.bounds(self._partition)
        owner, database = self._candidate, self._parts.database
        if self.owner is None:
            claim = await store.claim(database, self._partition, owner, start)
        else:
            claim = await store.claim_again(database, self._partition, owner, (self.owner, owner))
        self.owner, self._candidate = owner, uuid4()
        start, end = await self._member.bounds(self._partition)  # again: the owner before us may have moved on meanwhile
        swept = await self._sweep(owner)
        claim = await self._place(claim, owner, start, end)
        last = claim.last_offset
        seek = claim.next_offset if last is None or claim.last_digest is None or last < start else last
        return Claimed(claim, seek, start, end, swept)

    async def is_anew(self, first: Record, claimed: Claimed) -> bool:
        """
        Hold the first record that was read against the last one that was done.

        Returns:
            True where the topic was made anew; then the position is back at the log's start.
        """
        if first.timestamp_type != LOG_APPEND_TIME:
            self._log.error("topic.create_time", topic=first.topic)
        claim = claimed.claim
        if first.offset != claim.last_offset or claimed.seek != claim.last_offset or store.digest(first) == claim.last_digest:
            return False
        start, _ = await self._member.bounds(self._partition)
        await self._begin_anew(claim, start)
        return True

    async def _sweep(self, owner: UUID) -> int:
        """Publish, in order, what an earlier owner committed and may not have published."""
        swept = 0
        while outgoing := await store.leftover(self._parts.database, self._partition, self._parts.sealer):
            self._relay.publish(outgoing)
            while not await self._relay.acknowledged(self._parts.settings.look_interval_s):
                pass
            await store.delete(self._parts.database, self._partition, owner, self._relay.take_acknowledged())
            swept += len(outgoing)
        return swept

    async def _place(self, claim: Claim, owner: UUID, start: int, end: int) -> Claim:
        """Hold the database's position against the log that there is."""
        if claim.next_offset > end:
            await self._begin_anew(claim, start)
        elif claim.next_offset >= start:
            return claim
        elif not gives_up(claim):
            raise InputLostError
        else:
            self._log.error("lane.input_given_up", next_offset=claim.next_offset, log_start=start)
            await store.begin_anew(self._parts.database, self._partition, owner, start)
        return Claim(start, None, None, claim.dead_letter_run, None, None)

    async def _begin_anew(self, claim: Claim, start: int) -> None:
        assert self.owner is not None, "claimed just before"  # noqa: S101 - narrows the type
        self._log.error("lane.topic_anew", next_offset=claim.next_offset, log_start=start)
        await store.begin_anew(self._parts.database, self._partition, self.owner, start)
