"""
A registration, from request to answer, in this order: who calls, what is sent, is it right, hash, publish, wait.

Nothing is stored here: what Kafka has acknowledged is not lost, and until then nothing has happened.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, NoReturn
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from schemas.commands import COMMANDS_TOPIC, Customer, RegisterCustomer
from worker.catalogues import Versions
from worker.core import ids
from worker.core.assess import Checked, Refused, check
from worker.core.catalogue import Catalogue
from worker.core.shape import read_customer
from worker.errors import UnavailableError
from worker.ingress import answers, commands, passwords
from worker.ingress.parts import Parts, answer_of, parts_of, trace_of
from worker.ingress.problems import ProblemError
from worker.ingress.requests import Json, Preference, body_of, canonical, parse, preference, without_passwords
from worker.ingress.waiting import COMPLETE, FAILED, Outcome
from worker.kafka import OutMessage, Sent, UnacknowledgedError

NO_STORE: Final = {"Cache-Control": "no-store"}
_RANDOM_BYTES: Final = 5
_UNKNOWN: Final = (
    "Kafka did not acknowledge the registration in time, so whether it was taken in is unknown. "
    "Ask for its status, and repeat with the same Idempotency-Key."
)


@dataclass(frozen=True, slots=True)
class _Registration:
    """A registration that has its id. `uuid` are the id's 16 bytes."""

    tenant_id: str
    registration_id: str
    uuid: bytes


async def register(request: Request) -> Response:
    """
    Take a registration in, and answer with its outcome where it comes in time.

    Raises:
        ProblemError: the caller's fault, ours, or the registration's refusal.
    """
    parts = parts_of(request)
    caller = parts.tokens.caller(request)
    tenant = parts.tenants.of(caller, request.headers.getlist("x-tenant-id"))
    # Here a rate limit by tenant has its place: after we know who calls, before the body is read.
    prefers = preference(request.headers.getlist("prefer"), parts.settings.ingress_wait_s)
    document = parse(await body_of(request, parts.settings.body_max_bytes))
    bare = without_passwords(document)
    fingerprint = commands.fingerprint(canonical(bare), parts.tenants.secrets.fingerprint)
    # Here an Idempotency-Key looks for its first outcome: before the rules, which may have changed since.
    now = datetime.now(UTC)
    customer, checked, password = _checked(document, bare, tenant, now)
    password_hash = await parts.hasher.hash(password)
    registration = _new_registration(parts, tenant.tenant_id)
    answer_of(request).registration_id = registration.registration_id
    command = RegisterCustomer(
        registration_id=registration.registration_id,
        tenant_id=tenant.tenant_id,
        requested_at=now,
        requested_by=caller.subject,
        fingerprint=fingerprint,
        password_hash=password_hash,
        customer=customer,
    )
    key = commands.partition_key(tenant.tenant_id, checked.applicant.email_normalized, parts.tenants.secrets.partition)
    sent = await _publish(parts, commands.message(command, registration.uuid, key, trace_of(request).parent), registration)
    return _answer(parts, registration, prefers, await _outcome(parts, registration, sent, prefers))


def _checked(document: Json, bare: Json, tenant: Versions, now: datetime) -> tuple[Customer, Checked, str]:
    """
    Check the whole body, passwords too.

    Returns:
        The customer without unknown members, what is known of it, and the password.
    Raises:
        ProblemError: `validation-failed` or `categorization-invalid`, with every fault.
    """
    _, catalogue = tenant.at(now)
    customer, shape_faults = read_customer(bare)
    if not isinstance(document, dict):
        raise ProblemError("validation-failed", errors=shape_faults)
    found = passwords.find(document)
    password, password_faults = passwords.judge(found, catalogue.tenant.passwords, _likenesses(customer))
    checked = check(customer, catalogue, _today(now, catalogue), (*shape_faults, *password_faults))
    if isinstance(checked, Refused):
        _refuse(checked)
    return customer, checked, password


def _refuse(refused: Refused) -> NoReturn:
    members = {}
    if refused.missing_keys or refused.invalid_values or refused.code == "categorization-invalid":
        members = answers.categorization_members(refused.missing_keys, refused.invalid_values)
    raise ProblemError(refused.code, errors=refused.faults, members=members)


def _likenesses(customer: Customer) -> tuple[str, ...]:
    """Return the texts that a password must not be made of."""
    individual = customer.get("individualCustomer")
    person = individual.get("person") if individual else None
    told = [customer.get("email"), customer.get("firstName"), customer.get("lastName")]
    if person is not None:
        told += [person.get("email"), person.get("firstName"), person.get("lastName")]
    return tuple(text for text in told if text)


def _today(now: datetime, catalogue: Catalogue) -> date:
    return now.astimezone(ZoneInfo(catalogue.tenant.time_zone)).date()


def _new_registration(parts: Parts, tenant_id: str) -> _Registration:
    secret = parts.tenants.secrets.tag
    made = ids.new_registration(tenant_id, secret, time.time_ns() // 1_000_000, os.urandom(_RANDOM_BYTES))
    uuid = ids.registration_uuid(made)
    assert uuid is not None, "made just now"  # noqa: S101 - narrows the type
    return _Registration(tenant_id, made, uuid)


async def _publish(parts: Parts, message: OutMessage, registration: _Registration) -> Sent:
    """
    Hand the command to Kafka.

    Raises:
        ProblemError: `kafka-unavailable`, with the registration's id where the topic may have it all the same.
    """
    try:
        with parts.metrics.produce_seconds.time():
            sent = await parts.producer.send(message)
    except UnacknowledgedError:
        parts.health.kafka_answers = False
        parts.metrics.produce_failures.labels("unknown").inc()
        raise ProblemError("kafka-unavailable", _UNKNOWN, members={"registrationId": registration.registration_id}) from None
    except UnavailableError:
        parts.health.kafka_answers = False
        parts.metrics.produce_failures.labels("not-sent").inc()
        raise ProblemError("kafka-unavailable", "Kafka does not answer; the registration was not taken in.") from None
    parts.health.kafka_answers = True
    return sent


async def _outcome(parts: Parts, registration: _Registration, sent: Sent, prefers: Preference) -> Outcome | None:
    """Wait for the outcome. A dead letter counts only where it is our own record's: a later command may replace it."""
    own = (COMMANDS_TOPIC, sent.partition, sent.offset)
    began = time.perf_counter()
    outcome = await parts.waiting.outcome(
        (registration.tenant_id, registration.registration_id),
        heeds=lambda found: found.status != FAILED or found.command == own,
        timeout_s=prefers.wait_s,
    )
    if outcome is None:
        parts.metrics.waits.labels("no-outcome" if prefers.wait_s else "not-wanted").inc()
    else:
        parts.metrics.waits.labels("outcome").inc()
        parts.metrics.wait_seconds.observe(time.perf_counter() - began)
    return outcome


def _answer(parts: Parts, registration: _Registration, prefers: Preference, outcome: Outcome | None) -> Response:
    headers = NO_STORE | ({"Preference-Applied": prefers.applied} if prefers.applied else {})
    if outcome is None:
        location = f"{parts.base_url}{answers.REGISTRATIONS}/{registration.registration_id}"
        return JSONResponse({"data": answers.pending(registration.registration_id)}, 202, headers | {"Location": location})
    if outcome.status != COMPLETE:
        refused = answers.refusal(outcome)
        refused.headers |= headers
        raise refused
    location = f"{parts.base_url}{answers.CUSTOMERS}/{outcome.customer_id}"
    return JSONResponse({"data": answers.registered(outcome, registration.uuid)}, 201, headers | {"Location": location})
