"""
The models of bodies and answers, for `/openapi.json`.

They describe what `answers.py` builds; tests hold real answers against the generated schemas.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictStr
from pydantic.alias_generators import to_camel

from schemas.commands import Address, CategoryFeatureRelation, Contact, Customer, IndividualCustomer, User, required
from worker.core.decision import Decision
from worker.core.scales import RiskLevel
from worker.ingress import examples
from worker.ingress.problems import KINDS

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
