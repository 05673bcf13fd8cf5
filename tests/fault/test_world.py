"""
Faults of the world around the workers: another PostgreSQL, connections that break, servers that refuse.

Each one heals by itself, within a time that the run shows at its end; nothing is lost and nothing doubled.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Final

from tests.boundary.conditions import until
from tests.fault.cluster import Cluster
from tests.fault.conftest import Recovered
from tests.fault.network import Network, reasons_of, traffic
from tests.fault.proxy import Cut, Proxy
from tests.fault.standby import address_of, set_on, through
from tests.fault.test_faults import RESTART_RECOVERY_S
from worker.dev.process import Child
from worker.errors import UnavailableError
from worker.operate.verify_report import SHOWN_PER_RULE
from worker.postgres import Connection, connect

CUTS: Final = 10
SLOW_S: Final = 0.02
LOOK_S: Final = 6.0
"""So long after its last batch an idle lane asks nothing: a failover that is quicker meets none of its questions."""
COMMIT: Final = b"COMMIT\0"
OF_WORKERS: Final = "application_name = 'registration-worker'"
TERMINATE: Final = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OF_WORKERS}"
SLOW_COMMIT: Final = """
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END';
CREATE CONSTRAINT TRIGGER slow_commit AFTER UPDATE OF next_offset ON kafka_offsets
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_commit();
"""
"""It is run in COMMIT, which else is too short to be met."""
FAULTS: Final[Mapping[str, Callable[[Proxy], None]]] = {
    "cut off": Proxy.lead_nowhere,
    "dropping answers": partial(Proxy.hold, requests=False),
}


async def test_a_synchronous_standby_is_promoted_under_load_and_nothing_is_undone(world: Network, recovered: Recovered) -> None:
    """Whatever was published, and whatever anybody could see, is there when the standby takes over."""
    cluster = world.cluster
    standby = await world.standby(synchronous=True)
    cluster.start_worker()
    cluster.start_worker()
    async with traffic(cluster):
        await cluster.progress(100)
        seen = await world.customers()
        await world.fail_over(standby)
        stored, published = await world.customers(), await world.published()
        world.let_through()
        recovered("a synchronous standby promoted under load", await cluster.progress(), RESTART_RECOVERY_S)
    await cluster.done()

    assert seen.items() <= stored.items()
    assert published.keys() <= stored.keys()
    await cluster.verify()


async def test_a_synchronous_standby_is_promoted_without_traffic_and_nothing_is_undone(
    world: Network, recovered: Recovered
) -> None:
    """Nobody has anything to do again, and the next commands are done as ever."""
    cluster = world.cluster
    cluster.start_worker()
    standby = await world.standby(synchronous=True)
    await cluster.send(30)
    await cluster.done()
    before, seen = await cluster.done_count(), await world.customers()
    await world.fail_over(standby)
    stored, published = await world.customers(), await world.published()
    done = await cluster.done_count()
    world.let_through()
    await cluster.send(1)
    recovered("a synchronous standby promoted without traffic", await cluster.done(), RESTART_RECOVERY_S)

    assert done == before
    assert seen == stored
    assert published.keys() <= stored.keys()
    await cluster.verify()


async def test_an_asynchronous_standby_is_promoted_under_load_and_the_lost_tail_is_done_again(
    world: Network, recovered: Recovered
) -> None:
    """
    It lacks the last transactions, whose events are out: they are done again, with the same ids.

    Until then `verify` names the events whose rows are lost.
    """
    cluster = world.cluster
    standby = await world.standby(synchronous=False)
    cluster.start_worker()
    cluster.start_worker()
    async with traffic(cluster):
        await cluster.progress(50)
        world.to_primary.hold()
        await cluster.progress(100)
        seen = await world.customers()
        await world.fail_over(standby)
        stored, published = await world.customers(), await world.published()
        report = await cluster.report(settle_s=0)
        world.let_through()
        recovered("an asynchronous standby promoted under load", await cluster.progress(), RESTART_RECOVERY_S)
    await cluster.done()

    undone = published.keys() - stored.keys()
    named = {each["id"] for each in report["findings"] if each["rule"] == "event.ghost"}
    assert undone
    assert len(named) == min(len(undone), SHOWN_PER_RULE)
    assert named <= undone
    assert report["totals"]["event.ghost"] >= len(undone)
    await assert_done_again(world, seen, published)


async def test_an_asynchronous_standby_is_promoted_without_traffic_and_the_lost_tail_is_done_again(
    world: Network, recovered: Recovered
) -> None:
    """No command comes, and no question meets the outage: the worker has to look whether all is as it left it."""
    cluster = world.cluster
    cluster.environment = {**cluster.environment, "REGISTRATION_LOOK_INTERVAL_S": str(LOOK_S)}
    worker = cluster.start_worker()
    standby = await world.standby(synchronous=False)
    world.to_primary.hold()
    await cluster.send(30)
    await cluster.done()
    before, seen = await cluster.done_count(), await world.customers()
    await world.fail_over(standby)
    world.let_through()
    begun = time.monotonic()
    stored, published = await world.customers(), await world.published()
    await cluster.eventually(partial(_is_at, cluster, before), "the lost tail is done again")
    recovered("an asynchronous standby promoted without traffic", time.monotonic() - begun, LOOK_S + RESTART_RECOVERY_S)
    await cluster.done()

    assert "lane.waiting" not in worker.output()
    assert len(published.keys() - stored.keys()) > 30
    await assert_done_again(world, seen, published)


async def test_connections_are_cut_around_commit(world: Network, recovered: Recovered) -> None:
    """Before the server has it, and when it has done it: the worker can't know which, and the row says it."""
    cluster = world.cluster
    worker = cluster.start_worker()
    async with traffic(cluster):
        await cluster.progress(50)
        for answered, what in ((False, "before"), (True, "behind")):
            world.to_database.cut_at = cut = Cut(COMMIT, answered=answered, left=CUTS)
            await cluster.eventually(partial(_is_done, cut), "the connections are cut")
            recovered(f"{CUTS} cuts {what} COMMIT", await cluster.progress(50), RESTART_RECOVERY_S)
    await cluster.done()

    assert "commit.unknown" in worker.output()
    await cluster.verify()


