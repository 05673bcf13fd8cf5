"""One batch, one transaction: the fence, claims, the outbox."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests import commands
from tests.boundary.databases import Home
from tests.boundary.places import SEALER, Place, counts
from tests.conftest import SEALING_KEYS
from tests.records import SNAPSHOT, record
from worker import settlement, store
from worker.errors import FencedError, UnavailableError
from worker.kafka import Partition
from worker.messages import EVENT, LETTER, Outgoing
from worker.registration import Verdict, examine
from worker.sealing import Sealer
from worker.settlement import Move
from worker.store import Claim, DeleteKey, StaleError


@pytest.mark.parametrize(
    "wrong",
    [{"owner": UUID(int=1)}, {"expected": 0}, {"partition": Partition("nobody", 0)}, {"owner": UUID(int=1), "expected": 0}],
)
@pytest.mark.parametrize("deletes", [[], [(0, EVENT)]], ids=["nothing to delete", "something to delete"])
async def test_a_batch_whose_fence_does_not_hold_writes_nothing(
    place: Place, home: Home, wrong: dict[str, Any], deletes: list[DeleteKey]
) -> None:
    """Another owner, another position, or no such partition: whatever is in the batch, no table has a row more."""
    await place.settle(place.accept(commands.email_of("fence"), 0))
    before = await counts(home)
    batch: list[Verdict] = [
        place.accept(commands.email_of("fence"), 1),
        place.reject(commands.registration_id(), 2),
        place.letter(offset=3),
    ]
    with pytest.raises(StaleError):
        await settlement.settle(place.database, replace(place.move(batch), **wrong), batch, deletes, SEALER)

    assert await counts(home) == before
    assert await place.outbox() == [(0, EVENT)]


async def test_deletes_that_are_not_mine_undo_the_whole_batch(place: Place, home: Home) -> None:
    """The fence is asked again with the deletes: both under one owner, or neither."""
    await place.settle(place.accept(commands.email_of("fence"), 0))
    stolen = replace(place, owner=uuid4())
    before = await counts(home)
    with pytest.raises(StaleError):
        await stolen.settle(place.accept(commands.email_of("fence"), 1), deletes=[(0, EVENT)])

    assert await counts(home) == before


async def test_a_batch_moves_the_position_and_remembers_its_last_record(place: Place) -> None:
    """From there the next owner goes on; a skip that was passed is done; a resume stays until its lane has seen it."""
    await place.home.connection.execute(
        "UPDATE kafka_offsets SET resume_at_offset = 0, skip_offset = 5 WHERE topic = $1", place.partition.topic
    )
    accepted = place.accept(commands.email_of("move"), 3)
    await settlement.settle(place.database, Move(place.partition, place.owner, 0, 4, 3, b"three", 2), [accepted], [], SEALER)
    claim = await place.claim()

    assert claim == Claim(4, 3, b"three", 2, 0, 5)
    await settlement.settle(place.database, Move(place.partition, place.owner, 4, 6), [], [], SEALER)
    assert await place.claim() == Claim(6, 3, b"three", 0, 0, None)


async def test_a_claim_begins_where_the_row_says_or_at_the_logs_start(place: Place) -> None:
    """A partition without a row begins at the start that the log has now."""
    fresh = Partition(place.partition.topic, 1)
    assert (await store.claim(place.database, fresh, uuid4(), 17)).next_offset == 17

    await place.settle(place.accept(commands.email_of("begin"), 4))
    assert (await store.claim(place.database, place.partition, uuid4(), 17)).next_offset == 5


async def test_beginning_anew_is_for_the_owner_only(place: Place) -> None:
    """Position, digest and orders are set back; whoever lost the partition may not."""
    await place.settle(place.accept(commands.email_of("anew"), 4))
    with pytest.raises(FencedError):
        await store.begin_anew(place.database, place.partition, uuid4(), 0)
    assert (await place.claim()).next_offset == 5

    await store.begin_anew(place.database, place.partition, place.owner, 2)
    assert await place.claim() == Claim(2, None, None, 0, None, None)


async def test_claiming_again_is_for_who_still_owns_it(place: Place) -> None:
    """Under the last owner, or one whose claim was not answered; never after another worker's claim."""
    mine, unanswered, third = place.owner, uuid4(), uuid4()
    claim = await store.claim_again(place.database, place.partition, unanswered, (mine, unanswered))
    assert claim.next_offset == 0
    await store.claim_again(place.database, place.partition, third, (mine, unanswered))
    with pytest.raises(FencedError):
        await store.claim_again(place.database, place.partition, uuid4(), (mine, unanswered))

    await store.claim(place.database, place.partition, uuid4(), 0)
    with pytest.raises(FencedError):
        await store.claim_again(place.database, place.partition, uuid4(), (third,))
    with pytest.raises(FencedError):
        await store.claim_again(place.database, Partition("nobody", 0), uuid4(), (third,))


