"""One batch, one transaction: the fence, who is first, what repeats, and what is kept of a dead letter."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from schemas.base import header
from tests import commands
from tests.boundary.conditions import until
from tests.boundary.databases import Home, copied
from tests.conftest import SEALING_KEYS
from tests.records import SNAPSHOT, Read, record, verdict_of
from worker import messages, store
from worker.dev.embedded import Stack
from worker.errors import FencedError, UnavailableError, UnstorableError
from worker.kafka import Partition
from worker.messages import EVENT, LETTER, Outgoing
from worker.postgres import Database, connect
from worker.registration import Accepted, DeadLetter, Rejected, Tie, Verdict, examine
from worker.sealing import Sealer
from worker.store import Claim, DeleteKey, Move, Settled, StaleError

SEALER: Final = Sealer(SEALING_KEYS)
TABLES: Final = ("registrations", "customers", "persons", "users", "decisions", "outbox", "dead_letters", "kafka_offsets")


@dataclass
class Place:
    """A partition that a test has to itself."""

    database: Database
    home: Home
    partition: Partition = field(default_factory=lambda: Partition(f"commands.{os.urandom(6).hex()}", 0))
    owner: UUID = field(default_factory=uuid4)
    next_offset: int = 0

    async def claim(self) -> Claim:
        """Take it under a fresh owner."""
        self.owner = uuid4()
        claim = await store.claim(self.database, self.partition, self.owner, 0)
        self.next_offset = claim.next_offset
        return claim

    def move(self, verdicts: Sequence[Verdict]) -> Move:
        """Return the fence of a batch: from where this place is to behind its last record."""
        last = verdicts[-1].record.offset if verdicts else self.next_offset
        return Move(self.partition, self.owner, self.next_offset, last + 1, last, b"digest")

    async def settle(self, *verdicts: Verdict, deletes: Sequence[DeleteKey] = ()) -> Settled:
        """Do a batch, as a lane does."""
        move = self.move(verdicts)
        done = await store.settle(self.database, move, verdicts, deletes, SEALER)
        self.next_offset = move.next_offset
        return done

    def accept(self, email: str, offset: int, **changed: object) -> Accepted:
        """Return the verdict on a good command of this partition."""
        verdict = verdict_of(email, offset=offset, topic=self.partition.topic, **changed)
        assert isinstance(verdict, Accepted)
        return verdict

    def reject(self, registration: str, offset: int) -> Rejected:
        """Return the verdict on an invalid command of this partition."""
        verdict = verdict_of("nobody", offset=offset, topic=self.partition.topic, registrationId=registration)
        assert isinstance(verdict, Rejected)
        return verdict

    def letter(self, value: bytes | dict[str, Any] = b"{", offset: int = 0, **headers: bytes | None) -> DeadLetter:
        """Return the verdict on a record of this partition that can't be processed."""
        read = record(value, offset=offset, topic=self.partition.topic, headers=commands.headers(**headers))
        verdict = examine(read, SNAPSHOT, fresh=True)
        assert isinstance(verdict, DeadLetter)
        return verdict

    def failed(self, registration: str, offset: int) -> DeadLetter:
        """Return a dead letter that belongs to a registration."""
        return self.letter(commands.data("x@example.com", registrationId=registration), offset, ce_type=b"other")

    async def outcome(self, registration: str) -> tuple[str, str | None, int] | None:
        """Return status, code and offset of a registration."""
        row = await self.home.connection.fetchrow(
            "SELECT status, code, command_offset FROM registrations WHERE registration_id = $1", registration
        )
        return (row["status"], row["code"], row["command_offset"]) if row else None

    async def customers_of(self, email: str) -> list[str]:
        """Return the registrations whose customers have that email."""
        rows = await self.home.connection.fetch("SELECT registration_id FROM customers WHERE email = $1", email)
        return [row["registration_id"] for row in rows]

    async def outbox(self) -> list[tuple[int, str]]:
        """Return what is in the outbox of this partition."""
        rows = await self.home.connection.fetch(
            "SELECT command_offset, kind FROM outbox WHERE command_topic = $1 ORDER BY 1, 2", self.partition.topic
        )
        return [(row["command_offset"], row["kind"]) for row in rows]


