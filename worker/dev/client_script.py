"""
What the existing client script sends, rebuilt from its description: it must be accepted for any catalogue key it knows.

It reads the hierarchy, picks a category of medium risk, and fills each mandatory key by the patterns that its lower-case
name matches; a name that matches two gets both values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

PLURAL: Final = "/api/v2.1/customers/individual/register"
SINGULAR: Final = "/api/v2.1/customer/individual/registration"
HIERARCHY: Final = "/api/v2.1/customers/individual/categorization/hierarchy"
PHONE: Final = "+1234567890"
PASSWORD: Final = "SecurePass123!"  # noqa: S105 - the script's own, of nobody
_PATTERNS: Final = (
    ("risk.*level", "MEDIUM"),
    ("risk.*score", "55"),
    ("pep", "false"),
    ("sanctions", "STANDARD"),
    ("monitoring", "WEEKLY"),
    ("compliance", "STANDARD_DUE_DILIGENCE"),
    ("edd", "false"),
    ("monthly.*limit", "20000"),
)
_OTHERWISE: Final = "MEDIUM_RISK_VALUE"


def value_of(key: str) -> object:
    """Return what the script sends for a mandatory key: text, or a list where two patterns match."""
    found = [value for pattern, value in _PATTERNS if re.search(pattern, key.lower())]
    return _OTHERWISE if not found else found[0] if len(found) == 1 else found


def request_body(hierarchy: Mapping[str, Any], email: str) -> dict[str, Any]:
    """
    Return the body that the script posts.

    Args:
        hierarchy: `data` of the hierarchy's answer.
        email: of the new customer.
    """
    category = next(each for each in hierarchy["categories"].values() if each["riskLevel"] == "MEDIUM")
    reference = {"name": category["categoryName"], "description": category["description"], "isActive": True}
    return {
        "firstName": "Script",
        "lastName": "Client",
        "email": email,
        "phone": PHONE,
        "password": PASSWORD,
        "matchingPassword": PASSWORD,
        "roleIds": ["ACCOUNT_OWNER", "USER"],
        "customerCategory": {"id": category["databaseId"], "name": category["categoryName"]},
        "individualCustomer": {
            "customerName": "Script Client",
            "person": _person(email),
            "user": {
                "username": email,
                "email": email,
                "password": PASSWORD,
                "status": "PENDING_ACTIVATION",
                "roles": ["ACCOUNT_OWNER", "USER"],
                "isActive": False,
            },
            "categorization": {
                "id": category["categoryId"],
                **reference,
                "parametrization": [],
                "categoryFeatureRelations": _relations(category["features"]),
            },
        },
    }


def _person(email: str) -> dict[str, Any]:
    return {
        "firstName": "Script",
        "lastName": "Client",
        "email": email,
        "dateOfBirth": "1985-03-20",
        "gender": "FEMALE",
        "nationality": "US",
        "addresses": [
            {
                "type": "HOME",
                "street": "1 Main Street",
                "city": "Springfield",
                "postalCode": "12345",
                "country": "US",
                "isPrimary": True,
            }
        ],
        "contacts": [
            {"type": "EMAIL", "value": email, "isPrimary": True},
            {"type": "PHONE", "value": PHONE, "isPrimary": False},
        ],
    }


def _relations(features: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "feature": {"id": feature["databaseId"], "code": feature["featureCode"], "name": feature["featureName"]},
            "enabled": True,
            "parametrization": [{"name": key, "value": value_of(key)} for key in feature["mandatoryKeys"]],
        }
        for feature in features
    ]
