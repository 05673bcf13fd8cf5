"""Dead letters for operators: listed, shown without a word of anybody's, revealed by name, and sent again once."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import asyncpg
import pytest

from schemas.base import header
from tests import commands
from tests.boundary import topics
from tests.boundary.conditions import until
from tests.boundary.shown import shown
from tests.boundary.tracks import Track, publish, tracked, working
from tests.commands import registration_id
from tests.conftest import World
from worker.__main__ import cli
from worker.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, UnstorableError
from worker.kafka import OutMessage, Record
from worker.operate import dead_letters, dead_letters_redrive
from worker.operate.dead_letters import LetterId
from worker.operate.dead_letters_masked import LINES_MAX, masked
from worker.operate.dead_letters_redrive import LOCK, REDRIVE_OF, BusyError, Choice, NothingChosenError, Plan, Redriven, marked
from worker.operate.progress import silent
from worker.postgres import connect

CANARY: Final = "Zebulon-Quixote"
NEW_BANK: Final = "new-bank"
"""A tenant whose catalogue is published only after its first commands have come."""
ALL: Final = Choice(everything=True)
HOLD: Final = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END';
CREATE TRIGGER wait BEFORE UPDATE ON dead_letter_redrives FOR EACH ROW EXECUTE FUNCTION wait();
SELECT pg_advisory_lock(1)
"""
"""Keeps a redrive from noting what it has sent, until the lock is given up."""


@pytest.fixture
async def track(world: World, logged: io.StringIO) -> AsyncIterator[Track]:
    """A topic with a database of its own, so that all dead letters there are this test's."""
    async with tracked(world, logged) as made:
        yield made


async def plan(track: Track, choice: Choice = ALL) -> Plan:
    """Freeze a set."""
    return await dead_letters_redrive.plan(track.world.settings, choice, asyncio.Event(), silent)


async def redrive(track: Track, made: Plan) -> Redriven:
    """Send what was planned."""
    return await dead_letters_redrive.redrive(
        track.world.settings, made, asyncio.Event(), by="tests", producer=track.producer, progress=silent
    )


async def work(track: Track, *sent: OutMessage, **changed: object) -> None:
    """Let a worker do all that there is."""
    if sent:
        await track.send(*sent)
    async with working(track, **changed):  # type: ignore[arg-type]  # settings
        await track.done()


async def on_topic(track: Track) -> list[Record]:
    """Return every command that there was."""
    return await topics.records(track.bootstrap, track.world.topic)


def place(track: Track, offset: int, partition: int = 0) -> LetterId:
    """Return the id of a dead letter of this topic."""
    return LetterId(track.world.topic, partition, offset)


# --- redrive --------------------------------------------------------------------------------------------------------------


async def test_redriven_registrations_keep_their_ids_and_come_to_what_was_foretold(track: Track) -> None:
    """Commands of a tenant that was not there yet; a bad one becomes another letter, one with a password can't be sent."""
    first, second, third = (registration_id() for _ in range(3))
    email = commands.email_of("taken")
    await track.make()
    await work(
        track,
        track.command(first, tenantId=NEW_BANK, customer=commands.customer(email)),
        track.command(second, tenantId=NEW_BANK),
        track.command(third, tenantId=NEW_BANK, customer=commands.customer(email)),
        track.bad(),
        track.command(tenantId=NEW_BANK, password="Hunter2-Hunter2"),  # noqa: S106 - guards nothing
    )
    assert await track.outcomes() == {}
    await publish(track.world, NEW_BANK)
    made = await plan(track)
    done = await redrive(track, made)
    await work(track)
    again = await plan(track, Choice(ids=tuple(place(track, offset) for offset in range(5))))

    assert {fate: count for (fate, _), count in made.fates.items()} == {"complete": 2, "refused": 1, "fail again": 1}
    assert "2 complete, 1 refused (email-taken 1), 1 fail again (json.malformed 1)" in made.text()
    assert made.withheld == [place(track, 4)]
    assert str(place(track, 4)) in made.text()
    assert (done.sent, done.gone, done.exit_code) == (4, 0, EXIT_DONE)
    assert await track.outcomes() == {first: "REGISTRATION_COMPLETE", second: "REGISTRATION_COMPLETE", third: "REJECTED"}
    assert len(await track.events()) == 3
    assert (again.letters, again.sent_before, again.exit_code) == ([], 4, EXIT_FAILED)
    assert made.exit_code == EXIT_DONE
    assert [letter.id for letter in (await plan(track)).letters] == [place(track, 8)]


