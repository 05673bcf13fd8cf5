"""
What must hold (design, 3.3): at each commit, each message, each claim, and at the end.

The witness knows what really happened, whatever the workers believe. It also holds laws of the protocol that keep the
invariants: without them a broken fence stayed unseen in 1,500 runs of a prototype.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from schemas.dead_letters import DEAD_LETTERS_TOPIC
from tests.simulation import workload
from tests.simulation.database import Session
from tests.simulation.log import Fact, fact_of
from tests.simulation.loop import Process
from tests.simulation.tables import EMAILS, OFFSETS, Key, Message, Position, State, Transaction
from tests.simulation.workload import Command
from worker.kafka import OutMessage, Partition
from worker.messages import LETTER
from worker.rows import COMPLETE, FAILED, REJECTED

EMAIL_TAKEN: Final = "email-taken"
_BATCH_TABLES: Final = frozenset({"registrations", "customers", "persons", "users", "decisions", "dead_letters"})


class Witness:
    """
    Sees every commit, message and claim of a run.

    Args:
        tell: takes a line of the trace.
        offered: the commands on the log, by partition and offset.
    Attributes:
        broken: each law that did not hold, in words.
        losses: failovers that lost commits.
    """

    def __init__(self, tell: Callable[[str], None], offered: Mapping[tuple[Partition, int], Command]) -> None:
        self.broken: list[str] = []
        self.losses = 0
        self.commits = 0
        self._tell = tell
        self._offered = offered
        self._told: set[tuple[Fact, bytes | None]] = set()
        self._published: Counter[Fact] = Counter()
        self._published_at_insert: dict[Key, int] = {}
        self._facts: dict[Key, Fact] = {}
        self._acknowledged: defaultdict[tuple[Process, Partition], set[Fact]] = defaultdict(set)
        self._entitled: set[tuple[Process, Partition]] = set()
        self._losses_at_claim: dict[UUID, int] = {}
        self._told_failed: set[Transaction] = set()
        self._committed: set[Transaction] = set()

    def breaks(self, law: str) -> None:
        """Note a law that does not hold."""
        self._tell(f"BROKEN {law}")
        self.broken.append(law)

    # --- what the workers ask and hear ---------------------------------------------------------------------------

    def asked(self, session: Session, name: str, arguments: Sequence[Any]) -> None:
        """A statement came to the server. Nobody waits any more for one whose socket is closed."""
        self._tell(f"  sql {session.process.name} {name}")
        if session.gone:
            return
        if name == "begin_anew":
            self.breaks("a position was thrown away, and no log had begun again")
        elif name in {"claim", "claim_again"}:
            self._acknowledged[session.process, Partition(arguments[0], arguments[1])].clear()
        elif name == "outbox_delete":
            self._asked_to_delete(session.process, arguments)

    def _asked_to_delete(self, process: Process, arguments: Sequence[Any]) -> None:
        topic, partition, _, offsets, kinds = arguments
        known = self._acknowledged[process, Partition(topic, partition)]
        for offset, kind in zip(offsets, kinds, strict=True):
            if self._facts.get((topic, partition, offset, kind)) not in known:
                self.breaks(f"a delete names {kind} {offset}, of which no acknowledgement came under this claim")

    def acknowledged(self, process: Process, messages: Sequence[OutMessage]) -> None:
        """A worker was told that Kafka has these; their partition is that of their row in the outbox."""
        facts = {fact_of(message) for message in messages}
        for (topic, partition, *_), fact in self._facts.items():
            if fact in facts:
                self._acknowledged[process, Partition(topic, partition)].add(fact)

    def entitled(self, process: Process, partitions: Sequence[Partition]) -> None:
        """The group told a worker that these are its own."""
        self._entitled |= {(process, partition) for partition in partitions}

    def claimed(self, process: Process, partition: Partition) -> None:
        """A worker knows that it has claimed: whoever takes the partition from now on fences it."""
        self._entitled.discard((process, partition))

    def told_failed(self, transaction: Transaction) -> None:
        """A worker was told that nothing is committed."""
        self._told_failed.add(transaction)
        if transaction in self._committed:
            self.breaks("a transaction was told as failed, and is committed")

    def published(self, message: OutMessage) -> None:
        """A message is on its topic: its row must have been committed before."""
        fact = fact_of(message)
        self._tell(f"  published {' '.join(fact)}")
        self._published[fact] += 1
        if (fact, _content(fact, message.value)) not in self._told:
            self.breaks(f"{' '.join(fact)} was published, and no commit has told it")

    # --- commits -------------------------------------------------------------------------------------------------

    def committing(self, transaction: Transaction, before: State, after: State) -> None:
        """A transaction commits."""
        self.commits += 1
        self._tell(f"  commit {transaction.process.name} {', '.join(sorted({table for table, _ in transaction.writes}))}")
        self._committed.add(transaction)
        if transaction in self._told_failed:
            self.breaks("a transaction was told as failed, and commits")
        if transaction.claimed is not None:
            self._check_claim(transaction, before, after)
        self._check_move(transaction, before, after)
        self._check_outbox(transaction, before, after)

    def _check_claim(self, transaction: Transaction, before: State, after: State) -> None:
        assert transaction.claimed is not None, "asked by the caller"
        key, process = transaction.claimed, transaction.process
        old: Position | None = before[OFFSETS].get(key)
        new: Position = after[OFFSETS][key]
        self._losses_at_claim[new.owner] = self.losses
        taken = not transaction.abandoned and old is not None and old.claimant not in (None, process)
        if taken and (process, Partition(*key)) not in self._entitled:
            self.breaks(f"{process.name} takes partition {key[1]} back and has not asked the group")

    def _check_move(self, transaction: Transaction, before: State, after: State) -> None:
        moved = transaction.moved
        if moved is None or (OFFSETS, moved.place) not in transaction.writes:
            if any(table in _BATCH_TABLES for table, _ in transaction.writes):
                self.breaks("outcomes are committed and the fence did not hold")
            return
        old: Position = before[OFFSETS][moved.place]
        new: Position = after[OFFSETS][moved.place]
        partition = Partition(*moved.place)
        if old.claimant is not transaction.process or old.owner != moved.owner:
            self.breaks(f"{transaction.process.name} commits on partition {partition.partition} under a superseded claim")
        if old.next_offset != moved.expected or new.next_offset < old.next_offset:
            self.breaks(f"the position of partition {partition.partition} goes from {old.next_offset} to {new.next_offset}")
        for offset in range(old.next_offset, new.next_offset):
            command = self._offered.get((partition, offset))
            if command is not None and not is_done(command, partition, offset, after):
                self.breaks(f"the position of partition {partition.partition} passes {offset}, which has no outcome")
        self._check_swept(partition, new.owner, after)

    def _check_swept(self, partition: Partition, owner: UUID, after: State) -> None:
        if self._losses_at_claim.get(owner) != self.losses:
            return  # what a failover brings back is found by the next look
        for key, row in after["outbox"].items():
            if key[:2] == tuple(partition) and row.owner != owner:
                self.breaks(f"a batch commits while message {key[2]} of an earlier claim waits in the outbox")

    def _check_outbox(self, transaction: Transaction, before: State, after: State) -> None:
        for (table, key), row in transaction.writes.items():
            if table != "outbox":
                continue
            if row is not None:
                fact = self._facts[key] = _fact_of_row(key, row)
                self._told.add((fact, _content(fact, row.value)))
                self._published_at_insert[key] = self._published[fact]
                continue
            if before[OFFSETS][key[:2]].claimant is not transaction.process:
                self.breaks(f"{transaction.process.name} deletes message {key[2]} under a superseded claim")
            if key in before["outbox"] and self._published[self._facts[key]] <= self._published_at_insert[key]:
                self.breaks(f"message {key[2]} leaves the outbox and is not on its topic")
        if transaction.moved is not None:
            self._check_told(transaction, after)

    def _check_told(self, transaction: Transaction, after: State) -> None:
        """Each outcome that is committed brings its message along."""
        for (table, key), row in transaction.writes.items():
            if table == "registrations" and row[2] != FAILED:
                assert transaction.moved is not None, "asked by the caller"
                if (*transaction.moved.place, row[11], "event") not in after["outbox"]:
                    self.breaks(f"the outcome of {key[0]} is committed without its event")


def is_done(command: Command, partition: Partition, offset: int, state: State) -> bool:
    """Say whether a command has its outcome."""
    letter = (partition.topic, partition.partition, offset) in state["dead_letters"]
    if command.kind in {workload.LETTER, workload.TIED}:
        return letter
    outcome = any(row[2] != FAILED for key, row in state["registrations"].items() if key[0] == command.registration)
    return outcome or (letter and command.kind == workload.UNSTORABLE)


def at_the_end(
    state: State, published: Sequence[OutMessage], offered: Mapping[tuple[Partition, int], Command], losses: int
) -> list[str]:
    """
    Hold the first two invariants against what is there when all work is done.

    Args:
        state: what is committed.
        published: events and dead letters, in order.
        offered: the commands, by partition and offset.
        losses: failovers that lost commits: after one a conflict may end the other way, and its first event is named.
    Returns:
        What does not hold, in words.
    """
    broken: list[str] = []
    events: defaultdict[str, set[bytes | None]] = defaultdict(set)
    letters: defaultdict[Fact, set[bytes | None]] = defaultdict(set)
    for message in published:
        fact = fact_of(message)
        (letters[fact] if message.topic == DEAD_LETTERS_TOPIC else events[_registration(message)]).add(message.value)
    _check_outcomes(state, offered, broken)
    _check_events(state, events, losses, broken)
    _check_letters(state, letters, offered, losses, broken)
    return broken


def _check_outcomes(state: State, offered: Mapping[tuple[Partition, int], Command], broken: list[str]) -> None:
    customers = {row[2]: key for key, row in state["customers"].items()}
    for (_, offset), command in offered.items():
        if command.registration is None:
            continue
        rows = [row for key, row in state["registrations"].items() if key[0] == command.registration]
        if len(rows) != 1:
            broken.append(f"the command at {offset} has {len(rows)} outcomes")
        elif command.kind == workload.GOOD and rows[0][2] == FAILED:
            broken.append(f"the good command at {offset} ended FAILED")
    for key, row in state["registrations"].items():
        if (row[2] == COMPLETE) != (key[0] in customers):
            broken.append(f"{key[0]} is {row[2]} and has {'a' if key[0] in customers else 'no'} customer")
    parts = ("persons", "users", "decisions")
    broken.extend(f"{table} and customers differ" for table in parts if set(state[table]) != set(state["customers"]))
    _check_emails(state, offered, broken)


def _check_emails(state: State, offered: Mapping[tuple[Partition, int], Command], broken: list[str]) -> None:
    if len(state[EMAILS]) != len(state["customers"]):
        broken.append("an email has two customers, or none")
    taken = {key[0] for key in state[EMAILS]}
    for key, row in state["registrations"].items():
        emails = {command.email for command in offered.values() if command.registration == key[0]}
        if row[2] == REJECTED and (row[3] != EMAIL_TAKEN or not emails & taken):
            broken.append(f"{key[0]} is refused, and its email has no customer")


def _check_events(state: State, events: Mapping[str, set[bytes | None]], losses: int, broken: list[str]) -> None:
    outcomes = {key[0]: row for key, row in state["registrations"].items()}
    for registration, row in outcomes.items():
        told = events.get(registration, set())
        if row[2] == FAILED:
            if told and not losses:
                broken.append(f"{registration} is FAILED and has an event")
        elif not any(_tells(value, row) for value in told):
            broken.append(f"{registration} is {row[2]} and no event says so")
        elif len(told) > 1 and not losses:
            broken.append(f"{registration} has {len(told)} different events")
    broken += [f"{registration} has an event and no row" for registration in events if registration not in outcomes]


def _check_letters(
    state: State,
    letters: Mapping[Fact, set[bytes | None]],
    offered: Mapping[tuple[Partition, int], Command],
    losses: int,
    broken: list[str],
) -> None:
    for (partition, offset), command in offered.items():
        kept = (partition.topic, partition.partition, offset) in state["dead_letters"]
        told = letters.get(("letter", partition.topic, str(partition.partition), str(offset)), set())
        if kept and (command.kind == workload.GOOD or told != {command.value}):
            broken.append(f"the dead letter of {offset} is {'not ' if not told else ''}told, and its command is {command.kind}")
        if told and not kept and not losses:
            broken.append(f"the dead letter of {offset} was told and is not kept")


def _tells(value: bytes | None, row: Sequence[Any]) -> bool:
    event = json.loads(value or b"{}")
    if row[2] == COMPLETE:
        return bool(event.get("customerId") == row[6])
    return bool(event.get("code") == row[3])


def _registration(message: OutMessage) -> str:
    return str(json.loads(message.value or b"{}")["registrationId"])


def _fact_of_row(key: Key, row: Message) -> Fact:
    topic, partition, offset, kind = key
    if kind == LETTER:
        return ("letter", topic, str(partition), str(offset))
    return ("event", dict(json.loads(row.headers))["ce_id"])


def _content(fact: Fact, value: bytes | None) -> bytes | None:
    """Return what is compared: a dead letter's row is sealed."""
    return None if fact[0] == "letter" else value
