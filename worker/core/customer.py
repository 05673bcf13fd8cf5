"""Who is registering, once every fault is ruled out: the values that rules and rows are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from schemas.commands import Address, Contact


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One thing that is wrong with a body.

    Args:
        pointer: RFC 6901 pointer from the customer's root; only names of the schema and indexes.
        code: such as `phone.not_e164`.
        detail: what is expected; it never repeats what was sent.
    """

    pointer: str
    code: str
    detail: str


class Findings:
    """
    The faults of a body, as they are found.

    What follows from a fault that is known already is not reported again: a date of the wrong type is not missing too.
    """

    __slots__ = ("_known", "faults")

    def __init__(self, known: tuple[Fault, ...] = ()) -> None:
        """
        Begin with nothing found.

        Args:
            known: faults of shape, whose members were taken out of the body.
        """
        self.faults: list[Fault] = []
        self._known = frozenset(fault.pointer for fault in known) if known else None

    def covers(self, pointer: str) -> bool:
        """Say whether a known fault is at that place or above it."""
        if self._known is None:
            return False
        while pointer and pointer not in self._known:
            pointer = pointer.rpartition("/")[0]
        return pointer in self._known

    def add(self, pointer: str, code: str, detail: str) -> bool:
        """Note a fault, unless its place is covered; say whether it was noted."""
        if self.covers(pointer):
            return False
        self.faults.append(Fault(pointer, code, detail))
        return True


class Subject(NamedTuple):
    """
    What the rules may know of a person: nothing that names them or leads to them.

    `nationalities` holds every nationality and `residences` every country of an address, each once; `nationalities_told`
    says whether the person told all of them, not only one.
    """

    date_of_birth: date
    nationalities: tuple[str, ...]
    residences: tuple[str, ...]
    nationalities_told: bool
    place_of_birth_told: bool
    phone_told: bool


class Applicant(NamedTuple):
    """
    A customer to be, as sent, with every twin resolved.

    `email` is as sent and `email_normalized` what is compared and unique. `nationalities` holds every nationality and
    `residences` every country of an address, each once, in the order sent.
    `nationalities_told` says whether the person told all of them, not only one.
    """

    first_name: str
    last_name: str
    customer_name: str
    email: str
    email_normalized: str
    phone: str | None
    date_of_birth: date
    place_of_birth: str | None
    gender: str | None
    nationality: str
    nationalities: tuple[str, ...]
    nationalities_told: bool
    residences: tuple[str, ...]
    addresses: Sequence[Address]
    contacts: Sequence[Contact]
    roles: tuple[str, ...]
    requires_password_change: bool
    two_factor_enabled: bool
    category_references: tuple[str, str]

    @property
    def subject(self) -> Subject:
        """What of it the rules may know."""
        return Subject(
            self.date_of_birth,
            self.nationalities,
            self.residences,
            self.nationalities_told,
            place_of_birth_told=self.place_of_birth is not None,
            phone_told=self.phone is not None,
        )


def age_years(born_on: date, day: date) -> int:
    """Return how many birthdays somebody has had by that day; one born on 29 February has theirs on 1 March."""
    return day.year - born_on.year - ((day.month, day.day) < (born_on.month, born_on.day))
