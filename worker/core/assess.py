"""The one door to the rules, for worker and ingress: a customer in; approved with a decision, or refused, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from schemas.commands import Categorization, CategoryFeatureRelation, Customer
from worker.core.catalogue import Catalogue
from worker.core.categorize import Categorized, Miscategorized, categorize, categorize_again
from worker.core.customer import Applicant, Fault, Subject
from worker.core.decide import Prohibited, decide
from worker.core.decision import Decision
from worker.core.shape import FAULTS_MAX, in_body_order, read_customer, too_many
from worker.core.validate import applicant

VALIDATION_FAILED: Final = "validation-failed"
CATEGORIZATION_INVALID: Final = "categorization-invalid"
CUSTOMER_PROHIBITED: Final = "customer-prohibited"

_NO_CATEGORIZATION: Final = Categorization()
_OF_CATEGORIZATION: Final = ("category.", "feature.", "parameter.")


class Checked(NamedTuple):
    """A customer without a fault; nothing is decided yet."""

    applicant: Applicant
    categorized: Categorized


class Approved(NamedTuple):
    """A customer who is taken, and on which terms."""

    applicant: Applicant
    categorized: Categorized
    decision: Decision


@dataclass(frozen=True, slots=True)
class Refused:
    """
    A customer who is not taken.

    Args:
        code: the problem's: `validation-failed`, `categorization-invalid` or `customer-prohibited`.
        faults: all of them, in the order of the body; beyond 500 the first, and one that says so.
        missing_keys: mandatory keys that are not there.
        invalid_values: what is allowed for each key with a value that is not: a list, or a range.
        reason: for the operator only: category, factors and rules; no personal data.
    """

    code: str
    faults: tuple[Fault, ...] = ()
    missing_keys: tuple[str, ...] = ()
    invalid_values: Mapping[str, tuple[str, ...] | str] = field(default_factory=dict)
    reason: str = ""


def check(customer: Customer, catalogue: Catalogue, day: date, known: tuple[Fault, ...] = ()) -> Checked | Refused:
    """
    Check a customer without deciding: all that an ingress may say, for it never learns who is prohibited.

    Args:
        customer: of the right shape.
        catalogue: the tenant's rules.
        day: today in the tenant's time zone.
        known: faults found before, such as those of shape; they are among the faults of the answer.
    """
    found = applicant(customer, catalogue, day, known)
    if isinstance(found, Applicant) and not known:
        categorized = categorize(found.category_references, _relations(customer), catalogue)
        if isinstance(categorized, Categorized):
            return Checked(found, categorized)
        return _refused((), categorized)
    further = () if isinstance(found, Applicant) else found
    return _refused((*known, *further), _categorized_anyway(customer, catalogue, known))


def check_document(document: object, catalogue: Catalogue, day: date, known: tuple[Fault, ...] = ()) -> Checked | Refused:
    """
    Check a customer that may have any shape, as `check` does.

    Args:
        document: parsed JSON of any type.
        catalogue: the tenant's rules.
        day: today in the tenant's time zone.
        known: faults of what does not travel, such as passwords.
    """
    customer, faults = read_customer(document)
    return check(customer, catalogue, day, (*faults, *known))


def assess(customer: Customer, catalogue: Catalogue, version: int, day: date) -> Approved | Refused:
    """
    Check a customer and decide.

    Args:
        customer: of the right shape, as a command holds it.
        catalogue: the tenant's rules.
        version: the catalogue's number.
        day: the record's day in the tenant's time zone.
    Returns:
        The same for the same arguments, whenever and wherever it is asked.
    """
    checked = check(customer, catalogue, day)
    return checked if isinstance(checked, Refused) else _approved(checked, catalogue, version, day)


def assess_document(document: object, catalogue: Catalogue, version: int, day: date) -> Approved | Refused:
    """Check a customer that may have any shape, and decide, as `assess` does."""
    checked = check_document(document, catalogue, day)
    return checked if isinstance(checked, Refused) else _approved(checked, catalogue, version, day)


def assess_again(sent: str, subject: Subject, catalogue: Catalogue, version: int, day: date) -> Decision | Refused:
    """
    Decide again about a customer who is stored, by the same version or by another.

    Args:
        sent: the categorization as it is stored: `Categorized.sent`.
        subject: what the rules may know of the person, from what is stored.
        catalogue: the rules to decide by.
        version: the catalogue's number.
        day: of the record that the customer came with, in the tenant's time zone.
    Returns:
        The decision: by the version that held, it has the bytes of the stored one. Or why this catalogue refuses.
    """
    categorized = categorize_again(sent, catalogue)
    if isinstance(categorized, Categorized):
        return _decided(subject, categorized, catalogue, version, day)
    return _refused((), categorized)


def _decided(subject: Subject, categorized: Categorized, catalogue: Catalogue, version: int, day: date) -> Decision | Refused:
    decision = decide(subject, categorized, catalogue, version, day)
    if isinstance(decision, Prohibited):
        steps = ", ".join(f"{reason.factor} ({reason.rule}, {reason.input})" for reason in decision.reasons)
        reason = f"category {decision.category_id}, catalogue version {version}: {steps}"
        return Refused(CUSTOMER_PROHIBITED, reason=reason)
    return decision


def _approved(checked: Checked, catalogue: Catalogue, version: int, day: date) -> Approved | Refused:
    decision = _decided(checked.applicant.subject, checked.categorized, catalogue, version, day)
    return decision if isinstance(decision, Refused) else Approved(checked.applicant, checked.categorized, decision)


def _categorized_anyway(customer: Customer, catalogue: Catalogue, known: tuple[Fault, ...]) -> Categorized | Miscategorized:
    """Look for faults of the categorization in a body that has others."""
    category, categorization = customer.get("customerCategory"), _categorization(customer)
    references = (category.get("id") if category else None, categorization.get("id"))
    return categorize(references, _relations(customer), catalogue, known)


def _relations(customer: Customer) -> Sequence[CategoryFeatureRelation]:
    return _categorization(customer).get("categoryFeatureRelations") or ()


def _categorization(customer: Customer) -> Categorization:
    individual = customer.get("individualCustomer")
    return (individual.get("categorization") if individual else None) or _NO_CATEGORIZATION


def _refused(faults: tuple[Fault, ...], categorized: Categorized | Miscategorized) -> Refused:
    """Put all faults together; those of the categorization alone have a code of their own."""
    if isinstance(categorized, Categorized):
        return Refused(VALIDATION_FAILED, _bounded(in_body_order(faults)))
    every = in_body_order((*faults, *categorized.faults))
    alone = all(fault.code.startswith(_OF_CATEGORIZATION) for fault in every)
    code = CATEGORIZATION_INVALID if alone else VALIDATION_FAILED
    return Refused(code, _bounded(every), categorized.missing_keys, categorized.invalid_values)


def _bounded(faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    return faults if len(faults) <= FAULTS_MAX else (*faults[:FAULTS_MAX], too_many(""))
