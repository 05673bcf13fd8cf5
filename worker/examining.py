"""Decides the records of a batch one after the other, up to one that meets a bug of ours or trips the breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from worker import logs
from worker.breaker import Breaker
from worker.catalogues import Rules
from worker.errors import UnavailableError
from worker.kafka import Record
from worker.registration import UnknownTenantError, Verdict, counts_for_breaker, examine, recorded_at, refuse

YIELD_EVERY: Final = 50
"""Records decided before the loop may send a heartbeat: some 5 ms."""


class Examined(NamedTuple):
    """A record with its verdict."""

    record: Record
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Examination:
    """
    What became of a batch.

    Attributes:
        examined: records with their verdicts, from the first one on.
        rest: the records after them.
        bug: what the first of `rest` met; None where the breaker ended the batch, or nothing did.
    """

    examined: list[Examined]
    rest: Sequence[Record]
    bug: Exception | None = None


async def examine_batch(records: Sequence[Record], rules: Rules, breaker: Breaker, skip: int | None) -> Examination:
    """
    Decide the records of one partition.

    Args:
        records: at least one, by offset.
        rules: the catalogues; read again where they may lack a version that holds for these records.
        breaker: says where a run of dead letters ends the batch.
        skip: an offset whose record an operator wants as a dead letter.
    Raises:
        UnavailableError, TooSlowError: the catalogues can't be read, or a record is newer than they may decide.
    """
    decided = [record for record in records if record.offset != skip]
    fresh = await _cover(max(decided, key=lambda record: record.timestamp), rules) if decided else False
    try:
        return await _examine(records, rules, breaker, skip, fresh=fresh)
    except UnknownTenantError:
        await rules.refresh()
        return await _examine(records, rules, breaker, skip, fresh=True)


async def _examine(records: Sequence[Record], rules: Rules, breaker: Breaker, skip: int | None, *, fresh: bool) -> Examination:
    examined: list[Examined] = []
    run = breaker.run
    for index, record in enumerate(records):
        if index % YIELD_EVERY == 0:
            await asyncio.sleep(0)
        try:
            verdict = _verdict(record, rules, skip, fresh=fresh)
        except UnknownTenantError:
            raise
        except Exception as bug:  # noqa: BLE001 - any bug in pure code stops this lane, and only this lane
            return Examination(examined, records[index:], bug)
        examined.append(Examined(record, verdict))
        run = run + 1 if counts_for_breaker(verdict) else 0
        if breaker.cuts(run):
            return Examination(examined, records[index + 1 :])
    return Examination(examined, ())


def _verdict(record: Record, rules: Rules, skip: int | None, *, fresh: bool) -> Verdict:
    if record.offset == skip:
        return refuse(record, "operator.skipped", rules.snapshot)
    return examine(record, rules.snapshot, fresh=fresh)


async def _cover(latest: Record, rules: Rules) -> bool:
    """Read the catalogues again where they may lack a version that holds for these records; say whether it was done."""
    when = recorded_at(latest)
    if rules.snapshot.covers(when):
        return False
    await rules.refresh()
    if not rules.snapshot.covers(when):
        logs.logger().warning("catalogue.ahead", partition=latest.partition, offset=latest.offset)
        raise UnavailableError("catalogue", "a record is newer than the catalogue may decide")
    return True
