"""
What `/openapi.json` says of each call: its parameters, its answers with their examples, and every problem that it can end with.

404 and 405 of unknown paths and methods belong to no call.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from fastapi import FastAPI, Path
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from worker.ingress import examples, problems
from worker.ingress.documents import (
    CustomerResponse,
    Explanation,
    HierarchyResponse,
    PendingResponse,
    Problem,
    RegisterResponse,
    RegistrationRequest,
    RegistrationResponse,
)
from worker.ingress.idempotency import KEY_LENGTH_MAX, KEY_PATTERN
from worker.ingress.problems import KINDS

CustomerId: TypeAlias = Annotated[str, Path(description="As a registration answered it.", examples=[examples.CUSTOMER_ID])]
RegistrationId: TypeAlias = Annotated[
    str, Path(description="As in the Location of a registration, or in a problem.", examples=[examples.REGISTRATION_ID])
]
TenantId: TypeAlias = Annotated[str, Path(description="Your tenant, by id or slug.", examples=[examples.TENANT_ID])]
ProblemCode: TypeAlias = Annotated[
    str, Path(description="The `code` of a problem.", examples=["email-taken"], json_schema_extra={"enum": list(KINDS)})
]

_REF: Final = "#/components/schemas/{model}"
_SECURITY: Final = "bearer"
KEY: Final = "8e03978e-40d5-43dd-bc93-6894a57f9324"
_PARAMETERS: Final = {
    "X-Tenant-ID": (True, "The tenant, by id or slug; it must be the token's.", {"type": "string"}),
    "traceparent": (False, "W3C trace context; a trace is begun where there is none.", {"type": "string"}),
    "Prefer": (
        False,
        "`wait=N` waits N seconds (0 to 60) for the outcome; `respond-async` does not wait; both: 202 after N.",
        {"type": "string", "examples": ["wait=5", "respond-async"]},
    ),
    "Idempotency-Key": (
        False,
        "1 to 255 visible ASCII characters of your choice, quoted or bare. A retry with the same key gets the first outcome.",
        {
            "type": "string",
            "maxLength": KEY_LENGTH_MAX,
            "pattern": KEY_PATTERN,
            "examples": ["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        },
    ),
    "If-None-Match": (False, "The ETag of an answer that you have.", {"type": "string"}),
}
_OF_ANY: Final = ("malformed-json", "body-too-large", "internal-error", "overloaded")
"""What any request can meet before a route does: it is no HTTP, its head is too large, too many are under way."""
_OF_CALLER: Final = (
    "tenant-header-missing",
    "token-missing",
    "token-invalid",
    "not-admin",
    "tenant-denied",
    "too-many-requests",
    "database-unavailable",
)
_OF_BODY: Final = ("validation-failed", "categorization-invalid", "unsupported-media-type")
_OF_OUTCOME: Final = ("email-taken", "customer-prohibited", "processing-failed", "kafka-unavailable")
_OF_KEY: Final = ("idempotency-key-invalid", "idempotency-key-reused")


def _problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the answers of these codes, by status, each with an example."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        kind = KINDS[code]
        answer = by_status.setdefault(
            kind.status,
            {
                "description": "",
                "content": {problems.MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}, "examples": {}}},
            },
        )
        if kind.retry_after_s is not None:
            answer["headers"] = _headers(Retry_After="Seconds after which a repeat makes sense.")
        if kind.challenge is not None:
            answer["headers"] = _headers(WWW_Authenticate="What a token lacks (RFC 6750).")
        answer["description"] = " / ".join(filter(None, (answer["description"], kind.title)))
        answer["content"][problems.MEDIA_TYPE]["examples"][code] = {"summary": kind.title, "value": examples.problem(code)}
    return by_status


def _headers(**headers: str) -> dict[str, Any]:
    return {name.replace("_", "-"): {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}


def _operation(name: str, *headers: str, protected: bool = True, body: type[object] | None = None) -> dict[str, Any]:
    parameters = [
        {"name": header, "in": "header", "required": required, "description": text, "schema": schema}
        for header, (required, text, schema) in _PARAMETERS.items()
        if header in headers
    ]
    extra: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if protected:
        extra["security"] = [{_SECURITY: []}]
    if body is not None:
        content = {"schema": {"$ref": _REF.format(model=body.__name__)}, "examples": {"registration": {"value": examples.REQUEST}}}
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
    return {"operation_id": name, "response_model": None, "openapi_extra": extra}


def _answer(model: type[BaseModel], description: str, *shown: object, **headers: str) -> dict[str, Any]:
    named = {f"{number}": {"value": example} for number, example in enumerate(shown, 1)}
    answer = {"model": model, "description": description, "content": {"application/json": {"examples": named}}}
    return {**answer, "headers": _headers(**headers)} if headers else answer


def _link(operation: str, parameter: str, pointer: str) -> dict[str, Any]:
    return {operation: {"operationId": operation, "parameters": {parameter: f"$response.body#{pointer}"}}}


_RATE: Final = {
    "RateLimit_Policy": "How many requests one caller may send, and in how many seconds.",
    "RateLimit": "What is left of them.",
}


def _registering(name: str, **headers: str) -> dict[str, Any]:
    headers = {
        "Idempotency_Replayed": "`true` where an earlier request with the same key was first.",
        "Preference_Applied": "What was heeded of Prefer.",
        **_RATE,
        **headers,
    }
    complete = _answer(RegisterResponse, "The customer exists.", examples.REGISTERED, Location="The customer.", **headers)
    pending = _answer(PendingResponse, "Taken in; the outcome follows.", examples.PENDING, Location="The registration.", **headers)
    return {
        **_operation(name, "X-Tenant-ID", "Prefer", "Idempotency-Key", "traceparent", body=RegistrationRequest),
        "status_code": 201,
        "tags": ["registration"],
        "responses": {
            201: {**complete, "links": _link("readCustomer", "customerId", "/data/id")},
            202: {**pending, "links": _link("readRegistration", "registrationId", "/data/registrationId")},
            **_problems(*_OF_ANY, *_OF_CALLER, *_OF_BODY, *_OF_KEY, *_OF_OUTCOME),
        },
    }


def _reading(name: str, tag: str, answer: dict[str, Any], *codes: str, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        **_operation(name, "X-Tenant-ID", "traceparent", *headers),
        "tags": [tag],
        "responses": {200: answer, **_problems(*_OF_ANY, *_OF_CALLER, *codes)},
    }


def _reading_hierarchy(name: str, *codes: str) -> dict[str, Any]:
    answer = _answer(HierarchyResponse, "The active catalogue.", examples.HIERARCHY, ETag="Its version.", **_RATE)
    operation = _reading(name, "catalogue", answer, *codes, headers=("If-None-Match",))
    operation["responses"][304] = {"description": "You have this version."}
    return operation


REGISTER: Final = _registering("register")
REGISTER_ALIAS: Final = {
    **_registering("registerByFormerPath", Deprecation="Since when (RFC 9745).", Link="The successor."),
    "deprecated": True,
}
HIERARCHY: Final = _reading_hierarchy("readHierarchy")
HIERARCHY_OF_TENANT: Final = _reading_hierarchy("readHierarchyOfTenant", "not-found")
CUSTOMER: Final = _reading(
    "readCustomer", "customers", _answer(CustomerResponse, "The customer.", examples.CUSTOMER, **_RATE), "not-found"
)
REGISTRATION: Final = _reading(
    "readRegistration",
    "registration",
    _answer(RegistrationResponse, "What became of it.", *examples.REGISTRATIONS, **_RATE),
    "not-found",
)
_EXPLANATION: Final = _answer(Explanation, "What it means.", examples.EXPLANATION)
_EXPLANATION["content"]["text/html"] = {"schema": {"type": "string"}}
PROBLEM: Final = {
    **_operation("readProblem", protected=False),
    "tags": ["problems"],
    "responses": {200: _EXPLANATION, **_problems(*_OF_ANY, "not-found")},
}


def describe(app: FastAPI) -> None:
    """Complete what FastAPI generates: the models it does not see, the security scheme, and no answers of its own."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            components = schema.setdefault("components", {})
            models: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
                ("request", "validation", TypeAdapter(RegistrationRequest)),
                ("problem", "serialization", TypeAdapter(Problem)),
            ]
            _, extra = TypeAdapter.json_schemas(models, ref_template=_REF)
            components["schemas"] = {**extra["$defs"], **components.get("schemas", {})}
            for name in ("HTTPValidationError", "ValidationError"):
                components["schemas"].pop(name, None)
            components["securitySchemes"] = {_SECURITY: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
            for operation in (operation for path in schema["paths"].values() for operation in path.values()):
                _remove_unsent(operation["responses"])
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _remove_unsent(responses: dict[str, Any]) -> None:
    """FastAPI adds an answer 422 of its own to whatever has a parameter; ours are problems."""
    if problems.MEDIA_TYPE not in responses.get("422", {}).get("content", {problems.MEDIA_TYPE: None}):
        del responses["422"]
