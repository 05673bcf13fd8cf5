"""What every message has in common: JSON in camelCase, unknown members ignored, the CloudEvents headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

SPEC_VERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/json"

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
"""Kafka's record headers, in order; a name may repeat, a value may be null."""


class Message(BaseModel):
    """
    A value on a topic.

    Members are camelCase on the wire and snake_case in Python. A member that this version does not know is
    ignored, so that the contract can grow without breaking its readers.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        ser_json_timedelta="iso8601",
    )

    def to_json(self) -> bytes:
        """Return the value's bytes: compact UTF-8 JSON, members that are absent left out."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)


def header(headers: Headers, name: str) -> str | None:
    """Return the first header of that name as text; None where it is absent, null or not UTF-8."""
    for key, value in headers:
        if key == name:
            try:
                return None if value is None else value.decode()
            except UnicodeDecodeError:
                return None
    return None
