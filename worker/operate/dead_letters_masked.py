"""
What a dead letter may show of itself to anybody: what stands where and how long it is, and nothing that a sender wrote.

Pure. A name is shown only where it is one of the contract's: a sender could write a person's name where a member's belongs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from schemas.commands import RegisterCustomer
from worker.kafka import OutMessage

LINES_MAX: Final = 200
_HEADERS: Final = frozenset(
    {
        "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "ce_tenantid", "content-type",
        "traceparent", "redrive_of",
    }
)  # fmt: skip
_NAMELESS: Final = "(another name)"


def masked(message: OutMessage) -> tuple[str, ...]:
    """Return an outline of a record, line by line: lengths in bytes, of texts in characters."""
    lines = [f"key: {_size(message.key)}"]
    lines += [f"header {name if name in _HEADERS else _NAMELESS}: {_size(value)}" for name, value in message.headers]
    lines += [f"value: {_size(message.value)}", *_members(message.value)]
    return (*lines[:LINES_MAX], "and more") if len(lines) > LINES_MAX else tuple(lines)


def readable(value: bytes | None) -> str:
    """Return bytes as text for a terminal: what is no printable character is escaped."""
    if value is None:
        return "null"
    text = value.decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _size(value: bytes | None) -> str:
    return "null" if value is None else f"{len(value):,} bytes"


def _members(value: bytes | None) -> list[str]:
    try:
        document = json.loads(value or b"", parse_int=float)  # Python refuses to read very long whole numbers
        return [f"  {pointer or '/'}: {what}" for pointer, what in islice(_walk("", document), LINES_MAX)]
    except (ValueError, RecursionError):
        return ["  no JSON that can be read"]


def _walk(pointer: str, node: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - whatever JSON holds
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _walk(f"{pointer}/{name if name in _NAMES else _NAMELESS}", child)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _walk(f"{pointer}/{index}", child)
    elif isinstance(node, str):
        yield pointer, f"text of {len(node):,} characters"
    else:
        yield pointer, "null" if node is None else "true or false" if isinstance(node, bool) else "a number"


def _names(node: object) -> Iterator[str]:
    """Find the members' names in a JSON Schema."""
    if isinstance(node, dict):
        if isinstance(properties := node.get("properties"), dict):
            yield from properties
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _names(child)


_NAMES: Final = frozenset(_names(RegisterCustomer.model_json_schema(by_alias=True)))
