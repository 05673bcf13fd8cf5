"""
A set of public keys (JWKS), and the two places that it is read from: a file and an identity provider.

Source: RFC 7517 (JSON Web Key).
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import httpx
import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from worker.config import Settings
from worker.errors import ConfigurationError
from worker.tls import Pem, client_context

ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Asymmetric ones only: with a shared secret, whoever checks a token could make one."""
DEVELOPMENT: Final = "development"
"""A JWKS with this member, true, or a key with it, was made by `registration dev`."""
DEADLINE_S: Final = 3.0
CONNECT_SHARE: Final = 0.45
SIZE_MAX_BYTES: Final = 256 * 1024
KEYS_MAX: Final = 100
FILE_INTERVAL_S: Final = 5.0

Reason: TypeAlias = Literal[
    "unreachable", "certificate", "timeout", "redirect", "status", "too-large",
    "unreadable", "malformed", "ambiguous", "no-key", "private", "development",
]  # fmt: skip

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class JwksError(Exception):
    """There are no keys to be had; `reason` is for metrics, the message for people. Neither holds what was read."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, and what it may have been used with."""

    key: Any
    algorithms: tuple[str, ...]


Jwks: TypeAlias = Mapping[str, Key]
"""Keys by their `kid`."""


class Source(Protocol):
    """Where keys come from."""

    @property
    def interval_s(self) -> float:
        """How often it is worth a look."""

    async def read(self) -> Jwks:
        """
        Read the keys; it may be slow, and it takes no time of the event loop.

        Raises:
            JwksError: there are none to be had.
        """


class JwksFile:
    """A file with keys; a secret that is mounted is exchanged without a word, so it is read every few seconds."""

    interval_s = FILE_INTERVAL_S

    def __init__(self, path: Path, *, development: bool) -> None:
        self._path = path
        self._development = development

    async def read(self) -> Jwks:
        """Read the keys, in a thread: a file may lie on another machine."""
        return await asyncio.to_thread(self.read_now)

    def read_now(self) -> Jwks:
        """
        Read the keys.

        Raises:
            JwksError: there are none to be had.
        """
        try:
            with self._path.open("rb") as file:
                content = file.read(SIZE_MAX_BYTES + 1)
        except OSError as error:
            raise JwksError("unreadable", f"can't be read: {error.strerror}") from None
        return parse(content, development=self._development)


