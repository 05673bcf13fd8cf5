"""
The worker's part in its group: fetches for the lanes that have room, opens and closes lanes as partitions come and go.

`run` loops over memberships, and each over `run_once`, which polls once.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from random import uniform
from typing import Final

from worker import logs
from worker.errors import LostPartitionError, RejoinError, UnavailableError
from worker.kafka import Member, Membership, Partition
from worker.lane import BREAKER_OPEN, Lane
from worker.parts import Parts
from worker.watchdog import Watchdog

POLL_S: Final = 0.2
POLL_WHILE_SOME_ARE_FULL_S: Final = 0.01
COMMIT_INTERVAL_S: Final = 5.0
CANCEL_TIMEOUT_S: Final = 5.0


class Consumer:
    """
    One member of the group, with a lane for each of its partitions.

    Args:
        parts: what the lanes share.
        how: the group and its timeouts.
    """

    def __init__(self, parts: Parts, how: Membership) -> None:
        self._parts = parts
        self._how = how
        self._log = logs.logger()
        self._lanes: dict[Partition, tuple[Lane, asyncio.Task[None]]] = {}
        self._member: Member | None = None
        self._suspects: set[Partition] = set()
        """Polled when a poll failed: each by itself until one succeeds, so that only the one at fault is marked again."""
        self._telling: asyncio.Task[None] | None = None
        self._assigned_at = 0.0
        self._room = asyncio.Event()
        self._joined = False
        self._committed_at = 0.0
        self._told_at = 0.0
        self._watchdog = Watchdog(parts.settings.stall_s)

    def alive(self) -> bool:
        """No partition stands still with commands to do and no reason to wait."""
        return not self._watchdog.stalled

    def reasons(self) -> list[str]:
        """Say why this worker can't do its job just now; empty where it can."""
        if not self._joined:
            return ["kafka: not in the group yet"]
        if self._member is not None and not self._lanes and not self._member.knows_topic():
            return [f"kafka: there is no topic {self._how.topic}: run `registration migrate`"]
        return [f"partition {p.partition}: {lane.why}" for p, (lane, _) in self._lanes.items() if lane.reason]

    async def run(self, stop: asyncio.Event) -> None:
        """
        Take part until told to stop; then finish what is in flight, within a bound.

        Raises:
            Exception: a bug of ours in a lane; no offset was moved by it.
        """
        watching = asyncio.create_task(self._watch(), name="watchdog")
        try:
            await self._take_part(stop)
        finally:
            watching.cancel()

    async def _take_part(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                await self._membership(stop)
                failures = 0
            except UnavailableError as error:
                failures += 1
                if failures == 1:
                    self._log.warning("lane.waiting", service=error.service, reason=error.reason)
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(0.2 * 2**failures, 5) * uniform(0.5, 1)):  # noqa: S311
                        await stop.wait()
            except RejoinError:
                self._log.warning("consumer.rejoining")
                with suppress(TimeoutError):
                    async with asyncio.timeout(uniform(0.2, 1)):  # noqa: S311 - jitter
                        await stop.wait()

    async def run_once(self) -> int:
        """Poll once; return how many records the lanes were offered."""
        assert self._member is not None, "only a member polls"  # noqa: S101 - narrows the type
        await self._between_polls()
        ready = [partition for partition, (lane, _) in self._lanes.items() if lane.has_room]
        if suspects := [partition for partition in ready if partition in self._suspects]:
            ready = suspects[:1]
        if not ready:
            self._room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._room.wait()
            return 0
        timeout_s = POLL_S if len(ready) == len(self._lanes) else POLL_WHILE_SOME_ARE_FULL_S
        try:
            fetched = await self._member.poll(ready, timeout_s)
        except UnavailableError as error:
            for partition in ready:  # what was drained beside the failure is dropped: each has to seek again
                if partition in self._lanes:
                    self._lanes[partition][0].distrust(error)
            self._suspects.update(ready)
            return 0
        self._suspects.difference_update(ready)
        for partition, records in fetched.items():
            if partition in self._lanes:
                self._lanes[partition][0].offer(records)
        return sum(map(len, fetched.values()))

    async def _between_polls(self) -> None:
        """Do what must not happen while a poll is under way: seeks, and asking where reading stands."""
        assert self._member is not None, "only a member polls"  # noqa: S101 - narrows the type
        self._member.check()
        patience_s = 2 * (self._how.rebalance_timeout_s + self._how.session_timeout_s)
        if not self._joined and time.monotonic() - self._assigned_at > patience_s:
            raise RejoinError
        for lane, _ in list(self._lanes.values()):
            try:
                lane.begin()
            except LostPartitionError:
                lane.close()
        if time.monotonic() - self._told_at >= self._parts.settings.look_interval_s:
            self._told_at = time.monotonic()
            await self._tell_lanes()
        self._tell_progress()

    async def _tell_lanes(self) -> None:
        assert self._member is not None, "only a member polls"  # noqa: S101 - narrows the type
        for partition, (lane, _) in list(self._lanes.items()):
            if lane.has_room:
                with suppress(LostPartitionError, UnavailableError):
                    lane.reached(await self._member.position(partition))

    async def on_revoked(self, partitions: set[Partition]) -> None:
        """Close the lanes of these partitions; what is in flight is finished or ended when this returns."""
        self._joined, self._assigned_at = False, time.monotonic()
        gone = {p: self._lanes.pop(p) for p in partitions if p in self._lanes}
        await self._close(gone, self._how.rebalance_timeout_s / 2)

    async def on_assigned(self, member: Member, partitions: set[Partition]) -> None:
        """Open a lane for each partition; it lets nothing through before it has claimed."""
        if member is not self._member:  # it is leaving: a lane of its would be adopted by the next membership
            return
        self._joined = True
        self._log.info("consumer.joined", partitions=sorted(p.partition for p in partitions))
        for partition in partitions:
            if partition not in self._lanes:
                lane = Lane(partition, member, self._parts, self._room.set)
                self._lanes[partition] = lane, asyncio.create_task(lane.run(), name=f"lane-{partition.partition}")

    async def _membership(self, stop: asyncio.Event) -> None:
        member = self._member = Member(self._how, self)
        self._assigned_at = time.monotonic()
        try:
            await member.join()
            while not stop.is_set():
                await self.run_once()
                self._raise_of_lanes()
        finally:
            self._joined, self._member = False, None
            lanes, self._lanes = self._lanes, {}
            await self._close(lanes, self._parts.settings.drain_timeout_s)
            await member.leave()
            self._log.info("consumer.left")

    def _raise_of_lanes(self) -> None:
        for partition, (_, task) in list(self._lanes.items()):
            if task.done():
                del self._lanes[partition]
                task.result()

    async def _close(self, lanes: dict[Partition, tuple[Lane, asyncio.Task[None]]], timeout_s: float) -> None:
        if not lanes:
            return
        tasks = [task for _, task in lanes.values()]
        for lane, _ in lanes.values():
            lane.close()
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCEL_TIMEOUT_S)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                self._log.error("lane.closed", exc_info=error)
        for partition in lanes:
            self._parts.metrics.given_up(partition.partition)

    async def _watch(self) -> None:
        """Beside the poller, whose own standstill it would see too."""
        while True:
            await asyncio.sleep(self._watchdog.interval_s)
            lanes = {partition: lane for partition, (lane, _) in self._lanes.items()}
            self._watchdog.keep({partition.partition for partition in lanes})
            for partition, lane in lanes.items():
                if await self._has_no_excuse(partition, lane):
                    self._watchdog.at_work(partition.partition, lane.next_offset, time.monotonic())
                else:
                    self._watchdog.excuse(partition.partition)

    async def _has_no_excuse(self, partition: Partition, lane: Lane) -> bool:
        """Say whether a lane should be at work: no wait of a name, and commands beyond its position, as Kafka says."""
        if lane.reason is not None or self._member is None:
            return False
        if self._watchdog.moved(partition.partition, lane.next_offset):
            return True
        try:
            _, end = await self._member.bounds(partition)
        except (UnavailableError, LostPartitionError):
            return False
        return end > lane.next_offset and lane.reason is None

    def _tell_progress(self) -> None:
        """Show where the lanes stand, and commit to Kafka for lag dashboards: PostgreSQL knows the position."""
        if time.monotonic() - self._committed_at < COMMIT_INTERVAL_S or self._member is None:
            return
        self._committed_at = time.monotonic()
        metrics, offsets = self._parts.metrics, {}
        for gauge in (metrics.lanes, metrics.breaker_open, metrics.lag_records):
            gauge.clear()
        for partition, (lane, _) in self._lanes.items():
            metrics.lanes.labels(lane.reason or "open").inc()
            metrics.breaker_open.labels(partition.partition).set(lane.reason == BREAKER_OPEN)
            if (end := self._member.log_end(partition)) is not None:
                metrics.lag_records.labels(partition.partition).set(max(end - lane.next_offset, 0))
            if lane.reason is None:
                offsets[partition] = lane.next_offset
        if offsets and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(_tell(self._member, offsets))


async def _tell(member: Member, offsets: dict[Partition, int]) -> None:
    """Beside the poller, which must not wait for a coordinator that is away."""
    with suppress(LostPartitionError, UnavailableError):
        await member.tell(offsets)
