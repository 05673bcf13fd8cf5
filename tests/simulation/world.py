"""
One run: workers with the real lanes on the simulated log and database, what goes wrong, and whether the laws held.

What a run does follows from its seed alone: clock, chance, identifiers and the order of all that is ready are drawn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, Final, TypeVar
from uuid import UUID

from tests.records import SNAPSHOT
from tests.simulation import workload
from tests.simulation.database import LOSS_MAX_COMMITS, Limits, Server
from tests.simulation.faults import Faults
from tests.simulation.invariants import Witness, at_the_end
from tests.simulation.log import Broker, Group, Member, Producer
from tests.simulation.loop import Process, SeededLoop, current
from tests.simulation.parts import database, metrics, sealer, settings
from tests.simulation.plan import Plan
from tests.simulation.pool import Pool
from tests.simulation.tables import OFFSETS
from tests.simulation.workload import Command
from worker import app, claiming, consumer, examining, lane, logs
from worker.breaker import Breaker
from worker.catalogues import Rules
from worker.consumer import Consumer
from worker.kafka import Assignments, Membership, Partition
from worker.parts import Parts

T = TypeVar("T")

POLL_S: Final = 1.0
LONGEST_S: Final = 300.0
"""Virtual time after which a run that has not done its work is stuck."""
STEPS_MOST: Final = 20_000
BUGS: Final = frozenset({"lane.stopped", "lane.input_lost", "lane.topic_anew", "lane.stalled"})
"""Lines of the log that no fault of a server may bring about."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What a run came to.

    Attributes:
        broken: laws that did not hold; empty where all did.
        counts: faults that happened, and what the workers logged.
        steps: callbacks run.
        drawn: what would be drawn next; another number means another run.
    """

    seed: int
    broken: tuple[str, ...]
    counts: Counter[str]
    steps: int
    drawn: int


@dataclass(eq=False)
class Worker:
    """One worker process."""

    process: Process
    stop: asyncio.Event
    task: asyncio.Task[None] | None = None


@dataclass
class World:
    """Everything of one run."""

    seed: int
    tell: Callable[[str], None] | None = None
    plan: Plan | None = None
    workers: list[Worker] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)
        self.plan = self.plan or Plan.draw(self.chance)
        self.loop = SeededLoop(self.chance)
        self.loop.set_exception_handler(lambda _loop, _context: None)  # a crash leaves much unretrieved
        self.offered: dict[tuple[Partition, int], Command] = {}
        self.witness = Witness(self.says, self.offered)
        self.faults = Faults(self.chance, self.plan.rates, self.says)
        self.settings = settings(self.plan.batch_most, self.plan.breaker_run)
        self.server = Server(self.loop, Limits.of(self.settings.batch_timeout_s), self.witness)
        self.broker = Broker(self.loop, self.faults, self.witness, workload.partitions_of(self.plan.partitions))
        self.membership = app.membership(self.settings)
        self.group = Group(self.broker, self.membership)
        self.unsent = self.plan.commands
        self.born = 0
        self.pending = 0
        self.acts = 0

    def says(self, line: str) -> None:
        """Take a line of the trace."""
        if self.tell is not None:
            self.tell(f"{self.loop.now_s:9.4f} {self.loop.steps:6d} {line}")

    # --- processes -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a worker process."""
        self.born += 1
        process = Process(f"w{self.born}")
        worker = Worker(process, process.context.run(asyncio.Event))
        worker.task = self.loop.spawn(process, self._work(worker))
        self.workers.append(worker)
        self.says(f"{process.name} starts")

    async def _work(self, worker: Worker) -> None:
        watched = database(self.witness, Pool(self.server, self.faults))
        rules = Rules(watched)
        rules.snapshot = SNAPSHOT
        producer = Producer(self.broker, self.settings.produce_timeout_s)
        parts = Parts(self.settings, watched, producer, sealer(), rules, metrics())  # type: ignore[arg-type]
        try:
            await Consumer(parts, self.membership).run(worker.stop)
        except Exception as bug:  # noqa: BLE001 - no fault of a server may end a worker
            self.witness.breaks(f"{worker.process.name} ended by {type(bug).__name__}: {logs.places(bug)}")

    def member(self, _how: Membership, owner: Assignments) -> Member:
        """Return a membership of the process that asks."""
        return Member(self.group, self.broker, owner)

    def logged(self, event: str, fields: Mapping[str, Any]) -> None:
        """A worker wrote a line."""
        process = current()
        self.counts[event] += 1
        if self.tell is not None:
            self.says(f"{process.name} {event} " + " ".join(f"{name}={value}" for name, value in fields.items()))
        if event == "lane.claimed":
            self.witness.claimed(process, workload.partitions_of(2)[fields["partition"]])
        if event in BUGS:
            self.witness.breaks(f"{process.name} says {event}: {fields.get('exc_info')!r}")

    # --- faults --------------------------------------------------------------------------------------------------

    def strike(self, fault: str) -> None:
        """Have one of the planned faults happen."""
        self.faults.happened(fault)
        running = [worker for worker in self.workers if worker.process.alive and not worker.process.frozen]
        if fault.startswith("database"):
            self._strike_database(fault)
        elif running:
            worker = self.chance.choice(running)
            if fault.startswith("worker.crashed"):
                self._crash(worker, with_machine=fault.endswith("machine"))
            elif fault == "worker.frozen":
                self._freeze(worker)
            elif fault == "worker.stopped":
                self._stop(worker)
            else:
                self._expel(worker.process)

    def _strike_database(self, fault: str) -> None:
        down_s = self.faults.between(0, 2)
        if fault == "database.failed_over_with_loss":
            lost = self.server.fail_over(1 + int(self.chance.random() * LOSS_MAX_COMMITS), down_s)
            self.witness.losses += 1
            self.says(f"{lost} commits are lost")
        else:
            self.server.restart(down_s)

    def _crash(self, worker: Worker, *, with_machine: bool) -> None:
        process = worker.process
        self.says(f"{process.name} crashes")
        self.loop.crash(process)
        self.workers.remove(worker)
        for session in [each for each in self.server.sessions if each.process is process]:
            if with_machine:
                self._leave_idle(session)
            else:
                session.gone = True
                self.loop.outside_later(self.faults.between(0, 0.05), self.server.left, session)
        self.loop.outside_later(self.settings.session_timeout_s, self._expel, process)
        self._later(self.faults.between(0, 5), self.start)

    def _freeze(self, worker: Worker) -> None:
        process = worker.process
        self.says(f"{process.name} freezes")
        process.frozen = True
        for session in [each for each in self.server.sessions if each.process is process]:
            self._leave_idle(session)
        self.loop.outside_later(self.settings.session_timeout_s, self._expel_if_frozen, process)
        self._later(self.faults.between(0.1, 9), self._thaw, process)

    def _thaw(self, process: Process) -> None:
        self.says(f"{process.name} wakes")
        self.loop.thaw(process)

    def _stop(self, worker: Worker) -> None:
        self.says(f"{worker.process.name} is told to stop")
        worker.process.context.run(worker.stop.set)
        self.workers.remove(worker)
        self._later(self.faults.between(0, 5), self.start)

    def _leave_idle(self, session: Any) -> None:  # noqa: ANN401 - a session
        if session.transaction is not None:
            self.loop.outside_later(self.server.limits.idle_s, self.server.idle_too_long, session, session.transaction)

    def _expel_if_frozen(self, process: Process) -> None:
        if process.frozen:
            self._expel(process)

    def _expel(self, process: Process) -> None:
        for member in [each for each in self.group.members if each.process is process]:
            self.says(f"{process.name} is no member any more")
            self.group.remove(member)

    def _later(self, delay_s: float, action: Callable[..., None], *arguments: object) -> None:
        self.pending += 1
        self.loop.outside_later(delay_s, self._act, action, arguments)

    def _act(self, action: Callable[..., None], arguments: tuple[object, ...]) -> None:
        self.pending -= 1
        self.acts += 1
        action(*arguments)

    # --- the run -------------------------------------------------------------------------------------------------

    def offer(self) -> None:
        """Put the next command on the log, now and then behind offsets that hold none."""
        self.unsent -= 1
        command = workload.draw(self.chance, self.unsent)
        partition = workload.partition_for(self.chance, command, list(self.broker.logs))
        log = self.broker.logs[partition]
        if self.chance.random() < 0.15:
            log.pass_over(1 + int(self.chance.random() * 2))
        self.offered[partition, log.end] = command
        self.says(f"offered {command.kind} {partition.partition}/{log.end} {command.registration} {command.email}")
        log.append(b"key", command.value, command.headers)
        if self.chance.random() < 0.15:
            log.pass_over(1)
        self.broker.arrived()

    @property
    def done(self) -> bool:
        """All that was offered has been committed and published."""
        state = self.server.state
        if self.unsent or self.pending or state["outbox"]:
            return False
        at = state[OFFSETS]
        return all(key in at and at[key].next_offset == log.end for key, log in self.broker.logs.items())

    def run(self) -> Outcome:
        """Run to the end, or until a law does not hold."""
        assert self.plan is not None, "drawn"
        with installed(self):
            for _ in range(self.plan.workers):
                self.loop.outside_later(self.faults.between(0, 0.5), self.start)
            for _ in range(self.plan.commands):
                self.loop.outside_later(self.faults.between(0, 4), self.offer)
            self._drive(list(self.plan.at))
            counts, drawn = self.counts + self.faults.counts, self.chance.getrandbits(32)
            outcome = Outcome(self.seed, tuple(self.witness.broken), counts, self.loop.steps, drawn)
            self.tell = None
            self.loop.discard()
        return outcome

    def _drive(self, planned: list[tuple[int, str]]) -> None:
        assert self.plan is not None, "drawn"
        while not self.witness.broken:
            step = planned[0][0] if planned else STEPS_MOST if self.faults.calm else self.plan.calm_step
            if not self._goes_on_until(step):
                self.witness.breaks(f"stuck: {self._standing()}")
            elif self.witness.broken:
                return
            elif planned:
                self.strike(planned.pop(0)[1])
            elif self.done:
                self._check_the_end()
                return
            elif self.loop.steps >= STEPS_MOST:
                self.witness.breaks(f"busy for ever: {self._standing()}")
            else:
                self.faults.calm = True

    def _check_the_end(self) -> None:
        for law in at_the_end(self.server.state, self.broker.published, self.offered, self.witness.losses):
            self.witness.breaks(law)

    def _goes_on_until(self, step: int) -> bool:
        """Run until a step, until all is done or a law is broken; return False where none of it came in time."""
        stirred = -1

        def goes_on() -> bool:
            nonlocal stirred
            if self.witness.broken or self.loop.steps >= step:
                return False
            if self.witness.commits + self.acts != stirred:
                stirred = self.witness.commits + self.acts
                return not self.done
            return True

        return self.loop.run_while(goes_on, LONGEST_S)

    def _standing(self) -> str:
        at = {key[1]: row.next_offset for key, row in self.server.state[OFFSETS].items()}
        ends = {partition.partition: log.end for partition, log in self.broker.logs.items()}
        return f"positions {at}, log ends {ends}, {len(self.server.state['outbox'])} messages in the outbox"


class Lines:
    """A logger that tells the world of its run."""

    def __init__(self, world: World, context: Mapping[str, Any]) -> None:
        self._world = world
        self._context = context

    def info(self, event: str, **fields: object) -> None:
        """Write a line."""
        self._world.logged(event, {**self._context, **fields})

    warning = error = info


@contextmanager
def installed(world: World) -> Iterator[None]:
    """Have the worker's modules take clock, chance, identifiers, members and logs from this world."""
    clock = SimpleNamespace(monotonic=world.loop.time)
    replaced: list[tuple[Any, str, object]] = [
        (claiming, "uuid4", lambda: UUID(int=world.chance.getrandbits(128))),
        (lane, "uniform", world.chance.uniform),
        (consumer, "uniform", world.chance.uniform),
        (lane, "time", clock),
        (consumer, "time", clock),
        (lane, "Breaker", partial(Breaker, clock=world.loop.time)),
        (consumer, "Member", world.member),
        (consumer, "POLL_S", POLL_S),
        (examining, "examine", workload.examine_once),
        (logs, "logger", lambda **context: Lines(world, context)),
    ]
    kept = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


def run(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """Run a seed."""
    return World(seed, tell).run()
