"""The columns of a registration's rows, from a verdict; what is stored is what was sent and what was decided."""

from __future__ import annotations

import json
from typing import Final

from pydantic_core import to_json

from worker.core.assess import Refused
from worker.registration import Accepted, Rejected, Verdict

PENDING: Final = "PENDING_ACTIVATION"
COMPLETE: Final = "REGISTRATION_COMPLETE"
REJECTED: Final = "REJECTED"
FAILED: Final = "FAILED"


def registration_row(verdict: Verdict) -> tuple[object, ...]:
    """Return a row of `registrations`."""
    tie, record = verdict.tie, verdict.record
    assert tie is not None, "only tied verdicts have a row"  # noqa: S101 - narrows the type
    status, code, problem, reason, customer_id, version = FAILED, None, None, None, None, None
    if isinstance(verdict, Accepted):
        status, version = COMPLETE, verdict.catalogue_version
        customer_id = verdict.customer_id
    elif isinstance(verdict, Rejected):
        status, code, version = REJECTED, verdict.refused.code, verdict.catalogue_version
        problem, reason = _problem_json(verdict.refused), verdict.refused.reason or None
    else:
        code = verdict.code
    return (
        tie.registration_id, tie.tenant_id, status, code, problem, reason, customer_id, tie.fingerprint, version,
        record.topic, record.partition, record.offset, verdict.decided_at, tie.requested_at, tie.requested_by,
    )  # fmt: skip


def customer_row(verdict: Accepted) -> tuple[object, ...]:
    """Return a row of `customers`, but for its status."""
    tie, approved = verdict.tie, verdict.approved
    applicant, categorized = approved.applicant, approved.categorized
    return (
        verdict.customer_id, tie.tenant_id, tie.registration_id,
        applicant.email, applicant.email_normalized, applicant.phone,
        categorized.category_id, categorized.sent, verdict.decided_at,
    )  # fmt: skip


def person_row(verdict: Accepted) -> tuple[object, ...]:
    """Return a row of `persons`."""
    tie, applicant = verdict.tie, verdict.approved.applicant
    return (
        verdict.customer_id, tie.tenant_id,
        verdict.person_id, applicant.first_name, applicant.last_name,
        applicant.customer_name, applicant.date_of_birth, applicant.place_of_birth, applicant.gender,
        applicant.nationality, applicant.nationalities if applicant.nationalities_told else None,
        to_json(applicant.addresses).decode(), to_json(applicant.contacts).decode(),
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


def _problem_json(refused: Refused) -> str | None:
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
