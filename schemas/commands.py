"""
`customer.register.v1`: the one command of this system, and the customer that it carries.

Everything that may be left out, because it has a twin elsewhere in the body, is optional here; what must be there
once and what must agree is said by `worker/core/validate.py`, which names all faults at once.

The customer is a body of JSON, checked and typed: dictionaries, which cost a third of what a model for each part does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, TypeAlias, TypeVar

from pydantic import AwareDatetime, ConfigDict, Field, StrictBool, StrictStr, with_config
from typing_extensions import TypedDict  # pydantic's own need: it reads no other before Python 3.12

from schemas.base import Message

T = TypeVar("T")

REGISTER_CUSTOMER: Final = "customer.register.v1"
COMMANDS_TOPIC: Final = "customer.registration.commands.v1"
INGRESS_SOURCE: Final = "/registration/ingress"
"""`ce_source` of commands that our own ingress has validated."""

TEXT_PATTERN: Final = r"^[^\u0000-\u001F\u007F-\u009F\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]*$"
"""Any script; no control character (Unicode Cc) and no bidi control, which could show a text other than it is."""
PHONE_PATTERN: Final = r"^\+[1-9][0-9]{6,14}$"
"""E.164's shape, ASCII digits; whether the number is in use is another question."""
COUNTRY_PATTERN: Final = r"^[A-Z]{2}$"
DATE_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"

TypeId: TypeAlias = Annotated[StrictStr, Field(max_length=90, examples=["reg_01k8xq3c9ne6ks4v8w3mhy2gqz"])]
OpaqueId: TypeAlias = Annotated[StrictStr, Field(min_length=1, max_length=255, pattern=TEXT_PATTERN)]
Name: TypeAlias = Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=TEXT_PATTERN)]
Text: TypeAlias = Annotated[StrictStr, Field(max_length=255, pattern=TEXT_PATTERN)]
LongText: TypeAlias = Annotated[StrictStr, Field(max_length=1000, pattern=TEXT_PATTERN)]
Email: TypeAlias = Annotated[
    StrictStr, Field(min_length=3, max_length=254, pattern=TEXT_PATTERN, examples=["marcus.jensen@example.com"])
]
Phone: TypeAlias = Annotated[StrictStr, Field(pattern=PHONE_PATTERN, examples=["+37060012345"])]
Country: TypeAlias = Annotated[StrictStr, Field(pattern=COUNTRY_PATTERN, examples=["LT"])]
Day: TypeAlias = Annotated[StrictStr, Field(pattern=DATE_PATTERN, examples=["1990-05-15"], json_schema_extra={"format": "date"})]
Role: TypeAlias = Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=TEXT_PATTERN, examples=["ACCOUNT_OWNER"])]


def required(*names: str) -> Callable[[type[T]], type[T]]:
    """Say in the JSON Schema what `worker/core/validate.py` asks for, so that a missing one is a fault beside the others."""
    return with_config(ConfigDict(json_schema_extra={"required": list(names)}))


@required("street", "city", "country")
class Address(TypedDict, total=False):
    """A postal address. `country` is ISO 3166-1 alpha-2, upper case."""

    type: Annotated[Text | None, Field(examples=["HOME"])]
    street: Text | None
    city: Text | None
    postalCode: Text | None
    region: Text | None
    country: Country | None
    isPrimary: StrictBool | None


@required("type", "value")
class Contact(TypedDict, total=False):
    """A way to reach the person: `type` is EMAIL or PHONE, or another word that is kept as sent."""

    type: Annotated[Text | None, Field(examples=["EMAIL"])]
    value: Text | None
    isPrimary: StrictBool | None


@required("dateOfBirth", "nationality", "addresses")
class Person(TypedDict, total=False):
    """The human being. `dateOfBirth` is a calendar day, `nationality` and `nationalities` ISO 3166-1 alpha-2."""

    firstName: Name | None
    lastName: Name | None
    email: Email | None
    dateOfBirth: Day | None
    placeOfBirth: Text | None
    gender: Annotated[Text | None, Field(examples=["FEMALE"])]
    nationality: Country | None
    nationalities: Annotated[list[Country], Field(max_length=20)] | None
    addresses: Annotated[list[Address], Field(max_length=20)] | None
    contacts: Annotated[list[Contact], Field(max_length=20)] | None


class User(TypedDict, total=False):
    """The login that goes with the person. The server decides `status` and `isActive`, whatever is sent."""

    username: Email | None
    email: Email | None
    status: Text | None
    roles: Annotated[list[Role], Field(max_length=50)] | None
    isActive: StrictBool | None
    requiresPasswordChange: StrictBool | None
    twoFactorEnabled: StrictBool | None


@required("id")
class CategoryReference(TypedDict, total=False):
    """A category by either of its ids; the name is for people."""

    id: OpaqueId | None
    name: Text | None


class FeatureReference(TypedDict, total=False):
    """A feature of the category: by code, or by either of its ids."""

    id: OpaqueId | None
    code: OpaqueId | None


@required("name", "value")
class Parameter(TypedDict, total=False):
    """One named value of a feature. Values are text: "true", "55"."""

    name: Name | None
    value: LongText | None


@required("feature")
class CategoryFeatureRelation(TypedDict, total=False):
    """A feature with the caller's parameters for it."""

    feature: FeatureReference | None
    enabled: StrictBool | None
    parametrization: Annotated[list[Parameter], Field(max_length=50)] | None


@required("id")
class Categorization(TypedDict, total=False):
    """The category chosen, and the parameters of its features."""

    id: OpaqueId | None
    name: Text | None
    description: LongText | None
    isActive: StrictBool | None
    categoryFeatureRelations: Annotated[list[CategoryFeatureRelation], Field(max_length=50)] | None


@required("person", "categorization")
class IndividualCustomer(TypedDict, total=False):
    """A private customer: who they are, how they log in, and their category."""

    customerName: Annotated[StrictStr, Field(max_length=201, pattern=TEXT_PATTERN)] | None
    person: Person | None
    user: User | None
    categorization: Categorization | None


@required("customerCategory", "individualCustomer")
class Customer(TypedDict, total=False):
    """
    The body of a registration, without any password.

    Email, phone, names and roles may stand in several places; where one is left out it is taken from its twin.
    """

    firstName: Name | None
    lastName: Name | None
    email: Email | None
    phone: Phone | None
    roleIds: Annotated[list[Role], Field(max_length=50)] | None
    customerCategory: CategoryReference | None
    individualCustomer: IndividualCustomer | None


class RegisterCustomer(Message):
    """
    Asks for one registration.

    `registrationId` is the key of exactly-once: an upstream service makes one for a registration and sends the same
    again on every retry. `passwordHash` is a PHC string of argon2id. `fingerprint` names its key; an upstream service
    leaves it out.
    """

    registration_id: TypeId
    tenant_id: OpaqueId
    requested_at: AwareDatetime
    requested_by: OpaqueId
    fingerprint: Annotated[StrictStr, Field(max_length=200)] | None = None
    password_hash: Annotated[StrictStr, Field(max_length=512, examples=["$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"])]
    customer: Customer
