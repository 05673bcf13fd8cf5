"""A disk that is full for a while: below PostgreSQL's tables, and below its write-ahead log."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.fault.cluster import cluster_on
from tests.fault.conftest import Recovered
from tests.fault.network import traffic
from tests.fault.test_faults import RESTART_RECOVERY_S
from worker.dev.database import DATABASE, EmbeddedPostgres, server_user
from worker.dev.embedded import embedded_stack
from worker.dev.process import Child, StartError, run, temporary_folder
from worker.postgres import connect

MOUNT: Final = "/bin/mount"
UNMOUNT: Final = "/bin/umount"
SPARE_BYTES: Final = 2 << 20
RESTART_S: Final = 0.5
MOUNT_WITHIN_S: Final = 10.0


@asynccontextmanager
async def small_disk(size_bytes: int) -> AsyncIterator[Path]:
    """Give a folder with a file system of its own, which may be filled; skip the test where nobody lets us mount one."""
    with temporary_folder("registration-disk-") as folder:
        disk = folder / "disk"
        disk.mkdir()
        try:
            mount = [MOUNT, "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(disk)]
            await run(mount, log=folder / "mount.log", timeout_s=MOUNT_WITHIN_S)
        except (OSError, StartError):
            pytest.skip("may not mount a file system")
        try:
            yield disk
        finally:
            await run([UNMOUNT, "--lazy", str(disk)], log=None, timeout_s=MOUNT_WITHIN_S)


async def test_a_disk_full_below_the_tables_is_waited_for(recovered: Recovered) -> None:
    """The server refuses what needs room (SQLSTATE 53100), and lives."""
    async with small_disk(64 << 20) as disk, embedded_stack(None) as servers, cluster_on(servers) as cluster:
        await _move_tables(servers.postgres, disk)
        worker = cluster.start_worker()
        async with traffic(cluster, people=30):
            await cluster.progress(50)
            ballast = _fill(disk)
            await cluster.eventually(lambda: _says(worker, "53100"), "the worker waits for room")
            ballast.unlink()
            recovered("a disk full below the tables", await cluster.progress(), RESTART_RECOVERY_S)
        await cluster.done()

        await cluster.verify()


async def test_a_disk_full_below_the_log_ends_the_server_and_is_waited_for(recovered: Recovered) -> None:
    """Without room for its log PostgreSQL ends itself, whatever was committed; its keeper starts it until it stays."""
    async with small_disk(128 << 20) as disk, embedded_stack(None) as servers, cluster_on(servers) as cluster:
        await _move_log(servers.postgres, disk)
        worker = cluster.start_worker()
        async with traffic(cluster, people=30):
            await cluster.progress(50)
            ballast = _fill(disk)
            await cluster.eventually(lambda: _has_ended(servers.postgres), "the server ends itself")
            await cluster.eventually(lambda: _says(worker, "lane.waiting"), "the worker waits")
            ballast.unlink()
            await servers.postgres.kill()
            await servers.postgres.start()
            recovered("a disk full below the log", await cluster.progress(), RESTART_RECOVERY_S)
        await cluster.done()

        await cluster.verify()


def _fill(disk: Path) -> Path:
    """Take all room but a little; return the file to remove."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free - SPARE_BYTES, 1))
    return ballast


async def _move_tables(postgres: EmbeddedPostgres, disk: Path) -> None:
    """Put the whole database on a disk of its own; its log stays where it was."""
    _give(postgres, disk)
    admin = await connect(postgres.url.removesuffix(DATABASE) + "postgres", "tests")
    try:
        await admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        await admin.execute(f"ALTER DATABASE {DATABASE} SET TABLESPACE small")
    finally:
        await admin.close()


async def _move_log(postgres: EmbeddedPostgres, disk: Path) -> None:
    """Put the write-ahead log on a disk of its own."""
    await postgres.stop()
    log = postgres._cluster / "pg_wal"
    moved = Path(shutil.copytree(log, disk / "pg_wal"))
    shutil.rmtree(log)
    log.symlink_to(moved)
    _give(postgres, disk)
    await postgres.start()


def _give(postgres: EmbeddedPostgres, folder: Path) -> None:
    """Let the server's user own a folder and all that is in it."""
    folder.chmod(0o700)
    if user := server_user(postgres._data):
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.id, user.group)


async def _says(worker: Child, text: str) -> bool:
    return text in worker.output()


async def _has_ended(postgres: EmbeddedPostgres) -> bool:
    return postgres._child is not None and not postgres._child.running
