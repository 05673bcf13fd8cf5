"""The embedded servers: what is written stays, what is stopped comes back, and nothing outlives its owner."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from worker.dev import jars
from worker.dev.embedded import EmbeddedKafka, EmbeddedPostgres, StartError, embedded_stack

TOPIC = "survivors"
MARK = "REGISTRATION_TEST_MARK"
DEADLINE_S = 30
ROOT = Path(__file__).parents[2]

OWNER = textwrap.dedent("""
    import asyncio
    import signal
    from worker.dev.embedded import embedded_stack

    async def main():
        async with embedded_stack(None):
            print("ready", flush=True)
            await asyncio.Event().wait()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs deaf to it
    asyncio.run(main())
""")


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect for the length of a block."""
    opened = await asyncpg.connect(url)
    try:
        yield opened
    finally:
        opened.terminate()


async def write_row(url: str) -> None:
    """Commit one row."""
    async with connection(url) as database:
        await database.execute("CREATE TABLE survivors (id int); INSERT INTO survivors VALUES (1)")


async def count_rows(url: str) -> int:
    """Count what `write_row` committed."""
    async with connection(url) as database:
        return int(await database.fetchval("SELECT count(*) FROM survivors"))


async def write_record(bootstrap: str) -> None:
    """Make the topic and send one record, acknowledged."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    await producer.send_and_wait(TOPIC, b"here", partition=0)
    await producer.stop()


async def count_records(bootstrap: str) -> int:
    """Count what `write_record` sent."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    partition = TopicPartition(TOPIC, 0)
    ends = await consumer.end_offsets([partition])
    await consumer.stop()
    return int(ends[partition])


def listening(pid: int) -> set[str]:
    """Return the addresses at which a process accepts connections."""
    return {c.laddr.ip.removeprefix("::ffff:") for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes that inherited this mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition, up to the deadline; return what it is then."""
    deadline = time.monotonic() + DEADLINE_S
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


@contextmanager
def owner(scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that owns a temporary stack, marked with its scratch folder."""
    scratch.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(scratch), MARK: str(scratch)}
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.kill()


async def test_a_stopped_stack_comes_back_with_its_data_and_ports(tmp_path: Path) -> None:
    """The same folder is the same stack; only this machine reaches it, and only one process has it at a time."""
    async with embedded_stack(tmp_path / "data") as first:
        before = (first.kafka.bootstrap, first.postgres.url)
        reachable = listening(first.kafka.pid) | listening(first.postgres.pid)
        await asyncio.gather(write_row(first.postgres.url), write_record(first.kafka.bootstrap))
        with pytest.raises(StartError, match="in use by another process"):
            async with embedded_stack(tmp_path / "data"):
                pass
    async with embedded_stack(tmp_path / "data") as second:
        after = (second.kafka.bootstrap, second.postgres.url)
        kept = (await count_rows(second.postgres.url), await count_records(second.kafka.bootstrap))

    assert reachable == {"127.0.0.1"}
    assert after == before
    assert kept == (1, 1)


async def test_a_killed_postgres_recovers_what_it_committed(tmp_path: Path) -> None:
    """A kill is a crash: the next start replays the log, at the same address."""
    postgres = EmbeddedPostgres(tmp_path)
    try:
        await postgres.start()
        url, killed = postgres.url, postgres.pid
        await write_row(url)
        await postgres.kill()
        await postgres.start()
        rows = await count_rows(url)
        alive = postgres.pid
    finally:
        postgres.end_now()

    assert rows == 1
    assert postgres.url == url
    assert alive != killed


async def test_a_killed_kafka_recovers_what_it_acknowledged(tmp_path: Path) -> None:
    """A kill is a crash of the process: what it acknowledged is in the page cache, and the address stays."""
    kafka = EmbeddedKafka(tmp_path)
    try:
        await kafka.start()
        bootstrap = kafka.bootstrap
        await write_record(bootstrap)
        await kafka.kill()
        await kafka.start()
        records = await count_records(bootstrap)
    finally:
        await kafka.kill()

    assert records == 1
    assert kafka.bootstrap == bootstrap


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_owner_that_is_ended_in_mid_start_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Both servers are being made: initdb and the JVM run."""
    scratch = tmp_path / "scratch"
    with owner(scratch) as process:
        assert wait_until(lambda: all(any(scratch.glob(f"*/{made}")) for made in ("postgres/cluster.new", "kafka/kafka.log")))
        process.send_signal(number)
        process.wait(DEADLINE_S)

    assert marked(str(scratch)) == []
    assert list(scratch.iterdir()) == []


def test_an_owner_that_is_terminated_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM ends servers and folder, then the process as SIGTERM does."""
    scratch = tmp_path / "scratch"
    with owner(scratch) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        code = process.wait(DEADLINE_S)

    assert code == -signal.SIGTERM
    assert marked(str(scratch)) == []
    assert list(scratch.iterdir()) == []


def test_an_owner_that_is_killed_leaves_no_process_and_its_folder_goes_with_the_next(tmp_path: Path) -> None:
    """SIGKILL gives nobody a word: the kernel ends the servers, and the next stack removes the folder."""
    scratch = tmp_path / "scratch"
    with owner(scratch) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert {"java", "postgres"} <= {process.name() for process in marked(str(scratch))}
        process.kill()
        assert wait_until(lambda: marked(str(scratch)) == [])
        left = set(scratch.iterdir())
    with owner(scratch):
        gone = wait_until(lambda: not any(folder.exists() for folder in left))

    assert len(left) == 1
    assert gone


async def test_a_port_taken_before_the_start_is_exchanged_unless_it_was_asked_for(tmp_path: Path) -> None:
    """Between choosing and binding another checkout may take it."""
    chosen, asked = EmbeddedPostgres(tmp_path / "chosen"), None
    port = int(chosen.url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        asked = EmbeddedPostgres(tmp_path / "asked", port=port)
        try:
            await chosen.start()
            with pytest.raises(StartError, match=f"cannot have port {port}"):
                await asked.start()
        finally:
            chosen.end_now()
            asked.end_now()

    assert f":{port}/" not in chosen.url


def test_a_jar_that_was_changed_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is anybody's; the lock is ours."""
    whole = jars.bring()
    for jar in whole:
        (tmp_path / jar.name).symlink_to(jar)
    monkeypatch.setattr(jars, "cache", lambda: tmp_path)
    assert jars.cached() == [tmp_path / jar.name for jar in whole]

    changed = tmp_path / whole[0].name
    changed.unlink()
    changed.write_bytes(whole[0].read_bytes()[:-1])

    assert jars.cached() is None