@pytest.fixture(scope="module")
async def home(servers: Stack, template: str) -> AsyncIterator[Home]:
    """A database for this module."""
    async with copied(servers, template) as made:
        yield made


@pytest.fixture
async def database(home: Home) -> AsyncIterator[Database]:
    """A pool as a worker has it."""
    opened = Database(home.url, connections=4, timeout_s=8, name="registration-worker")
    yield opened
    await opened.close()


@pytest.fixture
async def place(database: Database, home: Home) -> Place:
    """A partition that was claimed."""
    claimed = Place(database, home)
    await claimed.claim()
    return claimed


@pytest.fixture
async def other(database: Database, home: Home) -> Place:
    """Another one."""
    claimed = Place(database, home)
    await claimed.claim()
    return claimed


async def counts(home: Home) -> dict[str, int]:
    """Return how many rows each table has."""
    return {table: await home.connection.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}


def statuses(done: Settled) -> list[tuple[int, str]]:
    """Return offset and type of each message, in the order in which they are published."""
    return [(out.offset, header(out.message.headers, "ce_type") if out.kind == EVENT else "letter") for out in done.outgoing]  # type: ignore[misc]


REGISTERED, REFUSED = "customer.registered.v1", "customer.registration-rejected.v1"


# --- the fence -----------------------------------------------------------------------------------------------------------


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
        await store.settle(place.database, replace(place.move(batch), **wrong), batch, deletes, SEALER)

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
    """From there the next owner goes on; an operator's orders that were passed are done, others stay."""
    await place.home.connection.execute(
        "UPDATE kafka_offsets SET resume_at_offset = 0, skip_offset = 5 WHERE topic = $1", place.partition.topic
    )
    accepted = place.accept(commands.email_of("move"), 3)
    await store.settle(place.database, Move(place.partition, place.owner, 0, 4, 3, b"three", 2), [accepted], [], SEALER)
    claim = await place.claim()

    assert claim == Claim(4, 3, b"three", 2, None, 5)
    await store.settle(place.database, Move(place.partition, place.owner, 4, 6), [], [], SEALER)
    assert await place.claim() == Claim(6, 3, b"three", 0, None, None)


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


# --- who is first --------------------------------------------------------------------------------------------------------


async def test_an_accepted_command_is_one_customer_and_one_event(place: Place) -> None:
    """All its rows, pending and inactive, and the event in the outbox as it will be published."""
    email = commands.email_of("One").replace("person", "Person")
    verdict = place.accept(email, 0)
    done = await place.settle(verdict)
    row = await place.home.connection.fetchrow(
        "SELECT * FROM customers JOIN persons USING (customer_id, tenant_id) JOIN users USING (customer_id, tenant_id)"
        " JOIN decisions USING (customer_id, tenant_id) WHERE customer_id = $1",
        verdict.customer_id,
    )

    assert (done.accepted, done.rejected, done.dead, done.repeated) == (1, 0, 0, 0)
    assert done.outgoing == [messages.registered(verdict)]
    assert await place.outcome(verdict.tie.registration_id) == ("REGISTRATION_COMPLETE", None, 0)
    assert row is not None
    assert (row["email"], row["email_normalized"], row["username"]) == (email, email.lower(), email)
    assert (row["first_name"], row["last_name"], row["nationality"]) == ("Marcus", "Jensen", verdict.approved.applicant.nationality)
    assert (row["is_active"], row["password_hash"]) == (False, commands.PASSWORD_HASH)
    assert row["decision"] == verdict.approved.decision.to_json().decode()
    assert await store.leftover(place.database, place.partition, SEALER) == done.outgoing


