"""`registration partitions`: where each partition stands, and orders for one that is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from worker.cli.terminal import Json, quiet, result_of, show
from worker.errors import EXIT_DONE, EXIT_FAILED
from worker.operate import partitions

cli = typer.Typer(help="Where each partition stands; orders for one that is stopped.", invoke_without_command=True)


@cli.callback()
def partitions_list(context: typer.Context, as_json: Json = False) -> None:
    """Show where each partition stands: position, lag, dead letters in a row, outbox, orders."""
    if context.invoked_subcommand is not None:
        return
    states = result_of(partitions.partitions(quiet()))
    show("\n".join(each.to_json() for each in states) if as_json else partitions.render(states))


@cli.command(name="resume")
def partitions_resume(
    partition: Annotated[int | None, typer.Argument(min=0, help="Which; all of them where it is left out.")] = None,
    from_log_start: Annotated[bool, typer.Option("--from-log-start", help="Give up records that the log has lost.")] = False,
) -> None:
    """Let a partition go on: after its breaker opened, or after records were lost."""
    _ordered(result_of(partitions.resume(quiet(), partition, from_log_start=from_log_start)))


@cli.command(name="skip")
def partitions_skip(
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0, help="Of the record that the partition is stopped at.")],
) -> None:
    """Make a dead letter of the one record that a partition is stopped at."""
    _ordered([result_of(partitions.skip(quiet(), partition, offset))])


def _ordered(orders: Sequence[partitions.Ordered]) -> None:
    for order in orders:
        show(order.text)
    raise typer.Exit(EXIT_DONE if orders and all(order.done for order in orders) else EXIT_FAILED)
