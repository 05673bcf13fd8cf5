"""`outbox drain`: what nobody publishes is published, what somebody owns is left to them; and since when a partition stands."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

from schemas.base import header
from schemas.commands import COMMANDS_TOPIC
from schemas.dead_letters import DEAD_LETTERS_TOPIC, DeadLetter
from schemas.events import EVENTS_TOPIC
from tests.boundary import topics
from tests.boundary.places import SEALER, Place
from tests.boundary.shown import shown
from tests.boundary.tracks import Track, leave_in_outbox, working
from tests.commands import email_of
from tests.conftest import World, settings_of
from tests.servers import Servers
from worker import app, store
from worker.kafka import Partition, Producer
from worker.operate import outbox, partitions
from worker.operate.outbox import Drained
from worker.operate.progress import silent
from worker.settlement import Settled


async def leave(place: Place, *, age_s: int = 120) -> Settled:
    """Commit an event and a dead letter that nobody publishes."""
    settled = await place.settle(place.accept(email_of("outbox"), 0), place.letter(b"{", 1))
    await place.home.connection.execute(
        "UPDATE outbox SET stored_at = now() - make_interval(secs => $2) WHERE command_topic = $1", place.partition.topic, age_s
    )
    return settled


async def drain(servers: Servers, place: Place, producer: Producer, stop: asyncio.Event | None = None) -> list[Drained]:
    """Drain the partition of a place."""
    return await outbox.drain(
        settings_of(servers, place.home.url, group=place.partition.topic),
        stop or asyncio.Event(),
        producer=producer,
        progress=silent,
        topic=place.partition.topic,
    )


async def owner(place: Place) -> object:
    """Return who has the partition."""
    return await place.home.connection.fetchval("SELECT owner FROM kafka_offsets WHERE topic = $1", place.partition.topic)


async def test_what_nobody_publishes_is_published_as_it_was_committed(servers: Servers, place: Place, producer: Producer) -> None:
    """Events and sealed dead letters; then nothing is left, and a second drain finds nothing to do."""
    settled = await leave(place)
    [drained] = await drain(servers, place, producer)
    again = await drain(servers, place, producer)
    found = await topics.records(servers.kafka.bootstrap, EVENTS_TOPIC)
    letters = await topics.records(servers.kafka.bootstrap, DEAD_LETTERS_TOPIC)
    [event, letter] = [item.message for item in settled.outgoing]

    assert (drained.sent, drained.done, again) == (2, True, [])
    assert await place.outbox() == []
    mine = [record for record in found if header(record.headers, "ce_id") == header(event.headers, "ce_id")]
    assert [(r.key, r.value, tuple(r.headers)) for r in mine] == [(event.key, event.value, tuple(event.headers))]
    dead = [r for r in letters if DeadLetter.from_headers(r.headers).dl_topic == place.partition.topic]
    assert [(r.key, r.value, tuple(r.headers)) for r in dead] == [(letter.key, letter.value, tuple(letter.headers))]


async def test_the_old_owner_can_write_no_more_after_a_drain(servers: Servers, place: Place, producer: Producer) -> None:
    """A drain is a claim: whoever slept under the claim before is fenced, as by any other owner."""
    await leave(place)
    before = await owner(place)
    await drain(servers, place, producer)

    assert before == place.owner
    assert await owner(place) != before


async def test_messages_that_are_not_old_are_left_alone(servers: Servers, place: Place, producer: Producer) -> None:
    """A worker between COMMIT and its next batch leaves them for a moment."""
    await leave(place, age_s=20)

    assert await drain(servers, place, producer) == []
    assert await owner(place) == place.owner
    assert len(await place.outbox()) == 2


async def test_a_partition_that_a_worker_has_is_left_to_it(track: Track) -> None:
    """Whatever lies in its outbox: the claim stays, the rows stay, and who asked is told why."""
    await track.make()
    await track.send(track.command())
    async with working(track) as worker:
        await track.at(1)
        event = (await track.events())[0]
        await leave_in_outbox(track.world, track.world.topic, event, offset=99)  # beyond the position, so the lane leaves it too
        await track.world.connection.execute(
            "UPDATE outbox SET stored_at = now() - interval '1 hour' WHERE command_topic = $1", track.world.topic
        )
        before = await track.row()
        [drained] = await outbox.drain(
            track.world.settings.model_copy(update={"group": track.world.topic}),
            asyncio.Event(),
            producer=track.producer,
            progress=silent,
            topic=track.world.topic,
        )
        after = await track.row()
        await worker.waits_for(None)

    assert (drained.sent, drained.done) == (0, False)
    assert "a worker has it" in drained.text
    assert (after["owner"], after["claimed_at"]) == (before["owner"], before["claimed_at"])
    assert await track.count("outbox", "command_topic") == 1
    assert not track.said("lane.fenced")


async def test_a_worker_that_claims_meanwhile_keeps_what_it_claimed(place: Place, producer: Producer) -> None:
    """Between the look at the owners and the claim another owner came: nothing is sent, nothing is deleted."""
    await leave(place)
    seen = uuid4()
    sweep = outbox._Sweep(place.database, SEALER, producer, place.partition, asyncio.Event())
    drained = await sweep.run(seen, 2, silent)

    assert (drained.sent, drained.done) == (0, False)
    assert await owner(place) == place.owner
    assert len(await place.outbox()) == 2


async def test_an_interrupted_drain_leaves_the_rest_as_it_is(servers: Servers, place: Place, producer: Producer) -> None:
    """Told to stop before it begins, it claims nothing."""
    await leave(place)
    stop = asyncio.Event()
    stop.set()
    [drained] = await drain(servers, place, producer, stop)

    assert (drained.sent, drained.done) == (0, False)
    assert await owner(place) == place.owner


# --- since when a partition stands where it stands ------------------------------------------------------------------------


async def test_since_when_a_partition_stands_there_changes_with_its_position_alone(place: Place) -> None:
    """A claim, an order and a look leave it; a batch does not. Whichever release of the worker moves it."""

    async def row() -> Any:  # noqa: ANN401 - a row
        return await place.home.connection.fetchrow("SELECT * FROM kafka_offsets WHERE topic = $1", place.partition.topic)

    first = await row()
    await place.claim()
    await place.home.connection.execute("UPDATE kafka_offsets SET skip_offset = 3 WHERE topic = $1", place.partition.topic)
    ordered = await row()
    await place.settle(place.letter(b"{", 0))
    moved = await row()

    assert ordered["moved_at"] == first["moved_at"]
    assert ordered["claimed_at"] > first["claimed_at"]
    assert moved["moved_at"] > ordered["claimed_at"]


async def test_partitions_shows_since_when(world: World) -> None:
    """Beside the position; nothing where nobody has claimed it."""
    database = app.database_of(world.settings, "worker")
    try:
        await store.claim(database, Partition(COMMANDS_TOPIC, 1), uuid4(), 0)
    finally:
        await database.close()
    states = await partitions.partitions(world.settings)
    claimed = states[1]
    assert claimed.since is not None

    assert states[0].since is None
    assert f"{claimed.since:%Y-%m-%d %H:%M:%S}Z" in shown(partitions.render([claimed]))
    assert json.loads(claimed.to_json())["since"] == claimed.since.isoformat()