async def test_of_one_registration_the_first_by_offset_counts(place: Place) -> None:
    """Within a batch, whatever the later ones say."""
    registration, email = commands.registration_id(), commands.email_of("first")
    done = await place.settle(
        place.accept(email, 0, registrationId=registration),
        place.accept(commands.email_of("second"), 1, registrationId=registration),
        place.reject(registration, 2),
        place.failed(registration, 3),
    )

    assert statuses(done) == [(0, REGISTERED), (3, "letter")]
    assert (done.accepted, done.repeated, done.dead) == (1, 3, 1)
    assert await place.outcome(registration) == ("REGISTRATION_COMPLETE", None, 0)
    assert await place.customers_of(email) == [registration]


async def test_of_one_email_the_first_by_offset_gets_it(place: Place) -> None:
    """The others are refused, with an event each, and leave no customer."""
    email, first, second, third = commands.email_of("same"), *(commands.registration_id() for _ in range(3))
    done = await place.settle(
        place.accept(email, 0, registrationId=first),
        place.accept(email.upper(), 1, registrationId=second),
        place.accept(email, 2, registrationId=third),
    )

    assert statuses(done) == [(0, REGISTERED), (1, REFUSED), (2, REFUSED)]
    assert (done.accepted, done.rejected) == (1, 2)
    assert await place.outcome(second) == ("REJECTED", "email-taken", 1)
    assert await place.outcome(third) == ("REJECTED", "email-taken", 2)
    assert await place.customers_of(email) == [first]
    stored = await place.home.connection.fetchval(
        "SELECT count(*) FROM registrations WHERE registration_id = ANY($1) AND customer_id IS NULL", [second, third]
    )
    assert stored == 2


async def test_an_email_that_has_a_customer_is_taken(place: Place, other: Place) -> None:
    """Whichever partition that one came from."""
    email, second = commands.email_of("taken"), commands.registration_id()
    await place.settle(place.accept(email, 0))
    done = await other.settle(other.accept(email, 0, registrationId=second))

    assert statuses(done) == [(0, REFUSED)]
    assert header(done.outgoing[0].message.headers, "ce_subject") == second
    assert await other.outcome(second) == ("REJECTED", "email-taken", 0)


async def test_tenants_do_not_take_each_others_emails(place: Place) -> None:
    """Nor registrations: nothing is shared by tenants."""
    email, registration = commands.email_of("tenants"), commands.registration_id()
    ours = place.accept(email, 0, registrationId=registration)
    theirs = replace(
        place.accept(email, 1, registrationId=registration), customer_id="cust_other",
        tie=Tie("another-tenant", registration, "evt_other"),
    )  # fmt: skip
    done = await place.settle(ours, theirs)

    assert (done.accepted, done.rejected, done.repeated) == (2, 0, 0)
    assert await place.customers_of(email) == [registration, registration]


async def test_a_replay_of_an_old_refusal_does_not_take_the_email(place: Place) -> None:
    """The first of a batch repeats what was refused long ago, so that its email goes to the second."""
    email, refused, second = commands.email_of("replay"), commands.registration_id(), commands.registration_id()
    await place.settle(place.reject(refused, 0))
    done = await place.settle(
        place.accept(email, 1, registrationId=refused),
        place.accept(email, 2, registrationId=second),
    )

    assert statuses(done) == [(2, REGISTERED)]
    assert (done.accepted, done.repeated, done.rejected) == (1, 1, 0)
    assert await place.outcome(refused) == ("REJECTED", "validation-failed", 0)
    assert await place.customers_of(email) == [second]


