"""Deliberate faults in the protocol: each must be caught, else the runs prove nothing."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any, Final
from uuid import UUID

from tests.simulation import statements
from tests.simulation.loop import Process, current
from tests.simulation.plan import Plan, moments
from tests.simulation.statements import NAMED, Result
from tests.simulation.tables import OFFSETS, Position, Statement
from tests.simulation.world import Outcome, World
from worker import settlement
from worker.claiming import Claimant
from worker.consumer import Consumer
from worker.lane import Lane
from worker.postgres import Database
from worker.relay import Relay


@contextmanager
def edited(owner: Any, name: str, *changes: tuple[str, str]) -> Iterator[None]:  # noqa: ANN401 - a module or a class
    """
    Change the source of a function of the worker, for the length of a block.

    Args:
        owner: the module or class that has it.
        changes: pairs of what stands there, exactly once, and what stands there instead.
    """
    original = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(original))
    for old, new in changes:
        assert source.count(old) == 1, f"{name} holds {source.count(old)} times: {old}"
        source = source.replace(old, new)
    module = sys.modules[original.__module__]
    found: dict[str, Callable[..., Any]] = {}
    code = compile(source, f"<mutated {name}>", "exec")  # annotations stay text, as they are here
    exec(code, module.__dict__, found)  # noqa: S102 - the text is our own
    setattr(owner, name, found[name])
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def modelled(name: str, mutant: Callable[..., Result]) -> Iterator[None]:
    """Put another statement in the place of one of `worker/sql`, for the length of a block."""
    original = NAMED[name]
    NAMED[name] = mutant
    try:
        yield
    finally:
        NAMED[name] = original


# --- statements that are not what they should be ---------------------------------------------------------------------


unfenced_move = statements.move_where(lambda row, _expected, _owner: row is not None)
"""`move_offset` without `AND next_offset = $3 AND owner = $5`."""
ownerless_move = statements.move_where(lambda row, expected, _owner: row is not None and row.next_offset == expected)
"""`move_offset` without `AND owner = $5`."""
COUNTED: dict[tuple[Process, int], UUID] = {}
"""What the counting claims returned, to whom."""


def counted(partition: int) -> UUID:
    """Return the number that the claim of this process got."""
    return COUNTED[current(), partition]


def counting_claim(s: Statement, topic: str, partition: int, owner: UUID, log_start: int) -> Result:
    """`claim` whose owner counts up in the row, as an epoch would."""
    s.lock(OFFSETS, (topic, partition))
    old: Position | None = s.newest(OFFSETS, (topic, partition))
    following = UUID(int=(old.owner.int + 1) % 2**128) if old else owner
    COUNTED[s.transaction.process, partition] = following
    return statements.claim(s, topic, partition, following, log_start)


def counting_claim_again(s: Statement, topic: str, partition: int, owner: UUID, mine: Sequence[UUID]) -> Result:
    """`claim_again` in the same way."""
    old: Position | None = s.seen(OFFSETS, (topic, partition))
    if old is None or old.owner not in mine:
        return [], "UPDATE 0"
    return counting_claim(s, topic, partition, owner, 0)


SEEN: dict[Process, list[dict[str, object]]] = {}
"""What a claim saw of the outbox, in its own snapshot."""


def claim_with_outbox(s: Statement, topic: str, partition: int, owner: UUID, log_start: int) -> Result:
    """`claim` that reads the outbox in the same statement, which does not see what it waited for."""
    SEEN[s.transaction.process] = statements.outbox_leftover(s, topic, partition, 500)[0]
    return statements.claim(s, topic, partition, owner, log_start)


def claim_again_with_outbox(s: Statement, topic: str, partition: int, owner: UUID, mine: Sequence[UUID]) -> Result:
    """`claim_again` in the same way."""
    SEEN[s.transaction.process] = statements.outbox_leftover(s, topic, partition, 500)[0]
    return statements.claim_again(s, topic, partition, owner, mine)


def leftover_of_claim(s: Statement, topic: str, partition: int, most: int) -> Result:  # noqa: ARG001
    """What the claim saw, once."""
    return SEEN.pop(s.transaction.process, []), "SELECT"


def unowned_delete(  # noqa: PLR0917 - the statement's parameters
    s: Statement,
    topic: str,
    partition: int,
    owner: UUID,  # noqa: ARG001 - that is the fault
    offsets: Sequence[int],
    kinds: Sequence[str],
) -> Result:
    """`outbox_delete` without its owner."""
    statements.delete_rows(s, topic, partition, list(zip(offsets, kinds, strict=True)))
    return [{}], "SELECT 1"


def claim_whoever(s: Statement, topic: str, partition: int, owner: UUID, mine: Sequence[UUID]) -> Result:  # noqa: ARG001
    """`claim_again` without `AND owner = ANY($4)`."""
    return statements.claim(s, topic, partition, owner, 0)


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mutation:
    """
    A fault in the protocol.

    Attributes:
        blocks: in which it is there.
        together: faults that have to meet, where chance seldom lets them.
        often: rates of faults at the doors, likewise.
    """

    name: str
    blocks: tuple[Callable[[], AbstractContextManager[None]], ...]
    together: tuple[str, ...] | None = None
    often: Mapping[str, float] | None = None

    def run(self, seed: int) -> Outcome:
        """Run a seed under the faults that it takes."""
        chance = Random(seed)
        plan = Plan.draw(chance)
        if self.together is not None:
            plan = replace(plan, at=moments(chance, self.together))
        if self.often is not None:
            plan = replace(plan, rates=self.often)
        return World(seed, plan=plan).run()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the worker do it wrong, for the length of a block."""
        with ExitStack() as stack:
            for block in self.blocks:
                stack.enter_context(block())
            yield


