"""
A command that can never be processed: the original key, bytes and headers, and five headers that say why and from where.

The value is the original one, bit for bit, except where it carried a plaintext password: then it is null, and so are
key and the sender's headers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from schemas.base import Headers, Message, header

DEAD_LETTERS_TOPIC: Final = "customer.registration.dead-letters.v1"


class DeadLetter(Message):
    """The headers that a dead letter adds to the original record's."""

    dl_code: str
    dl_topic: str
    dl_partition: int
    dl_offset: int
    dl_at: datetime

    @classmethod
    def from_headers(cls, headers: Headers) -> DeadLetter:
        """
        Read the five headers of a dead letter: the last of their names, for the original record may have had such too.

        Raises:
            pydantic.ValidationError: one is missing or malformed.
        """
        latest = headers[::-1]
        return cls.model_validate({name: header(latest, name) for name in cls.model_fields})
