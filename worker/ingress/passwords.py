"""
Passwords: what a new one must be, and its hash. The plaintext goes no further than this module and the request's body.

Source: NIST SP 800-63B-4 3.1.1.2 (length and lists rather than composition), OWASP password storage (argon2id parameters).
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final

import argon2
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from schemas.commands import Customer
from worker.core.catalogue import Passwords
from worker.core.customer import Fault
from worker.core.shape import is_whole
from worker.errors import ConfigurationError
from worker.ingress.problems import ProblemError
from worker.metrics import Metrics
from worker.registration import acceptable_hash

MEMORY_KIB: Final = 19_456
PASSES: Final = 2
LANES: Final = 1
PHC: Final = argon2.PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, type=argon2.Type.ID)
"""Makes PHC strings; safe for threads."""

TOP: Final = "/password"
MATCHING: Final = "/matchingPassword"
USER: Final = "/individualCustomer/user/password"

_DISTINCT_MIN: Final = 4
_LIKENESS_MIN: Final = 4
_UNLIKE_MIN: Final = 8
_EDGES: Final = re.compile(r"^[^a-z]+|[^a-z]+$")


def find(document: dict[str, Any]) -> dict[str, Any]:
    """Return what stands in the three places of a password, by pointer; null counts as absent."""
    individual = document.get("individualCustomer")
    user = individual.get("user") if isinstance(individual, dict) else None
    places = {
        TOP: document.get("password"),
        MATCHING: document.get("matchingPassword"),
        USER: user.get("password") if isinstance(user, dict) else None,
    }
    return {pointer: value for pointer, value in places.items() if value is not None}


def judge(found: Mapping[str, Any], policy: Passwords, likenesses: tuple[str, ...]) -> tuple[str, tuple[Fault, ...]]:
    """
    Check a new password.

    Args:
        found: what stands in its places, by pointer. The user's stands for the top one where that is left out.
        policy: the tenant's rules.
        likenesses: email and names, which it must not consist of.
    Returns:
        The password, NFC, and its faults; it may be hashed only where there are none.
    """
    faults = [Fault(at, "type.unexpected", "Expected text.") for at, value in found.items() if not isinstance(value, str)]
    if faults:
        return "", tuple(faults)
    source = TOP if TOP in found else USER
    if source not in found:
        return "", (Fault(TOP, "required", "Must be there."),)
    password = unicodedata.normalize("NFC", found[source])
    if not is_whole(password):
        return "", (Fault(source, "text.not_allowed", "Expected whole Unicode characters, no lone surrogates."),)
    faults += [
        Fault(at, "password.mismatch", "Must be the same password everywhere.")
        for at, value in found.items()
        if unicodedata.normalize("NFC", value) != password
    ]
    if weakness := _weakness(password, policy, likenesses):
        faults.append(Fault(source, "password.weak", weakness))
    return password, tuple(faults)


def likenesses(customer: Customer) -> tuple[str, ...]:
    """Return the texts that a password must not be made of."""
    individual = customer.get("individualCustomer")
    person = individual.get("person") if individual else None
    told = [customer.get("email"), customer.get("firstName"), customer.get("lastName")]
    if person is not None:
        told += [person.get("email"), person.get("firstName"), person.get("lastName")]
    return tuple(text for text in told if text)


def _weakness(password: str, policy: Passwords, likenesses: tuple[str, ...]) -> str | None:
    if not policy.length_min <= len(password) <= policy.length_max:
        return f"Must have {policy.length_min} to {policy.length_max} characters."
    folded = password.casefold()
    if policy.common_refused and (folded in _common() or _EDGES.sub("", folded) in _common() or len(set(folded)) < _DISTINCT_MIN):
        return "Must not be a common password."
    if policy.like_email_refused and _is_like(folded, likenesses):
        return "Must not be made of the email address or the name."
    return None


def _is_like(folded: str, likenesses: tuple[str, ...]) -> bool:
    """Say whether little is left of a password without the parts of an email address and a name."""
    parts = {part for text in likenesses for part in re.split(r"[@\s]+", text.casefold())}
    parts |= {piece for part in parts for piece in re.split(r"[._+-]+", part)}
    rest = folded
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _LIKENESS_MIN:
            rest = rest.replace(part, "")
    return len(rest) < min(_UNLIKE_MIN, len(folded))


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    return frozenset(FREQUENCY_LISTS["passwords"])


def _check_hashes() -> None:
    """
    See that what would be sent is what a worker accepts, before anybody's password depends on it.

    Raises:
        ConfigurationError: this build of argon2 makes something else.
    """
    made = PHC.hash("a probe, nobody's password")
    if PHC.check_needs_rehash(made) or not acceptable_hash(made):
        msg = "argon2: this build does not make the hashes that workers accept (argon2id v19)"
        raise ConfigurationError(msg)


class Hasher:
    """
    Argon2id in threads of its own: the library releases the interpreter's lock, so the event loop goes on.

    Args:
        threads: how many passwords are hashed at once.
        queue_max: how many more may wait; beyond, a request is refused, so that hashing is no lever against us.
        metrics: told about the queue.
    Raises:
        ConfigurationError: see `_check_hashes`.
    """

    def __init__(self, threads: int, queue_max: int, metrics: Metrics) -> None:
        _check_hashes()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="hash")
        self._room = threads + queue_max
        self._taken = 0
        self._metrics = metrics
        _common()

    def check_room(self) -> None:
        """
        See that one more password may wait, before there is any other work for it.

        Raises:
            ProblemError: `overloaded`.
        """
        if self._taken >= self._room:
            self._metrics.hash_refusals.inc()
            raise ProblemError("overloaded")

    async def hash(self, password: str) -> str:
        """
        Return a password's PHC string.

        Raises:
            ProblemError: `overloaded`.
        """
        self.check_room()
        self._take(1)
        loop = asyncio.get_running_loop()
        with self._metrics.hash_seconds.time():
            hashing = self._pool.submit(PHC.hash, password)
            # Whoever waits may be cancelled; the thread is taken until it is done.
            hashing.add_done_callback(lambda _: loop.call_soon_threadsafe(self._take, -1))
            return await asyncio.wrap_future(hashing)

    def _take(self, more: int) -> None:
        self._taken += more
        self._metrics.hash_queue.set(self._taken)

    def close(self) -> None:
        """End the threads; what is being hashed ends first."""
        self._pool.shutdown(cancel_futures=True)