async def test_a_second_redrive_sends_nothing_twice_and_a_frozen_set_takes_nothing_in(track: Track) -> None:
    """Neither by the same plan nor by a new one; and a letter that came after the preview waits for the next."""
    await track.make()
    await work(track, track.bad(), track.bad())
    made = await plan(track)
    await work(track, track.bad())
    done = [await redrive(track, made), await redrive(track, made)]
    found = await on_topic(track)

    assert [(each.sent, each.gone, each.is_whole) for each in done] == [(2, 0, True), (0, 2, True)]
    assert [header(record.headers, REDRIVE_OF) for record in found[3:]] == [str(place(track, offset)) for offset in (0, 1)]
    assert [letter.id for letter in (await plan(track)).letters] == [place(track, 2)]


async def test_a_repeat_is_foretold_as_one(track: Track) -> None:
    """A registration that came to its outcome by another command stays as it is."""
    registration = registration_id()
    sent = track.command(registration, tenantId=NEW_BANK)
    await track.make()
    await work(track, sent)
    await publish(track.world, NEW_BANK)
    await work(track, sent)
    made = await plan(track)

    assert await track.outcomes() == {registration: "REGISTRATION_COMPLETE"}
    assert dict(made.fates) == {("repeated", ""): 1}


async def test_a_redriven_record_is_the_original_in_its_order_also_after_ctrl_c(track: Track) -> None:
    """Same key, bytes and headers, and one header more; a signal ends a run between two chunks, and the next does the rest."""
    await track.make(partitions=2)
    for partition in (0, 1):
        await track.send(*(replace(track.bad(), value=b"{%d" % number) for number in range(225)), partition=partition)
    await work(track, breaker_run=10_000)
    before = await on_topic(track)
    await track.world.connection.execute(HOLD)
    process = await command(track.world, "redrive", "--all")
    try:
        await until(lambda: noting(track.world), "its first chunk is sent")
        process.send_signal(signal.SIGINT)
        await track.world.connection.execute("SELECT pg_advisory_unlock(1)")
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    rest = await redrive(track, await plan(track))
    after = await on_topic(track)

    assert process.returncode == EXIT_INTERRUPTED
    assert b"200 sent; run it again for the rest" in out
    assert (rest.sent, rest.is_whole) == (250, True)
    for partition in (0, 1):
        old = [record for record in before if record.partition == partition]
        new = [record for record in after if record.partition == partition][len(old) :]
        marks = [(REDRIVE_OF, str(place(track, record.offset, partition)).encode()) for record in old]
        assert [(r.key, r.value) for r in new] == [(r.key, r.value) for r in old]
        assert [tuple(r.headers) for r in new] == [(*r.headers, mark) for r, mark in zip(old, marks, strict=True)]


async def test_a_letter_whose_fate_is_unknown_is_sent_again_and_changes_nothing(track: Track) -> None:
    """The process is killed after Kafka has it and before that is noted."""
    registration, world = registration_id(), track.world
    await track.make()
    await work(track, track.command(registration, tenantId=NEW_BANK))
    await publish(world, NEW_BANK)
    await world.connection.execute(HOLD)
    process = await command(world, "redrive", "--all", "--json")
    try:
        pid = await until(lambda: noting(world), "it is about to note what it has sent")
    finally:
        process.kill()
        out, _ = await process.communicate()
    await world.connection.execute("SELECT pg_terminate_backend($1)", pid)  # as when its machine died with it
    await until(lambda: gone(world, pid), "its session is gone")
    await world.connection.execute("SELECT pg_advisory_unlock(1)")
    killed_at = len(await on_topic(track))
    done = await redrive(track, await plan(track))
    await work(track)

    assert json.loads(out)["foretold"] == [{"fate": "complete", "code": None, "letters": 1}]
    assert killed_at == 2
    assert (done.sent, len(await on_topic(track))) == (1, 3)
    assert await track.outcomes() == {registration: "REGISTRATION_COMPLETE"}
    assert len(await track.events()) == 1
    assert (await plan(track)).letters == []


