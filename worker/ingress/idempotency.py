"""
Idempotency-Key: the same key of the same caller is the same registration, whichever ingress gets it and however often.

The registration's id derives from tenant, subject and key, so that nothing has to be stored here: the database's outcome
of that id is the answer to every retry, and the worker takes a command of an id that has its outcome as a repeat.

Source: IETF draft-ietf-httpapi-idempotency-key-header; RFC 8941 (strings).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from worker.ingress.problems import ProblemError
from worker.kafka import Sent

KEY_MAX: Final = 255
KEY_LENGTH_MAX: Final = 2 + 2 * KEY_MAX
"""Of the header: quoted, with each character escaped."""
KEY_PATTERN: Final = rf'^(?:[!#-~][!-~]{{0,{KEY_MAX - 1}}}|"(?:[!#-\[\]-~]|\\["\\]){{1,{KEY_MAX}}}")$'
"""What of the header is a key, for the API's description; a test holds it against `key_of`."""

_BARE: Final = re.compile(rf"[\x21-\x7e]{{1,{KEY_MAX}}}")
_QUOTED: Final = re.compile(r'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")

Running: TypeAlias = tuple[str, str]
"""Registration id and fingerprint of a request that is being taken in."""


def key_of(values: Sequence[str]) -> str | None:
    """
    Read the header.

    Args:
        values: every `Idempotency-Key` header.
    Returns:
        The key, the same whether it was quoted or bare; None where there is none.
    Raises:
        ProblemError: `idempotency-key-invalid`.
    """
    if not values:
        return None
    text = values[0].strip(" \t")
    quoted = _QUOTED.fullmatch(text)
    key = _ESCAPED.sub(r"\1", quoted[1]) if quoted else text
    if len(values) > 1 or (text.startswith('"') and quoted is None) or _BARE.fullmatch(key) is None:
        raise ProblemError("idempotency-key-invalid")
    return key


class Joins:
    """
    The requests with a key that this process is taking in now.

    Who comes with the same key and the same body meanwhile joins: it neither hashes nor publishes a second time. That saves
    work and nothing else; in another process the command is published again, and is a repeat.
    """

    def __init__(self) -> None:
        self._running: dict[Running, asyncio.Future[Sent | None]] = {}

    async def joined(self, running: Running) -> Sent | None:
        """Wait for another request with this key and body; return where its command is, None where there is nothing to join."""
        first = self._running.get(running)
        return None if first is None else await asyncio.shield(first)

    @asynccontextmanager
    async def leading(self, running: Running) -> AsyncIterator[asyncio.Future[Sent | None]]:
        """
        Take a request in; who joins waits for the future that it is given.

        It is to be set to where Kafka has the command. Where the block ends without that, those who joined go on by
        themselves.
        """
        sent: asyncio.Future[Sent | None] = asyncio.get_running_loop().create_future()
        self._running.setdefault(running, sent)
        try:
            yield sent
        finally:
            if not sent.done():
                sent.set_result(None)
            if self._running.get(running) is sent:
                del self._running[running]
