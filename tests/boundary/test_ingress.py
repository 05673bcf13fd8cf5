"""A registration from POST to its customer, and what reaches the topic."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Final

import pytest

from tests.boundary.ingress_door import ALIAS, HIERARCHY, IN_TIME_S, JSON, REGISTER, TENANT, Door, command_of, fits, problem_of
from tests.commands import body_of, email_of
from tests.conftest import World
from worker.core import ids

PASSWORD: Final = "SecurePass123!"


async def test_a_registration_is_answered_with_its_customer(door: Door) -> None:
    """201 in the shape of the example, a customer behind Location with every field of its decision, and no password."""
    email = email_of("first")
    answer = await door.client.post(REGISTER, json=body_of(email))
    data = answer.json()["data"]
    shown = await door.client.get(answer.headers["location"])
    customer = shown.json()["data"]

    assert answer.status_code == 201
    assert data == {
        "id": customer["id"],
        "userId": customer["userId"],
        "personId": customer["personId"],
        "user": {"id": customer["userId"], "username": email, "status": "PENDING_ACTIVATION"},
        "status": "REGISTRATION_COMPLETE",
    }
    assert [data[name].split("_")[0] for name in ("id", "userId", "personId")] == ["cust", "user", "pers"]
    assert customer["person"]["email"] == customer["user"]["username"] == email
    assert (customer["user"]["isActive"], customer["status"]) == (False, "PENDING_ACTIVATION")
    assert customer["decision"].keys() >= {
        "riskLevel", "riskScore", "features", "dueDiligence", "sanctionsScreening", "monitoring", "nextReviewOn",
        "seniorApproval", "verificationLevel", "verificationChecks", "consents", "limits", "activationBlockers",
        "catalogueVersion", "explanation",
    }  # fmt: skip
    assert "argon2" not in shown.text
    assert 'assword":' not in shown.text.replace('requiresPasswordChange":', "")
    assert answer.headers["cache-control"] == shown.headers["cache-control"] == "no-store"
    await fits(door, answer, REGISTER)
    await fits(door, shown, "/api/v2.1/customers/{customerId}")


async def test_the_former_path_does_the_same_and_names_its_successor(door: Door) -> None:
    """Existing scripts go on, and are told where to go, whatever the answer."""
    made = await door.client.post(ALIAS, json=body_of(email_of("alias")))
    refused = await door.client.post(ALIAS, content=b"{", headers={"Content-Type": "application/json"})

    assert made.status_code == 201
    for answer in (made, refused):
        assert answer.headers["deprecation"].startswith("@")
        assert answer.headers["link"] == f'<{REGISTER}>; rel="successor-version"'


async def test_an_email_has_one_customer(door: Door) -> None:
    """The second registration of an address ends with 409, and its status says the same later."""
    body = body_of(email_of("twice"))
    await door.client.post(REGISTER, json=body)
    told = problem_of(await door.client.post(REGISTER, json=body), 409, "email-taken")
    later = await door.client.get(f"/api/v2.1/registrations/{told['registrationId']}")

    assert later.json()["data"]["status"] == "REJECTED"
    assert later.json()["data"]["problem"]["code"] == "email-taken"
    await fits(door, later, "/api/v2.1/registrations/{registrationId}")


async def test_who_is_prohibited_is_told_no_reason(door: Door) -> None:
    """Only the worker decides it, and the answer says nothing of why."""
    tree = (await door.client.get(HIERARCHY)).json()["data"]["categories"]
    prohibited = next(each for each in tree.values() if each["riskLevel"] == "PROHIBITED")
    body = body_of(email_of("prohibited"), customerCategory={"id": prohibited["categoryId"]})
    body["individualCustomer"]["categorization"] = {"id": prohibited["databaseId"], "categoryFeatureRelations": []}
    answer = await door.client.post(REGISTER, json=body)

    told = problem_of(answer, 422, "customer-prohibited")
    assert told["errors"] == []
    assert not {"missingKeys", "invalidValues", "reason"} & told.keys()


async def test_all_faults_of_a_body_are_told_at_once(door: Door) -> None:
    """Fields, categorization and passwords in one answer; none of what was sent is repeated."""
    body = body_of("x'); DROP TABLE customers;--", phone="+00hunter2", matchingPassword="hunter3")
    body["password"] = body["individualCustomer"]["user"]["password"] = "hunter2"
    body["individualCustomer"]["person"]["dateOfBirth"] = "2999-01-01"
    body["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]["parametrization"][1]["value"] = "hunter2"
    answer = await door.client.post(REGISTER, json=body)
    told = problem_of(answer, 400, "validation-failed")

    assert {fault["code"] for fault in told["errors"]} >= {
        "email.invalid", "phone.not_e164", "password.mismatch", "password.weak", "date.in_future", "parameter.not_allowed",
    }  # fmt: skip
    assert told["invalidValues"] == {"riskScore": "0-100"}
    assert "hunter" not in answer.text
    assert "DROP" not in answer.text
    await fits(door, answer, REGISTER)


async def test_faults_of_the_categorization_alone_say_what_would_be_right(door: Door) -> None:
    """Missing keys and allowed values, by name."""
    body = body_of(email_of("keys"))
    relation = body["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]
    relation["parametrization"] = [each for each in relation["parametrization"] if each["name"] != "pep"]
    answer = await door.client.post(REGISTER, json=body)

    assert problem_of(answer, 400, "categorization-invalid")["missingKeys"] == ["pep"]


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("respond-async", "respond-async"), ("wait=0", "wait=0"), ("respond-async, wait=0", "respond-async, wait=0")],
)
async def test_who_does_not_wait_finds_the_outcome_later(door: Door, prefer: str, applied: str) -> None:
    """202 with the registration's Location, which ends with the same data as the answer to a registration."""
    email = email_of("later")
    answer = await door.client.post(REGISTER, json=body_of(email), headers={"Prefer": prefer})
    async with asyncio.timeout(IN_TIME_S):
        while (later := (await door.client.get(answer.headers["location"])).json()["data"])["status"] == "PENDING":
            await asyncio.sleep(0.01)

    assert (answer.status_code, answer.headers["preference-applied"]) == (202, applied)
    assert answer.json()["data"] == {"registrationId": later["registrationId"], "status": "PENDING"}
    assert (later["status"], later["user"]["username"]) == ("REGISTRATION_COMPLETE", email)
    assert later["id"].startswith("cust_")
    await fits(door, answer, REGISTER)


