"""The paths of the API. Each handler reads its request, asks the parts, and answers; what it says is in `answers.py`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from worker.catalogues import Versions
from worker.core import ids
from worker.ingress import answers, description, problems
from worker.ingress.admission import admitted
from worker.ingress.answers import API, CUSTOMERS, REGISTRATIONS
from worker.ingress.parts import answer_of, parts_of, trace_of
from worker.ingress.problems import KINDS, ProblemError
from worker.ingress.registering import NO_STORE, register
from worker.ingress.waiting import COMPLETE, Outcome, look_up
from worker.postgres import Connection, statement

REGISTER: Final = f"{CUSTOMERS}/individual/register"
REGISTER_ALIAS: Final = f"{API}/customer/individual/registration"
HIERARCHY: Final = f"{CUSTOMERS}/individual/categorization/hierarchy"
DEPRECATED_AT: Final = "@1795478400"
"""2026-11-24: since when the alias is deprecated. Source: RFC 9745."""
COMMANDS_KEPT_S: Final = 7 * 86_400
"""How long the command topic keeps what is not yet decided."""

router: Final = APIRouter()


def headers_by_route(base_url: str) -> dict[str, tuple[tuple[bytes, bytes], ...]]:
    """Return what every answer of a route carries: the alias says what has taken its place."""
    link = f'<{base_url}{REGISTER}>; rel="successor-version"'
    return {REGISTER_ALIAS: ((b"deprecation", DEPRECATED_AT.encode()), (b"link", link.encode()))}


@router.post(REGISTER, **description.REGISTER)
async def register_customer(request: Request) -> Response:
    """Register a private customer, and wait for the outcome."""
    return await register(request)


@router.post(REGISTER_ALIAS, **description.REGISTER_ALIAS)
async def register_customer_alias(request: Request) -> Response:
    """Register a private customer by the former path; it does the same."""
    return await register(request)


@router.get(HIERARCHY, **description.HIERARCHY)
async def hierarchy(request: Request) -> Response:
    """Read the categories that your tenant may choose from, with the keys that each feature takes."""
    return _hierarchy(request, _tenant(request))


@router.get(HIERARCHY + "/{tenantId}", **description.HIERARCHY_OF_TENANT)
async def hierarchy_of_tenant(request: Request, tenantId: description.TenantId) -> Response:  # noqa: N803 - the path's own name
    """Read the same, with the tenant in the path; it must be yours."""
    return _hierarchy(request, _tenant(request, tenantId))


def _hierarchy(request: Request, tenant: Versions) -> Response:
    version, catalogue = tenant.at(datetime.now(UTC))
    tag = answers.etag(tenant.tenant_id, version)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization, X-Tenant-ID"}
    if answers.matches(request.headers.get("if-none-match", ""), tag):
        return Response(None, 304, headers)
    return JSONResponse({"data": answers.hierarchy(catalogue)}, headers=headers)


@router.get(CUSTOMERS + "/{customerId}", **description.CUSTOMER)
async def customer(request: Request, customerId: description.CustomerId) -> Response:  # noqa: N803 - the path's own name
    """Read a customer of your tenant, with the decision and its explanation."""
    tenant = _tenant(request)
    if not customerId.isprintable():
        raise ProblemError("not-found")

    async def read(connection: Connection) -> Mapping[str, Any] | None:
        row = await connection.fetchrow(statement("customer"), tenant.tenant_id, customerId)
        return None if row is None else dict(row)

    row = await parts_of(request).database.read_as(tenant.tenant_id, read)
    if row is None:
        raise ProblemError("not-found")
    return JSONResponse({"data": answers.customer(row)}, headers=NO_STORE)


@router.get(REGISTRATIONS + "/{registrationId}", **description.REGISTRATION)
async def registration(request: Request, registrationId: description.RegistrationId) -> Response:  # noqa: N803 - the path's own name
    """Read what became of a registration."""
    tenant = _tenant(request)
    uuid = ids.registration_uuid(registrationId)
    if uuid is None:
        raise ProblemError("not-found")
    answer_of(request).registration_id = registrationId
    parts = parts_of(request)
    found = await look_up(parts.database, [(tenant.tenant_id, registrationId)])
    if found:
        data = _outcome(request, found[0], uuid)
    else:
        made_at_ms = ids.made_at_ms(uuid)
        age_s = None if made_at_ms is None else max(int(time.time() - made_at_ms / 1000), 0)
        is_ours = ids.is_ours(uuid, tenant.tenant_id, parts.tenants.secrets.tag)
        if not is_ours or (age_s is not None and age_s > COMMANDS_KEPT_S):
            raise ProblemError("not-found")
        data = answers.pending(registrationId, age_s)
    return JSONResponse({"data": data}, headers=NO_STORE)


def _outcome(request: Request, outcome: Outcome, uuid: bytes) -> dict[str, Any]:
    about = {"registrationId": outcome.registration_id, "status": outcome.status}
    if outcome.status == COMPLETE:
        return about | answers.registered(outcome, uuid)
    problem = problems.document(answers.refusal(outcome), trace_id=trace_of(request).trace_id, base_url=parts_of(request).base_url)
    return about | {"problem": problem}


@router.get(problems.PATH + "/{code}", **description.PROBLEM)
async def problem(request: Request, code: description.ProblemCode) -> Response:
    """Read what a problem means and what you can do: a page for a browser, JSON for a program."""
    if code not in KINDS:
        raise ProblemError("not-found")
    headers = {"Vary": "Accept", "Cache-Control": "public, max-age=3600"}
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(problems.page(code), headers=headers)
    return JSONResponse(problems.explanation(code, base_url=parts_of(request).base_url), headers=headers)


def _tenant(request: Request, in_path: str | None = None) -> Versions:
    """Authenticate, and return the tenant that the call is for."""
    _, tenant = admitted(request, in_path)
    return tenant
