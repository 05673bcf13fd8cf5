"""
How each partition of the commands stands, and an operator's two orders to a partition that stands still.

Orders are written into the partition's row; its lane looks at it every second, does what it says, and takes it away with
the batch that passes it. Nothing here moves a position.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from rich.table import Table

from schemas.commands import COMMANDS_TOPIC
from worker.config import Settings
from worker.kafka import Partition, Reader, security_of
from worker.operate.session import Session, session

_TEXTS: Final = frozenset({"since when", "owner", "claimed at", "orders", "outbox"})


@dataclass(frozen=True, slots=True)
class PartitionState:
    """
    One partition.

    Attributes:
        next_offset: the position; None where no worker has claimed it yet.
        since: when the position became what it is: since then the partition stands there; None where nobody noted it.
        lag: offsets from the position to the end of the log.
        owner: the first eight digits of the claim that may move the position.
        dead_letter_run: dead letters in a row, up to the position.
        resume_at_offset, skip_offset: orders that no worker has carried out yet.
        outbox: messages that are committed and not known to be published; `outbox_oldest_s` is the age of the oldest.
    """

    partition: int
    log_start: int
    log_end: int
    next_offset: int | None
    since: datetime | None
    lag: int
    owner: str | None
    claimed_at: datetime | None
    dead_letter_run: int
    resume_at_offset: int | None
    skip_offset: int | None
    outbox: int
    outbox_oldest_s: float | None

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), default=datetime.isoformat)


@dataclass(frozen=True, slots=True)
class Ordered:
    """
    What became of an order.

    Attributes:
        done: it was written; else `text` says why not.
    """

    partition: int
    done: bool
    text: str

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))


async def partitions(settings: Settings) -> list[PartitionState]:
    """
    Return every partition that the topic has or the database knows.

    Raises:
        UnavailableError: Kafka or the database does not answer.
    """
    async with (
        session(settings.database_url.get_secret_value(), "registration-partitions") as opened,
        Reader(settings.kafka_bootstrap, client_id="registration-partitions", security=security_of(settings)) as reader,
    ):
        return await _states(opened, reader)


async def resume(settings: Settings, partition: int | None = None, *, from_log_start: bool = False) -> list[Ordered]:
    """
    Order a partition on: an open breaker closes at once.

    Args:
        settings: where the servers are.
        partition: which; None is all of them.
        from_log_start: also where commands were lost to retention: go on with the oldest one that is left.
    Returns:
        For each partition whether it was ordered on. Without `from_log_start` one that has lost commands is not.
    Raises:
        UnavailableError: Kafka or the database does not answer.
    """
    async with (
        session(settings.database_url.get_secret_value(), "registration-partitions") as opened,
        Reader(settings.kafka_bootstrap, client_id="registration-partitions", security=security_of(settings)) as reader,
    ):
        wanted = [state for state in await _states(opened, reader) if partition in (None, state.partition)]
        if not wanted and partition is not None:
            return [Ordered(partition, done=False, text="the topic has no such partition")]
        return [await _resume(opened, state, from_log_start=from_log_start) for state in wanted]


async def skip(settings: Settings, partition: int, offset: int) -> Ordered:
    """
    Order that the record at which a partition is stopped becomes a dead letter.

    Args:
        settings: where the servers are.
        partition: which.
        offset: of that record: the first one at or behind the position. Markers of transactions, which are no records, may
            lie between the two.
    Raises:
        UnavailableError: Kafka or the database does not answer.
    """
    async with (
        session(settings.database_url.get_secret_value(), "registration-partitions") as opened,
        Reader(settings.kafka_bootstrap, client_id="registration-partitions", security=security_of(settings)) as reader,
    ):
        state = next((each for each in await _states(opened, reader) if each.partition == partition), None)
        if state is None or state.next_offset is None:
            return Ordered(partition, done=False, text="no worker has claimed such a partition yet")
        if state.next_offset < state.log_start:
            return Ordered(partition, done=False, text=_lost(state))
        first = await _first_record(reader, partition, state.next_offset, state.log_end)
        if first is None:
            return Ordered(partition, done=False, text=f"nothing waits: the position {state.next_offset} is the end of the log")
        if offset != first:
            return Ordered(partition, done=False, text=f"only the record that is next can be skipped, which is {first}")
        if not await opened.rows("partition_skip", COMMANDS_TOPIC, partition, offset, state.next_offset):
            return Ordered(partition, done=False, text="the partition moved on meanwhile; it is not stopped")
        return Ordered(partition, done=True, text=f"the record at {offset} becomes a dead letter when a worker looks")


def render(states: list[PartitionState]) -> Table:
    """Return the partitions for people."""
    table = Table(box=None, pad_edge=False)
    for name in ("partition", "position", "since when", "lag", "log", "owner", "claimed at", "dead in a row", "orders", "outbox"):
        table.add_column(name, justify="left" if name in _TEXTS else "right")
    for state in states:
        orders = {"resume at": state.resume_at_offset, "skip": state.skip_offset}
        position = "-" if state.next_offset is None else str(state.next_offset)
        table.add_row(
            str(state.partition),
            f"[red]{position}[/red]" if _is_off(state) else position,
            _time(state.since),
            str(state.lag),
            f"{state.log_start}-{state.log_end}",
            state.owner or "-",
            _time(state.claimed_at),
            str(state.dead_letter_run),
            ", ".join(f"{name} {offset}" for name, offset in orders.items() if offset is not None) or "-",
            f"{state.outbox}, oldest {state.outbox_oldest_s:.0f} s" if state.outbox_oldest_s is not None else str(state.outbox),
        )
    return table


def _time(when: datetime | None) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S}Z" if when else "-"


async def _states(opened: Session, reader: Reader) -> list[PartitionState]:
    rows = {row["partition"]: row for row in await opened.rows("partitions", COMMANDS_TOPIC)}
    bounds = await reader.bounds(COMMANDS_TOPIC)
    states = []
    for number in sorted(rows.keys() | bounds.keys()):
        row, (start, end) = rows.get(number), bounds.get(number, (0, 0))
        position = row["next_offset"] if row else None
        states.append(
            PartitionState(
                partition=number,
                log_start=start,
                log_end=end,
                next_offset=position,
                since=row["moved_at"] if row else None,
                lag=max(end - (start if position is None else position), 0),
                owner=str(row["owner"])[:8] if row and row["owner"] else None,
                claimed_at=row["claimed_at"] if row else None,
                dead_letter_run=row["dead_letter_run"] or 0 if row else 0,
                resume_at_offset=row["resume_at_offset"] if row else None,
                skip_offset=row["skip_offset"] if row else None,
                outbox=row["outbox"] if row else 0,
                outbox_oldest_s=row["outbox_oldest_s"] if row else None,
            )
        )
    return states


async def _resume(opened: Session, state: PartitionState, *, from_log_start: bool) -> Ordered:
    position = state.next_offset
    if position is None:
        return Ordered(state.partition, done=False, text="no worker has claimed it yet; it begins by itself")
    lost = position < state.log_start
    if lost and not from_log_start:
        return Ordered(state.partition, done=False, text=_lost(state))
    target = state.log_start if lost else position
    if not await opened.rows("partition_resume", COMMANDS_TOPIC, state.partition, target, position):
        return Ordered(state.partition, done=False, text="the partition moved on meanwhile; it is not stopped")
    given_up = f", giving up {target - position} offsets" if lost else ""
    return Ordered(state.partition, done=True, text=f"goes on at {target}{given_up} when a worker looks")


def _lost(state: PartitionState) -> str:
    lost = state.log_start - (state.next_offset or 0)
    return (
        f"{lost} offsets from {state.next_offset} are gone from the log, which starts at {state.log_start};"
        " `partitions resume --from-log-start` gives them up"
    )


def _is_off(state: PartitionState) -> bool:
    """Say whether the position is not within the log."""
    return state.next_offset is not None and not state.log_start <= state.next_offset <= state.log_end


async def _first_record(reader: Reader, partition: int, position: int, end: int) -> int | None:
    async for records in reader.read(Partition(COMMANDS_TOPIC, partition), position, end):
        return records[0].offset
    return None
