"""
What `/openapi.json` says: the models of bodies and answers, their examples, and which problems each call can end with.

The models describe what `answers.py` builds; a test holds real answers against the generated schemas.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, StrictStr, TypeAdapter
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaMode

from schemas.commands import Address, CategoryFeatureRelation, Contact, Customer, IndividualCustomer, User, required
from worker.core.decision import Decision
from worker.core.scales import RiskLevel
from worker.ingress import examples, problems
from worker.ingress.problems import KINDS

_REF: Final = "#/components/schemas/{model}"
_SECURITY: Final = "bearer"

Password: TypeAlias = Annotated[
    StrictStr,
    Field(
        min_length=12,
        max_length=128,
        description="Not a common one, and not made of the email address or the name. The tenant's lengths hold.",
        json_schema_extra={"format": "password", "writeOnly": True},
        examples=["SecurePass123!"],
    ),
]
RegistrationId: TypeAlias = Annotated[str, Field(examples=[examples.REGISTRATION_ID])]


class UserRequest(User, total=False):
    """The login, with its password."""

    password: Password | None


@required("person", "categorization")
class IndividualCustomerRequest(IndividualCustomer, total=False):
    """A private customer, as a registration has it."""

    user: UserRequest | None  # type: ignore[misc]  # it has all that the command's has, and the password


@required("customerCategory", "individualCustomer")
class RegistrationRequest(Customer, total=False):
    """
    A registration.

    What stands in several places must agree: email, phone, names, roles and the password. A part that is left out is
    taken from its twin. Members that are not listed are ignored.
    """

    password: Password | None
    matchingPassword: Password | None  # noqa: N815 - as on the wire
    individualCustomer: IndividualCustomerRequest | None  # type: ignore[misc]  # noqa: N815


class _Document(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RegisteredUser(_Document):
    """The login of a new customer."""

    id: str
    username: str
    status: str


class Registered(_Document):
    """A customer that exists now."""

    id: str
    user_id: str
    person_id: str
    user: RegisteredUser
    status: Literal["REGISTRATION_COMPLETE"]


class RegisterResponse(_Document):
    """The answer to a registration that is complete."""

    data: Registered


class Pending(_Document):
    """A registration that is taken in and not decided yet. `ageS` is its age in seconds."""

    registration_id: RegistrationId
    status: Literal["PENDING"]
    age_s: int | None = None


class PendingResponse(_Document):
    """The answer to a registration whose outcome was not waited for."""

    data: Pending


class FaultDocument(_Document):
    """One fault of a body: where (RFC 6901), which, and what is expected."""

    pointer: Annotated[str, Field(examples=["/individualCustomer/person/dateOfBirth"])]
    code: Annotated[str, Field(examples=["person.under_age"])]
    detail: str


class Problem(_Document):
    """A problem (RFC 9457). It never repeats what was sent."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(json_schema_extra={"format": "uri-reference"})]
    title: str
    status: int
    detail: str
    code: Annotated[str, Field(json_schema_extra={"enum": list(KINDS)})]
    trace_id: str
    errors: list[FaultDocument]
    missing_keys: list[str] | None = None
    invalid_values: dict[str, list[str] | str] | None = None
    registration_id: str | None = None


class Complete(Registered):
    """A registration that has its customer."""

    registration_id: RegistrationId


class Refused(_Document):
    """A registration that ended without a customer, and why."""

    registration_id: RegistrationId
    status: Literal["REJECTED", "FAILED"]
    problem: Problem


class RegistrationResponse(_Document):
    """What became of a registration."""

    data: Pending | Complete | Refused


class PersonDocument(_Document):
    """A person as registered."""

    id: str
    first_name: str
    last_name: str
    customer_name: str
    email: str
    phone: str | None = None
    date_of_birth: date
    place_of_birth: str | None = None
    gender: str | None = None
    nationality: str
    nationalities: list[str]
    addresses: list[Address]
    contacts: list[Contact]


class UserDocument(RegisteredUser):
    """A login as registered; never its password or the hash of it."""

    roles: list[str]
    is_active: bool
    requires_password_change: bool
    two_factor_enabled: bool


class CategorizationDocument(_Document):
    """The category of a customer, and the features as asked for."""

    category_id: str
    category_references: list[str]
    category_feature_relations: list[CategoryFeatureRelation]


class CustomerDocument(_Document):
    """A customer as registered and as decided."""

    id: str
    user_id: str
    person_id: str
    registration_id: RegistrationId
    status: str
    registered_at: datetime
    person: PersonDocument
    user: UserDocument
    categorization: CategorizationDocument
    decision: Decision


class CustomerResponse(_Document):
    """The answer to a question for a customer."""

    data: CustomerDocument


