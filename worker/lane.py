"""
A lane: one partition, from its claim until it is given up.

`run` loops over `run_once`, which takes one batch from the log to the database. Whatever goes wrong with a server, the
way back is the same: claim again, publish what is left in the outbox, read on from where the database says.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import uniform
from typing import Final
from uuid import UUID

from worker import logs, settlement, store
from worker.breaker import Breaker
from worker.claiming import Claimant, Claimed, InputLostError, gives_up
from worker.errors import (
    CommitUnknownError,
    DatabaseBugError,
    FencedError,
    LostPartitionError,
    MissingTopicError,
    RejoinError,
    TooSlowError,
    UnavailableError,
    UnstorableError,
)
from worker.examining import Examined, examine_batch
from worker.kafka import MESSAGE_MAX_BYTES, Member, Partition, Record, size_bytes
from worker.pace import Pace
from worker.parts import Parts
from worker.registration import DeadLetter, Verdict, refuse
from worker.relay import Relay
from worker.settlement import Move, Settled
from worker.store import StaleError

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 5.0
DELETE_TIMER_S: Final = 0.05
FORGET_TIMEOUT_S: Final = 2.0
STEP_BACK: Final = 2
"""How many times as long as a batch of nothing but dead letters took, its lane then rests."""
QUEUE_MAX_BYTES: Final = 8 * MESSAGE_MAX_BYTES
BATCH_MAX_BYTES: Final = 2 * MESSAGE_MAX_BYTES
NOT_THE_BATCH: Final = (UnavailableError, CommitUnknownError, StaleError, FencedError, DatabaseBugError, RejoinError)
STOPPED: Final = "stopped_by_bug"
INPUT_LOST: Final = "input_lost"
BREAKER_OPEN: Final = "breaker_open"


class Lane:
    """
    One assignment of one partition.

    Args:
        partition: whose records.
        member: the membership that the assignment belongs to.
        parts: what the process shares.
        room: called when records may be offered.
    """

    def __init__(self, partition: Partition, member: Member, parts: Parts, room: Callable[[], None]) -> None:
        self.partition = partition
        self.reason: str | None = "claiming"
        self._member = member
        self._parts = parts
        self._room = room
        self._log = logs.logger(partition=partition.partition)
        self._relay = Relay(parts.producer)
        self._breaker = Breaker(parts.settings)
        self._pace = Pace(parts.settings.batch_max_records, parts.settings.batch_goal_s)
        self._queue: deque[Record] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._open = False
        self._claimant = Claimant(partition, member, parts, self._relay)
        self._next = 0
        self._end = 0
        """The log's end at the last claim."""
        self._seek_to: int | None = None
        self._reached: int | None = None
        self._unverified: Claimed | None = None
        self._skip: int | None = None
        self._stopped_at: int | None = None
        self._fences = 0
        self._failures = 0
        self._told: set[str] = set()
        """What `lane.waiting` has said since the lane was well."""
        self._hint: str | None = None
        self._distrusted: UnavailableError | None = None
        self._queued_bytes = 0
        self._looked_at = 0.0
        self._taken_at = 0.0

    @property
    def has_room(self) -> bool:
        """Records may be offered: few wait, and they are not large."""
        few = len(self._queue) < self._parts.settings.batch_max_records
        return self._open and few and self._queued_bytes < QUEUE_MAX_BYTES

    @property
    def why(self) -> str | None:
        """The reason to wait, for people: what they have to do, where waiting does not help."""
        return self._hint if self._hint is not None and self.reason == "kafka" else self.reason

    @property
    def next_offset(self) -> int:
        """The offset that this lane will do next, as far as it knows."""
        return self._next

    @property
    def _mine(self) -> UUID:
        assert self._claimant.owner is not None, "an open lane has claimed"  # noqa: S101 - narrows the type
        return self._claimant.owner

    def offer(self, records: Sequence[Record]) -> None:
        """Put records into the lane; those of a lane that was closed meanwhile are dropped, Kafka has them."""
        if self._open:
            self._queue.extend(records)
            self._queued_bytes += sum(map(size_bytes, records))
            self._wake.set()

    def begin(self) -> None:
        """
        Read on from where the claim says, and let records through.

        Called between two polls, never during one: what a poll returns then always follows the last seek. Records that
        were read before a seek and offered after it would let the position jump over others.

        Raises:
            LostPartitionError: the partition is not assigned to us.
        """
        if self._seek_to is not None:
            offset, self._seek_to = self._seek_to, None
            self._member.seek(self.partition, offset)
            self._open = True
            self._wake.set()

    def reached(self, position: int) -> None:
        """Take note of where reading stands, told between two polls: all records before it were offered."""
        if self._open:
            self._reached = position

    def distrust(self, error: UnavailableError) -> None:
        """Begin again from what the database and the log say, after a while: reading this partition failed."""
        self._distrusted = error
        self._open, self._seek_to = False, None
        self._wake.set()

    def close(self) -> None:
        """Finish what is in flight and end `run`."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """
        Do batches until closed or lost.

        Raises:
            RejoinError: this membership can't be trusted any more.
            Exception: a bug of ours; the process ends without moving the offset.
        """
        try:
            with suppress(LostPartitionError):  # the group gave it to another; that a recovery may be the first to learn
                while not self._closing:
                    try:
                        await self.run_once()
                    except (UnavailableError, TooSlowError, CommitUnknownError, StaleError, FencedError) as error:
                        await self._recover(error)
                await self._finish()
        finally:
            self._open = False
            await self._relay.forget(FORGET_TIMEOUT_S)
            self._log.info("lane.closed", next_offset=self._next)

    async def run_once(self) -> int:
        """Take one batch from the log to the database; return how many records it held."""
        if self._distrusted is not None:
            error, self._distrusted = self._distrusted, None
            raise error
        if not self._open:
            await (self._claim() if self._seek_to is None else self._wait_and_look())
            return 0
        if self._blocked():
            await self._wait_and_look()
            return 0
        records = await self._take()
        if not records:
            await self._idle()
            return 0
        self._taken_at = time.monotonic()
        with self._parts.metrics.stage("examine"):
            examined = await self._examine(records)
        if examined:
            await self._settle(examined)
            took_s = time.monotonic() - self._taken_at
            self._pace.took(len(examined), took_s)
            await self._step_back(len(examined), took_s)
        return len(examined)

    # --- claim ---------------------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0
        try:
            claimed = await self._claimant.claim()
        except InputLostError:
            self._stop("lane.input_lost", INPUT_LOST)
            await self._wait_for_order()
            raise StaleError from None
        claim = claimed.claim
        self._stopped_at = None
        self._breaker.claimed(claim.dead_letter_run, resumed=claim.resume_at_offset is not None)
        self._skip, self._next, self._end = claim.skip_offset, claim.next_offset, claimed.log_end
        self._unverified, self._seek_to, self._reached = claimed, claimed.seek, None
        if not self._failures:
            self.reason = None
        self._looked_at = time.monotonic()
        self._room()
        self._log.info(
            "lane.claimed", next_offset=self._next, log_start=claimed.log_start, log_end=claimed.log_end, swept=claimed.swept
        )

    async def _verified(self, records: Sequence[Record]) -> Sequence[Record]:
        """Hold the first record after a claim against the last one that was done, then drop what was done."""
        if self._unverified is None or not records:
            return records
        claimed, self._unverified = self._unverified, None
        if await self._claimant.is_anew(records[0], claimed):
            raise StaleError
        return [record for record in records if record.offset >= self._next]

    # --- one batch -----------------------------------------------------------------------------------------------

    async def _take(self) -> Sequence[Record]:
        """Return the next batch; empty when nothing came in time, or when the lane is to close or claim again."""
        if not self._queue:
            self._wake.clear()
            timeout_s = self._parts.settings.look_interval_s if self._relay.idle else DELETE_TIMER_S
            await self._woken(timeout_s)
        if self._closing or not self._open:
            return ()
        records: list[Record] = []
        taken_bytes = 0
        most = min(self._pace.records, self._breaker.most_records())
        while self._queue and len(records) < most and taken_bytes < BATCH_MAX_BYTES:
            records.append(self._queue.popleft())
            taken_bytes += size_bytes(records[-1])
        self._queued_bytes -= taken_bytes
        if records:
            self._room()
        return await self._verified(records)

    async def _examine(self, records: Sequence[Record]) -> list[Examined]:
        examination = await examine_batch(records, self._parts.rules, self._breaker, self._skip)
        self._put_back(examination.rest)
        if examination.bug is not None and not examination.examined:
            self._stop_at(records[0].offset, examination.bug)
        return examination.examined

    async def _settle(self, examined: Sequence[Examined]) -> None:
        """Commit a batch; where the database refuses or can't, in ever smaller parts."""
        waiting = deque([list(examined)])
        while waiting:
            part = waiting.popleft()
            try:
                await self._commit(part)
            except (UnstorableError, TooSlowError) as error:
                waiting.extendleft(reversed(self._smaller(part, error)))
            except NOT_THE_BATCH:
                raise
            except Exception as bug:  # noqa: BLE001 - one record must not end every process that meets it
                if len(part) == 1:
                    self._put_back([item.record for rest in (part, *waiting) for item in rest])
                    self._stop_at(part[0].record.offset, bug)
                    return
                waiting.extendleft(reversed(self._halves(part, "batch.bisected", type(bug).__name__)))
            else:
                if self._breaker.tripped:  # by what was committed: after a failure it would put all back, to fail again at once
                    self._put_back([item.record for rest in waiting for item in rest])
                    return

    async def _step_back(self, records: int, took_s: float) -> None:
        """After nothing but dead letters leave time to other lanes: a storm of the largest garbage would take most of it."""
        if self._breaker.run >= records and not self._closing:
            await asyncio.sleep(min(STEP_BACK * took_s, self._parts.settings.look_interval_s))

    def _smaller(self, part: list[Examined], error: Exception) -> list[list[Examined]]:
        too_slow = isinstance(error, TooSlowError)
        if len(part) > 1:
            return self._halves(part, "batch.halved" if too_slow else "batch.bisected", str(error))
        record = part[0].record
        letter = refuse(record, "store.refused", self._parts.rules.snapshot)
        if too_slow or part[0].verdict == letter:
            raise UnavailableError("database", str(error)) from None
        return [[Examined(record, letter)]]

    def _halves(self, part: list[Examined], event: str, reason: str) -> list[list[Examined]]:
        self._log.warning(event, records=len(part), reason=reason)
        middle = len(part) // 2
        return [part[:middle], part[middle:]]

    async def _commit(self, part: Sequence[Examined]) -> None:
        started = time.monotonic()
        last = part[-1].record
        verdicts = [item.verdict for item in part]
        run = self._breaker.after(verdicts)
        move = Move(self.partition, self._mine, self._next, last.offset + 1, last.offset, store.digest(last), run)
        settled = await self._transact(move, verdicts)
        self._breaker.moved(run)
        self._next = move.next_offset
        await self._acknowledged()
        sending = self._relay.publish(settled.outgoing)
        self._well()
        self._report(part, settled, started, sending)

    async def _transact(self, move: Move, verdicts: Sequence[Verdict]) -> Settled:
        deletes = self._relay.take_acknowledged()
        try:
            with self._parts.metrics.stage("transaction"):
                return await settlement.settle(self._parts.database, move, verdicts, deletes, self._parts.sealer)
        except (UnstorableError, TooSlowError):
            self._relay.put_back(deletes)
            raise

    async def _acknowledged(self) -> None:
        """Wait until Kafka has the batch before, and look meanwhile."""
        while not await self._relay.acknowledged(self._parts.settings.look_interval_s):
            await self._look()

    # --- between batches -----------------------------------------------------------------------------------------

    async def _idle(self) -> None:
        if self._closing or not self._open:
            return
        if not await self._relay.acknowledged(0):
            await self._look_when_due()
            return
        await self._delete_acknowledged()
        await self._pass_control_records()
        await self._look_when_due()

    async def _delete_acknowledged(self) -> None:
        """Remove from the outbox what Kafka has, where no batch comes that would take it along."""
        if keys := self._relay.take_acknowledged():
            await store.delete(self._parts.database, self.partition, self._mine, keys)

    async def _pass_control_records(self) -> None:
        """Write the position where only markers of transactions followed, which are no records."""
        position, self._reached = self._reached, None
        if position is None or position <= self._next or self._queue or not self._open:
            return
        self._unverified = None
        move = Move(self.partition, self._mine, self._next, position, dead_letter_run=self._breaker.run)
        await settlement.settle(self._parts.database, move, (), (), self._parts.sealer)
        self._next = position

    async def _look_when_due(self) -> None:
        if time.monotonic() - self._looked_at >= self._parts.settings.look_interval_s:
            await self._look()

    async def _look(self) -> None:
        """See whether the partition is as this lane left it, and what an operator ordered."""
        lowest = self._relay.lowest_pending(self._next)
        found = await store.look(self._parts.database, self.partition, lowest)
        self._looked_at = time.monotonic()
        if found is None or found.owner != self._mine:
            raise FencedError
        if found.next_offset != self._next or found.reappeared:
            raise StaleError
        self._skip = found.skip_offset
        order = found.resume_at_offset
        if order is not None and await store.take_resume(self._parts.database, self.partition, self._mine, order):
            self._breaker.resumed()
        if self._stopped_at is not None and self._skip == self._stopped_at:
            self._stopped_at = self.reason = None
        self._parts.metrics.outbox(self.partition.partition, found.outbox_rows, found.outbox_oldest_s)
        if self._next >= self._end:  # else only a batch shows that the trouble is over, which may not be the database's
            self._well()

    def _well(self) -> None:
        """Something was done or found in order since the last failure."""
        if self._failures:
            self._failures = 0
            self._told.clear()
            self.reason = None if self._stopped_at is None else STOPPED
            self._log.info("lane.recovered", next_offset=self._next)

    def _blocked(self) -> bool:
        if self._breaker.open:
            self.reason = BREAKER_OPEN
        elif self.reason == BREAKER_OPEN:
            self.reason = None
        return self._breaker.open or self._stopped_at is not None

    async def _wait_and_look(self) -> None:
        """Stand still for an interval, or until reading begins, as a lane that waits for time or for an operator."""
        await self._acknowledged()
        await self._delete_acknowledged()
        was_open = self._open
        await self._sleep(self._parts.settings.look_interval_s)
        if not self._closing and self._open == was_open:
            await self._look()

    async def _wait_for_order(self) -> None:
        while not self._closing:
            await self._sleep(self._parts.settings.look_interval_s)
            found = await store.look(self._parts.database, self.partition, 0)
            if found is None or found.owner != self._mine:
                raise FencedError
            if gives_up(found):
                return

    def _stop_at(self, offset: int, bug: Exception) -> None:
        self._stopped_at = offset
        self._stop("lane.stopped", STOPPED, offset=offset, exc_info=bug)

    def _stop(self, event: str, reason: str, **fields: object) -> None:
        self.reason = reason
        self._log.error(event, **fields)

    def _put_back(self, records: Sequence[Record]) -> None:
        self._queue.extendleft(reversed(records))
        self._queued_bytes += sum(map(size_bytes, records))

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        if not self._closing:
            await self._woken(seconds)

    async def _woken(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()

    # --- when something fails ------------------------------------------------------------------------------------

    async def _recover(self, error: Exception) -> None:
        self._open, self._seek_to = False, None
        if isinstance(error, FencedError):
            await self._after_fence()
            return
        if isinstance(error, StaleError):
            return
        self._failures += 1
        service = error.service if isinstance(error, UnavailableError) else "database"
        event = "commit.unknown" if isinstance(error, CommitUnknownError) else "lane.waiting"
        if str(error) not in self._told:  # each cause once: the one that lasts may not be the first
            self._told.add(str(error))
            self._log.warning(event, service=service, reason=str(error))
        self.reason = service
        self._hint = error.reason if isinstance(error, MissingTopicError) else None
        if not isinstance(error, CommitUnknownError):
            longest = min(BACKOFF_FIRST_S * 2 ** (self._failures - 1), BACKOFF_MAX_S)
            await self._sleep(uniform(longest / 2, longest))  # noqa: S311 - jitter

    async def _after_fence(self) -> None:
        """Another owner: prove that the group still counts this partition as ours before claiming it back."""
        self._fences += 1
        self.reason = "fenced"
        self._parts.metrics.fence_losses.inc()
        self._log.warning("lane.fenced", next_offset=self._next, times=self._fences)
        if self._fences > 1:
            raise RejoinError
        await self._relay.forget(self._parts.settings.produce_timeout_s)
        self._queue.clear()
        self._queued_bytes = 0
        heartbeat_s = self._parts.settings.heartbeat_interval_s
        while not self._closing:
            await self._sleep(heartbeat_s * uniform(1.1, 1.6))  # noqa: S311 - jitter
            with suppress(UnavailableError):
                await self._member.prove(self.partition, self._next)
                self._claimant.owner = None
                return

    async def _finish(self) -> None:
        """Leave nothing behind that can be helped: publish, delete, then go."""
        if not self._open:
            return
        with suppress(UnavailableError, TooSlowError, UnstorableError, StaleError, FencedError, CommitUnknownError):
            await self._acknowledged()
            await self._delete_acknowledged()

    def _report(self, part: Sequence[Examined], settled: Settled, started: float, sending: asyncio.Task[object] | None) -> None:
        duration_s = time.monotonic() - started
        if sending is not None:
            sending.add_done_callback(self._parts.metrics.publishing())
        self._parts.spans.stored(part, settled.outgoing, time.monotonic() - self._taken_at, sending)
        counts = {name: getattr(settled, name) for name in ("accepted", "rejected", "dead", "repeated", "differing")}
        codes = [item.verdict.code for item in part if isinstance(item.verdict, DeadLetter)]
        self._parts.metrics.count_batch(len(part), duration_s, **counts, dead_letter_codes=codes)
        self._parts.metrics.outbox(self.partition.partition, len(settled.outgoing), 0)  # a lane at work never looks
        first, duration_ms = part[0].record.offset, round(duration_s * 1000, 1)
        self._log.info("batch.stored", first=first, records=len(part), **counts, duration_ms=duration_ms)
