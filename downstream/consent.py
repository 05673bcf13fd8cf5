"""Consent collection: asks the customer to agree to each document, at the version that the decision names."""

from __future__ import annotations

from downstream.service import Ask, Request
from schemas import CustomerRegistered


def consents_of(event: CustomerRegistered) -> Request:
    """Return what is asked of the customer: every document with its version, since consent to another text is none."""
    return Request(event.tenant_id, event.customer_id, {"consents": [consent.model_dump() for consent in event.consents]})


CONSENT = Ask("consent.requested", consents_of)
