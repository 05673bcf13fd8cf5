"""
Makes commands of lines: what a line may be, its registration's id, and its partition key (README, "Publish to it").

What is refused is named by pointers and codes, never by a value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from pydantic import TypeAdapter, ValidationError

from schemas.base import CONTENT_TYPE, SPEC_VERSION
from schemas.commands import COMMANDS_TOPIC, REGISTER_CUSTOMER, Customer, OpaqueId, RegisterCustomer
from worker.core import ids
from worker.core.catalogue import Passwords
from worker.core.customer import Fault
from worker.core.email_address import normalize
from worker.core.shape import is_whole, read_customer
from worker.ingress import passwords
from worker.ingress.commands import COMMAND, partition_key
from worker.ingress.problems import ProblemError
from worker.ingress.requests import PASSWORD_NAMES, parse, without_passwords
from worker.kafka import MESSAGE_MAX_BYTES, OutMessage
from worker.registration import acceptable_hash, carries_password

STDIN: Final = "-"
SOURCE: Final = "/upstream"
CHUNK_LINES: Final = 200
CHUNK_BYTES: Final = 2 * 1024 * 1024
LINE_MAX_BYTES: Final = MESSAGE_MAX_BYTES - 16_384
"""What fits into a message beside its headers and what the batch adds."""
_BESIDE: Final = ("registrationId", "tenantId", "idempotencyKey")
_TENANT: Final[TypeAdapter[str]] = TypeAdapter(OpaqueId)
_NAMES: Final = frozenset({"customer", "individualCustomer", "user", "person", "customerCategory", "categorization"})
"""Of members that hold others, so that a pointer may name them."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it was read. `end` and `total` are bytes of its file: up to its end, and altogether; 0 where that is unknown."""

    file: str
    number: int
    text: bytes
    end: int
    total: int


@dataclass(frozen=True, slots=True)
class Publisher:
    """
    What every line is made a command with.

    Args:
        key: the upstream service's secret: ids and partition keys derive from it.
        tenant: of lines that name none; None where each must.
        source: which service it is: `ce_source`, and `requestedBy` of lines that do not say it.
    """

    key: bytes
    tenant: str | None = None
    source: str = SOURCE

    def read(self, text: bytes) -> Draft:
        """
        Make a command of a line.

        Raises:
            RefusedLineError: it can't be one.
        """
        if len(text) > LINE_MAX_BYTES:
            raise RefusedLineError(("", "line.too_long"))
        try:
            document = parse(text)
        except ProblemError as error:
            raise RefusedLineError(("", error.code)) from None
        if not isinstance(document, dict):
            raise RefusedLineError(("", "type.unexpected"))
        if "customer" not in document:
            return self._registration(document)
        if carries_password(text):
            raise RefusedLineError(*((pointer, "password.plaintext") for pointer in _passwords_in(document)))
        return self._command(document)

    def _command(self, document: dict[str, Any]) -> Draft:
        """Read a whole command: it carries a hash, and, as was seen, no password at any depth."""
        phc = document.get("passwordHash")
        if not isinstance(phc, str) or not acceptable_hash(phc):
            raise RefusedLineError(("/passwordHash", "password_hash.invalid"))
        customer, faults = read_customer(document["customer"])
        if faults:
            raise RefusedLineError(*((f"/customer{fault.pointer}", fault.code) for fault in faults))
        return self._draft(document, document["customer"], customer, phc, None)

    def _registration(self, document: dict[str, Any]) -> Draft:
        """Read a registration as HTTP takes it; its password stays out of the command."""
        if "passwordHash" in document:
            raise RefusedLineError(("/customer", "required"))
        body = {name: value for name, value in document.items() if name not in _BESIDE}
        bare = without_passwords(body)
        customer, faults = read_customer(bare)
        password, weak = passwords.judge(passwords.find(body), Passwords(), passwords.likenesses(customer))
        if faults or weak:
            raise RefusedLineError(*((fault.pointer, fault.code) for fault in (*faults, *weak)))
        return self._draft(document, bare, customer, None, password)

    def _draft(self, document: Mapping[str, Any], bare: object, customer: Customer, phc: str | None, password: str | None) -> Draft:
        named, faults = document.get("tenantId"), []
        tenant = self.tenant if named is None else named
        if tenant is None or not _is_tenant(tenant):
            faults.append(Fault("/tenantId", "required" if tenant is None else "text.not_allowed", ""))
        key, given = document.get("idempotencyKey"), document.get("registrationId")
        if key is not None and not (isinstance(key, str) and key):
            faults.append(Fault("/idempotencyKey", "type.unexpected", ""))
        elif key is not None and not is_whole(key):
            faults.append(Fault("/idempotencyKey", "text.not_allowed", ""))
        if given is not None and (not isinstance(given, str) or ids.registration_uuid(given) is None):
            faults.append(Fault("/registrationId", "registration_id.invalid", ""))
        if faults:
            raise RefusedLineError(*((fault.pointer, fault.code) for fault in faults))
        assert isinstance(tenant, str)  # noqa: S101 - looked at above
        text = f"key {key}".encode() if key is not None else b"body " + _sorted(bare)
        registration_id = given or ids.upstream_registration(tenant, text, self.key)
        try:
            command = RegisterCustomer.model_validate(
                {
                    "registrationId": registration_id,
                    "tenantId": tenant,
                    "requestedAt": document.get("requestedAt") or datetime.now(UTC),
                    "requestedBy": document.get("requestedBy") or self.source,
                    "passwordHash": phc or "",
                    "customer": customer,
                }
            )
        except ValidationError as error:
            names = [str(each["loc"][0]) for each in error.errors(include_url=False, include_input=False, include_context=False)]
            raise RefusedLineError(*((f"/{name}", "envelope.invalid") for name in dict.fromkeys(names))) from None
        return Draft(command, password)

    def message(self, draft: Draft, phc: str | None) -> OutMessage:
        """Return the record of a command, with the hash of its password where it came with one."""
        command = draft.command if phc is None else draft.command.model_copy(update={"password_hash": phc})
        registration = ids.registration_uuid(command.registration_id)
        assert registration is not None, "looked at when it was read"  # noqa: S101 - narrows the type
        headers = {
            "ce_specversion": SPEC_VERSION,
            "ce_id": ids.derive(COMMAND, command.tenant_id, registration),
            "ce_type": REGISTER_CUSTOMER,
            "ce_source": self.source,
            "ce_subject": command.registration_id,
            "content-type": CONTENT_TYPE,
        }
        key = partition_key(command.tenant_id, _email(command), self.key)
        return OutMessage(COMMANDS_TOPIC, key, command.to_json(), [(name, value.encode()) for name, value in headers.items()])


