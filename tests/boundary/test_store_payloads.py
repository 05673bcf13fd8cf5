"""What is kept of a dead letter, and data that can't be stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from tests import commands
from tests.boundary.databases import Home
from tests.boundary.places import SEALER, TABLES, Place, counts, read_of
from tests.records import SNAPSHOT, record, verdict_of
from worker import messages, store
from worker.errors import UnstorableError
from worker.messages import LETTER
from worker.registration import Rejected, examine

MARK: Final = "Zq7wXk-marker"


async def everywhere(home: Home, text: str) -> list[str]:
    """Return the tables that hold a text anywhere in a row, plain or as the hexadecimal of its bytes."""
    found = []
    for table in TABLES:
        hit = await home.connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {table} AS t WHERE position($1 in t::text) > 0 OR position($2 in t::text) > 0)",
            text,
            text.encode().hex(),
        )
        if hit:
            found.append(table)
    return found


async def test_the_payload_of_a_dead_letter_is_nowhere_in_plain(place: Place, home: Home) -> None:
    """Neither in the outbox nor with the dead letters: key, value and headers are one sealed box each."""
    read = record(f"{MARK} no JSON".encode(), offset=0, topic=place.partition.topic, headers=commands.headers(x=MARK.encode()))
    verdict = examine(replace(read, key=MARK.encode()), SNAPSHOT, fresh=True)
    done = await place.settle(verdict)
    box = await home.connection.fetchval("SELECT sealed FROM dead_letters WHERE topic = $1", place.partition.topic)

    assert await everywhere(home, MARK) == []
    assert await everywhere(home, place.partition.topic) == ["outbox", "dead_letters", "kafka_offsets"]
    assert messages.unpack(SEALER.open(box, store.box_place(place.partition, 0))) == done.outgoing[0].message
    assert done.outgoing[0].message.value == f"{MARK} no JSON".encode()


async def test_a_plaintext_password_is_not_even_sealed(place: Place, home: Home) -> None:
    """Its dead letter holds coordinates only, and its registration fails."""
    registration = commands.registration_id()
    letter = place.letter(commands.data(f"{MARK}@example.com", password=MARK, registrationId=registration), 0)
    done = await place.settle(letter)
    [left] = await store.leftover(place.database, place.partition, SEALER)

    assert await home.connection.fetchval("SELECT sealed IS NULL FROM dead_letters WHERE topic = $1", place.partition.topic)
    assert (left.message.key, left.message.value) == (None, None)
    assert left == done.outgoing[0]
    assert await place.outcome(registration) == ("FAILED", "password.plaintext", 0)
    assert await everywhere(home, MARK) == []


async def test_a_refused_customer_leaves_no_personal_data(place: Place, home: Home) -> None:
    """Reasons are kept, the body is not."""
    customer = commands.customer(f"{MARK}@example.com") | {"firstName": MARK, "phone": MARK}
    verdict = verdict_of("", offset=0, topic=place.partition.topic, customer=customer)
    assert isinstance(verdict, Rejected)
    await place.settle(verdict)
    problem = await home.connection.fetchval(
        "SELECT problem FROM registrations WHERE registration_id = $1", verdict.tie.registration_id
    )

    assert "phone.not_e164" in problem
    assert await everywhere(home, MARK) == []


async def test_a_dead_letter_of_a_topic_made_anew_replaces_the_one_at_its_offset(place: Place, home: Home) -> None:
    """Offsets count again from the start; the newer record is the one that can still be looked at."""
    await place.settle(place.letter(b"{", 0))
    await place.claim()
    await store.begin_anew(place.database, place.partition, place.owner, 0)
    place.next_offset = 0
    await store.delete(place.database, place.partition, place.owner, [(0, LETTER)])
    newer = place.letter(b"[]", 0)
    await place.settle(newer)
    row = await home.connection.fetchrow("SELECT code, sealed FROM dead_letters WHERE topic = $1", place.partition.topic)

    assert row is not None
    assert row["code"] == "schema.invalid"
    assert messages.unpack(SEALER.open(row["sealed"], store.box_place(place.partition, 0))) == messages.letter(newer).message


@pytest.mark.parametrize("fingerprint", ["a\0b", "\0"])
async def test_text_that_postgresql_can_not_hold_refuses_the_batch_whole(place: Place, home: Home, fingerprint: str) -> None:
    """Nothing of it is there, and the fence has not moved: the lane divides it to find the record."""
    before = await counts(home)
    good = place.accept(commands.email_of("good"), 0)
    with pytest.raises(UnstorableError, match="22"):
        await place.settle(good, place.accept(commands.email_of("bad"), 1, fingerprint=fingerprint))

    assert await counts(home) == before
    assert (await place.settle(good)).accepted == 1


async def test_times_at_the_ends_of_the_calendar_are_the_records_fault(place: Place) -> None:
    """A sender's time zone may carry its time beyond what a driver can send."""
    for text in ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"):
        with pytest.raises(UnstorableError):
            await place.settle(place.accept(commands.email_of("time"), 0, requestedAt=text))


async def test_a_customer_that_conflicts_and_not_by_email_is_no_email_taken(place: Place) -> None:
    """Its id is another's: that can't be stored, and must not be told as somebody else's email."""
    verdict = place.accept(commands.email_of("owner"), 0)
    await place.settle(verdict)
    thief = place.accept(commands.email_of("thief"), 1)._replace(customer_id=verdict.customer_id)
    with pytest.raises(UnstorableError):
        await place.settle(thief)

    assert await place.outcome(thief.tie.registration_id) is None


async def test_a_batch_of_nothing_but_repeats_is_done_in_time(place: Place) -> None:
    """A client that sends one registration 500 times holds its partition up, and does not stop it."""
    registration, email = commands.registration_id(), commands.email_of("storm")
    accepted = place.accept(email, 0, registrationId=registration)
    done = await place.settle(*(accepted._replace(record=replace(read_of(accepted), offset=offset)) for offset in range(500)))

    assert (done.accepted, done.repeated) == (1, 499)
