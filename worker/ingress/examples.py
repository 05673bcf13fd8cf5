"""The examples in the API description."""

from __future__ import annotations

from typing import Any, Final

from worker.ingress.problems import KINDS, ProblemError, document, explanation

REGISTRATION_ID: Final = "reg_01k8xq3c9ne6ks4v8w3mhy2gqz"
CUSTOMER_ID: Final = "cust_01k8xq3c9ne6ks4v8w3mhy2gqz"
USER_ID: Final = "user_01k8xq3c9nfbts6k9x2pqz4hra"
PERSON_ID: Final = "pers_01k8xq3c9nexr9d4m7wq3t5yzb"
TENANT_ID: Final = "7c6f0f52-9d4e-4b1a-8f0e-2a5d9b3c1e47"
_EMAIL: Final = "marcus.jensen@example.com"
_PHONE: Final = "+37060012345"
_PASSWORD: Final = "SecurePass123!"  # noqa: S105 - an example
_CATEGORY: Final = {"id": "e50bb9ad-6a97-41da-8e66-4c3c0f7e2a3d", "name": "Medium Risk Individual"}
_TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"

REQUEST: Final[dict[str, Any]] = {
    "firstName": "Marcus",
    "lastName": "Jensen",
    "email": _EMAIL,
    "phone": _PHONE,
    "password": _PASSWORD,
    "matchingPassword": _PASSWORD,
    "roleIds": ["ACCOUNT_OWNER", "USER"],
    "customerCategory": _CATEGORY,
    "individualCustomer": {
        "customerName": "Marcus Jensen",
        "person": {
            "firstName": "Marcus",
            "lastName": "Jensen",
            "email": _EMAIL,
            "dateOfBirth": "1990-05-15",
            "gender": "MALE",
            "nationality": "LT",
            "addresses": [
                {
                    "type": "HOME",
                    "street": "123 Medium Risk Street",
                    "city": "Compliance City",
                    "postalCode": "12345",
                    "country": "LT",
                    "isPrimary": True,
                }
            ],
            "contacts": [
                {"type": "EMAIL", "value": _EMAIL, "isPrimary": True},
                {"type": "PHONE", "value": _PHONE, "isPrimary": False},
            ],
        },
        "user": {
            "username": _EMAIL,
            "email": _EMAIL,
            "password": _PASSWORD,
            "roles": ["ACCOUNT_OWNER", "USER"],
            "requiresPasswordChange": False,
            "twoFactorEnabled": False,
        },
        "categorization": {
            **_CATEGORY,
            "categoryFeatureRelations": [
                {
                    "feature": {"code": "MEDIUM_RISK_PROFILE"},
                    "enabled": True,
                    "parametrization": [
                        {"name": "riskLevel", "value": "MEDIUM"},
                        {"name": "riskScore", "value": "55"},
                        {"name": "pep", "value": "false"},
                        {"name": "sanctionsCheck", "value": "STANDARD"},
                        {"name": "monthlyLimit", "value": "20000"},
                    ],
                }
            ],
        },
    },
}
REGISTERED: Final[dict[str, Any]] = {
    "data": {
        "id": CUSTOMER_ID,
        "userId": USER_ID,
        "personId": PERSON_ID,
        "user": {"id": USER_ID, "username": _EMAIL, "status": "PENDING_ACTIVATION"},
        "status": "REGISTRATION_COMPLETE",
    }
}
PENDING: Final[dict[str, Any]] = {"data": {"registrationId": REGISTRATION_ID, "status": "PENDING"}}
HIERARCHY: Final[dict[str, Any]] = {
    "data": {
        "tenantId": TENANT_ID,
        "tenantName": "Example Bank",
        "categories": {
            "MEDIUM_RISK_INDIVIDUAL": {
                "categoryId": "MEDIUM_RISK_INDIVIDUAL",
                "databaseId": _CATEGORY["id"],
                "categoryName": _CATEGORY["name"],
                "description": "Medium-risk individual customer category",
                "riskLevel": "MEDIUM",
                "features": [
                    {
                        "featureCode": "MEDIUM_RISK_PROFILE",
                        "featureName": "Medium risk profile",
                        "databaseId": "f7a8b9c0-d1e2-3f4g-5h6i-7j8k9l0m1n2o",
                        "mandatoryKeys": ["pep", "riskLevel", "riskScore"],
                        "allowedValues": {"pep": ["true", "false"], "riskScore": "0-100"},
                        "multiValueKeys": [],
                    }
                ],
            }
        },
    }
}

_FAULT: Final = {
    "pointer": "/individualCustomer/person/dateOfBirth",
    "code": "person.under_age",
    "detail": "Must be at least 18 years ago.",
}
_MEMBERS: Final[dict[str, dict[str, Any]]] = {
    "validation-failed": {"errors": [_FAULT]},
    "categorization-invalid": {"missingKeys": ["pep"], "invalidValues": {"riskScore": "0-100"}},
    "email-taken": {"registrationId": REGISTRATION_ID},
    "customer-prohibited": {"registrationId": REGISTRATION_ID},
    "processing-failed": {"registrationId": REGISTRATION_ID},
}


