"""A back-up that is restored: positions come with it, so workers do again what came since (docs/operating.md)."""

from __future__ import annotations

from dataclasses import replace

from tests.fault.network import Network
from tests.fault.standby import Backup
from tests.fault.test_world import assert_done_again


async def test_a_restored_back_up_catches_up_by_itself_with_the_same_ids(world: Network) -> None:
    """
    What was registered since the back-up is on the topic: it is done again, and comes to the same customers and events.

    Until then `verify` names the events whose rows are lost.
    """
    cluster = world.cluster
    cluster.start_worker()
    await cluster.send(60)
    await cluster.done()
    kept = await world.customers()
    backup = Backup(cluster.folder / "backup", world.postgres.url)
    try:
        await backup.take()
        await cluster.send(60)
        await cluster.done()
        seen, published = await world.customers(), await world.published()
        cluster.end_workers()
        await world.postgres.kill()
        await backup.start()
        cluster.servers = replace(cluster.servers, postgres=backup)
        restored, report = await world.customers(), await cluster.report(settle_s=0)
        world.let_through()
        cluster.start_worker()
        await cluster.done()

        assert restored == kept
        assert len(seen) > len(kept)
        assert report["totals"]["event.ghost"] >= len(published.keys() - kept.keys()) > 0
        await assert_done_again(world, seen, published)
    finally:
        cluster.end_workers()
        backup.end_now()
