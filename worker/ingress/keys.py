"""
The keys that tokens are checked by now, and what keeps them fresh in the background.

A request only ever looks here: it waits for no file and no network. What was read last serves until something newer is
read, for a day at most; an identity provider that is down therefore stops nobody, and one that is gone is noticed.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self, TypeAlias

from worker import logs
from worker.config import Settings
from worker.errors import ConfigurationError
from worker.ingress.jwks import Jwks, JwksError, JwksFile, JwksUrl, Key, Source
from worker.ingress.problems import ProblemError
from worker.metrics import Metrics

Clock: TypeAlias = Callable[[], float]
"""Seconds that never run backwards; only differences mean something."""

AGE_MAX_S: Final = 24 * 3600.0
RETRY_INTERVAL_S: Final = 10.0
"""After a refresh that failed."""
WANTED_INTERVAL_S: Final = 30.0
"""Between two refreshes that tokens with an unknown `kid` ask for: anybody can send such."""
TICK_S: Final = 1.0

_NONE_YET: Final = "The public keys of the identity provider, by which tokens are checked, are not there now."


class Keys:
    """
    The keys, as they were last read.

    Args:
        source: where they come from.
        metrics: of this process.
        clock: the time.
        first: keys that were read already.
    """

    def __init__(self, source: Source, metrics: Metrics, *, clock: Clock = time.monotonic, first: Jwks | None = None) -> None:
        self._source = source
        self._metrics = metrics
        self._clock = clock
        self._log = logs.logger()
        self._keys: Jwks = first or {}
        self._read_at = -math.inf if first is None else clock()
        self._next_at = clock() + (0 if first is None else source.interval_s)
        self._is_wanted = False
        self._wanted_from = -math.inf
        self._woken = asyncio.Event()
        self._failures: list[str] = []
        self._is_expiry_told = False
        self.tried = asyncio.Event()
        if first is not None:
            self.tried.set()
        metrics.jwks_age_seconds.set_function(self._age_s)

    @classmethod
    def from_settings(cls, settings: Settings, metrics: Metrics, clock: Clock = time.monotonic) -> Self:
        """
        Take the keys from where the settings say. A file is read now, an identity provider in the background.

        Raises:
            ConfigurationError: the settings name no place, or the file holds no keys that may be trusted.
        """
        if settings.jwks_url.get_secret_value():
            return cls(JwksUrl(settings), metrics, clock=clock)
        if settings.jwks_file is None:
            raise ConfigurationError(
                "REGISTRATION_JWKS_URL: it or REGISTRATION_JWKS_FILE must name the public keys of access tokens"
            )
        file = JwksFile(settings.jwks_file, development=settings.development)
        try:
            return cls(file, metrics, clock=clock, first=file.read_now())
        except JwksError as error:
            raise ConfigurationError(f"REGISTRATION_JWKS_FILE: {error}") from None

    def find(self, kid: str) -> Key | None:
        """
        Return the key of that id; None where it is not known, which the refresher is told.

        Raises:
            ProblemError: `overloaded`: there are no keys, so nobody can say whether a token is good.
        """
        if self._age_s() > AGE_MAX_S:
            raise ProblemError("overloaded", _NONE_YET, headers={"Retry-After": f"{RETRY_INTERVAL_S:.0f}"})
        key = self._keys.get(kid)
        if key is None and not self._is_wanted:
            self._is_wanted = True
            self._woken.set()
        return key

    def reasons(self) -> list[str]:
        """Why tokens can't be checked; empty where they can."""
        if self._age_s() <= AGE_MAX_S:
            return []
        lacking = "never read" if self._read_at == -math.inf else f"older than {AGE_MAX_S / 3600:.0f} h"
        return [f"keys of the identity provider: {lacking}{''.join(f' ({reason})' for reason in self._failures[-1:])}"]

    def due_at(self) -> float:
        """When the keys are to be read next, by the clock."""
        return min(self._next_at, self._wanted_from) if self._is_wanted else self._next_at

    async def run(self) -> None:
        """Keep the keys fresh, for ever."""
        while True:
            if self._clock() >= self.due_at():
                await self.run_once()
            self._tell_expiry()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(TICK_S, max(self.due_at() - self._clock(), 0))):
                    await self._woken.wait()
            self._woken.clear()

    async def run_once(self) -> int:
        """Read the keys anew; return how many there are then."""
        began = self._clock()
        if self._is_wanted:
            self._is_wanted, self._wanted_from = False, began + WANTED_INTERVAL_S
        try:
            self._take(await self._source.read(), began)
        except JwksError as error:
            self._keep(error)
        self.tried.set()
        return len(self._keys)

    def _age_s(self) -> float:
        return self._clock() - self._read_at

    def _take(self, keys: Jwks, read_at: float) -> None:
        if self._failures or keys != self._keys:
            self._log.info("keys.read", keys=len(keys), new=len(keys.keys() - self._keys.keys()))
        self._keys, self._read_at, self._next_at = keys, read_at, self._clock() + self._source.interval_s
        self._failures, self._is_expiry_told = [], False

    def _keep(self, error: JwksError) -> None:
        """Go on with what there is; each reason is told once, until the keys can be read again."""
        self._metrics.jwks_refresh_failures.labels(error.reason).inc()
        self._next_at = self._clock() + min(RETRY_INTERVAL_S, self._source.interval_s)
        if error.reason in self._failures:
            self._failures.remove(error.reason)
        else:
            self._log.warning("keys.kept", reason=error.reason, detail=f"it {error}", keys=len(self._keys))
        self._failures.append(error.reason)

    def _tell_expiry(self) -> None:
        if self._keys and self._age_s() > AGE_MAX_S and not self._is_expiry_told:
            self._is_expiry_told = True
            self._log.error(
                "keys.expired", reasons=self._failures, detail="mend the identity provider, or where the settings look for it"
            )