async def test_an_order_is_taken_once_by_the_owner_that_saw_it(place: Place) -> None:
    """Another owner's look takes nothing away, nor one that saw an earlier order; with it goes the count of dead letters."""
    await place.home.connection.execute(
        "UPDATE kafka_offsets SET resume_at_offset = 4, dead_letter_run = 100 WHERE topic = $1", place.partition.topic
    )
    other = Partition(place.partition.topic, 1)
    for partition, owner, order in ((place.partition, uuid4(), 4), (place.partition, place.owner, 3), (other, place.owner, 4)):
        assert not await store.take_resume(place.database, partition, owner, order)
    assert await place.claim() == Claim(0, None, None, 100, 4, None)

    assert await store.take_resume(place.database, place.partition, place.owner, 4)
    assert not await store.take_resume(place.database, place.partition, place.owner, 4)
    assert await place.claim() == Claim(0, None, None, 0, None, None)


async def test_a_look_tells_what_changed(place: Place) -> None:
    """Position, owner, orders, and a message that was deleted and is back; nothing for a partition without a row."""
    await place.settle(place.accept(commands.email_of("look"), 0), place.accept(commands.email_of("look"), 1))
    found = await store.look(place.database, place.partition, 0)

    assert found is not None
    assert (found.next_offset, found.owner, found.resume_at_offset, found.skip_offset) == (2, place.owner, None, None)
    assert not found.reappeared
    later = await store.look(place.database, place.partition, 1)
    assert later is not None
    assert later.reappeared
    assert await store.look(place.database, Partition("nobody", 0), 0) is None


async def test_a_delete_removes_what_it_names_and_only_for_the_owner(place: Place) -> None:
    """A late delete of a former owner removes nothing: after a failover the key may be another's event."""
    await place.settle(place.accept(commands.email_of("d"), 0), place.letter(offset=1), place.accept(commands.email_of("d"), 2))
    former = place.owner
    await place.claim()
    with pytest.raises(StaleError):
        await store.delete(place.database, place.partition, former, [(0, EVENT)])
    assert await place.outbox() == [(0, EVENT), (1, LETTER), (2, EVENT)]

    await store.delete(place.database, place.partition, place.owner, [(0, EVENT), (1, EVENT), (9, LETTER)])
    assert await place.outbox() == [(1, LETTER), (2, EVENT)]
    await place.settle(place.accept(commands.email_of("d"), 3), deletes=[(1, LETTER), (2, EVENT)])
    assert await place.outbox() == [(3, EVENT)]


async def test_what_is_left_over_comes_back_as_it_was_in_the_order_of_the_log(place: Place) -> None:
    """Events and dead letters, key, value and headers bit for bit, some hundred at a time."""
    odd = record(
        b"\x00\xff no JSON", offset=1, topic=place.partition.topic, headers=[("a", b"\xff\x00"), ("a", None), ("\u00e9", b"")]
    )
    letters = [examine(odd, SNAPSHOT, fresh=True), place.letter(offset=2), _tombstone(place, 3)]
    sent: list[Outgoing] = []
    for first in (0, 300, 600):
        batch: list[Verdict] = [place.accept(commands.email_of(number), first + number) for number in (0, *range(4, 200))]
        if first == 0:
            batch[1:1] = letters
        sent += (await place.settle(*batch)).outgoing
    found: list[Outgoing] = []
    while some := await store.leftover(place.database, place.partition, SEALER):
        assert len(some) <= 500
        found += some
        await store.delete(place.database, place.partition, place.owner, [(out.offset, out.kind) for out in some])

    assert [(out.offset, out.kind, out.message.topic, out.message.key, out.message.value) for out in found] == [
        (out.offset, out.kind, out.message.topic, out.message.key, out.message.value) for out in sent
    ]
    assert [tuple(out.message.headers) for out in found] == [tuple(out.message.headers) for out in sent]


def _tombstone(place: Place, offset: int) -> Verdict:
    """Return the verdict on a record with neither key nor value."""
    read = record(None, offset=offset, topic=place.partition.topic)
    return examine(replace(read, key=None), SNAPSHOT, fresh=True)


async def test_partitions_have_outboxes_of_their_own(place: Place) -> None:
    """Only a partition's owner sweeps it."""
    await place.settle(place.accept(commands.email_of("own"), 0))

    assert await store.leftover(place.database, Partition(place.partition.topic, 1), SEALER) == []


async def test_a_box_without_its_key_is_waited_for(place: Place) -> None:
    """A key that was rotated away too early loses nothing: the lane waits and says so."""
    await place.settle(place.letter(offset=0))
    with pytest.raises(UnavailableError, match="REGISTRATION_SEALING_KEYS"):
        await store.leftover(place.database, place.partition, Sealer(f"later:{SEALING_KEYS.partition(':')[2]}"))

    assert await place.outbox() == [(0, LETTER)]


def test_a_digest_tells_any_two_records_apart() -> None:
    """By key, value and the broker's time; null is not empty, and nothing moves from key to value."""
    read = record(b"value")
    others = [
        replace(read, key=None), replace(read, key=b""), replace(read, value=None), replace(read, value=b""),
        replace(read, key=b"keyv", value=b"alue"), replace(read, key=b"ke", value=b"yvalue"), replace(read, timestamp=0),
        replace(read, timestamp=-1),
    ]  # fmt: skip

    assert len({store.digest(each) for each in (read, *others)}) == len(others) + 1
    assert store.digest(replace(read, offset=8)) == store.digest(read)
