"""
`customer.register.v1`: the one command of this system, and the customer that it carries.

Everything that may be left out, because it has a twin elsewhere in the body, is optional here; what must be there
once and what must agree is said by `worker/core/validate.py`, which names all faults at once.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import AwareDatetime, ConfigDict, Field, StrictBool, StrictStr

from schemas.base import Message

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


def _required(*names: str) -> ConfigDict:
    return ConfigDict(json_schema_extra={"required": list(names)})


class Address(Message):
    """A postal address. `country` is ISO 3166-1 alpha-2, upper case."""

    model_config = _required("street", "city", "country")

    type: Text | None = Field(default=None, examples=["HOME"])
    street: Text | None = None
    city: Text | None = None
    postal_code: Text | None = None
    region: Text | None = None
    country: Country | None = None
    is_primary: StrictBool | None = None


class Contact(Message):
    """A way to reach the person: `type` is EMAIL or PHONE, or another word that is kept as sent."""

    model_config = _required("type", "value")

    type: Text | None = Field(default=None, examples=["EMAIL"])
    value: Text | None = None
    is_primary: StrictBool | None = None


class Person(Message):
    """The human being. `dateOfBirth` is a calendar day, `nationality` and `nationalities` ISO 3166-1 alpha-2."""

    model_config = _required("dateOfBirth", "nationality", "addresses")

    first_name: Name | None = None
    last_name: Name | None = None
    email: Email | None = None
    date_of_birth: Day | None = None
    place_of_birth: Text | None = None
    gender: Text | None = Field(default=None, examples=["FEMALE"])
    nationality: Country | None = None
    nationalities: Annotated[list[Country], Field(max_length=20)] | None = None
    addresses: Annotated[list[Address], Field(max_length=20)] | None = None
    contacts: Annotated[list[Contact], Field(max_length=20)] | None = None


class User(Message):
    """The login that goes with the person. The server decides `status` and `isActive`, whatever is sent."""

    username: Email | None = None
    email: Email | None = None
    status: Text | None = None
    roles: Annotated[list[Role], Field(max_length=50)] | None = None
    is_active: StrictBool | None = None
    requires_password_change: StrictBool | None = None
    two_factor_enabled: StrictBool | None = None


class CategoryReference(Message):
    """A category by either of its ids; the name is for people."""

    model_config = _required("id")

    id: OpaqueId | None = None
    name: Text | None = None


class FeatureReference(Message):
    """A feature of the category: by code, or by either of its ids."""

    id: OpaqueId | None = None
    code: OpaqueId | None = None


class Parameter(Message):
    """One named value of a feature. Values are text: "true", "55"."""

    model_config = _required("name", "value")

    name: Name | None = None
    value: LongText | None = None


class CategoryFeatureRelation(Message):
    """A feature with the caller's parameters for it."""

    model_config = _required("feature")

    feature: FeatureReference | None = None
    enabled: StrictBool | None = None
    parametrization: Annotated[list[Parameter], Field(max_length=50)] | None = None


class Categorization(Message):
    """The category chosen, and the parameters of its features."""

    model_config = _required("id")

    id: OpaqueId | None = None
    name: Text | None = None
    description: LongText | None = None
    is_active: StrictBool | None = None
    category_feature_relations: Annotated[list[CategoryFeatureRelation], Field(max_length=50)] | None = None


class IndividualCustomer(Message):
    """A private customer: who they are, how they log in, and their category."""

    model_config = _required("person", "categorization")

    customer_name: Annotated[StrictStr, Field(max_length=201, pattern=TEXT_PATTERN)] | None = None
    person: Person | None = None
    user: User | None = None
    categorization: Categorization | None = None


class Customer(Message):
    """
    The body of a registration, without any password.

    Email, phone, names and roles may stand in several places; where one is left out it is taken from its twin.
    """

    model_config = _required("customerCategory", "individualCustomer")

    first_name: Name | None = None
    last_name: Name | None = None
    email: Email | None = None
    phone: Phone | None = None
    role_ids: Annotated[list[Role], Field(max_length=50)] | None = None
    customer_category: CategoryReference | None = None
    individual_customer: IndividualCustomer | None = None


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
