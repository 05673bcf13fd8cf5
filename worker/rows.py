"""The columns of a registration's rows, from a verdict; what is stored is what was sent and what was decided."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pydantic import TypeAdapter

from schemas.commands import Address, CategoryFeatureRelation, Contact
from worker.core.assess import Refused
from worker.registration import Accepted

PENDING: Final = "PENDING_ACTIVATION"
_ADDRESSES: Final = TypeAdapter(tuple[Address, ...])
_CONTACTS: Final = TypeAdapter(tuple[Contact, ...])
_RELATIONS: Final = TypeAdapter(tuple[CategoryFeatureRelation, ...])


def customer_columns(accepted: Sequence[Accepted]) -> tuple[object, ...]:
    """Return the parameters of `customers_insert`."""
    rows = [_customer_row(verdict) for verdict in accepted]
    columns = list(zip(*rows, strict=True))
    return (*columns[:6], PENDING, *columns[6:])


def _customer_row(verdict: Accepted) -> tuple[object, ...]:
    tie, applicant = verdict.tie, verdict.approved.applicant
    return (
        verdict.customer_id, tie.tenant_id, tie.registration_id,
        applicant.email, applicant.email_normalized, applicant.phone,
        verdict.approved.categorized.category_id, categorization_json(verdict), verdict.decided_at,
    )  # fmt: skip


def categorization_json(verdict: Accepted) -> str:
    """Return what the caller asked for, which is what the decision can be worked out from again."""
    applicant = verdict.approved.applicant
    references = _references_json(applicant.category_references)
    relations = _RELATIONS.dump_json(applicant.relations, by_alias=True, exclude_none=True).decode()
    return f'{{"categoryReferences":{references},"categoryFeatureRelations":{relations}}}'


@lru_cache(maxsize=4096)
def _references_json(references: tuple[str, str]) -> str:
    return json.dumps(references)


def person_row(verdict: Accepted) -> tuple[object, ...]:
    """Return a row of `persons`."""
    tie, applicant = verdict.tie, verdict.approved.applicant
    return (
        verdict.customer_id, tie.tenant_id,
        verdict.person_id, applicant.first_name, applicant.last_name,
        applicant.customer_name, applicant.date_of_birth, applicant.place_of_birth, applicant.gender,
        applicant.nationality, applicant.nationalities if applicant.nationalities_told else None,
        _ADDRESSES.dump_json(applicant.addresses, by_alias=True, exclude_none=True).decode(),
        _CONTACTS.dump_json(applicant.contacts, by_alias=True, exclude_none=True).decode(),
    )  # fmt: skip


def user_row(verdict: Accepted) -> tuple[object, ...]:
    """Return a row of `users`: pending and inactive, whatever was sent."""
    tie, applicant = verdict.tie, verdict.approved.applicant
    return (
        verdict.customer_id, tie.tenant_id,
        verdict.user_id, applicant.email, verdict.password_hash, PENDING,
        applicant.roles, False, applicant.requires_password_change, applicant.two_factor_enabled,
    )  # fmt: skip


def decision_row(verdict: Accepted) -> tuple[object, ...]:
    """Return a row of `decisions`."""
    tie, decision = verdict.tie, verdict.approved.decision
    return (
        verdict.customer_id, tie.tenant_id, verdict.catalogue_version,
        decision.risk_level, decision.risk_score, decision.due_diligence, decision.verification_level,
        decision.next_review_on, decision.to_json().decode(),
    )  # fmt: skip


def problem_json(refused: Refused) -> str | None:
    """Return what a refusal tells its caller; None where its code says all."""
    if not (refused.faults or refused.missing_keys or refused.invalid_values):
        return None
    return json.dumps(
        {
            "errors": [{"pointer": f.pointer, "code": f.code, "detail": f.detail} for f in refused.faults],
            "missingKeys": list(refused.missing_keys),
            "invalidValues": dict(refused.invalid_values),
        }
    )