class FeatureDocument(_Document):
    """A feature that a category offers, and the keys that it takes; a range is text such as "0-100"."""

    feature_code: str
    feature_name: str
    database_id: str
    mandatory_keys: list[str]
    allowed_values: dict[str, list[str] | str]
    multi_value_keys: list[str]


class CategoryDocument(_Document):
    """A category that may be chosen."""

    category_id: str
    database_id: str
    category_name: str
    description: str
    risk_level: RiskLevel
    features: list[FeatureDocument]


class HierarchyDocument(_Document):
    """A tenant's active catalogue."""

    tenant_id: str
    tenant_name: str
    categories: dict[str, CategoryDocument]


class HierarchyResponse(_Document):
    """The answer to a question for the hierarchy."""

    data: HierarchyDocument


class Explanation(_Document):
    """What a problem means and what the caller can do."""

    type: str
    code: str
    status: int
    title: str
    meaning: str
    advice: str
    retry_after_s: int | None


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
        {"type": "string", "maxLength": 512, "examples": ["8e03978e-40d5-43dd-bc93-6894a57f9324"]},
    ),
    "If-None-Match": (False, "The ETag of an answer that you have.", {"type": "string"}),
}
_OF_ALL: Final = ("token-missing", "token-invalid", "not-admin", "tenant-header-missing", "tenant-denied", "internal-error")
_OF_BODY: Final = ("malformed-json", "validation-failed", "categorization-invalid", "body-too-large", "unsupported-media-type")
_OF_OUTCOME: Final = ("email-taken", "customer-prohibited", "processing-failed", "kafka-unavailable", "overloaded")
_OF_KEY: Final = ("idempotency-key-invalid", "idempotency-key-reused", "database-unavailable")


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
        answer["description"] = " / ".join(filter(None, (answer["description"], kind.title)))
        answer["content"][problems.MEDIA_TYPE]["examples"][code] = {"summary": kind.title, "value": examples.problem(code)}
    return by_status


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


def _answer(model: type[BaseModel], description: str, example: Any = None, **headers: str) -> dict[str, Any]:  # noqa: ANN401 - JSON
    named = {name.replace("_", "-"): {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}
    shown = {} if example is None else {"content": {"application/json": {"example": example}}}
    return {"model": model, "description": description, **shown, **({"headers": named} if named else {})}


def _registering(name: str, **headers: str) -> dict[str, Any]:
    headers = {"Idempotency_Replayed": "`true` where an earlier request with the same key was first.", **headers}
    return {
        **_operation(name, "X-Tenant-ID", "Prefer", "Idempotency-Key", "traceparent", body=RegistrationRequest),
        "status_code": 201,
        "tags": ["registration"],
        "responses": {
            201: _answer(RegisterResponse, "The customer exists.", examples.REGISTERED, Location="The customer.", **headers),
            202: _answer(
                PendingResponse, "Taken in; the outcome follows.", examples.PENDING, Location="The registration.", **headers
            ),
            **_problems(*_OF_ALL, *_OF_BODY, *_OF_OUTCOME, *_OF_KEY),
        },
    }


def _reading(name: str, tag: str, answer: dict[str, Any], *codes: str, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        **_operation(name, "X-Tenant-ID", "traceparent", *headers),
        "tags": [tag],
        "responses": {200: answer, **_problems(*_OF_ALL, *codes)},
    }


def _reading_hierarchy(name: str) -> dict[str, Any]:
    answer = _answer(HierarchyResponse, "The active catalogue.", examples.HIERARCHY, ETag="The catalogue's version.")
    operation = _reading(name, "catalogue", answer, headers=("If-None-Match",))
    operation["responses"][304] = {"description": "You have this version."}
    return operation


REGISTER: Final = _registering("register")
REGISTER_ALIAS: Final = {
    **_registering("registerByFormerPath", Deprecation="Since when (RFC 9745).", Link="The successor."),
    "deprecated": True,
}
HIERARCHY: Final = _reading_hierarchy("readHierarchy")
HIERARCHY_OF_TENANT: Final = _reading_hierarchy("readHierarchyOfTenant")
CUSTOMER: Final = _reading(
    "readCustomer", "customers", _answer(CustomerResponse, "The customer."), "not-found", "database-unavailable"
)
REGISTRATION: Final = _reading(
    "readRegistration",
    "registration",
    _answer(RegistrationResponse, "The registration."),
    "not-found",
    "database-unavailable",
)
PROBLEM: Final = {
    **_operation("readProblem", protected=False),
    "tags": ["problems"],
    "responses": {200: _answer(Explanation, "What it means."), **_problems("not-found", "internal-error")},
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