async def test_the_hierarchy_is_the_tenants_catalogue_and_has_a_version(door: Door) -> None:
    """Both paths give the same; who has the version is told only that."""
    plain = await door.client.get(HIERARCHY)
    named = [await door.client.get(f"{HIERARCHY}/{name}") for name in (TENANT.id, TENANT.slug)]
    tag = plain.headers["etag"]
    again = await door.client.get(HIERARCHY, headers={"If-None-Match": f'"other", W/{tag}'})

    assert plain.json()["data"]["tenantId"] == TENANT.id
    assert [answer.json() for answer in named] == [plain.json()] * 2
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await door.client.get(HIERARCHY, headers={"If-None-Match": '"other"'})).status_code == 200
    categories = plain.json()["data"]["categories"]
    features = [feature for category in categories.values() for feature in category["features"]]
    assert list(categories) == sorted(categories) == sorted({each["categoryId"] for each in categories.values()})
    assert "STUDENT_INDIVIDUAL" not in categories, "no longer offered"
    for category in categories.values():
        codes = [feature["featureCode"] for feature in category["features"]]
        assert codes == sorted(codes)
    for feature in features:
        assert feature["mandatoryKeys"] == sorted(feature["mandatoryKeys"])
        assert list(feature["allowedValues"]) == sorted(feature["allowedValues"])
    await fits(door, plain, HIERARCHY)


async def test_the_command_is_the_contracts_and_holds_no_password(alone: Door, world: World) -> None:
    """What Kafka keeps: a hash, the caller, the trace, no unknown member, and nothing personal in key and headers."""
    email, trace_id = email_of("command"), os.urandom(16).hex()
    body = body_of(email, unknown={"password": PASSWORD, "kept": "never"})
    trace = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "Prefer": "wait=0"}
    answer = await alone.client.post(REGISTER, content=b"\xef\xbb\xbf" + json.dumps(body).encode(), headers=JSON | trace)
    registration_id = answer.json()["data"]["registrationId"]
    sent = await command_of(world.settings, registration_id)
    command, value = sent.command, sent.record.value or b""
    uuid = ids.registration_uuid(registration_id)

    assert answer.status_code == 202
    assert uuid is not None
    assert sent.headers["traceparent"] == f"00-{trace_id}-00f067aa0ba902b7-01".encode()
    assert sent.headers["ce_id"] == ids.derive("cmd", TENANT.id, uuid).encode()
    assert sent.headers["ce_tenantid"].decode() == command.tenant_id == TENANT.id
    assert (command.registration_id, command.requested_by) == (registration_id, "developer")
    assert command.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert command.customer["email"] == email
    assert PASSWORD.encode() not in value
    assert b"never" not in value
    assert email.encode() not in b"".join([sent.record.key or b"", *sent.headers.values()])


async def test_the_same_body_has_the_same_fingerprint_and_one_email_one_key(alone: Door, world: World) -> None:
    """Spelling and passwords change no fingerprint; the case of an address changes no key."""
    email = email_of("fingerprint")
    spelled = [
        json.dumps(body_of(email)),
        json.dumps(body_of(email), indent=2, sort_keys=True).replace(PASSWORD, "Another-password-1"),
        json.dumps(body_of(email.upper())),
    ]
    sent = []
    for content in spelled:
        answer = await alone.client.post(REGISTER, content=content, headers=JSON | {"Prefer": "respond-async"})
        sent.append(await command_of(world.settings, answer.json()["data"]["registrationId"]))
    first, second, other = (each.command.fingerprint for each in sent)

    assert first == second != other
    assert len({each.record.key for each in sent}) == 1
