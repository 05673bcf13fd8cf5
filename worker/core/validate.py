"""
From a customer of the right shape to an applicant: what must be there, what must agree, and what makes no sense.

Every fault of a body is found in one reading.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import date
from typing import Final, TypeAlias

from schemas.commands import (
    PHONE_PATTERN,
    Address,
    Categorization,
    CategoryReference,
    Contact,
    Customer,
    IndividualCustomer,
    Person,
    User,
)
from worker.core.catalogue import COUNTRIES, Catalogue
from worker.core.customer import Applicant, Fault, Findings, age_years
from worker.core.email_address import normalize

Place: TypeAlias = tuple[str, str | None]
"""A pointer, and the text that stands there; None where there is none."""

_PERSON: Final = "/individualCustomer/person"
_USER: Final = "/individualCustomer/user"
_FIRST_NAME: Final = f"{_PERSON}/firstName"
_LAST_NAME: Final = f"{_PERSON}/lastName"
_EMAIL: Final = f"{_PERSON}/email"
_NATIONALITY: Final = f"{_PERSON}/nationality"
_USERNAME: Final = f"{_USER}/username"
_USER_EMAIL: Final = f"{_USER}/email"
_CATEGORY: Final = "/individualCustomer/categorization/id"
_PHONE: Final = re.compile(PHONE_PATTERN)
_AGE_YEARS_MAX: Final = 150
_NO_EMAIL: Final = "Expected an email address, such as name@example.com."

_NO_INDIVIDUAL: Final = IndividualCustomer()
_NO_PERSON: Final = Person()
_NO_USER: Final = User()
_NO_CATEGORY: Final = CategoryReference()
_NO_CATEGORIZATION: Final = Categorization()


def applicant(customer: Customer, catalogue: Catalogue, day: date, known: tuple[Fault, ...] = ()) -> Applicant | tuple[Fault, ...]:
    """
    Resolve every twin of a customer, or name every fault.

    Args:
        customer: of the right shape.
        catalogue: the tenant's: its roles, minimum age and whether `.test` addresses pass.
        day: today in the tenant's time zone.
        known: faults of shape, found before; nothing that follows from one of them is reported again.
    Returns:
        The applicant, or the faults, in no particular order.
    Source: README, rules R-20 to R-26.
    """
    individual = customer.get("individualCustomer") or _NO_INDIVIDUAL
    person = individual.get("person") or _NO_PERSON
    user = individual.get("user") or _NO_USER
    categorization = individual.get("categorization") or _NO_CATEGORIZATION
    category = customer.get("customerCategory") or _NO_CATEGORY
    addresses, contacts = person.get("addresses") or (), person.get("contacts") or ()
    findings = Findings(known)

    first_name = _name(("/firstName", customer.get("firstName")), (_FIRST_NAME, person.get("firstName")), findings)
    last_name = _name(("/lastName", customer.get("lastName")), (_LAST_NAME, person.get("lastName")), findings)
    test_domains = catalogue.tenant.test_domains_accepted
    primary_emails, other_emails, phones = _contacts(contacts, findings)
    emails = (
        ("/email", customer.get("email")),
        (_EMAIL, person.get("email")),
        (_USERNAME, user.get("username")),
        (_USER_EMAIL, user.get("email")),
        *primary_emails,
    )
    email, email_normalized = _email(emails, other_emails, test_domains=test_domains, findings=findings)
    nationality, told = _needed(_NATIONALITY, person.get("nationality"), findings), person.get("nationalities")
    found = Applicant(
        first_name=first_name,
        last_name=last_name,
        customer_name=individual.get("customerName") or f"{first_name} {last_name}",
        email=email,
        email_normalized=email_normalized,
        phone=_phone(customer.get("phone"), phones, findings),
        date_of_birth=_date_of_birth(person.get("dateOfBirth"), day, catalogue.tenant.minimum_age_years, findings),
        place_of_birth=person.get("placeOfBirth") or None,
        gender=person.get("gender"),
        nationality=nationality,
        nationalities=_nationalities(nationality, told or (), findings),
        nationalities_told=bool(told),
        residences=_residences(addresses, findings),
        addresses=addresses,
        contacts=contacts,
        roles=_roles(customer.get("roleIds"), user.get("roles"), catalogue.index.roles, findings),
        requires_password_change=user.get("requiresPasswordChange") is True,
        two_factor_enabled=user.get("twoFactorEnabled") is True,
        category_references=(
            _needed("/customerCategory/id", category.get("id"), findings),
            _needed(_CATEGORY, categorization.get("id"), findings),
        ),
    )
    return tuple(findings.faults) if findings.faults else found


def _needed(pointer: str, value: str | None, findings: Findings) -> str:
    """Return a text that must be there and say something; an empty one where it does not, after noting it."""
    if value is None or not value or value.isspace():
        findings.add(pointer, "required", "Must be there, and not be blank.")
        return ""
    return value


def _name(top: Place, twin: Place, findings: Findings) -> str:
    """Return a name that may stand in two places."""
    given, other = top[1], twin[1]
    if given is None:
        if other is None and findings.covers(twin[0]):
            return ""
        return _needed(top[0] if other is None else twin[0], other, findings)
    name = _needed(top[0], given, findings)
    if name and other is not None and other != name and unicodedata.normalize("NFC", other) != unicodedata.normalize("NFC", name):
        findings.add(twin[0], "name.differs", "Must be the same as at the top of the body.")
    return name


def _contacts(contacts: Sequence[Contact], findings: Findings) -> tuple[list[Place], list[Place], list[str]]:
    """
    Check each contact, but for the form of emails.

    Returns:
        The places of primary emails and of others, and the phone numbers, the primary one first.
    """
    primary_emails: list[Place] = []
    other_emails: list[Place] = []
    phones: list[str] = []
    primary: list[str] = []
    for position, contact in enumerate(contacts):
        kind, value, is_primary = contact.get("type"), contact.get("value"), contact.get("isPrimary")
        if not kind or not value:
            kind = _needed(f"{_PERSON}/contacts/{position}/type", kind, findings)
            value = _needed(f"{_PERSON}/contacts/{position}/value", value, findings)
        elif kind == "EMAIL":
            place = (f"{_PERSON}/contacts/{position}/value", value)
            (primary_emails if is_primary else other_emails).append(place)
        elif kind == "PHONE":
            if _PHONE.fullmatch(value) is None:
                findings.add(
                    f"{_PERSON}/contacts/{position}/value",
                    "phone.not_e164",
                    "Expected E.164: a plus sign and 7 to 15 digits, the first not zero.",
                )
            phones.insert(0 if is_primary else len(phones), value)
        if is_primary:
            if kind in primary:
                pointer = f"{_PERSON}/contacts/{position}/isPrimary"
                findings.add(pointer, "primary.repeated", "One contact of a type may be primary.")
            primary.append(kind)
    return primary_emails, other_emails, phones


def _email(places: Sequence[Place], others: Sequence[Place], *, test_domains: bool, findings: Findings) -> tuple[str, str]:
    """
    Return the one email of a body, as sent and as compared: the first that is one.

    Args:
        places: where it may stand; all must agree.
        others: where another address may stand.
        test_domains: whether `.test` addresses pass.
        findings: takes the faults.
    """
    email, email_normalized = "", ""
    for pointer, value in places:
        if value is None or value == email:
            continue
        form = normalize(value, test_domains=test_domains)
        if form is None:
            findings.add(pointer, "email.invalid", _NO_EMAIL)
        elif not email:
            email, email_normalized = value, form
        elif form != email_normalized:
            findings.add(pointer, "email.differs", "Must be the same address as in the other places of the body.")
    for pointer, value in others:
        if value is not None and value != email and normalize(value, test_domains=test_domains) is None:
            findings.add(pointer, "email.invalid", _NO_EMAIL)
    if not email and all(value is None and not findings.covers(pointer) for pointer, value in places):
        findings.add("/email", "required", "Must be there, or one of its twins.")
    return email, email_normalized


def _phone(top: str | None, phones: Sequence[str], findings: Findings) -> str | None:
    """Return the phone number, if there is one: from the top, else the first of the contacts."""
    if top is None or not phones:
        return phones[0] if phones else top
    if top not in phones and all(map(_PHONE.fullmatch, phones)):
        findings.add("/phone", "phone.differs", "Must be the number of one of the contacts of type PHONE.")
    return top


def _date_of_birth(text: str | None, day: date, minimum_age_years: int, findings: Findings) -> date:
    pointer = f"{_PERSON}/dateOfBirth"
    if text is None:
        findings.add(pointer, "required", "Must be there.")
        return day
    try:
        born_on = date.fromisoformat(text)
    except ValueError:
        findings.add(pointer, "date.invalid", "Expected a day of the calendar as YYYY-MM-DD.")
        return day
    age = age_years(born_on, day)
    if born_on > day:
        findings.add(pointer, "date.in_future", "Must not be after today.")
    elif age < minimum_age_years:
        findings.add(pointer, "person.under_age", f"The person must be at least {minimum_age_years} years old.")
    elif age > _AGE_YEARS_MAX:
        findings.add(pointer, "date.too_early", f"Must not be more than {_AGE_YEARS_MAX} years ago.")
    return born_on


def _country(pointer: str, country: str, findings: Findings) -> None:
    if country and country not in COUNTRIES:
        findings.add(pointer, "country.unknown", "Expected an ISO 3166-1 alpha-2 code in upper case.")


def _nationalities(first: str, further: Sequence[str], findings: Findings) -> tuple[str, ...]:
    if first not in COUNTRIES:
        _country(_NATIONALITY, first, findings)
    for position, country in enumerate(further):
        _country(f"{_PERSON}/nationalities/{position}", country, findings)
    return tuple(dict.fromkeys((first, *further))) if further else (first,)


def _residences(addresses: Sequence[Address], findings: Findings) -> tuple[str, ...]:
    """Check the addresses; return their countries, each once."""
    if not addresses:
        findings.add(f"{_PERSON}/addresses", "required", "At least one address must be there.")
    primary = 0
    for position, address in enumerate(addresses):
        street, city, country = address.get("street"), address.get("city"), address.get("country")
        if not street or not city or street.isspace() or city.isspace() or country not in COUNTRIES:
            pointer = f"{_PERSON}/addresses/{position}"
            _needed(f"{pointer}/street", street, findings)
            _needed(f"{pointer}/city", city, findings)
            _country(f"{pointer}/country", _needed(f"{pointer}/country", country, findings), findings)
        if address.get("isPrimary"):
            primary += 1
            if primary > 1:
                pointer = f"{_PERSON}/addresses/{position}/isPrimary"
                findings.add(pointer, "primary.repeated", "One address may be primary.")
    return tuple(dict.fromkeys([address.get("country") or "" for address in addresses]))


def _roles(top: Sequence[str] | None, twin: Sequence[str] | None, allowed: frozenset[str], findings: Findings) -> tuple[str, ...]:
    """Return the roles that were asked for, each once."""
    places = (("/roleIds", top), (f"{_USER}/roles", twin))
    for pointer, roles in places:
        if roles and not allowed.issuperset(roles):
            for position, role in enumerate(roles):
                if role not in allowed:
                    findings.add(f"{pointer}/{position}", "role.not_allowed", "No role that a registration may ask for.")
    if top and twin and top != twin and set(top) != set(twin):
        findings.add(f"{_USER}/roles", "roles.differ", "Must be the same roles as in roleIds.")
    roles = top or twin
    if not roles and not any(findings.covers(pointer) for pointer, _ in places):
        findings.add("/roleIds", "required", "At least one role must be there, or in the user's roles.")
    return tuple(dict.fromkeys(roles or ()))
