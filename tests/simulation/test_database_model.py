"""The simulated database against the real one: the same statements, one after the other and two at once, give the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from tests.boundary.conditions import until
from tests.conftest import World
from tests.simulation import statements
from tests.simulation.database import Call, Limits, Server, Session
from tests.simulation.loop import Process, SeededLoop
from tests.simulation.pool import BEGIN
from tests.simulation.statements import Result
from tests.simulation.tables import OFFSETS, Statement
from worker.postgres import Connection, connect, statement

SEQUENCES: Final = 40
STEPS: Final = 40
TOPIC: Final = "commands"
TENANT: Final = "bank"
OWNERS: Final = tuple(UUID(int=number) for number in (1, 2, 3))
AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
TAGGED: Final = frozenset({"registrations_replace_failed", "customers_insert", "dead_letters_insert"})
"""Statements of which the worker reads the tag."""
UNCOMPARED: Final = frozenset({"outbox_oldest_s"})
"""A clock's."""
EVERY_ROW: Final = {
    OFFSETS: "SELECT next_offset, owner, last_offset, last_digest, dead_letter_run, resume_at_offset, skip_offset, partition"
    " FROM kafka_offsets",
    "registrations": "SELECT registration_id, status, code, customer_id, fingerprint, command_offset FROM registrations",
    "customers": "SELECT customer_id, registration_id, email_normalized FROM customers",
    "users": "SELECT customer_id FROM users",
    "outbox": "SELECT command_partition, command_offset, kind, key, value FROM outbox",
    "dead_letters": 'SELECT partition, "offset", code FROM dead_letters',
}

Asked = tuple[str, tuple[Any, ...]]
"""A statement's name, or that of a table to copy into, or BEGIN, COMMIT, ROLLBACK; and what it is given."""


class Nobody:
    """Watches nothing."""

    def asked(self, *_: object) -> None:
        """Let it pass."""

    def committing(self, *_: object) -> None:
        """Let it pass."""


@dataclass
class Model:
    """Two sessions of the simulated server, whose clock stands still."""

    loop: SeededLoop = field(default_factory=lambda: SeededLoop(Random(0)))
    sessions: list[Session] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = Server(self.loop, Limits.of(60), Nobody())
        self.sessions = [self.server.connect(Process(f"s{number}")) for number in range(2)]

    def ask(self, session: Session, asked: Asked) -> Call:
        """Do it; the call is over, or waits for a lock."""
        name, arguments = asked
        answer: asyncio.Future[Result] = self.loop.create_future()
        end = name if name in {"COMMIT", "ROLLBACK"} else None
        call = Call(session, _work(name, arguments), end, answer)
        if name == BEGIN:
            self.server.begin(session)
            call.over = True
        else:
            self.server.run(call)
            self.loop.run_while(lambda: True, 0)
        return call


@dataclass
class Pair:
    """The model and the server, and what each session waits for."""

    model: Model
    real: Sequence[Connection]
    watching: Connection
    waiting: dict[int, tuple[Call, asyncio.Task[Any]]] = field(default_factory=dict)

    async def step(self, number: int, asked: Asked) -> None:
        """Ask both the same."""
        call = self.model.ask(self.model.sessions[number], asked)
        task = asyncio.create_task(_really(self.real[number], asked))
        if call.over:
            _same(asked, call, await task)
        else:
            self.waiting[number] = call, task
            await until(self._is_blocked, f"{asked} waits in PostgreSQL as in the model")
        for other, (late, at_work) in list(self.waiting.items()):
            if late.over:
                del self.waiting[other]
                _same(asked, late, await at_work)

    async def _is_blocked(self) -> bool:
        query = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = ANY($1))"
        pids = [connection.get_server_pid() for connection in self.real]
        return bool(await self.watching.fetchval(query, pids))


@pytest.mark.timeout(120)
async def test_the_simulated_database_answers_as_the_real_one(world: World) -> None:
    """Rows, tags, errors and waits of random statements of two sessions, and every table in the end."""
    url = world.settings.database_url.get_secret_value()
    real = [await connect(url, "tests") for _ in range(2)]
    waits = 0
    try:
        for seed in range(SEQUENCES):
            await world.connection.execute(
                "TRUNCATE kafka_offsets, registrations, customers, persons, users, decisions, outbox, dead_letters"
            )
            model = Model()
            try:
                waits += await _sequence(Random(seed), Pair(model, real, world.connection))
                await _same_tables(model, world.connection)
            finally:
                model.loop.close()
    finally:
        for connection in real:
            await connection.close()

    assert waits > SEQUENCES / 4


