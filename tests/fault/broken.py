"""Deliberate faults of the protocol, each of which the crash points must show: else they would prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from worker import settlement
from worker.postgres import Connection, Database
from worker.settlement import Move, Settled


def move_first() -> None:
    """Commit the position before the batch: killed between the two, the batch is lost."""
    settle, move_in_transaction = settlement.settle, settlement._move

    async def moving(db: Database, move: Move, *rest: Any) -> Settled:  # noqa: ANN401 - as `settle` has it
        await db.transact(lambda connection: move_in_transaction(connection, move))
        return await settle(db, move, *rest)

    async def moved(_connection: Connection, _move: Move) -> None:
        """Do nothing: it was done."""

    settlement.settle = moving  # type: ignore[assignment]
    settlement._move = moved  # type: ignore[assignment]


def delete_first() -> None:
    """Keep nothing in the outbox, as if it were deleted before Kafka has it: killed before the ack, events are lost."""
    copy = settlement._copy

    async def copying(connection: Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        await copy(connection, table, () if table == "outbox" else rows)

    settlement._copy = copying


BROKEN: Final[Mapping[str, Callable[[], None]]] = {"move_first": move_first, "delete_first": delete_first}