async def command(world: World, *arguments: str) -> asyncio.subprocess.Process:
    """Start `registration dead-letters …`."""
    settings = world.settings
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", "dead-letters", *arguments),
        env={
            **os.environ,
            "REGISTRATION_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "REGISTRATION_DATABASE_URL": settings.database_url.get_secret_value(),
            "REGISTRATION_SEALING_KEYS": settings.sealing_keys.get_secret_value(),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def noting(world: World) -> int | None:
    """Return the backend of a redrive that waits to note what it has sent."""
    found: int | None = await world.connection.fetchval(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1 AND wait_event = 'advisory'",
        dead_letters.NAME,
    )
    return found


async def gone(world: World, pid: int | None) -> bool:
    """Say whether a backend has ended."""
    return not await world.connection.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid)


async def test_two_redrives_at_once_are_one(track: Track) -> None:
    """The second is refused before it sends anything: two could change the order of a key."""
    await track.make()
    await work(track, track.bad())
    made = await plan(track)
    other = await connect(track.world.settings.database_url.get_secret_value(), "tests")
    try:
        await other.execute("SELECT pg_advisory_lock($1)", LOCK)
        with pytest.raises(BusyError):
            await redrive(track, made)
    finally:
        await other.close()

    assert len(await on_topic(track)) == 1


def test_an_empty_filter_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody sends everything by leaving something out, also not by an empty variable of a shell."""
    with pytest.raises(NothingChosenError):
        Choice(code="", tenant="")
    code = cli(["dead-letters", "redrive", "--tenant", ""], standalone_mode=False)

    assert code == EXIT_USAGE
    assert "--all" in capsys.readouterr().err


def test_a_record_that_fills_a_message_is_sent_without_the_mark() -> None:
    """Kafka took it as it was, and would not take a byte more."""
    full = OutMessage("t", b"key", bytes(1_048_300), (("a", b"b"),))
    marks = [(REDRIVE_OF, b"of an earlier redrive")]
    small = OutMessage("t", b"key", b"value", (("a", b"b"), *marks))

    assert marked(full, LetterId("t", 0, 7)) == full
    assert marked(small, LetterId("t", 0, 7)).headers == (("a", b"b"), (REDRIVE_OF, b"t-0-7"))


# --- list and show --------------------------------------------------------------------------------------------------------


async def test_a_list_is_of_one_tenant_code_and_age(track: Track) -> None:
    """Another tenant's letters, and those of nobody's, are left out where a tenant is named."""
    await publish(track.world, NEW_BANK)
    other = commands.headers(ce_type=b"other")
    mine, theirs = registration_id(), registration_id()
    await track.make()
    await work(
        track,
        replace(track.command(mine), headers=other),
        replace(track.command(theirs, tenantId=NEW_BANK), headers=other),
        track.bad(),
    )
    settings, hour = track.world.settings, timedelta(hours=1)
    of = [
        await dead_letters.find(settings, **each)
        for each in (
            {"tenant": commands.TENANT},
            {"tenant": NEW_BANK},
            {"tenant": "nobody"},
            {"code": "json.malformed"},
            {"newer_than": hour},
            {"older_than": hour},
            {"most": 2},
        )
    ]
    listed = shown(dead_letters.render(of[4].letters))
    chosen = await plan(track, Choice(tenant=NEW_BANK))

    assert [[letter.registration_id for letter in found.letters] for found in of[:3]] == [[mine], [theirs], []]
    assert [letter.id for letter in of[3].letters] == [place(track, 2)]
    assert [(len(found.letters), found.total) for found in of[4:]] == [(3, 3), (0, 0), (2, 3)]
    assert all(str(place(track, offset)) in listed for offset in range(3))
    assert [letter.id for letter in chosen.letters] == [place(track, 1)]


async def bearing(track: Track) -> LetterId:
    """Make a dead letter with a person's name in every place where a sender can write."""
    data: dict[str, Any] = commands.data(f"{CANARY}@example.com", **{CANARY: [CANARY, {CANARY: CANARY}], "requestedBy": CANARY})
    message = commands.message(data, track.world.topic, ce_type=CANARY.encode(), **{CANARY: CANARY.encode()})
    await track.make()
    await track.producer.send_all([replace(message, key=CANARY.encode())])
    await work(track)
    return place(track, 0)


