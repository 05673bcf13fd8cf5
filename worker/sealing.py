"""
Sealing at rest: AES-256-GCM with a key that is named, so that keys can be rotated.

A box is `key id`, a zero byte, a 12-byte nonce, and the ciphertext with its tag. The place a box belongs to is its
associated data: a box copied to another row does not open.
"""

from __future__ import annotations

import base64
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.errors import ConfigurationError

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


class UnsealableError(Exception):
    """This box can't be opened: its key is not among REGISTRATION_SEALING_KEYS, or it was changed."""


class Sealer:
    """
    Seals with the first key and opens with any.

    Args:
        keys: `id:base64,id:base64`; each key has 32 bytes.
    Raises:
        ConfigurationError: a key is malformed, or there is none.
    """

    def __init__(self, keys: str) -> None:
        named = [_key(entry) for entry in keys.split(",") if entry.strip()]
        self._boxes = dict(named)
        if len(self._boxes) < len(named):
            msg = "REGISTRATION_SEALING_KEYS: two keys have the same id"
            raise ConfigurationError(msg)
        if not self._boxes:
            msg = "REGISTRATION_SEALING_KEYS: missing; give `id:base64` of 32 random bytes"
            raise ConfigurationError(msg)
        self._current = next(iter(self._boxes))

    def seal(self, plain: bytes, place: str) -> bytes:
        """Return a box that only opens for the same place."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._boxes[self._current].encrypt(nonce, plain, place.encode())
        return self._current.encode() + b"\0" + nonce + sealed

    def open(self, box: bytes, place: str) -> bytes:
        """
        Return what was sealed.

        Raises:
            UnsealableError: the key is not here, or the box or its place was changed.
        """
        name, _, rest = box.partition(b"\0")
        key = self._boxes.get(name.decode(errors="replace"))
        if key is None:
            raise UnsealableError
        try:
            return key.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise UnsealableError from None


def _key(entry: str) -> tuple[str, AESGCM]:
    name, _, encoded = entry.strip().partition(":")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        key = b""
    if not name or "\0" in name or len(key) != _KEY_BYTES:
        msg = "REGISTRATION_SEALING_KEYS: each entry is `id:base64` of 32 bytes"
        raise ConfigurationError(msg)
    return name, AESGCM(key)
