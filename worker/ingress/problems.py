"""
Every error that a caller can meet, in one table: code, status, what it means and what to do.

Source: RFC 9457 (problem details), RFC 6750 (WWW-Authenticate), RFC 9110 (Retry-After).
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from worker.core.customer import Fault

MEDIA_TYPE: Final = "application/problem+json"
PATH: Final = "/problems"
_REALM: Final = 'Bearer realm="registration"'


@dataclass(frozen=True, slots=True)
class Kind:
    """
    One kind of problem.

    Args:
        status: HTTP status.
        title: a short summary that never changes.
        meaning: what has happened, for a person.
        advice: what the caller can do.
        retry_after_s: seconds after which a repeat makes sense; None where it makes none.
        challenge: the WWW-Authenticate header.
    """

    status: int
    title: str
    meaning: str
    advice: str
    retry_after_s: int | None = None
    challenge: str | None = None


KINDS: Final[Mapping[str, Kind]] = {
    "malformed-json": Kind(
        400,
        "The request is not well-formed",
        "The body is not one JSON value in UTF-8: a syntax error, a member that stands twice in one object, NaN or a number "
        "out of range, nesting deeper than 32 levels. Or the request did not arrive in time, or is not HTTP.",
        "Send it again as RFC 8259 has it, over HTTP as RFC 9112 has it; libraries do both by themselves.",
    ),
    "validation-failed": Kind(
        400,
        "The registration has faults",
        "Fields of the registration are missing, malformed, not allowed, or contradict each other.",
        "Correct every entry of `errors`, each with a JSON pointer into the body, and send it again.",
    ),
    "categorization-invalid": Kind(
        400,
        "The categorization does not fit the catalogue",
        "The category is unknown, a feature or a mandatory key is missing, or a value is not allowed.",
        "Read the hierarchy, add the keys in `missingKeys`, choose from `invalidValues`, and send it again.",
    ),
    "tenant-header-missing": Kind(
        400,
        "X-Tenant-ID is missing",
        "Every call names its tenant in the header X-Tenant-ID.",
        "Add the header with the tenant's id or slug.",
    ),
    "idempotency-key-invalid": Kind(
        400,
        "The Idempotency-Key can't be used",
        "An Idempotency-Key has 1 to 255 visible ASCII characters, quoted or bare.",
        "Send a UUID, and the same one again on a retry.",
    ),
    "token-missing": Kind(
        401,
        "An access token is missing",
        "The call has no bearer token.",
        "Send `Authorization: Bearer …` with a token of your identity provider.",
        challenge=_REALM,
    ),
    "token-invalid": Kind(
        401,
        "The access token is not valid",
        "The token is malformed, expired, not yet valid, meant for someone else, or not signed by a key that is trusted here.",
        "Ask your identity provider for a new token.",
        challenge=f'{_REALM}, error="invalid_token"',
    ),
    "not-admin": Kind(
        403,
        "The token has no admin role",
        "The token is valid, and its owner may not register customers.",
        "Use a token of an administrator.",
        challenge=f'{_REALM}, error="insufficient_scope"',
    ),
    "tenant-denied": Kind(
        403,
        "This tenant is not yours",
        "The token's tenant, X-Tenant-ID and a tenant in the path must be one tenant that exists.",
        "Use a token of that tenant, or name the tenant that the token is for.",
    ),
    "not-found": Kind(
        404,
        "Nothing is here",
        "The path is unknown, or your tenant has nothing by that id.",
        "Compare the path with /openapi.json, and the id with the one that you were given.",
    ),
    "method-not-allowed": Kind(
        405,
        "This method is not allowed here",
        "The path exists, and not with this method.",
        "Use a method from the header Allow.",
    ),
    "email-taken": Kind(
        409,
        "The email address has a customer already",
        "Your tenant has a customer with this email address, so no second one was made.",
        "Use the customer that exists, or register another address.",
    ),
    "body-too-large": Kind(
        413,
        "The request is too large",
        "The body is larger than a registration may be, or the headers or the path are larger than any call needs.",
        "Send only what the schema in /openapi.json has, and fewer or shorter headers.",
    ),
    "unsupported-media-type": Kind(
        415,
        "The body must be application/json",
        "The body is not declared as application/json in UTF-8, or it is compressed.",
        "Set `Content-Type: application/json` and no Content-Encoding.",
    ),
    "idempotency-key-reused": Kind(
        422,
        "The Idempotency-Key belongs to another body",
        "The same key came before with another body.",
        "Repeat with the first body, or use a new key.",
    ),
    "customer-prohibited": Kind(
        422,
        "The customer can't be accepted",
        "The rules that bind your tenant do not permit this customer.",
        "Nothing: sending it again gives the same answer.",
    ),
    "too-many-requests": Kind(
        429,
        "Too many requests",
        "You send more than one caller may: RateLimit-Policy says how many requests, and in how many seconds.",
        "Wait as long as Retry-After says, then send more slowly; RateLimit says with each answer what is left.",
        retry_after_s=1,
    ),
    "internal-error": Kind(
        500,
        "Something is wrong here",
        "This is a fault of ours; it is logged by its trace id.",
        "Tell us the traceId. It is safe to ask for the registration, or to repeat with the same Idempotency-Key.",
    ),
    "processing-failed": Kind(
        500,
        "The registration could not be processed",
        "The registration was taken in and ended as a dead letter: no customer was made.",
        "Tell us the traceId and the registration's id; we can process it again.",
    ),
    "kafka-unavailable": Kind(
        503,
        "Registrations can't be taken in now",
        "The log that takes registrations in did not acknowledge this one. Where `registrationId` is given, it may have been "
        "taken in all the same.",
        "Repeat after Retry-After, with the same Idempotency-Key. Where `registrationId` is given, ask for its status too.",
        retry_after_s=5,
    ),
    "database-unavailable": Kind(
        503,
        "This can't be answered now",
        "The database does not answer.",
        "Repeat after Retry-After.",
        retry_after_s=2,
    ),
    "overloaded": Kind(
        503,
        "Too much to do",
        "More arrives than can be taken in; this was not.",
        "Repeat after Retry-After.",
        retry_after_s=1,
    ),
}


class ProblemError(Exception):
    """
    Ends a request with a problem.

    Args:
        code: a key of `KINDS`.
        detail: what is the matter this time; it never repeats what was sent. The kind's meaning by default.
        errors: every fault of the body.
        members: more members of the problem.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        errors: Iterable[Fault] = (),
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.members = dict(members or {})
        self.headers = dict(headers or {})