async def test_what_is_shown_masked_is_nobody_s(track: Track) -> None:
    """Names and lengths of the contract, and not a word that a sender wrote: as a name, a value, a header or a key."""
    which = await bearing(track)
    outlined = await dead_letters.show(track.world.settings, which)
    found = await dead_letters.find(track.world.settings)
    assert outlined is not None
    words = shown(dead_letters.render_shown(outlined)) + outlined.to_json() + shown(dead_letters.render(found.letters))
    words += "".join(letter.to_json() for letter in found.letters) + (await plan(track)).text()

    assert CANARY not in words
    assert "Marcus" not in words
    assert f"/customer/email: text of {len(CANARY) + 12} characters" in words
    assert await revealed(track) == []


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (None, "value: null"),
        (b"", "  no JSON that can be read"),
        (b"\xff\xfe{", "  no JSON that can be read"),
        (b"[" * 100_000, "  no JSON that can be read"),
        (b'{"email":' + b"9" * 5000 + b"}", "  /email: a number"),
        (b'{"Zebulon-Quixote":{"email":"x"}}', "  /(another name)/email: text of 1 characters"),
        (b"[" + b"null," * 100_000 + b"null]", "and more"),
    ],
)
def test_an_outline_is_short_whatever_a_sender_wrote(value: bytes | None, line: str) -> None:
    """Nothing, no JSON, too deep, too long, too many: a few lines, and none of them a sender's."""
    lines = masked(OutMessage("t", CANARY.encode(), value, ((CANARY, CANARY.encode()), ("ce_id", None))))

    assert line in lines
    assert len(lines) <= LINES_MAX + 1
    assert CANARY not in "".join(lines)


async def test_a_letter_is_revealed_after_it_was_noted_who_sees_it_and_why(track: Track) -> None:
    """By whom, when, which and why; what was sent is shown as it was, and the note stays for ever."""
    which = await bearing(track)
    seen = await dead_letters.reveal(track.world.settings, which, by="ada", reason="ticket 4711")
    assert seen is not None
    [row] = await revealed(track)

    assert (row["topic"], row["partition"], row["offset"]) == which
    assert (row["revealed_by"], row["reason"], row["login"]) == ("ada", "ticket 4711", "postgres")
    assert row["revealed_at"] is not None
    assert json.loads(seen.to_json())["revealed"]["key"] == CANARY
    assert CANARY in shown(dead_letters.render_shown(seen))
    for text in (
        "UPDATE dead_letter_reveals SET reason = 'none'",
        "DELETE FROM dead_letter_reveals",
        "TRUNCATE dead_letter_reveals",
    ):
        with pytest.raises(asyncpg.RaiseError):
            await track.world.connection.execute(text)


async def test_nothing_is_revealed_where_it_can_t_be_noted(track: Track) -> None:
    """No reason, or no room in the table for the note: an error, and not a word on the terminal."""
    which = await bearing(track)
    with pytest.raises(UnstorableError):
        await dead_letters.reveal(track.world.settings, which, by="ada", reason=" \t")
    await track.world.connection.execute("ALTER TABLE dead_letter_reveals ADD CONSTRAINT is_full CHECK (false)")
    process = await command(track.world, "show", str(which), "--reveal", "--reason", "ticket 4711")
    out, err = await process.communicate()

    assert process.returncode not in {EXIT_DONE, None}
    assert out == b""
    assert CANARY.encode() not in err
    assert await revealed(track) == []


async def test_what_a_sender_wrote_can_t_steer_a_terminal(track: Track) -> None:
    """Escapes of a terminal are shown as escapes."""
    await track.make()
    await work(track, replace(track.bad(), value=b"\x1b]0;owned\x07{"))
    seen = await dead_letters.reveal(track.world.settings, place(track, 0), by="ada", reason="ticket 4711")
    assert seen is not None

    assert r"\x1b]0;owned\x07{" in shown(dead_letters.render_shown(seen))


async def revealed(track: Track) -> Sequence[Any]:
    """Return the notes of who saw what."""
    return list(await track.world.connection.fetch("SELECT * FROM dead_letter_reveals"))


@pytest.mark.parametrize(
    ("text", "which"),
    [
        ("a.b-c-3-17", LetterId("a.b-c", 3, 17)),
        ("a-0-9223372036854775807", LetterId("a", 0, 2**63 - 1)),
        ("a-0-9223372036854775808", None),
        ("a-2147483648-0", None),
        ("a-1", None),
        ("-1-1", None),
        ("a b-1-1", None),
        ("a-1-²", None),
    ],
)
def test_an_id_is_topic_partition_and_offset(text: str, which: LetterId | None) -> None:
    """A topic's name may have hyphens too, so it is read from behind; what it prints it reads."""
    assert LetterId.parse(text) == which
    assert which is None or str(which) == text
