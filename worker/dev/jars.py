"""
Bring Apache Kafka's jars into the user's cache, each one checked against the committed lock.

The lock (`kafka-jars.lock`, in jgo's own format) is the only source of names, versions and hashes. A file gets its final name
by a rename after its hash was checked, so a process that is killed at any point leaves nothing that a later one would trust,
and what was complete is not fetched again.

    python -m worker.dev.jars           bring what is missing
    python -m worker.dev.jars --lock    resolve anew and rewrite the lock
"""

import fcntl
import hashlib
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from platformdirs import user_cache_path
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LOCK = Path(__file__).with_name("kafka-jars.lock")
KAFKA = "org.apache.kafka:kafka_2.13:4.1.1"
# Kafka logs through slf4j 1 and its POM names no backend; its own distribution ships this one with the same log4j.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
DOWNLOADS = 6
TRIES = 4
TIMEOUT_S = 60
LINE_EVERY_S = 5.0


class JarsError(Exception):
    """Kafka's jars could not be brought, or are not the ones that the lock names."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked artifact of Maven Central."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        """Its Maven coordinate."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def file(self) -> str:
        """Its name in the cache."""
        return f"{self.artifact}-{self.version}.jar"


def locked() -> list[Jar]:
    """Read the lock: every jar of the class path, in its order."""
    entries = tomllib.loads(LOCK.read_text())["dependencies"]
    return [Jar(e["groupId"], e["artifactId"], e["version"], e["sha256"]) for e in entries]


def cache() -> Path:
    """Return the folder of this lock's jars, below the user's cache: another lock has another folder."""
    return user_cache_path("registration-worker") / f"kafka-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"


def cached() -> list[Path] | None:
    """Return the class path if every jar is here and has its locked hash; else None. Opens no connection."""
    folder = cache()
    jars = locked()
    return [folder / jar.file for jar in jars] if all(_is_whole(folder / jar.file, jar) for jar in jars) else None


def bring() -> list[Path]:
    """
    Return the class path, after fetching what is missing; says on stderr how far it is.

    Raises:
        JarsError: a jar cannot be fetched, or what came is not what the lock names.
    """
    if (found := cached()) is not None:
        return found
    folder = cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / "lock"):
            jars = locked()
            missing = [jar for jar in jars if not _is_whole(folder / jar.file, jar)]
            if missing:
                _fetch_all(missing, folder, done=len(jars) - len(missing))
            return [folder / jar.file for jar in jars]
    except OSError as error:
        msg = f"cannot keep Kafka's jars in {folder}: {error.strerror or error}"
        raise JarsError(msg) from error


def _is_whole(path: Path, jar: Jar) -> bool:
    """Whether the file is there and has the locked hash."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except OSError:  # above all: it is not there
        return False


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of a folder; the kernel frees it however its holder ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another process is fetching Kafka's jars; waiting for it ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_all(missing: list[Jar], folder: Path, *, done: int) -> None:
    """Fetch jars, a few at a time. Whoever calls holds the folder's lock."""
    scratch = folder / "partial"
    shutil.rmtree(scratch, ignore_errors=True)
    pool = ThreadPoolExecutor(DOWNLOADS)
    try:
        with _progress(done, done + len(missing)) as advance:
            running = {pool.submit(_fetch, jar, folder, scratch) for jar in missing}
            while running:
                # A short wait, so that Ctrl-C and the progress line never wait for a slow download.
                ended, running = wait(running, timeout=0.2, return_when=FIRST_EXCEPTION)
                advance(_count(ended))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _count(ended: set[Future[None]]) -> int:
    """Count what ended; the first failure is raised."""
    for one in ended:
        one.result()
    return len(ended)


def _fetch(jar: Jar, folder: Path, scratch: Path) -> None:
    """Fetch one jar: to a scratch folder, checked, then renamed."""
    # A second to import, and needed only here: the common case is a full cache.
    import requests  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    for attempt in range(1, TRIES + 1):
        repository = scratch / f"{jar.file}.{attempt}"
        context = MavenContext(repo_cache=repository, timeout=TIMEOUT_S)
        try:
            got = context.create_dependency(jar.coordinate).artifact.resolve()
        except (requests.RequestException, RuntimeError) as error:  # jgo raises RuntimeError where no repository has it
            if attempt == TRIES:
                why = type(error).__name__ if isinstance(error, requests.RequestException) else str(error)
                msg = f"cannot fetch {jar.coordinate} from Maven Central: {why}"
                raise JarsError(msg) from error
            time.sleep(attempt)
            continue
        if _is_whole(got, jar):
            got.replace(folder / jar.file)
            return
    msg = f"{jar.coordinate} from Maven Central has another sha256 than {LOCK.name} says"
    raise JarsError(msg)


@contextmanager
def _progress(done: int, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many jars are here: a bar on a terminal, else a line every few seconds."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("Apache Kafka's jars"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=total, completed=done)
            yield lambda count: bar.advance(task, count)
        return
    said_at = time.monotonic()
    say(f"Fetching Apache Kafka's jars: {done} of {total}")

    def advance(count: int) -> None:
        nonlocal done, said_at
        done += count
        if done == total or time.monotonic() - said_at >= LINE_EVERY_S:
            if count or done < total:
                say(f"Fetching Apache Kafka's jars: {done} of {total}")
            said_at = time.monotonic()

    yield advance


def say(line: str) -> None:
    """Say one line on stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def write_lock() -> None:
    """Resolve Kafka's class path anew and rewrite the lock (`make lock`)."""
    from jgo.env import LockFile  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    with TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch), timeout=TIMEOUT_S)
        # The logging backend is added by itself: as a second root, its POM would manage the versions of all the rest.
        roots, transitive = context.resolver.resolve([context.create_dependency(KAFKA)])
        found = sorted([*roots, *transitive, context.create_dependency(LOGGING)], key=str)
        dependencies = LockFile.from_resolved_dependencies(found).dependencies
    lines = [f"# The jars of {KAFKA}, in jgo's format. `make lock` writes this file; worker/dev/jars.py trusts nothing else."]
    for dependency in dependencies:
        lines += ["", "[[dependencies]]", *(f'{key} = "{value}"' for key, value in dependency.to_dict().items())]
    LOCK.write_text("\n".join(lines) + "\n")


def main(arguments: list[str]) -> int:
    """Bring the jars, or rewrite the lock; return the exit code."""
    try:
        if arguments == ["--lock"]:
            write_lock()
        else:
            bring()
    except JarsError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        os._exit(130)  # without waiting for the downloads' threads
    return 0


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