def _edit(
    name: str,
    owner: Any,  # noqa: ANN401 - a module or a class
    function: str,
    *changes: tuple[str, str],
    together: tuple[str, ...] | None = None,
    often: Mapping[str, float] | None = None,
) -> Mutation:
    return Mutation(name, (partial(edited, owner, function, *changes),), together, often)


def _statements(name: str, *others: tuple[str, Callable[..., Result]], together: tuple[str, ...] | None = None) -> Mutation:
    return Mutation(name, tuple(partial(modelled, statement, mutant) for statement, mutant in others), together)


LOSSES: Final = ("database.failed_over_with_loss",) * 4
MUTATIONS: Final = (
    _statements("the fence is skipped", ("move_offset", unfenced_move)),
    _statements("the fence does not ask for the owner", ("move_offset", ownerless_move)),
    _edit(
        "messages are deleted before they are acknowledged",
        Relay,
        "publish",
        ("self._sent = outgoing", "self._sent = outgoing\n        self._acknowledged += [(m.offset, m.kind) for m in outgoing]"),
    ),
    _statements(
        "claim and outbox are read in one statement",
        ("claim", claim_with_outbox),
        ("claim_again", claim_again_with_outbox),
        ("outbox_leftover", leftover_of_claim),
    ),
    Mutation(
        "the owner is a counter",
        (
            partial(modelled, "claim", counting_claim),
            partial(modelled, "claim_again", counting_claim_again),
            partial(
                edited,
                Claimant,
                "claim",
                (
                    "self.owner, self._candidate = owner, uuid4()",
                    (
                        "from tests.simulation.mutations import counted\n"
                        "    self.owner = owner = counted(self._partition.partition)\n"
                        "    self._candidate = uuid4()"
                    ),
                ),
            ),
        ),
        together=("member.expelled", "database.failed_over_with_loss", "member.expelled"),
        often={},
    ),
    _edit(
        "an idle lane does not look",
        Lane,
        "_look_when_due",
        ("if time.monotonic() - self._looked_at >= self._parts.settings.look_interval_s:", "if False:"),
    ),
    _edit("the look ignores what is back in the outbox", Lane, "_look", (" or found.reappeared", ""), together=LOSSES, often={}),
    _edit(
        "the batch's first record is the position that is expected",
        Lane,
        "_commit",
        ("self._mine, self._next, last.offset + 1", "self._mine, part[0].record.offset, last.offset + 1"),
    ),
    _statements("a delete does not ask for the owner", ("outbox_delete", unowned_delete), together=("member.expelled",) * 4),
    _edit(
        "the outbox is swept before the claim",
        Claimant,
        "claim",
        ("swept = await self._sweep(owner)", ""),
        (
            "owner, database = self._candidate, self._parts.database",
            "owner, database = self._candidate, self._parts.database\n    swept = await self._sweep(self.owner or owner)",
        ),
    ),
    _edit("a failed produce counts as acknowledged", Relay, "acknowledged", ("sending.result()", "sending.exception()")),
    _edit(
        "the lane's position moves before the commit is answered",
        Lane,
        "_commit",
        ("settled = await", "self._next = move.next_offset\n    settled = await"),
    ),
    _edit(
        "the position is committed before the batch",
        settlement,
        "settle",
        ("        await _move(connection, move)\n", ""),
        (
            "    for _ in range(_TRIES):",
            "    await db.run(lambda connection: _move(connection, move))\n    for _ in range(_TRIES):",
        ),
    ),
    _edit(
        "deletes of an earlier claim are still done",
        Relay,
        "forget",
        ("self._sent, self._acknowledged = (), []", "self._sent = ()"),
        together=LOSSES,
        often={"poll.failed": 0.3},
    ),
    _edit(
        "a fenced lane does not ask the group before it claims back",
        Lane,
        "_after_fence",
        ("await self._member.prove(self.partition, self._next)", "await asyncio.sleep(0)"),
    ),
    _edit("a COMMIT without an answer counts as a failure", Database, "transact", ("if committing:", "if False:")),
    _statements("a claim after a failure takes the partition from whoever has it", ("claim_again", claim_whoever)),
    _edit(
        "reading begins while a poll is under way",
        Lane,
        "_claim",
        (
            "self._room()",
            "self._member.seek(self.partition, self._seek_to)\n    self._seek_to, self._open = None, True\n    self._room()",
        ),
        often={"poll.slow_return": 0.5, "session.lost_after": 0.1},
    ),
    _edit(
        "a poll that failed is passed over",
        Consumer,
        "run_once",
        ("self._lanes[partition][0].distrust(error)", "pass"),
    ),
    _edit(
        "a tripped breaker puts back what has failed",
        Lane,
        "_settle",
        ("        else:\n            if self._breaker.tripped:", "        if True:\n            if self._breaker.tripped:"),
    ),
    _edit("FAILED is an outcome", settlement, "_is_new", (' or before["status"] == FAILED', "")),
)


SEEDS_MOST: Final = 2_000
"""As many seeds may pass before a mutation counts as not noticed."""


def caught(mutation: Mutation, seeds: Iterable[int]) -> Outcome | None:
    """Return the first run in which a law does not hold; None where all do."""
    with mutation.applied():
        for seed in seeds:
            outcome = mutation.run(seed)
            if outcome.broken:
                return outcome
    return None
