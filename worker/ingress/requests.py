"""
What a request says, read strictly: its body, its JSON, how long it wants to wait, and its trace.

Source: RFC 8259 and 7493 (JSON), RFC 7240 (Prefer), W3C Trace Context.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import rfc8785
from starlette.requests import Request

from worker.ingress.problems import ProblemError

Json: TypeAlias = Any
"""What JSON holds: None, bool, int, float, str, lists and dicts of these."""

DEPTH_MAX: Final = 32
WAIT_MAX_S: Final = 60
PASSWORD_NAMES: Final = frozenset({"password", "matchingPassword"})

_EXACT_DIGITS: Final = 15
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_PREFER_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace that a request belongs to. `parent` is its `traceparent`; `is_callers`: the caller began it."""

    trace_id: str
    parent: str
    is_callers: bool = False

    @classmethod
    def of(cls, values: Sequence[str], random: bytes) -> Trace:
        """
        Take the caller's trace, or begin one.

        Args:
            values: every `traceparent` header.
            random: 24 bytes for a trace of our own.
        """
        match = _TRACEPARENT.fullmatch(values[0].strip()) if len(values) == 1 else None
        if match is not None:
            version, trace_id, parent_id, flags, more = match.groups()
            if version != "ff" and trace_id.strip("0") and parent_id.strip("0") and not (version == "00" and more):
                return cls(trace_id, f"00-{trace_id}-{parent_id}-{flags}", is_callers=True)
        trace_id, span_id = random[:16].hex(), random[16:24].hex()
        return cls(trace_id, f"00-{trace_id}-{span_id}-00")


@dataclass(frozen=True, slots=True)
class Preference:
    """How long a caller wants to wait for the outcome, and what to echo in Preference-Applied (empty: nothing)."""

    wait_s: float
    applied: str


def preference(values: Sequence[str], default_s: float) -> Preference:
    """
    Read the header Prefer: `wait=N` (0 to 60), `respond-async`, or both; what is out of range or unknown is ignored.

    Args:
        values: every `Prefer` header.
        default_s: how long to wait where nothing is preferred.
    """
    named: dict[str, str] = {}
    for each in ",".join(values)[:_PREFER_MAX].split(","):
        name, _, value = each.partition(";")[0].partition("=")
        named.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = named.get("wait", "")
    wait_s = int(wait) if wait.isascii() and wait.isdigit() and len(wait) <= 2 and int(wait) <= WAIT_MAX_S else None  # noqa: PLR2004
    asynchronous = named.get("respond-async") == ""
    applied = [*(["respond-async"] if asynchronous else []), *([f"wait={wait_s}"] if wait_s is not None else [])]
    if wait_s is None:
        wait_s = 0 if asynchronous else None
    return Preference(default_s if wait_s is None else wait_s, ", ".join(applied))


async def body_of(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """
    Read a request's body.

    Args:
        max_bytes: that it may have, whatever it declares.
        timeout_s: within which it arrives.
    Raises:
        ProblemError: `body-too-large`, `unsupported-media-type`, or `malformed-json` where it does not arrive.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:_EXACT_DIGITS]) > max_bytes:
        raise ProblemError("body-too-large", _too_large(max_bytes))
    parts = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                parts += part
                if len(parts) > max_bytes:
                    raise ProblemError("body-too-large", _too_large(max_bytes))
    except TimeoutError:
        raise ProblemError("malformed-json", f"The body did not arrive within {timeout_s:g} s.") from None
    _check_media_type(request)
    return bytes(parts)


def _too_large(max_bytes: int) -> str:
    return f"The body may have up to {max_bytes} bytes."


def _check_media_type(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    name, _, charset = parameters.partition("=")
    is_json = media_type.strip().lower() == "application/json"
    is_utf_8 = name.strip().lower() != "charset" or charset.strip().strip('"').lower() in {"utf-8", "utf8"}
    is_plain = request.headers.get("content-encoding", "identity").strip().lower() in {"", "identity"}
    if not (is_json and is_utf_8 and is_plain):
        raise ProblemError("unsupported-media-type", headers={"Accept": "application/json", "Accept-Encoding": "identity"})


def parse(body: bytes) -> Json:
    """
    Parse a body as strict JSON: UTF-8, no member twice, no NaN, at most 32 levels; a byte order mark is ignored.

    Raises:
        ProblemError: `malformed-json`.
    """
    try:
        text = body.decode("utf-8-sig")
        document = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
    except UnicodeDecodeError:
        raise ProblemError("malformed-json", "The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        detail = f"The body is not JSON: see line {error.lineno}, column {error.colno}."
        raise ProblemError("malformed-json", detail) from None
    except RecursionError:
        raise ProblemError("malformed-json", _TOO_DEEP) from None
    _check_depth(document)
    return document


_TOO_DEEP: Final = f"The body is nested deeper than {DEPTH_MAX} levels."


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ProblemError("malformed-json", "A member stands twice in one object.")
    return made


def _refuse_constant(_name: str) -> NoReturn:
    raise ProblemError("malformed-json", "NaN and Infinity are no JSON.")


def _integer(text: str) -> int | float:
    """Read a whole number as RFC 8785 does: beyond what a double holds exactly, it is a double."""
    return int(text) if len(text) <= _EXACT_DIGITS else _finite(text)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ProblemError("malformed-json", "A number is out of range.")
    return value


def _check_depth(document: Json) -> None:
    level, depth = _containers([document]), 0
    while level:
        depth += 1
        if depth > DEPTH_MAX:
            raise ProblemError("malformed-json", _TOO_DEEP)
        level = [
            inner for container in level for inner in _containers(container.values() if isinstance(container, dict) else container)
        ]


def _containers(values: Iterable[Json]) -> list[Json]:
    return [value for value in values if isinstance(value, (dict, list))]


def without_passwords(document: Json) -> Json:
    """Return a copy without any member named `password` or `matchingPassword`, at any depth."""
    if isinstance(document, dict):
        return {name: without_passwords(value) for name, value in document.items() if name not in PASSWORD_NAMES}
    if isinstance(document, list):
        return [without_passwords(value) for value in document]
    return document


def canonical(document: Json) -> bytes:
    """Return a document as RFC 8785 writes it; a lone surrogate, which UTF-8 can't hold, becomes a question mark."""
    try:
        return rfc8785.dumps(document)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        return rfc8785.dumps(_encodable(document))


def _encodable(document: Json) -> Json:
    if isinstance(document, str):
        return document.encode(errors="replace").decode()
    if isinstance(document, dict):
        return {_encodable(name): _encodable(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_encodable(value) for value in document]
    return document
