"""The command as the opponents parse it: the members of `schemas/commands.py` and their bounds, as of the first release."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr
from pydantic.alias_generators import to_camel

TEXT_PATTERN: Final = r"^[^\u0000-\u001F\u007F-\u009F\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]*$"

TypeId: TypeAlias = Annotated[StrictStr, Field(max_length=90)]
OpaqueId: TypeAlias = Annotated[StrictStr, Field(min_length=1, max_length=255, pattern=TEXT_PATTERN)]
Name: TypeAlias = Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=TEXT_PATTERN)]
Text: TypeAlias = Annotated[StrictStr, Field(max_length=255, pattern=TEXT_PATTERN)]
LongText: TypeAlias = Annotated[StrictStr, Field(max_length=1000, pattern=TEXT_PATTERN)]
Email: TypeAlias = Annotated[StrictStr, Field(min_length=3, max_length=254, pattern=TEXT_PATTERN)]
Phone: TypeAlias = Annotated[StrictStr, Field(pattern=r"^\+[1-9][0-9]{6,14}$")]
Country: TypeAlias = Annotated[StrictStr, Field(pattern=r"^[A-Z]{2}$")]
Day: TypeAlias = Annotated[StrictStr, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Role: TypeAlias = Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=TEXT_PATTERN)]


class Part(BaseModel):
    """What every part of a command has in common."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Address(Part):
    """A postal address."""

    type: Text | None = None
    street: Text
    city: Text
    postal_code: Text | None = None
    region: Text | None = None
    country: Country
    is_primary: StrictBool | None = None


class Contact(Part):
    """A way to reach the person."""

    type: Text
    value: Text
    is_primary: StrictBool | None = None


class Person(Part):
    """The human being."""

    first_name: Name
    last_name: Name
    email: Email
    date_of_birth: Day
    place_of_birth: Text | None = None
    gender: Text | None = None
    nationality: Country
    nationalities: Annotated[list[Country], Field(max_length=20)] | None = None
    addresses: Annotated[list[Address], Field(max_length=20)]
    contacts: Annotated[list[Contact], Field(max_length=20)]


class User(Part):
    """The login that goes with the person."""

    username: Email
    email: Email
    status: Text | None = None
    roles: Annotated[list[Role], Field(max_length=50)]
    is_active: StrictBool | None = None
    requires_password_change: StrictBool | None = None
    two_factor_enabled: StrictBool | None = None


class CategoryReference(Part):
    """A category by its id."""

    id: OpaqueId
    name: Text | None = None


class FeatureReference(Part):
    """A feature of the category."""

    id: OpaqueId | None = None
    code: OpaqueId


class Parameter(Part):
    """One named value of a feature."""

    name: Name
    value: LongText


class CategoryFeatureRelation(Part):
    """A feature with its parameters."""

    feature: FeatureReference
    enabled: StrictBool | None = None
    parametrization: Annotated[list[Parameter], Field(max_length=100)]


class Categorization(Part):
    """The category chosen, and the parameters of its features."""

    id: OpaqueId
    name: Text | None = None
    description: LongText | None = None
    is_active: StrictBool | None = None
    category_feature_relations: Annotated[list[CategoryFeatureRelation], Field(max_length=100)]


class IndividualCustomer(Part):
    """A private customer."""

    customer_name: Annotated[StrictStr, Field(max_length=201, pattern=TEXT_PATTERN)]
    person: Person
    user: User
    categorization: Categorization


class Customer(Part):
    """The body of a registration, without any password."""

    first_name: Name
    last_name: Name
    email: Email
    phone: Phone
    role_ids: Annotated[list[Role], Field(max_length=50)]
    customer_category: CategoryReference
    individual_customer: IndividualCustomer


class RegisterCustomer(Part):
    """Asks for one registration."""

    registration_id: TypeId
    tenant_id: OpaqueId
    requested_at: datetime
    requested_by: OpaqueId
    fingerprint: Annotated[StrictStr, Field(max_length=200)] | None = None
    password_hash: Annotated[StrictStr, Field(max_length=512)]
    customer: Customer