async def test_a_repeat_in_the_same_batch_does_not_take_the_email(place: Place) -> None:
    """The second is a repeat of the first under another email: that one is free for the third, two passes later."""
    emails = [commands.email_of("chain") for _ in range(2)]
    first, third = commands.registration_id(), commands.registration_id()
    done = await place.settle(
        place.accept(emails[0], 0, registrationId=first),
        place.accept(emails[1], 1, registrationId=first),
        place.accept(emails[1], 2, registrationId=third),
    )

    assert statuses(done) == [(0, REGISTERED), (2, REGISTERED)]
    assert await place.customers_of(emails[1]) == [third]


async def test_what_is_held_back_holds_back_what_shares_something_with_it(place: Place) -> None:
    """The third has the second's registration, and the second waits for the first's email: it is refused before the third."""
    email, free = commands.email_of("held"), commands.email_of("free")
    first, second = commands.registration_id(), commands.registration_id()
    done = await place.settle(
        place.accept(email, 0, registrationId=first),
        place.accept(email, 1, registrationId=second),
        place.accept(free, 2, registrationId=second),
    )

    assert statuses(done) == [(0, REGISTERED), (1, REFUSED)]
    assert await place.outcome(second) == ("REJECTED", "email-taken", 1)
    assert await place.customers_of(free) == []


async def test_one_that_was_refused_for_its_email_does_not_free_it(place: Place) -> None:
    """A refusal is an outcome: the same registration with a free email is a repeat."""
    email, refused = commands.email_of("owner"), commands.registration_id()
    await place.settle(place.accept(email, 0))
    await place.settle(place.accept(email, 1, registrationId=refused))
    done = await place.settle(place.accept(commands.email_of("free"), 2, registrationId=refused))

    assert (done.accepted, done.rejected, done.repeated, done.outgoing) == (0, 0, 1, [])


async def test_a_repeat_emits_nothing_and_changes_nothing(place: Place) -> None:
    """Delivered again at another offset, by another owner, whatever the outcome was."""
    accepted = place.accept(commands.email_of("again"), 0)
    rejected = place.reject(commands.registration_id(), 1)
    await place.settle(accepted, rejected)
    await place.claim()
    outcomes = [await place.outcome(each.tie.registration_id) for each in (accepted, rejected)]
    done = await place.settle(*(replace(v, record=replace(_read(v), offset=v.record.offset + 2)) for v in (accepted, rejected)))

    assert (done.repeated, done.differing, done.outgoing) == (2, 0, [])
    assert [await place.outcome(each.tie.registration_id) for each in (accepted, rejected)] == outcomes
    assert await place.outbox() == [(0, EVENT), (1, EVENT)]


def _read(verdict: Verdict) -> Read:
    assert isinstance(verdict.record, Read)
    return verdict.record


@pytest.mark.parametrize(
    ("stored", "sent", "differing"), [("1:a", "1:b", 1), ("1:a", "1:a", 0), (None, "1:a", 0), ("1:a", None, 0), (None, None, 0)]
)
async def test_a_repeat_with_another_body_is_counted(place: Place, stored: str | None, sent: str | None, differing: int) -> None:
    """The first to commit wins; fingerprints are compared where both have one."""
    registration, email = commands.registration_id(), commands.email_of("finger")
    await place.settle(place.accept(email, 0, registrationId=registration, fingerprint=stored))
    done = await place.settle(place.accept(commands.email_of("x"), 1, registrationId=registration, fingerprint=sent))

    assert (done.repeated, done.differing) == (1, differing)
    assert await place.customers_of(email) == [registration]


# --- FAILED --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
async def test_failed_is_replaced_by_a_later_command(place: Place, *, together: bool) -> None:
    """It is no outcome: what comes later is decided as if it were the first."""
    accepted, refused = commands.registration_id(), commands.registration_id()
    failures = [place.failed(accepted, 0), place.failed(refused, 1)]
    later: list[Verdict] = [place.accept(commands.email_of("later"), 2, registrationId=accepted), place.reject(refused, 3)]
    if together:
        done = await place.settle(*failures, *later)
        assert (done.accepted, done.rejected, done.dead) == (1, 1, 2)
    else:
        await place.settle(*failures)
        assert await place.outcome(accepted) == ("FAILED", "type.unexpected", 0)
        done = await place.settle(*later)
        assert statuses(done) == [(2, REGISTERED), (3, REFUSED)]

    assert await place.outcome(accepted) == ("REGISTRATION_COMPLETE", None, 2)
    assert await place.outcome(refused) == ("REJECTED", "validation-failed", 3)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