def problem(code: str) -> dict[str, Any]:
    """Return a problem of that code, as a caller may meet it."""
    members = _MEMBERS.get(code, {}) if code in KINDS else {}
    return document(ProblemError(code, members=members), trace_id=_TRACE_ID, base_url="")


DECISION: Final[dict[str, Any]] = {
    "riskLevel": "MEDIUM",
    "riskScore": 55,
    "features": [
        {
            "code": "MEDIUM_RISK_PROFILE",
            "enabled": True,
            "parameters": {
                "monthlyLimit": {"requested": "20000", "effective": "20000"},
                "pep": {"requested": "false", "effective": "false"},
                "riskLevel": {"requested": "MEDIUM", "effective": "MEDIUM"},
                "riskScore": {"requested": "55", "effective": "55"},
                "sanctionsCheck": {"requested": "STANDARD", "effective": "STANDARD"},
            },
        }
    ],
    "dueDiligence": "STANDARD",
    "sanctionsScreening": "STANDARD",
    "monitoring": "MONTHLY",
    "nextReviewOn": "2029-01-01",
    "seniorApproval": False,
    "verificationLevel": "STANDARD",
    "verificationChecks": ["GOVERNMENT_ID", "PROOF_OF_ADDRESS"],
    "consents": [
        {"code": "TERMS_AND_CONDITIONS", "documentVersion": "2026-01"},
        {"code": "PRIVACY_POLICY", "documentVersion": "2026-01"},
        {"code": "DATA_PROCESSING", "documentVersion": "2025-07"},
    ],
    "limits": {"currency": "EUR", "day": 5000, "month": 20000, "transaction": 2500},
    "activationBlockers": [
        "PLACE_OF_BIRTH",
        "NATIONALITIES",
        "EMAIL_CONFIRMATION",
        "PHONE_CONFIRMATION",
        "CONSENT_TERMS_AND_CONDITIONS",
        "CONSENT_PRIVACY_POLICY",
        "CONSENT_DATA_PROCESSING",
        "CHECK_GOVERNMENT_ID",
        "CHECK_PROOF_OF_ADDRESS",
        "SANCTIONS_SCREENING",
    ],
    "catalogueVersion": 1,
    "automated": True,
    "humanReview": True,
    "explanation": [
        {"factor": "CATEGORY", "points": 40, "rule": "R-1", "input": "categorization"},
        {"factor": "CLAIMED_SCORE", "points": 15, "rule": "R-7", "input": "MEDIUM_RISK_PROFILE.riskScore"},
        {"factor": "CLAIMED_MONTH_LIMIT", "points": 0, "rule": "R-11", "input": "MEDIUM_RISK_PROFILE.monthlyLimit"},
    ],
}
"""Of `REQUEST`, a test says."""
_INDIVIDUAL: Final = REQUEST["individualCustomer"]
CUSTOMER: Final[dict[str, Any]] = {
    "data": {
        "id": CUSTOMER_ID,
        "userId": USER_ID,
        "personId": PERSON_ID,
        "registrationId": REGISTRATION_ID,
        "status": "PENDING_ACTIVATION",
        "registeredAt": "2026-01-01T00:00:00.000Z",
        "person": {
            "id": PERSON_ID,
            "customerName": "Marcus Jensen",
            **_INDIVIDUAL["person"],
            "phone": _PHONE,
            "nationalities": ["LT"],
        },
        "user": {
            "id": USER_ID,
            "username": _EMAIL,
            "status": "PENDING_ACTIVATION",
            "roles": ["ACCOUNT_OWNER", "USER"],
            "isActive": False,
            "requiresPasswordChange": False,
            "twoFactorEnabled": False,
        },
        "categorization": {
            "categoryId": "MEDIUM_RISK_INDIVIDUAL",
            "categoryReferences": [_CATEGORY["id"]],
            "categoryFeatureRelations": _INDIVIDUAL["categorization"]["categoryFeatureRelations"],
        },
        "decision": DECISION,
    }
}
REGISTRATIONS: Final[tuple[dict[str, Any], ...]] = (
    {"data": {"registrationId": REGISTRATION_ID, **REGISTERED["data"]}},
    {"data": {"registrationId": REGISTRATION_ID, "status": "PENDING", "ageS": 3}},
    {"data": {"registrationId": REGISTRATION_ID, "status": "REJECTED", "problem": problem("customer-prohibited")}},
    {"data": {"registrationId": REGISTRATION_ID, "status": "FAILED", "problem": problem("processing-failed")}},
)
EXPLANATION: Final = explanation("too-many-requests", base_url="")
