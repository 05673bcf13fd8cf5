"""Servers that are away for long, restarted, or without something that they must have."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from schemas.dead_letters import DEAD_LETTERS_TOPIC
from tests import commands
from tests.boundary import topics
from tests.boundary.conditions import until
from tests.conftest import settings_of
from tests.fault.brokers import brokers
from tests.fault.conftest import Recovered
from tests.fault.network import Network, network, reasons_of, traffic
from tests.fault.test_faults import RECOVERY_S, RESTART_RECOVERY_S
from worker import app
from worker.dev.broker import PROPERTIES
from worker.dev.process import Child
from worker.kafka import OutMessage

AWAY_S = 60
BROKER_SESSION_S = float(PROPERTIES["broker.session.timeout.ms"]) / 1000


@pytest.mark.parametrize("server", ["kafka", "postgres"])
async def test_a_server_away_for_a_minute_is_waited_for(world: Network, recovered: Recovered, server: str) -> None:
    """Nobody restarts the worker: it stays as it is, and goes on when the server is back."""
    cluster = world.cluster
    worker = cluster.start_worker()
    lost = getattr(cluster.servers, server)
    async with traffic(cluster):
        await cluster.progress()
        await lost.kill()
        await asyncio.sleep(AWAY_S)
        await lost.start()
        recovered(f"{server} away for {AWAY_S} s", await cluster.progress(), RESTART_RECOVERY_S)
    await cluster.done()

    assert worker.running
    await cluster.verify()


@pytest.mark.parametrize("server", ["kafka", "database"])
async def test_a_way_half_open_for_a_minute_is_waited_for(world: Network, recovered: Recovered, server: str) -> None:
    """Connections are accepted, and nothing ever comes: deadlines alone notice it."""
    cluster = world.cluster
    worker = cluster.start_worker()
    way = getattr(world, f"to_{server}")
    async with traffic(cluster):
        await cluster.progress()
        way.hold()
        await asyncio.sleep(AWAY_S)
        world.heal()
        recovered(f"the way to the {server} half-open for {AWAY_S} s", await cluster.progress(), RESTART_RECOVERY_S)
    await cluster.done()

    assert worker.running
    await cluster.verify()


@pytest.mark.parametrize("server", ["kafka", "postgres"])
async def test_a_server_restarted_in_order_is_only_a_pause(world: Network, recovered: Recovered, server: str) -> None:
    """As for an upgrade: it says goodbye, and comes back."""
    cluster = world.cluster
    cluster.start_worker()
    restarted = getattr(cluster.servers, server)
    async with traffic(cluster):
        await cluster.progress()
        await restarted.stop()
        await restarted.start()
        recovered(f"{server} restarted in order", await cluster.progress(), RESTART_RECOVERY_S)
    await cluster.done()

    await cluster.verify()


async def test_the_groups_coordinator_is_lost(recovered: Recovered) -> None:
    """One broker of three dies, with partitions of each topic and the group: the others go on with all of it."""
    async with brokers() as three:
        cluster = three.cluster
        group, number = "workers-0", 1
        while number == 1:  # that node also is the controller
            group = f"{group}1"
            number = await three.coordinator(group)
        cluster.environment = {**cluster.environment, "REGISTRATION_GROUP": group}
        cluster.start_worker()
        cluster.start_worker()
        async with traffic(cluster):
            await cluster.progress(100)
            await three.nodes[number].kill()
            recovered("the group's coordinator lost", await cluster.progress(), BROKER_SESSION_S + RECOVERY_S)
            await three.nodes[number].start()
            recovered("the group's former coordinator back", await cluster.progress(200), RECOVERY_S)
        await cluster.done()

        await cluster.verify()


async def test_a_standby_that_commits_wait_for_is_lost_and_comes_back(world: Network, recovered: Recovered) -> None:
    """Nothing is stored that could be undone: the worker waits as long as there is no standby, and nobody has to help it."""
    cluster = world.cluster
    worker = cluster.start_worker()
    standby = await world.standby(synchronous=True)
    async with traffic(cluster):
        await cluster.progress(100)
        await standby.kill()
        await cluster.eventually(partial(_says, worker, "commit.unknown"), "the worker waits")
        await standby.start()
        recovered("a synchronous standby back", await cluster.progress(), RESTART_RECOVERY_S)
    await cluster.done()
    await world.wait_for_nobody()

    await cluster.verify()


async def test_a_dead_letter_topic_that_is_missing_is_waited_for(recovered: Recovered) -> None:
    """Nothing is dropped meanwhile; where a person makes it again, all goes on."""
    async with network() as world:
        cluster = world.cluster
        await _wait_without_dead_letters(world)
        await app.prepare(settings_of(cluster.servers, world.postgres.url))
        recovered("the dead-letter topic made again", await cluster.done(), RESTART_RECOVERY_S)

        await cluster.verify()


async def test_a_dead_letter_topic_that_is_missing_is_named() -> None:
    """No worker makes it by itself: `/readyz` says what a person has to do."""
    async with network() as world:
        reasons = "\n".join(await reasons_of(await _wait_without_dead_letters(world)))

        assert DEAD_LETTERS_TOPIC in reasons
        assert "registration migrate" in reasons


async def test_a_conflict_that_ends_otherwise_after_a_failover_is_named(recovered: Recovered) -> None:
    """
    Two partitions want one email; done again, the other one gets it: `verify` names both, and nothing else.

    Servers of its own: what this leaves behind, no later `verify` would forgive.
    """
    async with network() as world:
        cluster = world.cluster
        (first, first_command), (second, second_command) = _of_one_email()
        cluster.start_worker()
        await cluster.send(1)
        await cluster.done()
        standby = await world.standby(synchronous=False)
        world.to_primary.hold()
        [sent] = await cluster.producer.send_all([first_command])
        await cluster.done()
        await cluster.producer.send_all([second_command])
        await cluster.done()
        before = await world.customers()
        await world.fail_over(standby)
        async with world.connection() as connection, connection.transaction():
            await connection.execute("SELECT FROM kafka_offsets WHERE partition = $1 FOR UPDATE", sent.partition)
            world.let_through()
            await cluster.eventually(partial(_has_customer, world, second), "the other partition is first this time")
        recovered("a conflict that ended otherwise", await cluster.done(), RESTART_RECOVERY_S)

        report = await cluster.report()
        assert before[first] is not None
        assert before[second] is None
        assert set(report["totals"]) == {"event.contradicts", "registration.two_ce_ids"}
        named = {each["id"] for each in report["findings"] if each["rule"] == "event.contradicts"}
        assert named == {first, second}


async def _wait_without_dead_letters(world: Network) -> Child:
    """Take the topic from a worker that has dead letters to send; return when it waits."""
    worker = world.cluster.start_worker()
    await world.cluster.send(39)
    await _remove_dead_letters(world)
    await world.cluster.send(39)
    await world.cluster.eventually(partial(_says, worker, "lane.waiting"), "the worker waits")
    return worker


async def _remove_dead_letters(world: Network) -> None:
    async with topics.administering(world.cluster.servers.kafka.bootstrap) as admin:
        await admin.delete_topics([DEAD_LETTERS_TOPIC])

        async def is_gone() -> bool:
            return DEAD_LETTERS_TOPIC not in await admin.list_topics()

        await until(is_gone, "the topic is gone")


async def _says(worker: Child, event: str) -> bool:
    return f'"event": "{event}"' in worker.output()


async def _has_customer(world: Network, registration: str) -> bool:
    return (await world.customers()).get(registration) is not None


def _of_one_email() -> list[tuple[str, OutMessage]]:
    """Return two registrations of one email, as a careless upstream service sends them: to two partitions."""
    email = commands.email_of("wanted")
    both = [(commands.data(email), key) for key in (b"0", b"1")]
    return [(data["registrationId"], replace(commands.message(data), key=key)) for data, key in both]
