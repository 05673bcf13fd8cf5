"""
A registration, from request to answer, in this order: who calls, what is sent, was it sent before, is it right, hash,
publish, wait. So neither a stranger nor a faulty body ever costs a hash.

Nothing is stored here: what Kafka has acknowledged is not lost, and until then nothing has happened.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from schemas.commands import COMMANDS_TOPIC, Customer, RegisterCustomer
from tracing import traceparent_of
from worker.catalogues import Versions
from worker.core import ids
from worker.core.assess import Checked, Refused, check
from worker.core.shape import read_customer
from worker.errors import TooSlowError, UnavailableError
from worker.ingress import answers, commands, passwords
from worker.ingress.admission import admitted
from worker.ingress.idempotency import Running, key_of
from worker.ingress.parts import Parts, answer_of, parts_of, trace_of
from worker.ingress.problems import ProblemError
from worker.ingress.reading import Read
from worker.ingress.requests import Preference, body_of, preference
from worker.ingress.tokens import Caller
from worker.ingress.waiting import COMPLETE, FAILED, Outcome, look_up
from worker.kafka import OutMessage, Sent, UnacknowledgedError
from worker.registration import local_day

NO_STORE: Final = {"Cache-Control": "no-store"}
REPLAYED: Final = {"Idempotency-Replayed": "true"}
_RANDOM_BYTES: Final = 5


@dataclass(frozen=True, slots=True)
class _Registration:
    """
    A registration that has its id.

    Args:
        uuid: the id's 16 bytes.
        fingerprint: of the body; the outcome that is stored has that of the body which was first.
        is_keyed: the id derives from an idempotency key, so that it may be another request's too.
    """

    tenant_id: str
    registration_id: str
    uuid: bytes
    fingerprint: str
    is_keyed: bool


async def register(request: Request) -> Response:
    """
    Take a registration in, and answer with its outcome where it comes in time.

    Raises:
        ProblemError: the caller's fault, ours, or the registration's refusal.
    """
    parts = parts_of(request)
    caller, tenant = admitted(request)
    prefers = preference(request.headers.getlist("prefer"), parts.settings.ingress_wait_s)
    key = key_of(request.headers.getlist("idempotency-key"))
    if key is None:  # else it may be a replay, which costs no hash
        parts.hasher.check_room()
    body = await parts.reader.read(await body_of(request, parts.settings.body_max_bytes, parts.settings.body_timeout_s))
    registration = _registration(parts, tenant.tenant_id, caller.subject, key, body.canonical)
    running = (registration.registration_id, registration.fingerprint)
    if (joined := await _joined(request, running)) is not None:
        return _answer(parts, registration, prefers, await _outcome(parts, registration, joined, prefers), is_replayed=True)
    async with parts.joins.leading(running) as where:
        if registration.is_keyed and (first := await _first_outcome(parts, registration)) is not None:
            return _answer(parts, registration, prefers, first, is_replayed=True)
        sent = await _take_in(request, caller, tenant, registration, body)
        where.set_result(sent)
        outcome = await _outcome(parts, registration, sent, prefers)
    is_replayed = outcome is not None and outcome.command != (COMMANDS_TOPIC, sent.partition, sent.offset)
    return _answer(parts, registration, prefers, outcome, is_replayed=is_replayed)


async def _take_in(request: Request, caller: Caller, tenant: Versions, registration: _Registration, body: Read) -> Sent:
    """
    Check a registration, hash its password, and hand it to Kafka; return where it is.

    Raises:
        ProblemError: a fault of the body, or one of ours.
    """
    parts, now = parts_of(request), datetime.now(UTC)
    parts.hasher.check_room()
    customer, checked, password = _checked(body, tenant, now)
    answer_of(request).registration_id = registration.registration_id
    command = RegisterCustomer(
        registration_id=registration.registration_id,
        tenant_id=tenant.tenant_id,
        requested_at=now,
        requested_by=caller.subject,
        fingerprint=registration.fingerprint,
        password_hash=await parts.hasher.hash(password),
        customer=customer,
    )
    key = commands.partition_key(tenant.tenant_id, checked.applicant.email_normalized, parts.tenants.secrets.partition)
    trace = trace_of(request).parent
    with parts.traces.sending(COMMANDS_TOPIC, trace) as span:
        message = commands.message(command, registration.uuid, key, traceparent_of(span) or trace)
        sent = await _publish(request, message, registration)
        span.set_attributes({"messaging.destination.partition.id": str(sent.partition), "messaging.kafka.offset": sent.offset})
    return sent


def _registration(parts: Parts, tenant_id: str, subject: str, key: str | None, body: bytes) -> _Registration:
    """Return the registration that a request asks for: a new one, or the one of its key."""
    secrets = parts.tenants.secrets
    if key is None:
        made = ids.new_registration(tenant_id, secrets.tag, time.time_ns() // 1_000_000, os.urandom(_RANDOM_BYTES))
    else:
        made = ids.keyed_registration(tenant_id, subject, key, secrets.tag)
    uuid = ids.registration_uuid(made)
    assert uuid is not None, "made just now"  # noqa: S101 - narrows the type
    return _Registration(tenant_id, made, uuid, commands.fingerprint(body, secrets.fingerprint), is_keyed=key is not None)


async def _first_outcome(parts: Parts, registration: _Registration) -> Outcome | None:
    """
    Return what became of an earlier request with this key; FAILED is no outcome, and is tried again.

    It is asked before the rules are, which may have changed since.

    Raises:
        ProblemError: `database-unavailable`: nobody knows, and the same key may be sent again.
    """
    try:
        found = await look_up(parts.database, [(registration.tenant_id, registration.registration_id)])
    except (UnavailableError, TooSlowError):
        raise ProblemError("database-unavailable") from None
    return next((outcome for outcome in found if outcome.status != FAILED), None)


def _checked(body: Read, tenant: Versions, now: datetime) -> tuple[Customer, Checked, str]:
    """
    Check the whole body, passwords too.

    Returns:
        The customer without unknown members, what is known of it, and the password.
    Raises:
        ProblemError: `validation-failed` or `categorization-invalid`, with every fault.
    """
    _, catalogue = tenant.at(now)
    customer, shape_faults = read_customer(body.bare)
    if not isinstance(body.document, dict):
        raise ProblemError("validation-failed", errors=shape_faults)
    found = passwords.find(body.document)
    password, password_faults = passwords.judge(found, catalogue.tenant.passwords, passwords.likenesses(customer))
    checked = check(customer, catalogue, local_day(now, catalogue.tenant.time_zone), (*shape_faults, *password_faults))
    if isinstance(checked, Refused):
        _refuse(checked)
    return customer, checked, password


def _refuse(refused: Refused) -> NoReturn:
    members = {}
    if refused.missing_keys or refused.invalid_values or refused.code == "categorization-invalid":
        members = answers.categorization_members(refused.missing_keys, refused.invalid_values)
    raise ProblemError(refused.code, errors=refused.faults, members=members)


async def _joined(request: Request, running: Running) -> Sent | None:
    """Wait for another request with this key and body, which Kafka may have meanwhile; None where there is nothing to join."""
    answer = answer_of(request)
    answer.registration_id, answer.may_be_taken_in = running[0], True
    sent = await parts_of(request).joins.joined(running)
    if sent is None:
        answer.registration_id, answer.may_be_taken_in = None, False
    return sent


async def _publish(request: Request, message: OutMessage, registration: _Registration) -> Sent:
    """
    Hand the command to Kafka.

    Raises:
        ProblemError: `kafka-unavailable`, with the registration's id where the topic may have it all the same.
    """
    parts = parts_of(request)
    answer_of(request).may_be_taken_in = True
    try:
        with parts.metrics.produce_seconds.time():
            sent = await parts.producer.send(message)
    except UnacknowledgedError:
        parts.health.kafka_answers = False
        parts.metrics.produce_failures.labels("unknown").inc()
        raise answers.unknown(registration.registration_id) from None
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


def _answer(
    parts: Parts, registration: _Registration, prefers: Preference, outcome: Outcome | None, *, is_replayed: bool
) -> Response:
    """
    Return the answer.

    Raises:
        ProblemError: the registration's refusal; `idempotency-key-reused` where the outcome is that of another body.
    """
    headers = NO_STORE | ({"Preference-Applied": prefers.applied} if prefers.applied else {})
    if outcome is not None and outcome.fingerprint not in {None, registration.fingerprint}:
        raise ProblemError("idempotency-key-reused", headers=headers)
    if is_replayed:
        parts.metrics.replays.inc()
        headers |= REPLAYED
    if outcome is None:
        location = f"{parts.base_url}{answers.REGISTRATIONS}/{registration.registration_id}"
        return JSONResponse({"data": answers.pending(registration.registration_id)}, 202, headers | {"Location": location})
    if outcome.status != COMPLETE:
        refused = answers.refusal(outcome)
        refused.headers |= headers
        raise refused
    location = f"{parts.base_url}{answers.CUSTOMERS}/{outcome.customer_id}"
    return JSONResponse({"data": answers.registered(outcome, registration.uuid)}, 201, headers | {"Location": location})
