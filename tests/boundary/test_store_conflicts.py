"""Who is first, what repeats, and what two lanes do to each other."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from schemas.base import header
from tests import commands
from tests.boundary.conditions import until
from tests.boundary.databases import Home
from tests.boundary.places import REFUSED, REGISTERED, SEALER, Place, held, read_of, statuses, waiting
from tests.servers import Servers
from worker import messages, store
from worker.errors import TooSlowError, UnavailableError
from worker.messages import EVENT, LETTER
from worker.registration import Tie, Verdict
from worker.store import StaleError


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
    theirs = place.accept(email, 1, registrationId=registration)._replace(
        customer_id="cust_other", tie=Tie("another-tenant", registration)
    )
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
    done = await place.settle(*(v._replace(record=replace(read_of(v), offset=v.record.offset + 2)) for v in (accepted, rejected)))

    assert (done.repeated, done.differing, done.outgoing) == (2, 0, [])
    assert [await place.outcome(each.tie.registration_id) for each in (accepted, rejected)] == outcomes
    assert await place.outbox() == [(0, EVENT), (1, EVENT)]


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


async def test_of_two_lanes_with_one_email_the_first_to_commit_gets_it(
    place: Place, other: Place, home: Home, servers: Servers
) -> None:
    """
    The second waits for the first's transaction, begins anew, sees what was committed, and refuses.

    No constraint is violated on the way: the server would write the email into its log.
    """
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
    assert "customers_email_unique" not in servers.postgres.log.read_text()


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


async def test_a_batch_whose_keys_others_keep_taking_is_halved(place: Place, home: Home) -> None:
    """
    It is nobody's fault: smaller batches meet fewer others, and no record becomes a dead letter.

    The index may have any name: REINDEX and shards give it others.
    """
    accepted = place.accept(commands.email_of("race"), 0)
    await home.connection.execute(
        "CREATE FUNCTION taken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE unique_violation USING CONSTRAINT = 'registrations_pk_102008'; END $$;"
        " CREATE TRIGGER taken BEFORE INSERT ON registrations FOR EACH ROW EXECUTE FUNCTION taken()"
    )
    try:
        with pytest.raises(TooSlowError, match="time after time"):
            await place.settle(accepted)
    finally:
        await home.connection.execute("DROP FUNCTION taken CASCADE")

    assert await place.outcome(accepted.tie.registration_id) is None
    assert (await place.settle(accepted)).accepted == 1


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
