"""Facts that are told again: the same bytes, key, headers and id, in their order, from what the database holds."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from schemas.base import Headers, header
from tests import commands
from tests.boundary.tracks import Track, tracked, working
from tests.conftest import World
from worker.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from worker.kafka import OutMessage
from worker.operate import republish
from worker.operate.republish import Republished

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@pytest.fixture
async def track(world: World, logged: io.StringIO) -> AsyncIterator[Track]:
    """A topic with a database of its own, so that all facts there are this test's."""
    async with tracked(world, logged) as made:
        yield made


def facts(track: Track) -> list[OutMessage]:
    """Return commands that come to every kind of fact: names of many scripts, a refusal with and without faults, a trace."""
    email = commands.email_of("republish")
    customer = commands.customer(email)
    traced = track.command(customer=customer)
    prohibited = {**commands.customer(commands.email_of("two")), "categorization": {"id": "nobody knows it"}}
    return [
        replace(traced, headers=[*traced.headers, ("traceparent", TRACE)]),
        track.command(customer=customer),
        track.command(customer={}),
        track.command(customer=prohibited),
        track.command(),
        track.bad(),
    ]


def untraced(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Leave out what belongs to one delivery."""
    return [(name, value) for name, value in headers if name != "traceparent"]


async def send(track: Track, since: datetime, until: datetime | None = None, *, stop: asyncio.Event | None = None) -> Republished:
    """Tell facts again; where `stop` is given, until the first page is sent."""
    return await republish.republish(
        track.world.settings,
        since,
        until,
        stop or asyncio.Event(),
        producer=track.producer,
        progress=lambda *_: stop.set() if stop else None,
    )


async def decided(track: Track) -> list[datetime]:
    """Return when each outcome was decided, by offset."""
    rows = await track.world.connection.fetch("SELECT decided_at FROM registrations ORDER BY command_offset")
    return [row["decided_at"] for row in rows]


async def test_facts_are_told_again_byte_for_byte_in_their_order(track: Track) -> None:
    """Registered and rejected; what FAILED or became a dead letter is no fact. Once more by an empty time: nothing."""
    await track.make()
    await track.send(*facts(track))
    async with working(track):
        await track.done()
    first = {header(event.headers, "ce_id"): event for event in await track.events()}
    times = await decided(track)
    await track.begin()
    done = await send(track, times[0])
    again = await track.events()
    rows = await track.world.connection.fetch("SELECT registration_id, command_offset FROM registrations")
    offsets = {row["registration_id"]: row["command_offset"] for row in rows}
    told = [(event.partition, offsets[json.loads(event.value or b"")["registrationId"]]) for event in again]
    nothing = await send(track, times[-1] + timedelta(seconds=1))
    before = await send(track, times[0] - timedelta(days=1), times[0])

    assert len(first) == 5
    assert (done.facts, done.sent, done.gone, done.exit_code) == (5, 5, 0, EXIT_DONE)
    assert {header(event.headers, "ce_id") for event in again} == set(first)
    assert [offset for _, offset in told] == [offset for _, offset in sorted(told)]
    for event in again:
        one = first[header(event.headers, "ce_id")]
        assert (event.key, event.value, list(event.headers)) == (one.key, one.value, untraced(one.headers))
    assert sum(TRACE in dict(event.headers).values() for event in first.values()) == 1
    assert (nothing.sent, before.sent) == (0, 0)


async def test_ctrl_c_ends_it_between_two_pages_and_says_where_to_go_on(track: Track) -> None:
    """Each page waits for its acknowledgement; the rest follows by the time that was said, also where facts share a moment."""
    count = republish.PAGE_ROWS + 40
    await track.make()
    await track.send(*(track.command(customer={}) for _ in range(count)))
    async with working(track, breaker_run=10_000):
        await track.done()
    [since, *_] = await decided(track)
    first = await send(track, since, stop=asyncio.Event())
    assert first.reached is not None
    await track.begin()
    rest = await send(track, first.reached)
    offsets = await track.world.connection.fetch("SELECT registration_id, command_offset FROM registrations")
    unsent = {row["registration_id"] for row in offsets if row["command_offset"] >= republish.PAGE_ROWS}

    assert (first.sent, first.exit_code) == (republish.PAGE_ROWS, EXIT_INTERRUPTED)
    assert f"go on with --from {first.reached.isoformat()}" in first.text()
    assert rest.exit_code == EXIT_DONE
    assert unsent <= {header(event.headers, "ce_subject") for event in await track.events()}


async def test_what_the_database_no_longer_holds_is_said_to_be_missing(track: Track) -> None:
    """A customer whose rows are gone can't be told of again; the others are."""
    await track.make()
    await track.send(track.command(), track.command())
    async with working(track):
        await track.done()
    [since, _] = await decided(track)
    await track.world.connection.execute("DELETE FROM decisions WHERE customer_id = (SELECT min(customer_id) FROM decisions)")
    done = await send(track, since)

    assert (done.facts, done.sent, done.gone, done.exit_code) == (2, 1, 1, EXIT_FAILED)
    assert "1 can't be told again" in done.text()