async def test_an_outcome_is_never_replaced_by_failed(place: Place, *, together: bool) -> None:
    """The dead letter is kept and published; the registration keeps what it has."""
    accepted, refused = commands.registration_id(), commands.registration_id()
    first: list[Verdict] = [place.accept(commands.email_of("keep"), 0, registrationId=accepted), place.reject(refused, 1)]
    failures = [place.failed(accepted, 2), place.failed(refused, 3)]
    if together:
        done = await place.settle(*first, *failures)
    else:
        await place.settle(*first)
        done = await place.settle(*failures)

    assert done.dead == 2
    assert [out.kind for out in done.outgoing][-2:] == [LETTER, LETTER]
    assert await place.outcome(accepted) == ("REGISTRATION_COMPLETE", None, 0)
    assert await place.outcome(refused) == ("REJECTED", "validation-failed", 1)


async def test_failed_again_keeps_the_coordinates_of_the_later_record(place: Place) -> None:
    """Whoever waits heeds the failure of the own record only."""
    registration = commands.registration_id()
    await place.settle(place.failed(registration, 0))
    done = await place.settle(place.failed(registration, 1))

    assert done.dead == 1
    assert await place.outcome(registration) == ("FAILED", "type.unexpected", 1)


# --- two lanes at once ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def held(home: Home, table: str) -> AsyncIterator[None]:
    """Keep others from writing to a table for the length of a block: it stops a transaction at a place of our choosing."""
    holder = await connect(home.url, "tests-holder")
    try:
        await holder.execute(f"BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE")
        yield
    finally:
        await holder.close()


async def waiting(home: Home, kind: str) -> int | None:
    """Return the process of a worker's session that waits for such a lock."""
    found: int | None = await home.connection.fetchval(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = $1"
        " AND application_name = 'registration-worker'",
        kind,
    )
    return found


async def test_of_two_lanes_with_one_email_the_first_to_commit_gets_it(place: Place, other: Place, home: Home) -> None:
    """The second waits for the first's transaction, sees in a later statement what it committed, and refuses."""
    email, first, second = commands.email_of("lanes"), commands.registration_id(), commands.registration_id()
    async with held(home, "outbox"):
        ahead = asyncio.create_task(place.settle(place.accept(email, 0, registrationId=first)))
        await until(lambda: waiting(home, "relation"), "the first has its customer and waits with the outbox")
        behind = asyncio.create_task(other.settle(other.accept(email, 0, registrationId=second)))
        await until(lambda: waiting(home, "transactionid"), "the second waits for the first")

    assert statuses(await ahead) == [(0, REGISTERED)]
    assert statuses(await behind) == [(0, REFUSED)]
    assert await place.customers_of(email) == [first]
    assert await other.outcome(second) == ("REJECTED", "email-taken", 0)


async def test_of_two_lanes_the_second_gets_the_email_where_the_first_is_ended(place: Place, other: Place, home: Home) -> None:
    """What was not committed takes nothing from anybody."""
    email, first, second = commands.email_of("ended"), commands.registration_id(), commands.registration_id()
    async with held(home, "outbox"):
        ahead = asyncio.create_task(place.settle(place.accept(email, 0, registrationId=first)))
        pid = await until(lambda: waiting(home, "relation"), "the first waits with the outbox")
        behind = asyncio.create_task(other.settle(other.accept(email, 0, registrationId=second)))
        await until(lambda: waiting(home, "transactionid"), "the second waits for the first")
        await home.connection.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        with pytest.raises(UnavailableError):
            await ahead

    assert statuses(await behind) == [(0, REGISTERED)]
    assert await place.outcome(first) is None
    assert await place.customers_of(email) == [second]