async def _sequence(chance: Random, pair: Pair) -> int:
    """Do random steps of two sessions, and end what is open; return how many had to wait."""
    waits = 0
    for _ in range(STEPS):
        free = [number for number in range(2) if number not in pair.waiting]
        number = chance.choice(free)
        session = pair.model.sessions[number]
        if pair.waiting or (session.transaction is not None and chance.random() < 0.15):
            asked: Asked = chance.choice(("COMMIT", "COMMIT", "ROLLBACK")), ()
        elif session.transaction is None and chance.random() < 0.4:
            asked = BEGIN, ()
        else:
            asked = chance.choice(_DRAWN)(chance)
        await pair.step(number, asked)
        waits += len(pair.waiting)
    for number in [each for each in range(2) if each not in pair.waiting]:
        await pair.step(number, ("COMMIT", ()))
    for number in range(2):
        await pair.step(number, ("COMMIT", ()))
    return waits


def _work(name: str, arguments: tuple[Any, ...]) -> Callable[[Statement], Result]:
    if name in statements.NAMED:
        return lambda s: statements.NAMED[name](s, *arguments)
    return lambda s: statements.copy(s, name, arguments[0])


async def _really(connection: Connection, asked: Asked) -> Any:  # noqa: ANN401 - rows, a tag or an error
    name, arguments = asked
    try:
        if name in {BEGIN, "COMMIT", "ROLLBACK"}:
            return await connection.execute(name)
        if name in TAGGED:
            return await connection.execute(statement(name), *arguments)
        if name in statements.NAMED:
            return [dict(row) for row in await connection.fetch(statement(name), *arguments)]
        return await connection.copy_records_to_table(name, records=arguments[0], columns=_COLUMNS[name])
    except asyncpg.PostgresError as error:
        return error


def _same(asked: Asked, call: Call, really: Any) -> None:  # noqa: ANN401 - rows, a tag or an error
    if asked[0] == BEGIN:
        return
    error = call.answer.exception()
    if error is not None or isinstance(really, Exception):
        assert (getattr(error, "sqlstate", error), asked) == (getattr(really, "sqlstate", really), asked)
        return
    rows, tag = call.answer.result()
    if isinstance(really, str):
        assert (tag, asked) == (really, asked)
    else:
        assert (_plain(rows), asked) == (_plain(really), asked)


