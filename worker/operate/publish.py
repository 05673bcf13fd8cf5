"""
Sends registrations from files as an upstream service does: without HTTP, as commands on Kafka, passwords hashed here.

Why it may be run again: a registration's id derives from its line, so that the same file gives the same registrations, and the
worker takes a second command of an id as a repeat (README, "Publish to it"). Memory is bounded by one chunk of lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from worker.config import Settings
from worker.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNAVAILABLE, ConfigurationError, UnavailableError
from worker.ingress import passwords
from worker.kafka import Producer, Sent
from worker.operate.progress import Progress
from worker.operate.publish_lines import STDIN, Draft, Line, Publisher, RefusedLineError, in_chunks, lines_of

KEY_MIN_BYTES: Final = 16
KEY_MAX_BYTES: Final = 64
TRIES: Final = 3
_PAUSE_S: Final = 0.5

Status: TypeAlias = Literal["sent", "checked", "refused", "unacknowledged"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a line. `status` is sent, checked, refused, or unacknowledged: then Kafka may have it or not."""

    file: str
    line: int
    status: Status
    registration_id: str | None = None
    partition: int | None = None
    offset: int | None = None
    faults: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        members = {
            "file": self.file,
            "line": self.line,
            "status": self.status,
            "registrationId": self.registration_id,
            "partition": self.partition,
            "offset": self.offset,
            "faults": [{"pointer": pointer, "code": code} for pointer, code in self.faults],
        }
        return json.dumps({name: value for name, value in members.items() if value not in (None, [])})

    def text(self) -> str:
        """Return it as one line for people: ids, codes and pointers, never a value."""
        about = self.registration_id or ", ".join(f"{pointer or '/'} {code}" for pointer, code in self.faults)
        at = "" if self.offset is None else f" at {self.partition}/{self.offset}"
        return f"{self.file}: line {self.line}: {self.status}: {about}{at}"


@dataclass(slots=True)
class Summary:
    """How many lines became what."""

    counts: dict[str, int] = field(default_factory=dict)
    is_whole: bool = True
    unavailable: str = ""

    def add(self, result: Result) -> None:
        """Count a line."""
        self.counts[result.status] = self.counts.get(result.status, 0) + 1

    @property
    def exit_code(self) -> int:
        """Return what the command ends with."""
        if self.unavailable:
            return EXIT_UNAVAILABLE
        if not self.is_whole:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if self.counts.get("refused") else EXIT_DONE

    def text(self) -> str:
        """Return it as one line."""
        told = ", ".join(f"{count:,} {status}" for status, count in sorted(self.counts.items())) or "no line"
        end = "" if self.is_whole else "; not all lines were read: run it again, what was sent is recognized"
        return f"{told}{end}"


def key_of(settings: Settings) -> bytes:
    """
    Return the secret that ids and partition keys derive from.

    Raises:
        ConfigurationError: there is none, or it is too short or too long.
    """
    key = settings.publish_key.get_secret_value().encode()
    if not KEY_MIN_BYTES <= len(key) <= KEY_MAX_BYTES:
        raise ConfigurationError(
            f"REGISTRATION_PUBLISH_KEY: must be a secret of {KEY_MIN_BYTES} to {KEY_MAX_BYTES} bytes, the same for every run "
            "(openssl rand -base64 32)"
        )
    return key


async def publish(
    settings: Settings,
    files: Sequence[str],
    publisher: Publisher,
    stop: asyncio.Event,
    *,
    producer: Producer | None,
    told: Callable[[Result], None],
    progress: Progress,
) -> Summary:
    """
    Send every line of files.

    Args:
        settings: how many threads hash.
        files: paths; `-` is standard input.
        publisher: what makes commands of lines.
        stop: set it, and no further chunk is begun.
        producer: to Kafka; None only checks.
        told: gets the result of each line, in order.
        progress: called with a file, how many bytes of it are done, and how many it has.
    Returns:
        How many lines became what; where Kafka is unavailable, why.
    Raises:
        ConfigurationError: a file can't be read.
    """
    for file in files:
        if file != STDIN and not os.access(file, os.R_OK):
            raise ConfigurationError(f"{file}: can't be read")
    summary = Summary()
    with ThreadPoolExecutor(settings.hash_threads, thread_name_prefix="hash") as pool:
        sender = None if producer is None else _Sender(publisher, producer, pool, stop)
        async for chunk in _chunks(files, stop):
            for result in await _do(chunk, publisher, sender, summary):
                summary.add(result)
                told(result)
            if chunk[-1].total:
                progress(chunk[-1].file, chunk[-1].end, chunk[-1].total)
            if summary.unavailable:
                break
    summary.is_whole = not (stop.is_set() or summary.unavailable)
    return summary


