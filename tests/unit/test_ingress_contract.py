"""What the API says of itself: its problems and its description."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from schemas.commands import RegisterCustomer
from tests.commands import body
from worker.core import ids
from worker.core.shape import read_customer
from worker.ingress import commands, documents, examples, problems
from worker.ingress.problems import KINDS, ProblemError
from worker.ingress.requests import canonical, without_passwords
from worker.ingress.routes import router

CONTRACT = {
    400: {"malformed-json", "validation-failed", "categorization-invalid", "tenant-header-missing", "idempotency-key-invalid"},
    401: {"token-missing", "token-invalid"},
    403: {"not-admin", "tenant-denied"},
    404: {"not-found"},
    405: {"method-not-allowed"},
    409: {"email-taken"},
    413: {"body-too-large"},
    415: {"unsupported-media-type"},
    422: {"idempotency-key-reused", "customer-prohibited"},
    429: {"too-many-requests"},
    500: {"internal-error", "processing-failed"},
    503: {"kafka-unavailable", "database-unavailable", "overloaded"},
}
BODY = body()


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    """Return the API's description."""
    app = FastAPI(routes=router.routes)
    documents.describe(app)
    return app.openapi()


def test_the_table_of_problems_is_the_contracts() -> None:
    """Each code has the status that callers were promised."""
    by_status: dict[int, set[str]] = {}
    for code, kind in KINDS.items():
        by_status.setdefault(kind.status, set()).add(code)

    assert by_status == CONTRACT


@pytest.mark.parametrize("code", KINDS)
def test_a_problem_says_what_it_means_and_what_to_do(code: str) -> None:
    """Its headers are those that its status asks for, and its page has its text."""
    kind = KINDS[code]
    answer = problems.response(ProblemError(code), trace_id="t", base_url="https://api.example.com")
    told = json.loads(bytes(answer.body))

    assert answer.headers["content-type"] == "application/problem+json"
    assert told["type"] == f"https://api.example.com/problems/{code}"
    assert (told["status"], told["code"], told["traceId"], told["errors"]) == (kind.status, code, "t", [])
    assert ("retry-after" in answer.headers) is (kind.status in {429, 503})
    assert ("www-authenticate" in answer.headers) is (code in {"token-missing", "token-invalid", "not-admin"})
    assert escape(kind.advice) in problems.page(code)
    assert problems.explanation(code, base_url="")["advice"] == kind.advice


def test_every_reference_of_the_description_leads_somewhere(openapi: dict[str, Any]) -> None:
    """OpenAPI 3.1, without a dangling reference or an answer that is never sent."""
    text = json.dumps(openapi)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}

    assert openapi["openapi"].startswith("3.1")
    assert names <= openapi["components"]["schemas"].keys()
    assert "HTTPValidationError" not in text
    for path in openapi["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert all(answer["description"] for answer in operation["responses"].values())


@pytest.mark.parametrize(
    ("model", "example"),
    [
        ("RegistrationRequest", examples.REQUEST),
        ("RegistrationRequest", BODY),
        ("RegisterResponse", examples.REGISTERED),
        ("PendingResponse", examples.PENDING),
        ("HierarchyResponse", examples.HIERARCHY),
        *(("Problem", examples.problem(code)) for code in KINDS),
    ],
)
def test_every_example_of_the_description_fits_its_schema(openapi: dict[str, Any], model: str, example: object) -> None:
    """What a reader copies is accepted."""
    schema = {"$ref": f"#/components/schemas/{model}", "components": openapi["components"]}

    Draft202012Validator(schema).validate(example)


def test_no_model_of_an_answer_has_a_password(openapi: dict[str, Any]) -> None:
    """Passwords go in, and nothing like them comes out."""
    models = openapi["components"]["schemas"]
    asked = {"RegistrationRequest", "UserRequest"}

    assert {name for name, model in models.items() if "assword" in json.dumps(list(model.get("properties", ())))} - {
        "User",
        "UserDocument",
    } == asked


def test_a_command_has_the_envelope_of_its_contract_and_nothing_personal_beside_its_value() -> None:
    """CloudEvents 1.0 in binary mode; the key tells nobody whose it is, and is the same for the same email."""
    customer, faults = read_customer(without_passwords(BODY))
    registration = ids.new_registration("t-1", b"secret-of-16-bytes", 1_700_000_000_000, b"12345")
    uuid = ids.registration_uuid(registration)
    assert uuid is not None
    command = RegisterCustomer.model_validate(
        {
            "registrationId": registration,
            "tenantId": "t-1",
            "requestedAt": "2026-01-02T03:04:05.678Z",
            "requestedBy": "alice",
            "fingerprint": commands.fingerprint(canonical(without_passwords(BODY)), b"f" * 32),
            "passwordHash": "$argon2id$…",
            "customer": customer,
        }
    )
    key = commands.partition_key("t-1", "marcus.jensen@example.com", b"k" * 32)
    message = commands.message(command, uuid, key, "00-trace")

    assert faults == ()
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": ids.derive("cmd", "t-1", uuid).encode(),
        "ce_type": b"customer.register.v1",
        "ce_source": b"/registration/ingress",
        "ce_time": b"2026-01-02T03:04:05.678Z",
        "ce_subject": registration.encode(),
        "ce_tenantid": b"t-1",
        "content-type": b"application/json",
        "traceparent": b"00-trace",
    }
    assert b"marcus" not in repr((message.key, message.headers)).encode()
    assert b"SecurePass123!" not in (message.value or b"")
    assert RegisterCustomer.model_validate_json(message.value or b"") == command
    assert command.fingerprint is not None
    assert command.fingerprint.startswith("k1:")
    assert key == commands.partition_key("t-1", "marcus.jensen@example.com", b"k" * 32)
    assert key != commands.partition_key("t-2", "marcus.jensen@example.com", b"k" * 32)