def _plain(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    compared = [{name: value for name, value in row.items() if name not in UNCOMPARED} for row in rows]
    return sorted(compared, key=repr)


async def _same_tables(model: Model, connection: Connection) -> None:
    state = model.server.state
    simulated: dict[str, list[tuple[Any, ...]]] = {
        OFFSETS: [(*row[:7], key[1]) for key, row in state[OFFSETS].items()],
        "registrations": [(row[0], row[2], row[3], row[6], row[7], row[11]) for row in state["registrations"].values()],
        "customers": [(row[0], row[2], row[4]) for row in state["customers"].values()],
        "users": [(key[0],) for key in state["users"]],
        "outbox": [(*key[1:], row.key, row.value) for key, row in state["outbox"].items()],
        "dead_letters": [(*key[1:], row[0]) for key, row in state["dead_letters"].items()],
    }
    for table, query in EVERY_ROW.items():
        really = [tuple(row) for row in await connection.fetch(query)]
        assert sorted(simulated[table], key=repr) == sorted(really, key=repr), table


# --- statements to draw ----------------------------------------------------------------------------------------------


def _partition(chance: Random) -> tuple[str, int]:
    return TOPIC, chance.choice((0, 0, 0, 1))


def _offset(chance: Random) -> int:
    return chance.randrange(3)


def _owner(chance: Random) -> UUID:
    return chance.choice(OWNERS)


def _some(chance: Random, names: Sequence[str]) -> list[str]:
    return chance.sample(names, chance.randrange(1, len(names) + 1))


def _move(chance: Random) -> Asked:
    last = chance.choice((None, 1))
    return "move_offset", (*_partition(chance), _offset(chance), _offset(chance), _owner(chance), last, b"d" if last else None, 0)


def _delete(chance: Random) -> Asked:
    offsets = sorted({_offset(chance), _offset(chance)})
    return "outbox_delete", (*_partition(chance), _owner(chance), offsets, ["event"] * len(offsets))


def _registration(chance: Random, name: str) -> tuple[Any, ...]:
    status = chance.choice(("REGISTRATION_COMPLETE", "FAILED", "FAILED", "REJECTED"))
    code, customer = (None, f"c-{name}") if status == "REGISTRATION_COMPLETE" else ("code", None)
    fingerprint = chance.choice((None, "f", "f", "f", "a\0b"))
    return (name, TENANT, status, code, None, None, customer, fingerprint, 1, TOPIC, 0, _offset(chance), AT, None, None)


def _copy_registrations(chance: Random) -> Asked:
    return "registrations", ([_registration(chance, name) for name in sorted(_some(chance, ("r1", "r2", "r3")))],)


def _replace(chance: Random) -> Asked:
    rows = [_registration(chance, name) for name in _some(chance, ("r1", "r2", "r3"))]
    return "registrations_replace_failed", tuple(map(list, zip(*rows, strict=True)))


def _customers(chance: Random) -> Asked:
    names = _some(chance, ("r1", "r2"))
    emails = chance.sample(("a@x", "b@x"), len(names))
    ids, tenants, at = [f"c-{name}" for name in names], [TENANT] * len(names), [AT] * len(names)
    same = ["x"] * len(names)
    return "customers_insert", (ids, tenants, names, emails, emails, same, "PENDING_ACTIVATION", same, ["{}"] * len(names), at)


def _copy_users(chance: Random) -> Asked:
    rows: list[tuple[object, ...]] = [
        (f"c-{name}", TENANT, f"u-{name}", "name", "hash", "PENDING", [], False, False, False)
        for name in sorted(_some(chance, ("r1", "r2")))
    ]
    return "users", (rows,)


def _copy_outbox(chance: Random) -> Asked:
    topic, partition = _partition(chance)
    offsets = sorted({_offset(chance), _offset(chance)})
    return "outbox", ([(topic, partition, offset, "event", b"k", b"v", "[]", False) for offset in offsets],)


def _dead_letters(chance: Random) -> Asked:
    offsets = sorted({_offset(chance), _offset(chance)})
    none: list[None] = [None] * len(offsets)
    return "dead_letters_insert", (
        *_partition(chance),
        offsets,
        [chance.choice("xy") for _ in offsets],
        none,
        none,
        none,
        [AT] * len(offsets),
    )


_DRAWN: Final[Sequence[Callable[[Random], Asked]]] = (
    lambda c: ("claim", (*_partition(c), _owner(c), _offset(c))),
    lambda c: ("claim_again", (*_partition(c), _owner(c), [_owner(c), _owner(c)])),
    lambda c: ("begin_anew", (*_partition(c), _offset(c), _owner(c))),
    lambda c: ("take_resume", (*_partition(c), _owner(c), _offset(c))),
    lambda c: ("look", (*_partition(c), _offset(c))),
    lambda c: ("outbox_leftover", (*_partition(c), 2)),
    lambda c: ("registrations_find", (names := _some(c, ("r1", "r2", "r3")), [TENANT] * len(names))),
    lambda c: ("customers_by_email", (emails := _some(c, ("a@x", "b@x")), [TENANT] * len(emails))),
    _move,
    _move,
    _delete,
    _delete,
    _copy_registrations,
    _replace,
    _customers,
    _copy_users,
    _copy_outbox,
    _dead_letters,
)
_COLUMNS: Final = {
    "registrations": (
        "registration_id", "tenant_id", "status", "code", "problem", "reason", "customer_id", "fingerprint",
        "catalogue_version", "command_topic", "command_partition", "command_offset", "decided_at", "requested_at",
        "requested_by",
    ),
    "users": (
        "customer_id", "tenant_id", "user_id", "username", "password_hash", "status", "roles", "is_active",
        "requires_password_change", "two_factor_enabled",
    ),
    "outbox": ("command_topic", "command_partition", "command_offset", "kind", "key", "value", "headers", "sealed"),
}  # fmt: skip
