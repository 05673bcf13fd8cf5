"""Reading a body beside the event loop where it is large: 64 KiB of small values take 40 ms, and others wait meanwhile."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from worker.ingress.requests import Json, canonical, parse, without_passwords

INLINE_MAX_BYTES: Final = 16_384
"""A registration has 3 KiB; up to this size a thread costs more than it spares."""


@dataclass(frozen=True, slots=True)
class Read:
    """A body: as it was sent, without its passwords, and the latter as RFC 8785 writes it."""

    document: Json
    bare: Json
    canonical: bytes


class Reader:
    """One thread for all large bodies, so that they slow each other down and nobody else."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read")

    async def read(self, body: bytes) -> Read:
        """
        Read a body.

        Raises:
            ProblemError: `malformed-json`.
        """
        if len(body) <= INLINE_MAX_BYTES:
            return read(body)
        return await asyncio.get_running_loop().run_in_executor(self._pool, read, body)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)


def read(body: bytes) -> Read:
    """Read a body here and now."""
    document = parse(body)
    bare = without_passwords(document)
    return Read(document, bare, canonical(bare))
