"""The HTTP application: routes, and one way to end with a problem, whatever goes wrong."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from worker.errors import TooSlowError, UnavailableError
from worker.ingress import description, problems
from worker.ingress.access import Access
from worker.ingress.parts import Parts, answer_of, trace_of
from worker.ingress.problems import ProblemError
from worker.ingress.routes import headers_by_route, router

TITLE: Final = "Customer registration"
VERSION: Final = "2.1"
DESCRIPTION: Final = (
    "Registers private customers. One POST answers with the new customer's ids; risk, due diligence, limits, verification "
    "and consents follow from the category. Every error is a problem (RFC 9457) that says what to do."
)
_CODES: Final = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large", 415: "unsupported-media-type"}


def described() -> FastAPI:
    """Return the application's paths and their description, without what answers."""
    app = FastAPIOffline(
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # it would send the description to another host
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(router)
    description.describe(app)
    return app


def create_app(parts: Parts) -> FastAPI:
    """
    Return the application.

    Args:
        parts: what it is made of; the caller owns and closes them.
    """
    app = described()
    app.state.parts = parts
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(UnavailableError, _on_unavailable)
    app.add_exception_handler(TooSlowError, _on_unavailable)
    app.add_middleware(Access, parts=parts, headers=headers_by_route(parts.base_url))
    return app


def _ended(request: Request, problem: ProblemError) -> Response:
    parts: Parts = request.app.state.parts
    answer_of(request).code = problem.code
    return problems.response(problem, trace_id=trace_of(request).trace_id, base_url=parts.base_url)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for this type
    return _ended(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Turn what the router says, an unknown path or a wrong method, into a problem."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    code = _CODES.get(error.status_code, "not-found" if error.status_code < 500 else "internal-error")  # noqa: PLR2004
    return _ended(request, ProblemError(code, headers=error.headers))


async def _on_invalid_request(request: Request, _error: Exception) -> Response:
    """A path parameter that can't be read names nothing that exists."""
    return _ended(request, ProblemError("not-found"))


async def _on_unavailable(request: Request, error: Exception) -> Response:
    service = error.service if isinstance(error, UnavailableError) else "database"
    return _ended(request, ProblemError("kafka-unavailable" if service == "kafka" else "database-unavailable"))
