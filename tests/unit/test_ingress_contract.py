"""What the API says of itself: its problems and its description."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import schemas
from schemas.commands import RegisterCustomer
from tests.commands import body
from worker.core import ids
from worker.core.shape import read_customer
from worker.ingress import commands, examples, problems
from worker.ingress.__main__ import document
from worker.ingress.idempotency import KEY_LENGTH_MAX, KEY_PATTERN, key_of
from worker.ingress.problems import KINDS, ProblemError
from worker.ingress.requests import canonical, without_passwords

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
OPENAPI = Path(schemas.__file__).with_name("openapi.json")
OF_ANY = {"malformed-json", "body-too-large", "internal-error", "overloaded"}
OF_CALLER = {
    "token-missing",
    "token-invalid",
    "not-admin",
    "tenant-header-missing",
    "tenant-denied",
    "too-many-requests",
    "database-unavailable",
}
OF_REGISTER = KINDS.keys() - {"not-found", "method-not-allowed"}
PROBLEMS = {
    "register": OF_REGISTER,
    "registerByFormerPath": OF_REGISTER,
    "readHierarchy": OF_ANY | OF_CALLER,
    "readHierarchyOfTenant": OF_ANY | OF_CALLER | {"not-found"},
    "readCustomer": OF_ANY | OF_CALLER | {"not-found"},
    "readRegistration": OF_ANY | OF_CALLER | {"not-found"},
    "readProblem": OF_ANY | {"not-found"},
}


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    """Return the API's description, as it is committed."""
    found: dict[str, Any] = json.loads(OPENAPI.read_text())
    return found


def test_the_committed_description_is_the_generated_one() -> None:
    """`make schemas` writes it; whoever changes the API commits both."""
    assert OPENAPI.read_text() == document()


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


def operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every call of the description, by its id."""
    return {operation["operationId"]: operation for path in openapi["paths"].values() for operation in path.values()}


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_call_lists_every_problem_that_it_can_end_with(openapi: dict[str, Any], name: str) -> None:
    """Under its status, with an example of it."""
    listed = {
        code: (status, example["value"]["status"])
        for status, answer in operations(openapi)[name]["responses"].items()
        for code, example in answer.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", {}).items()
    }

    assert operations(openapi).keys() == PROBLEMS.keys()
    assert listed == {code: (str(KINDS[code].status), KINDS[code].status) for code in PROBLEMS[name]}


def shown(node: Any) -> Iterator[tuple[dict[str, Any], object]]:  # noqa: ANN401 - whatever JSON holds
    """Find every example with its schema: of a body or an answer, of a parameter, of a member."""
    if isinstance(node, list):
        for inner in node:
            yield from shown(inner)
    elif isinstance(node, dict):
        if isinstance(node.get("examples"), list):
            yield from ((node, example) for example in node["examples"])
        elif "schema" in node:
            yield from ((node["schema"], example["value"]) for example in node.get("examples", {}).values())
            assert "example" not in node
        for name, inner in node.items():
            if name not in {"examples", "example"}:
                yield from shown(inner)


def test_every_example_of_the_description_fits_its_schema(openapi: dict[str, Any]) -> None:
    """What a reader copies is accepted, and what a reader sees is answered."""
    found = [*shown(openapi), ({"$ref": "#/components/schemas/RegistrationRequest"}, BODY)]

    assert len(found) > 100
    for schema, example in found:
        Draft202012Validator({**schema, "components": openapi["components"]}).validate(example)


def test_every_body_and_answer_of_the_description_has_an_example(openapi: dict[str, Any]) -> None:
    """Of JSON, that is."""
    for operation in operations(openapi).values():
        for each in (operation.get("requestBody", {}), *operation["responses"].values()):
            for media_type, content in each.get("content", {}).items():
                assert media_type == "text/html" or content["examples"]


def test_the_example_of_a_decision_is_that_of_the_example_of_a_request() -> None:
    """As the golden decision has it."""
    golden = Path(__file__).parents[1] / "golden"

    assert json.loads((golden / "decision.v1.json").read_text()) == examples.DECISION
    assert (
        examples.REQUEST["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]["parametrization"]
        == (
            json.loads((golden / "register-customer.v1.json").read_text())["value"]["customer"]["individualCustomer"][
                "categorization"
            ]["categoryFeatureRelations"][0]["parametrization"]
        )
    )


@given(
    st.one_of(st.from_regex(KEY_PATTERN, fullmatch=True), st.text(max_size=40).map(lambda text: f'"{text}"'), st.text(max_size=300))
)
def test_the_description_says_which_idempotency_keys_are_taken(key: str) -> None:
    """Neither more nor fewer."""
    fits = len(key) <= KEY_LENGTH_MAX and re.search(KEY_PATTERN, key) is not None and not key.endswith("\n")
    try:
        key_of([key])
    except ProblemError:
        assert not fits
    else:
        assert fits or key != key.strip(" \t")


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
