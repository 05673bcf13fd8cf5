"""Identity verification: asks the customer for the checks that the decision names, before anything is activated."""

from __future__ import annotations

from downstream.service import Ask, Request
from schemas import CustomerRegistered


def checks_of(event: CustomerRegistered) -> Request:
    """Return what is asked of the customer: every check of the verification level, by name."""
    return Request(event.tenant_id, event.customer_id, {"level": event.verification_level, "checks": event.verification_checks})


VERIFICATION = Ask("verification.requested", checks_of)