class JwksUrl:
    """
    An identity provider. Nothing that it answers, or fails to answer, takes more than 3 s or 256 KiB.

    No redirect is followed, and no proxy or certificate of the environment is used: what makes a token trusted is said
    by the settings alone.

    Raises:
        ConfigurationError: the URL, or the file with certificates, is not as it should be.
    """

    def __init__(self, settings: Settings) -> None:
        ca = settings.jwks_ca_file
        self.interval_s = settings.jwks_refresh_s
        self._development = settings.development
        self._trust = client_context(None if ca is None else Pem("REGISTRATION_JWKS_CA_FILE", ca), None, None)
        try:
            self._url = httpx.URL(settings.jwks_url.get_secret_value())
        except httpx.InvalidURL:
            raise ConfigurationError("REGISTRATION_JWKS_URL: must be `https://host/path`") from None

    async def read(self) -> Jwks:
        """Fetch the keys over a connection of their own, and parse them in a thread."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                content = await self._fetch()
        except (TimeoutError, httpx.TimeoutException):
            raise JwksError("timeout", f"did not answer within {DEADLINE_S:g} s") from None
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            if _is_of_tls(error):
                raise JwksError("certificate", "has a certificate that is not trusted, or speaks no TLS") from None
            raise JwksError("unreachable", "can't be reached, or ended the connection") from None
        return await asyncio.to_thread(parse, content, development=self._development)

    async def _fetch(self) -> bytes:
        headers = {"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": "identity"}
        # TCP and then TLS have their own timeout, which ends first: httpcore leaves a socket behind that is cancelled in TLS.
        timeout = httpx.Timeout(DEADLINE_S, connect=DEADLINE_S * CONNECT_SHARE)
        async with (
            httpx.AsyncClient(verify=self._trust, trust_env=False, timeout=timeout, follow_redirects=False) as client,
            client.stream("GET", self._url, headers=headers) as answer,
        ):
            if answer.is_redirect:
                raise JwksError("redirect", "answers with a redirect, which is not followed: name the place that it leads to")
            if answer.status_code != httpx.codes.OK:
                raise JwksError("status", f"answers with status {answer.status_code}")
            content = bytearray()
            async for part in answer.aiter_raw():  # as it arrives: what would unpack to gigabytes is never unpacked
                content += part
                if len(content) > SIZE_MAX_BYTES:
                    break
        return bytes(content)


def parse(content: bytes, *, development: bool) -> Jwks:
    """
    Read the keys in the bytes of a JWKS.

    Args:
        content: what a file holds or a provider has answered; at most 256 KiB.
        development: whether keys made for development are accepted.
    Raises:
        JwksError: as `keys_of`, or these are not the bytes of a JWKS.
    """
    if len(content) > SIZE_MAX_BYTES:
        raise JwksError("too-large", f"is larger than {SIZE_MAX_BYTES // 1024} KiB")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise JwksError("malformed", "is not JSON") from None
    return keys_of(document, development=development)


def keys_of(document: object, *, development: bool) -> Jwks:
    """
    Return the keys of a JWKS, all or none: a part of a set that is wrong was not meant.

    Args:
        document: parsed JSON; keys of a kind that is not accepted here are left out.
        development: whether keys made for development are accepted.
    Raises:
        JwksError: there is no usable key, a private one, one for development only, or a `kid` means two keys.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(listed, list):
        raise JwksError("malformed", "is no JWKS (RFC 7517)")
    if len(listed) > KEYS_MAX:
        raise JwksError("too-large", f"holds more than {KEYS_MAX} keys")
    entries = [entry for entry in listed if isinstance(entry, dict)]
    if not development and any(part.get(DEVELOPMENT) for part in (document, *entries)):
        raise JwksError("development", "holds development keys, which only `registration dev` accepts")
    if any(_PRIVATE_MEMBERS & entry.keys() for entry in entries):
        raise JwksError("private", "holds a private or shared key; it must hold public keys only")
    found: dict[str, Key] = {}
    for entry in entries:
        kid, key = entry.get("kid"), _usable(entry)
        if not isinstance(kid, str) or not kid or key is None:
            continue
        known = found.setdefault(kid, key)
        if known.key != key.key:
            raise JwksError("ambiguous", "holds two keys with the same `kid`")
        found[kid] = replace(known, algorithms=tuple(dict.fromkeys(known.algorithms + key.algorithms)))
    if not found:
        raise JwksError("no-key", "holds no signing key with a `kid`")
    return found


def _usable(entry: Mapping[str, Any]) -> Key | None:
    """Return an entry's key; None where it is for another purpose, of another kind, broken or too short."""
    algorithm = entry.get("alg", "RS256")
    if entry.get("use", "sig") != "sig" or entry.get("kty") == "oct" or not _verifies(entry.get("key_ops", ["verify"])):
        return None
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return None
    try:
        key = jwt.PyJWK(dict(entry))
    except (jwt.PyJWTError, UnsupportedAlgorithm, KeyError, TypeError, ValueError):  # a member is missing, or of another type
        return None
    if key.Algorithm.check_key_length(key.key) is not None:
        return None
    fitting = _RSA if entry.get("kty") == "RSA" and "alg" not in entry else (key.algorithm_name,)
    algorithms = tuple(name for name in fitting if name in ALGORITHMS)
    return Key(key.key, algorithms) if algorithms else None


def _verifies(operations: object) -> bool:
    """Say whether a key's operations (RFC 7517, 4.3) are a list with the one that we need."""
    return isinstance(operations, list) and "verify" in operations


def _is_of_tls(error: BaseException | None) -> bool:
    """Whether TLS is what an error comes from; httpx has one error for all that goes wrong while it connects."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None
