"""
Why a request is refused before it reaches a route.

The contract's list of codes is closed and has none for broken HTTP or for large headers. A caller finds the status that
says whose fault it is, the code that is nearest, and a detail that names the matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REFUSAL: Final = "registration.refusal"
"""Of a request's scope: why it is refused."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused before it reaches a route: a problem's status and code, and what is the matter."""

    status: int
    code: str
    detail: str


NO_HTTP: Final = Refusal(400, "malformed-json", "The request is not HTTP/1.1 as RFC 9112 has it.")
NO_HOST: Final = Refusal(400, "malformed-json", "The request must have exactly one header Host.")
NO_UPGRADE: Final = Refusal(400, "malformed-json", "No other protocol is offered here: send the body without the header Upgrade.")
TOO_SLOW: Final = Refusal(400, "malformed-json", "The request's headers did not arrive in time.")
BROKEN_BODY: Final = Refusal(400, "malformed-json", "The body's chunks are not as RFC 9112 has them.")
TOO_LARGE: Final = Refusal(413, "body-too-large", "The request's headers are too large, or its path is.")
NO_PATH: Final = Refusal(404, "not-found", "A path has no encoded slash, backslash or NUL.")
TOO_MANY: Final = Refusal(503, "overloaded", "There are too many connections.")
TOO_MANY_AT_ONCE: Final = Refusal(503, "overloaded", "Too many requests wait for their answer on this connection.")