@dataclass(frozen=True, slots=True)
class Draft:
    """A command that may lack its hash; then `password` is what is to be hashed."""

    command: RegisterCustomer
    password: str | None = field(repr=False)


class RefusedLineError(Exception):
    """A line can't be a command; `faults` are pointers and codes."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        super().__init__()
        self.faults = faults


def in_chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Divide lines into lists that are bounded in number and in bytes."""
    chunk: list[Line] = []
    size_bytes = 0
    for line in lines:
        chunk.append(line)
        size_bytes += len(line.text)
        if len(chunk) == CHUNK_LINES or size_bytes > CHUNK_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
    if chunk:
        yield chunk


def lines_of(file: str) -> Iterator[Line]:
    """Read a file's lines that are not blank; of one that is too long, only as much as shows it."""
    path = Path(file)
    total = path.stat().st_size if file != STDIN and path.is_file() else 0
    with open(0, "rb", closefd=False) if file == STDIN else path.open("rb") as opened:
        end = number = 0
        while text := opened.readline(LINE_MAX_BYTES + 2):
            number += 1
            end += len(text)
            if not text.endswith(b"\n"):
                end += _skip_rest(opened)
            if stripped := text.strip(b" \t\r\n"):
                yield Line(file, number, stripped, end, total)


def _skip_rest(opened: IO[bytes]) -> int:
    skipped = 0
    while part := opened.readline(LINE_MAX_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _passwords_in(document: Any, above: str = "") -> Iterator[str]:  # noqa: ANN401 - whatever JSON holds
    """Name the places of members that are named like a password; an unknown member's own name is not repeated."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name in PASSWORD_NAMES:
                yield f"{above}/{name}"
            else:
                yield from _passwords_in(value, f"{above}/{name}" if name in _NAMES else f"{above}/*")
    elif isinstance(document, list):
        for place, value in enumerate(document):
            yield from _passwords_in(value, f"{above}/{place}")


def _sorted(document: object) -> bytes:
    """Return a document's one form: members sorted, ASCII. RFC 8785 would be another, in twenty times the time."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _is_tenant(tenant: object) -> bool:
    try:
        _TENANT.validate_python(tenant)
    except ValidationError:
        return False
    return True


def _email(command: RegisterCustomer) -> str:
    """Return the email that a command is kept together by; where none is told, its own id."""
    individual = command.customer.get("individualCustomer") or {}
    person, user = individual.get("person") or {}, individual.get("user") or {}
    contacts = [each.get("value") for each in person.get("contacts") or () if each.get("type") == "EMAIL"]
    told = (command.customer.get("email"), person.get("email"), user.get("username"), user.get("email"), *contacts)
    email = next((text for text in told if text), None)
    return command.registration_id if email is None else normalize(email, test_domains=True) or email.lower()
