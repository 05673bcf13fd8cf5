"""Who comes in, before anything that was sent is read: a caller with a valid token, for their own tenant, not too often."""

from __future__ import annotations

import time

from starlette.requests import Request

from worker.catalogues import Versions
from worker.ingress import limits
from worker.ingress.parts import answer_of, parts_of
from worker.ingress.problems import ProblemError
from worker.ingress.tokens import Caller


def admitted(request: Request, in_path: str | None = None) -> tuple[Caller, Versions]:
    """
    Return who calls, and the tenant that the call is for.

    Args:
        request: its body is not touched.
        in_path: the tenant in the path, where it has one.
    Raises:
        ProblemError: no valid token, no role, not this tenant; `too-many-requests`.
    """
    parts = parts_of(request)
    caller = parts.tokens.caller(request)
    tenant = parts.tenants.of(caller, request.headers.getlist("x-tenant-id"), in_path)
    allowance = parts.rate.take((tenant.tenant_id, caller.subject), time.monotonic())
    answer_of(request).headers = limits.headers(parts.rate.policy, allowance)
    if not allowance.is_granted:
        raise ProblemError("too-many-requests", headers={"Retry-After": str(allowance.retry_after_s)})
    return caller, tenant