@dataclass(frozen=True, slots=True)
class _Sender:
    """What sends chunks: hashes what comes with a password, and then waits until Kafka has acknowledged all."""

    publisher: Publisher
    producer: Producer
    pool: ThreadPoolExecutor
    stop: asyncio.Event

    async def send(self, drafts: Sequence[Draft]) -> list[Sent]:
        """
        Send commands; return where each one is.

        Raises:
            UnavailableError: not all are acknowledged.
        """
        hashes = await _hashed(self.pool, [draft.password for draft in drafts])
        messages = [self.publisher.message(draft, phc) for draft, phc in zip(drafts, hashes, strict=True)]
        for left in reversed(range(TRIES)):
            try:
                return await self.producer.send_all(messages)  # what is there twice is one registration
            except UnavailableError:
                if not left or self.stop.is_set():
                    raise
            await asyncio.sleep(_PAUSE_S)
        raise AssertionError("the last try returns or raises")


async def _do(chunk: Sequence[Line], publisher: Publisher, sender: _Sender | None, summary: Summary) -> list[Result]:
    """Read and send a chunk; return what became of each line."""
    results: dict[int, Result] = {}
    drafts: dict[int, Draft] = {}
    for at, line in enumerate(chunk):
        try:
            drafts[at] = publisher.read(line.text)
        except RefusedLineError as refused:
            results[at] = Result(line.file, line.number, "refused", faults=refused.faults)
    status: Status = "checked"
    places: dict[int, Sent] = {}
    if sender is not None and drafts:
        try:
            places = dict(zip(drafts, await sender.send(list(drafts.values())), strict=True))
            status = "sent"
        except UnavailableError as error:
            status, summary.unavailable = "unacknowledged", error.reason
    for at, draft in drafts.items():
        partition, offset = places.get(at, (None, None))
        results[at] = Result(chunk[at].file, chunk[at].number, status, draft.command.registration_id, partition, offset)
    return [results[at] for at in range(len(chunk))]


async def _hashed(pool: ThreadPoolExecutor, plain: Sequence[str | None]) -> list[str | None]:
    """Hash passwords, several at once; where there is none, it came as a hash."""
    loop = asyncio.get_running_loop()
    hashing = [None if each is None else loop.run_in_executor(pool, passwords.PHC.hash, each) for each in plain]
    return [None if each is None else await each for each in hashing]


async def _chunks(files: Sequence[str], stop: asyncio.Event) -> AsyncIterator[list[Line]]:
    """Yield lines in chunks until there are no more, or `stop` is set: also while nothing arrives on standard input."""
    loop, ready = asyncio.get_running_loop(), asyncio.Queue[list[Line] | OSError | None](1)

    def put(item: list[Line] | OSError | None) -> None:
        if loop.is_closed():
            raise RuntimeError
        asyncio.run_coroutine_threadsafe(ready.put(item), loop).result()

    def read() -> None:
        with suppress(RuntimeError, CancelledError):  # the loop has ended, and nobody waits for the rest
            try:
                for chunk in in_chunks(line for file in files for line in lines_of(file)):
                    put(chunk)
            except OSError as error:
                put(error)
            put(None)

    # Not of a pool: whoever waits for a terminal can't be told to stop, and must not be waited for.
    threading.Thread(target=read, name="read", daemon=True).start()
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            waiting = asyncio.ensure_future(ready.get())
            await asyncio.wait({waiting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                return
            item = waiting.result()
            if isinstance(item, OSError):
                raise ConfigurationError(f"{item.filename}: {item.strerror}")
            if item is None:
                return
            yield item
    finally:
        stopped.cancel()
