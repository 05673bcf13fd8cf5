"""Where processes are killed: real servers, commands of every kind, and an account of what must hold when all is done."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

from schemas.commands import COMMANDS_TOPIC
from tests import commands
from tests.boundary import conditions
from tests.fault.calls import Calls
from tests.fault.cluster import DEADLINE_S, PARTITIONS, Cluster, cluster
from tests.fault.launcher import Orders, launch
from worker.dev.process import until
from worker.kafka import OutMessage, Reader
from worker.postgres import Connection, connect

BY_HAND: Final = "tests"
"""As what this process is known to PostgreSQL: its own changes of a position are no worker's."""
SETTLE_S: Final = 10
VERIFIED_WITHIN_S: Final = 180.0
PRELOADED: Final = ("tests.fault.scenes", "worker.ingress", "worker.operate.publish", "rich.progress")
"""What each process begins with: it is forked from one that has it all imported."""
SETTINGS: Final = {
    "REGISTRATION_BATCH_MAX_RECORDS": "8",
    "REGISTRATION_DRAIN_TIMEOUT_S": "3",
    "REGISTRATION_SESSION_TIMEOUT_S": "1.5",
    "REGISTRATION_BATCH_TIMEOUT_S": "3",
    "REGISTRATION_LOOK_INTERVAL_S": "0.2",
}
_AUDIT: Final = """
CREATE TABLE fault_delay (seconds double precision NOT NULL);
CREATE TABLE fault_audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  partition integer NOT NULL,
  owner uuid NOT NULL,
  claimed_at timestamptz NOT NULL,
  next_offset bigint NOT NULL,
  application text NOT NULL DEFAULT current_setting('application_name')
);
CREATE FUNCTION fault_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO fault_audit (partition, owner, claimed_at, next_offset)
  VALUES (NEW.partition, NEW.owner, NEW.claimed_at, NEW.next_offset);
  PERFORM pg_sleep(seconds) FROM fault_delay;
  RETURN NEW;
END $$;
CREATE TRIGGER fault_note AFTER INSERT OR UPDATE ON kafka_offsets FOR EACH ROW EXECUTE FUNCTION fault_note();
"""
_UNFENCED: Final = """
WITH noted AS (
  SELECT *, lag(owner) OVER w AS owner_before, lag(claimed_at) OVER w AS claimed_before, lag(next_offset) OVER w AS offset_before,
    min(id) OVER (PARTITION BY partition, owner, claimed_at) AS first_id
  FROM fault_audit WINDOW w AS (PARTITION BY partition ORDER BY id)
)
SELECT partition, id, owner, next_offset, offset_before FROM noted
WHERE id > first_id AND (owner, claimed_at) <> (owner_before, claimed_before)
  OR next_offset < offset_before AND application <> $1 AND next_offset <> ALL($2)
ORDER BY id
"""
"""Commits under a claim that another had superseded; positions that fell, other than to the start of a log made anew."""


@dataclass(slots=True)
class Account:
    """
    What was found wrong when all was done.

    Attributes:
        lost: commands without outcome, outcomes without event, dead letters that are missing.
        doubled: registrations with two outcomes or events of two ids, emails with two customers.
        unfenced: commits under a superseded claim, positions that fell.
        ghosts: events and letters without their row.
        others: other rules of `registration verify` that do not hold, with how often.
    """

    lost: int = 0
    doubled: int = 0
    unfenced: int = 0
    ghosts: int = 0
    others: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return self == Account()


