"""Scenes of an ingress, and of the commands that a person runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from tests import commands
from tests.conftest import url_of
from tests.fault.arena import Arena, Victim
from tests.fault.launcher import Orders
from tests.fault.scene import NOWHERE, PEOPLE, WITHIN_S, Scene
from worker.dev.process import until
from worker.ingress.jwks import FILE_INTERVAL_S
from worker.migrate import read
from worker.postgres import connect

PUBLISH_KEY: Final = "0123456789abcdef0123456789abcdef"
CALLERS: Final = 3


async def _to_its_end(_arena: Arena, victim: Victim) -> None:
    """Let a command do what it does."""
    await victim.ended(WITHIN_S)


async def _migrating(arena: Arena) -> Orders:
    name = f"fresh_{os.urandom(4).hex()}"
    await arena.connection.execute(f"CREATE DATABASE {name}")
    return Orders(("migrate",), {"REGISTRATION_DATABASE_URL": url_of(arena.cluster.servers, name)})


async def _migrated(arena: Arena, victim: Victim) -> None:
    """Migrate again, and see that all is there."""
    await _again(arena, victim)
    url = victim.orders.environment["REGISTRATION_DATABASE_URL"]
    connection = await connect(url, "tests")
    try:
        applied = await connection.fetchval("SELECT array_agg(name ORDER BY number) FROM schema_migrations")
    finally:
        await connection.close(timeout=5)
    assert applied == [each.name for each in read()]
    await arena.connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


async def _publishing(arena: Arena) -> Orders:
    file = arena.folder / f"people-{os.urandom(4).hex()}.jsonl"
    people = [commands.body_of(commands.email_of(number)) for number in range(4)]
    file.write_text("".join(json.dumps(each) + "\n" for each in people))
    return Orders(("publish", str(file), "--tenant", commands.TENANT), {"REGISTRATION_PUBLISH_KEY": PUBLISH_KEY})


async def _again(arena: Arena, victim: Victim) -> None:
    """Run the same command again, to its end."""
    with arena.started(Orders(victim.orders.command, victim.orders.environment)) as again:
        assert await again.ended(WITHIN_S), again.output()
        assert again.exit_code == 0, again.output()


async def _tailing(_arena: Arena) -> Orders:
    return Orders(("tail", "--from-start"))


async def _tail(arena: Arena, victim: Victim) -> None:
    """Show events, also those that come."""
    await until(lambda: bool(victim.output()), WITHIN_S)
    await arena.send(PEOPLE)
    await asyncio.sleep(0.5)


async def _verifying(_arena: Arena) -> Orders:
    return Orders(("verify", "--json", "--settle-s", "0"))


async def _ingress(arena: Arena) -> Orders:
    return Orders(("ingress",), arena.calls.settings())


async def _call(arena: Arena, victim: Victim) -> None:
    """Register people, read, send nonsense; then be told to end while others are being registered."""
    calls, running = arena.calls, lambda: victim.running
    calls.more(CALLERS)
    async with calls.client() as client:
        await calls.listening(client, running)
        await asyncio.gather(calls.register_all(client, running), calls.look_around(client))
        calls.more(CALLERS)
        last = asyncio.create_task(calls.register_all(client, running))
        try:
            await asyncio.sleep(0.03)  # they are being read, checked and hashed, which nothing tells
            victim.signal(signal.SIGTERM)
            await last
        finally:
            last.cancel()


async def _answered(arena: Arena, _victim: Victim) -> None:
    """Have a whole ingress answer all who were not."""
    with arena.started(await _ingress(arena)) as ingress:
        async with arena.calls.client() as client:
            await arena.calls.listening(client, lambda: ingress.running)
            await asyncio.wait_for(arena.calls.register_all(client, lambda: ingress.running), WITHIN_S)


async def _ingress_by_url(arena: Arena) -> Orders:
    return Orders(("ingress",), arena.calls.settings_by_url())


def _ingress_with(**settings: str) -> Callable[[Arena], Awaitable[Orders]]:
    """Return how to order an ingress with settings of its own."""

    async def orders(arena: Arena) -> Orders:
        own = {f"REGISTRATION_{name.upper()}": value for name, value in settings.items()}
        return Orders(("ingress",), {**arena.calls.settings(), **own})

    return orders


async def _at_rest(arena: Arena, victim: Victim) -> None:
    """Have nobody call for as long as it takes to read everything anew."""
    async with arena.calls.client() as client:
        await arena.calls.listening(client, lambda: victim.running)
        await asyncio.sleep(FILE_INTERVAL_S + 1)


async def _call_late(arena: Arena, victim: Victim) -> None:
    """Send a body so slowly that the ingress is told to end, and has had its time to, before it is there."""
    async with arena.calls.client() as client:
        await arena.calls.listening(client, lambda: victim.running)
        sending = asyncio.create_task(arena.calls.send_slowly(client))
        try:
            await asyncio.sleep(0.2)  # it waits for the body, which nothing tells
            victim.signal(signal.SIGTERM)
            await victim.ended(WITHIN_S)
        finally:
            sending.cancel()
            await asyncio.wait({sending})


async def _call_in_vain(arena: Arena, victim: Victim) -> None:
    """Call an ingress that can take nothing in."""
    async with arena.calls.client() as client:
        await arena.calls.listening(client, lambda: victim.running)
        await asyncio.sleep(1.2)  # it tries again, without a word
        await arena.calls.look_around(client)


OF_OTHERS: Final = (
    Scene("ingress", _ingress, _call, _answered, beside=True),
    Scene("ingress-by-url", _ingress_by_url, _call, _answered, beside=True),
    Scene("ingress-no-kafka", _ingress_with(kafka_bootstrap=NOWHERE), _call_in_vain),
    Scene("ingress-no-database", _ingress_with(database_url=f"postgresql://{NOWHERE}/none"), _call_in_vain),
    Scene("ingress-late", _ingress_with(drain_timeout_s="1"), _call_late),
    Scene("ingress-at-rest", _ingress, _at_rest),
    Scene("migrate", _migrating, _to_its_end, _migrated),
    Scene("publish", _publishing, _to_its_end, _again),
    Scene("tail", _tailing, _tail),
    Scene("verify", _verifying, _to_its_end),
)
"""The quick ones first: the first that leads to a point is chosen for it."""