async def test_of_two_lanes_with_one_registration_the_second_repeats(place: Place, other: Place, home: Home) -> None:
    """An upstream service that changed its key sends the same registration to two partitions."""
    registration, email = commands.registration_id(), commands.email_of("both")
    async with held(home, "outbox"):
        ahead = asyncio.create_task(place.settle(place.accept(email, 0, registrationId=registration)))
        await until(lambda: waiting(home, "relation"), "the first waits with the outbox")
        behind = asyncio.create_task(other.settle(other.accept(email, 0, registrationId=registration)))
        await until(lambda: waiting(home, "transactionid"), "the second waits for the first")

    assert (await ahead).accepted == 1
    done = await behind
    assert (done.repeated, done.outgoing) == (1, [])


async def test_lanes_with_the_same_people_in_opposite_order_never_wait_in_a_circle(place: Place, other: Place) -> None:
    """Rows go in sorted by key: whoever comes second waits, and nobody is ended for a deadlock."""
    for turn in range(3):
        emails = [commands.email_of(f"circle{number}") for number in range(60)]
        registrations = [commands.registration_id() for _ in emails]
        start = turn * len(emails)
        pairs = list(zip(emails, registrations, strict=True))
        batches = [
            [where.accept(email, start + at, registrationId=registration) for at, (email, registration) in enumerate(order)]
            for where, order in ((place, pairs), (other, pairs[::-1]))
        ]
        one, two = await asyncio.gather(place.settle(*batches[0]), other.settle(*batches[1]))

        assert one.accepted + two.accepted == len(emails)
        assert one.repeated + two.repeated == len(emails)


async def test_a_claim_waits_for_a_batch_in_flight(place: Place, home: Home) -> None:
    """The new owner learns what the old one committed last, finds it in the outbox, and the old one is fenced."""
    old = replace(place)
    async with held(home, "outbox"):
        settling = asyncio.create_task(old.settle(place.accept(commands.email_of("flight"), 0)))
        await until(lambda: waiting(home, "relation"), "the batch waits with the outbox")
        claiming = asyncio.create_task(place.claim())
        await until(lambda: waiting(home, "transactionid"), "the claim waits for the batch")

    done = await settling
    assert (await claiming).next_offset == 1
    assert await store.leftover(place.database, place.partition, SEALER) == done.outgoing
    with pytest.raises(StaleError):
        await old.settle(place.accept(commands.email_of("flight"), 1))


# --- the outbox ----------------------------------------------------------------------------------------------------------


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
    read.key = None
    return examine(read, SNAPSHOT, fresh=True)


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


# --- dead letters at rest ------------------------------------------------------------------------------------------------

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
    read.key = MARK.encode()
    verdict = examine(read, SNAPSHOT, fresh=True)
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


# --- data that can't be stored -------------------------------------------------------------------------------------------


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
    thief = replace(place.accept(commands.email_of("thief"), 1), customer_id=verdict.customer_id)
    with pytest.raises(UnstorableError):
        await place.settle(thief)

    assert await place.outcome(thief.tie.registration_id) is None


async def test_a_batch_of_nothing_but_repeats_is_done_in_time(place: Place) -> None:
    """A client that sends one registration 500 times holds its partition up, and does not stop it."""
    registration, email = commands.registration_id(), commands.email_of("storm")
    accepted = place.accept(email, 0, registrationId=registration)
    done = await place.settle(*(replace(accepted, record=replace(_read(accepted), offset=offset)) for offset in range(500)))

    assert (done.accepted, done.repeated) == (1, 499)


# --- digests -------------------------------------------------------------------------------------------------------------


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