class Victim:
    """A process under orders, and what it has said."""

    def __init__(self, context: multiprocessing.context.ForkServerContext, orders: Orders) -> None:
        self.orders = orders
        self._process: ForkServerProcess = context.Process(target=launch, args=(orders,))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def output(self) -> str:
        """Return what it has written."""
        path = Path(self.orders.log)
        return path.read_text(errors="replace") if path.exists() else ""

    def told(self, event: str) -> int:
        """Return how often it has logged an event."""
        return self.output().count(f'"event": "{event}"')

    def report(self) -> dict[str, Any]:
        """Return what it left behind; empty where it was ended by another."""
        path = Path(self.orders.report)
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, if it still runs."""
        self.signal(signal.SIGKILL)
        self._process.join()

    async def ended(self, within_s: float) -> bool:
        """Wait until it has ended; False if it did not in time."""
        return await until(lambda: not self.running, within_s)


class Arena:
    """
    Servers with a load and an account of it.

    Args:
        cluster: servers, and settings to reach them.
        connection: to the database, for what is done by hand.
        reader: of topics; one for all, since a client that is cut off while it connects leaves a socket behind.
        calls: callers of an ingress.
    """

    def __init__(self, running: Cluster, connection: Connection, reader: Reader, calls: Calls) -> None:
        self.cluster = running
        self._reader = reader
        self.calls = calls
        self.connection = connection
        self.folder = running.folder
        self.starts: set[int] = {0}
        """Where logs begin, or began: there a topic that looks made anew is read from."""
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))
        self._victims: list[Victim] = []
        self._started = 0
        self._unseen: dict[tuple[int, int], str | None] = {}
        """Commands whose outcome was not looked for yet, by partition and offset: their registration, where they have one."""

    def start(self, orders: Orders) -> Victim:
        """Start a process; its settings are those of the cluster, and a worker has a group of its own where none is given."""
        self._started += 1
        name = str(self.folder / f"victim-{self._started}")
        own = {"REGISTRATION_GROUP": f"crash-{self._started}"}
        settings = {**self.cluster.environment, **SETTINGS, **own, **orders.environment}
        victim = Victim(self._context, replace(orders, environment=settings, log=f"{name}.log", report=f"{name}.json"))
        self._victims.append(victim)
        return victim

    @contextmanager
    def started(self, orders: Orders) -> Iterator[Victim]:
        """Run a process for the length of a block, at most; then it is killed."""
        victim = self.start(orders)
        try:
            yield victim
        finally:
            victim.kill()
            self._victims.remove(victim)

    def end_all(self) -> None:
        """Kill whatever still runs."""
        for victim in self._victims:
            victim.kill()

    async def send(self, people: int) -> None:
        """Send commands of new people, among them every kind of trouble that a command can be."""
        messages: list[tuple[str | None, OutMessage]] = []
        for number in range(people):
            messages += _one(number)
        await self.put(messages)

    async def put(self, messages: Sequence[tuple[str | None, OutMessage]]) -> None:
        """Send commands, each with the registration that must come of it; None where it must be a dead letter."""
        sent = await self.cluster.producer.send_all([message for _, message in messages])
        self._unseen |= {tuple(place): registration for place, (registration, _) in zip(sent, messages, strict=True)}  # type: ignore[misc]

    def give_up(self, partition: int, before: int) -> None:
        """Expect nothing of the commands before an offset: the log has lost them."""
        self._unseen = {place: found for place, found in self._unseen.items() if place[0] != partition or place[1] >= before}

    async def positions(self) -> dict[int, int]:
        """Return for each partition the offset that is to be done next."""
        rows = await self.connection.fetch("SELECT partition, next_offset FROM kafka_offsets WHERE topic = $1", COMMANDS_TOPIC)
        return {row["partition"]: row["next_offset"] for row in rows}

    async def unpublished(self) -> int:
        """Return how many messages of batches that were committed are still in the outbox."""
        return int(await self.connection.fetchval("SELECT count(*) FROM outbox"))

    async def done(self, within_s: float = DEADLINE_S) -> None:
        """Wait until every command is done, and what was published is deleted."""

        async def is_done() -> bool:
            if await self.unpublished():
                return False
            positions, bounds = await self.positions(), await self._reader.bounds(COMMANDS_TOPIC)
            return all(positions.get(partition, 0) >= end for partition, (_, end) in bounds.items())

        await conditions.until(is_done, "all commands are done and the outbox is empty", within_s)

    async def settle(self) -> Account:
        """Let a whole worker finish all that is left, then check everything."""
        with self.started(Orders(("worker",), {"REGISTRATION_BATCH_MAX_RECORDS": "500"})) as last:
            try:
                claimed = await until(lambda: last.told("lane.claimed") >= PARTITIONS, DEADLINE_S)
                assert claimed, "not every partition was claimed"
                await self.done()
            except AssertionError as error:
                msg = f"{error}\n{last.output()[-8000:]}"
                raise AssertionError(msg) from None
            last.signal(signal.SIGTERM)
            assert await last.ended(DEADLINE_S), f"a worker did not end:\n{last.output()[-8000:]}"
            assert last.exit_code == 0, f"a worker ended with {last.exit_code}:\n{last.output()[-8000:]}"
        return await self.account()

    async def account(self) -> Account:
        """Check everything, as it stands."""
        totals, counts = await self._verified()
        lost = max(await self._missing(), totals.pop("command.without_outcome", 0))
        lost += sum(totals.pop(rule, 0) for rule in _OF_LOST)
        doubled = sum(totals.pop(rule, 0) for rule in _OF_DOUBLED)
        doubled = max(doubled, counts["ce_ids"] - counts["accepted"] - counts["rejected"])
        ghosts = sum(totals.pop(rule, 0) for rule in _OF_GHOSTS)
        unfenced = await self.unfenced()
        callers_lost, callers_doubled = await self.calls.check(self.connection)
        return Account(lost + callers_lost, doubled + callers_doubled, unfenced, ghosts, dict(totals))

    async def unfenced(self) -> int:
        """Count commits under a claim that another had superseded, and positions that fell."""
        return len(await self.connection.fetch(_UNFENCED, BY_HAND, sorted(self.starts)))

    async def _verified(self) -> tuple[Counter[str], dict[str, int]]:
        with self.started(Orders(("verify", "--json", "--settle-s", str(SETTLE_S)))) as verify:
            assert await verify.ended(VERIFIED_WITHIN_S), f"verify did not end in {VERIFIED_WITHIN_S:g} s:\n{verify.output()}"
            report = json.loads(verify.output().splitlines()[-1])
        return Counter(report["totals"]), report["counts"]

    async def _missing(self) -> int:
        """Count the commands that came to nothing, of those that were not looked at before."""
        rows = await self.connection.fetch("SELECT registration_id FROM registrations")
        letters = await self.connection.fetch('SELECT partition, "offset" FROM dead_letters')
        have, dead = {row["registration_id"] for row in rows}, {tuple(row) for row in letters}
        missing = {place: wanted for place, wanted in self._unseen.items() if place not in dead and wanted not in have}
        self._unseen = missing
        return len(missing)


_OF_LOST: Final = ("registration.without_event", "registration.incomplete", "letter.missing")
_OF_DOUBLED: Final = ("registration.two_ce_ids", "customer.email_doubled", "command.two_outcomes")
_OF_GHOSTS: Final = ("event.ghost", "event.contradicts", "letter.ghost", "customer.alone")


def _one(number: int) -> Iterator[tuple[str | None, OutMessage]]:
    """Yield the commands of one person: most send one, some send it twice, or what is taken, broken, or of nobody."""
    email = commands.email_of(number)
    data = commands.data(email)
    registration: str = data["registrationId"]
    if number % 9 == 4:  # dead first, then as it should be: FAILED is no outcome
        yield registration, commands.message({**data, "password": "not here"})
    yield registration, commands.message(data)
    if number % 6 == 0:
        yield registration, commands.message(data)
    if number % 8 == 0:  # the same email on another partition, at the same time
        other = commands.data(email)
        yield other["registrationId"], replace(commands.message(other), key=registration.encode())
    if number % 12 == 0:
        yield None, commands.message(b"not a command")
    if number % 24 == 0:
        yield None, commands.message({**commands.data(commands.email_of(number)), "tenantId": "nobody"})


@asynccontextmanager
async def arena() -> AsyncIterator[Arena]:
    """Run servers for the length of a block; whatever was started is ended, whatever happens."""
    async with cluster() as running:
        connection = await connect(running.servers.postgres.url, BY_HAND)
        try:
            await connection.execute(_AUDIT)
            async with (
                Reader(running.servers.kafka.bootstrap, client_id=BY_HAND) as reader,
                Calls.of(running.folder, running.servers.postgres.url) as calls,
            ):
                found = Arena(running, connection, reader, calls)
                try:
                    yield found
                finally:
                    found.end_all()
        finally:
            await connection.close(timeout=5)