def document(problem: ProblemError, *, trace_id: str, base_url: str) -> dict[str, Any]:
    """
    Return a problem as RFC 9457 has it.

    Args:
        trace_id: the request's trace id, by which its log lines are found.
        base_url: what links begin with; empty makes them paths.
    """
    kind = KINDS[problem.code]
    errors = [{"pointer": fault.pointer, "code": fault.code, "detail": fault.detail} for fault in problem.errors]
    return {
        "type": f"{base_url}{PATH}/{problem.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail or kind.meaning,
        "code": problem.code,
        "traceId": trace_id,
        "errors": errors,
        **problem.members,
    }


def response(problem: ProblemError, *, trace_id: str, base_url: str) -> Response:
    """Return a problem as an HTTP answer, with the headers that its kind asks for."""
    kind = KINDS[problem.code]
    headers = {"Cache-Control": "no-store"}
    if kind.retry_after_s is not None:
        headers["Retry-After"] = str(kind.retry_after_s)
    if kind.challenge is not None:
        headers["WWW-Authenticate"] = kind.challenge
    shown = document(problem, trace_id=trace_id, base_url=base_url)
    content = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
    return Response(content, kind.status, headers | problem.headers, MEDIA_TYPE)


def explanation(code: str, *, base_url: str) -> dict[str, Any]:
    """Return what a problem means, for a program."""
    kind = KINDS[code]
    return {
        "type": f"{base_url}{PATH}/{code}",
        "code": code,
        "status": kind.status,
        "title": kind.title,
        "meaning": kind.meaning,
        "advice": kind.advice,
        "retryAfterS": kind.retry_after_s,
    }


def page(code: str) -> str:
    """Return what a problem means, for a person."""
    kind = KINDS[code]
    title, meaning, advice = (html.escape(text) for text in (kind.title, kind.meaning, kind.advice))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{code}: {title}</title>'
        '<body style="font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem">'
        f"<p>{kind.status} <code>{code}</code></p><h1>{title}</h1><p>{meaning}</p><h2>What you can do</h2><p>{advice}</p>"
        '<p><a href="/docs">API description</a></p></body></html>'
    )