async def test_sessions_are_terminated_in_commit(world: Network, recovered: Recovered) -> None:
    """Some before the server has committed, others behind it, while they wait for a standby that does not answer."""
    cluster = world.cluster
    cluster.start_worker()
    async with traffic(cluster), world.connection() as connection:
        await cluster.progress(50)
        await connection.execute(SLOW_COMMIT)
        before = await _terminated(connection, "query = 'COMMIT'")
        await connection.execute("DROP FUNCTION slow_commit CASCADE")
        recovered(f"{before} sessions terminated before they had committed", await cluster.progress(100), RESTART_RECOVERY_S)
        await set_on(world.postgres, {"synchronous_standby_names": "nobody"})
        behind = await _terminated(connection, "wait_event = 'SyncRep'")
        await set_on(world.postgres, {"synchronous_standby_names": None})
        recovered(f"{behind} sessions terminated behind their commit", await cluster.progress(100), RESTART_RECOVERY_S)
    await cluster.done()

    await cluster.verify()


async def test_a_database_without_a_free_connection_is_waited_for(world: Network, recovered: Recovered) -> None:
    """Others hold every connection: the worker asks again until it gets one."""
    cluster = world.cluster
    cluster.start_worker()
    async with traffic(cluster):
        await cluster.progress(50)
        async with _all_connections(world):
            refusals = _refusals(world)
            await cluster.eventually(lambda: _is(_refusals(world) > refusals + 3), "the worker is refused")
        recovered("no free connection", await cluster.progress(), RESTART_RECOVERY_S)
    await cluster.done()

    await cluster.verify()


async def test_a_database_that_only_reads_is_waited_for(world: Network, recovered: Recovered) -> None:
    """As an administrator sets it before a switch, or a cloud when the disk is nearly full."""
    cluster = world.cluster
    worker = cluster.start_worker()
    async with traffic(cluster):
        await cluster.progress(50)
        await set_on(world.postgres, {"default_transaction_read_only": "on"})
        await cluster.eventually(lambda: _is("25006" in worker.output()), "the worker waits")
        await set_on(world.postgres, {"default_transaction_read_only": None})
        recovered("a database that only reads", await cluster.progress(), RESTART_RECOVERY_S)
    await cluster.done()

    await cluster.verify()


async def test_a_network_that_is_slow_silent_or_broken_is_only_a_pause(world: Network, recovered: Recovered) -> None:
    """The way to each server in turn is cut, and drops answers, until the worker waits; then it heals."""
    cluster = world.cluster
    worker = cluster.start_worker()
    async with traffic(cluster):
        await cluster.progress(50)
        for name, way in (("PostgreSQL", world.to_database), ("Kafka", world.to_kafka)):
            for what, fault in FAULTS.items():
                fault(way)
                await cluster.eventually(partial(_waits, worker), f"{name} {what}: it waits")
                begun = time.monotonic()
                world.heal()
                await cluster.progress()
                await cluster.eventually(partial(_is_ready, worker), f"{name} {what}: each partition is at work again")
                recovered(f"{name} {what}", time.monotonic() - begun, RESTART_RECOVERY_S)
            way.delay_s = SLOW_S
            await cluster.progress(100)
            world.heal()
    await cluster.done()

    await cluster.verify()


async def assert_done_again(world: Network, seen: dict[str, str | None], published: dict[str, set[str]]) -> None:
    """Everything that anybody could see before is there, under the same ids, and no event is alone."""
    again, events = await world.customers(), await world.published()

    assert seen.items() <= again.items()
    assert {key: events[key] for key in published} == published
    await world.cluster.verify()


async def _is_at(cluster: Cluster, count: int) -> bool:
    return await cluster.done_count() >= count


async def _is_done(cut: Cut) -> bool:
    return cut.left == 0


async def _waits(worker: Child) -> bool:
    return bool(await reasons_of(worker))


async def _is_ready(worker: Child) -> bool:
    return not await reasons_of(worker)


async def _is(fact: object) -> bool:
    return bool(fact)


async def _terminated(connection: Connection, which: str) -> int:
    """Terminate the workers' sessions that are caught in a state, until there were some of them; return how many."""
    count = 0

    async def enough() -> bool:
        nonlocal count
        count += len(await connection.fetch(f"{TERMINATE} AND {which}"))
        return count >= CUTS

    await until(enough, f"{CUTS} sessions with {which}")
    return count


@asynccontextmanager
async def _all_connections(world: Network) -> AsyncIterator[None]:
    """Hold every connection that the server gives to roles that are no superuser, the worker's too."""
    url = through(world.cluster.environment["REGISTRATION_DATABASE_URL"], address_of(world.postgres))
    async with AsyncExitStack() as held, world.connection() as admin:

        async def all_held() -> bool:
            await admin.fetch(TERMINATE)
            with suppress(UnavailableError):
                while True:
                    opened = await connect(url, "hog")
                    held.callback(opened.terminate)
            return not await admin.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {OF_WORKERS}")

        await until(all_held, "every connection is held")
        yield


def _refusals(world: Network) -> int:
    """Count how often the server had no connection to give."""
    return world.postgres.log.read_text().count("FATAL:  remaining connection slots are reserved")
