"""
`registration demo`: the main job on real servers, shown step by step. It ends with 0 only if each step was really seen.

Where a document is shown, personal data is masked: the demo keeps the project's own rule.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from schemas import CustomerRegistered, CustomerRegistrationRejected, parse_event
from schemas.base import header
from schemas.commands import COMMANDS_TOPIC
from schemas.events import EVENTS_TOPIC, Event
from worker import app, logs
from worker.dev.client_script import HIERARCHY, PLURAL, SINGULAR, request_body
from worker.dev.process import StartError
from worker.dev.stack import Ready, running
from worker.errors import EXIT_DONE, EXIT_FAILED
from worker.kafka import PLAINTEXT, Partition, Reader, Record

EXAMPLE: Final = Path(__file__).with_name("examples") / "register-request.json"
FAULTS: Final = ("password.mismatch", "date.in_future", "country.unknown")
SEEN_WITHIN_S: Final = 15.0
MASK: Final = "•••"
_SHOWN: Final = frozenset(
    {"registrationId", "tenantId", "requestedAt", "requestedBy", "id", "userId", "personId", "status", "type", "traceId"}
)
_SHOWN_WHOLE: Final = frozenset({"customerCategory", "categorization", "roleIds", "roles", "decision"})


class NotSeenError(Exception):
    """A step of the demo did not show what it must."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request: what is said about it, what it posts where, and what it must be answered."""

    title: str
    path: str
    body: Mapping[str, Any]
    status: int
    code: str = ""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the steps work with."""

    console: Console
    client: httpx.AsyncClient
    reader: Reader


def run_demo() -> int:
    """Run the demo; return the exit code."""
    console = Console() if Console().is_terminal else Console(width=118)
    logs.configure("ERROR", "console")
    try:
        return app.run_until_signalled(_demo(console))
    except (StartError, NotSeenError, httpx.HTTPError) as error:
        console.print(f"[bold red]The demo failed:[/] {error}")
        return EXIT_FAILED


async def _demo(console: Console) -> int:
    begun = time.monotonic()
    console.print("Starting Kafka, PostgreSQL, ingress and worker …")
    async with running(None, port=0) as (ready, _):
        console.print(
            f"They run after {time.monotonic() - begun:.1f} s: HTTP {ready.http}, Kafka {ready.kafka}, admin {ready.admin}"
        )
        async with (
            httpx.AsyncClient(base_url=ready.http, headers=_headers(ready), timeout=30) as client,
            Reader(ready.kafka, client_id="registration-demo", security=PLAINTEXT) as reader,
        ):
            await _show_all(Demo(console, client, reader))
    console.print(
        f"\n[bold green]Seen:[/] two registrations, a refused one, a bad one; all is ended. {time.monotonic() - begun:.1f} s"
    )
    return EXIT_DONE


def _headers(ready: Ready) -> dict[str, str]:
    return {"Authorization": f"Bearer {ready.token}", "X-Tenant-ID": ready.tenant}


async def _show_all(demo: Demo) -> None:
    example = json.loads(EXAMPLE.read_text())
    hierarchy = (await demo.client.get(HIERARCHY)).raise_for_status().json()["data"]
    script = request_body(hierarchy, f"customer.{datetime.now(UTC):%Y%m%d%H%M%S}.{os.urandom(3).hex()}@example.com")
    await _accepted(demo, Step("1. The example, posted to the plural path", PLURAL, example, 201))
    await _accepted(demo, Step("2. What the existing client script sends, to the deprecated singular path", SINGULAR, script, 201))
    await _refused(demo, Step("3. The same email once more", PLURAL, example, 409, "email-taken"))
    await _bad(demo, Step("4. A body with three faults", PLURAL, _faulty(example), 400, "validation-failed"))


async def _accepted(demo: Demo, step: Step) -> None:
    response, sent_at, took_ms = await _post(demo, step)
    ids = response.json()["data"]
    stored = (await demo.client.get(f"/api/v2.1/customers/{ids['id']}")).raise_for_status().json()["data"]
    command, event_record, event = await _messages(demo, stored["registrationId"])
    if not isinstance(event, CustomerRegistered) or event.customer_id != ids["id"]:
        raise NotSeenError(f"{step.title}: the event is of another customer")
    demo.console.print(_panel("command on the topic", _masked(json.loads(command.value or b"{}")), f"{COMMANDS_TOPIC}"))
    demo.console.print(_panel("customer as stored", _masked(stored), f"GET /api/v2.1/customers/{ids['id']}"))
    demo.console.print(
        _panel("event, as a downstream service reads it", event.model_dump(mode="json", by_alias=True), EVENTS_TOPIC)
    )
    demo.console.print(_legs(sent_at, command, event_record, took_ms))


async def _refused(demo: Demo, step: Step) -> None:
    response, sent_at, took_ms = await _post(demo, step)
    command, event_record, event = await _messages(demo, response.json()["registrationId"])
    if not isinstance(event, CustomerRegistrationRejected) or event.code != step.code:
        raise NotSeenError(f"{step.title}: the event does not say {step.code}")
    demo.console.print(
        _panel("event, as a downstream service reads it", event.model_dump(mode="json", by_alias=True), EVENTS_TOPIC)
    )
    demo.console.print(_legs(sent_at, command, event_record, took_ms))


async def _bad(demo: Demo, step: Step) -> None:
    response, _, _ = await _post(demo, step)
    found = {fault["code"] for fault in response.json()["errors"]}
    if not found.issuperset(FAULTS):
        raise NotSeenError(f"{step.title}: expected all of {', '.join(FAULTS)}")


async def _post(demo: Demo, step: Step) -> tuple[httpx.Response, float, float]:
    """Post, show the answer, and return it with when it was sent (s since 1970) and how long it took (ms)."""
    demo.console.rule(f"[bold]{step.title}")
    sent_at, begun = time.time(), time.perf_counter()
    response = await demo.client.post(step.path, json=step.body)
    took_ms = (time.perf_counter() - begun) * 1000
    shown = {name: value for name, value in response.headers.items() if name in {"location", "deprecation", "link"}}
    title = f"POST {step.path} → {response.status_code} {response.reason_phrase}"
    demo.console.print(_panel(title, {**shown, "body": _masked(response.json())}, f"{took_ms:.0f} ms"))
    code = response.json().get("code", "")
    if response.status_code != step.status or code != step.code:
        raise NotSeenError(f"{step.title}: expected {step.status} {step.code}, got {response.status_code} {code}")
    return response, sent_at, took_ms


async def _messages(demo: Demo, registration_id: str) -> tuple[Record, Record, Event]:
    """Return the command and the event of a registration, as they are on the topics."""
    command = await _seen(demo, COMMANDS_TOPIC, lambda record: header(record.headers, "ce_subject") == registration_id)
    event = await _seen(demo, EVENTS_TOPIC, lambda record: registration_id.encode() in (record.value or b""))
    return command, event, parse_event(event.headers, event.value or b"")


async def _seen(demo: Demo, topic: str, wanted: Callable[[Record], bool]) -> Record:
    deadline = time.monotonic() + SEEN_WITHIN_S
    while time.monotonic() < deadline:
        for number, (start, end) in (await demo.reader.bounds(topic)).items():
            async for records in demo.reader.read(Partition(topic, number), start, end):
                for record in records:
                    if wanted(record):
                        return record
        await asyncio.sleep(0.05)
    raise NotSeenError(f"{topic}: the record did not come in {SEEN_WITHIN_S:g} s")


def _legs(sent_at: float, command: Record, event: Record, took_ms: float) -> Table:
    """Say how long each leg took; the log's own times are whole milliseconds."""
    table = Table(title="How long each leg took", title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_row(
        "request → command on the log",
        f"{command.timestamp - sent_at * 1000:.0f} ms",
        "authenticate, check, hash (argon2id), publish",
    )
    table.add_row(
        "command → event on the log", f"{event.timestamp - command.timestamp} ms", "validate, categorize, decide, commit, publish"
    )
    table.add_row("request → answer", f"{took_ms:.0f} ms", "as the caller sees it")
    return table


def _faulty(example: Mapping[str, Any]) -> dict[str, Any]:
    """Return the example with three faults in three places."""
    body: dict[str, Any] = json.loads(json.dumps(example))
    body["matchingPassword"] = "Another-Secret-99"
    body["individualCustomer"]["person"]["dateOfBirth"] = "2999-01-01"
    body["individualCustomer"]["person"]["nationality"] = "QQ"
    return body


def _masked(document: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Hide every text that may say something about a person."""
    if isinstance(document, Mapping):
        return {name: value if _may_show(name, value) else _masked(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_masked(each) for each in document]
    return MASK if isinstance(document, str) else document


def _may_show(name: str, value: object) -> bool:
    return name in _SHOWN_WHOLE or (name in _SHOWN and isinstance(value, str)) or name in {"code", "title", "detail", "errors"}


def _panel(title: str, document: Any, subtitle: str) -> Panel:  # noqa: ANN401
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return Panel(
        Syntax(text, "json", word_wrap=True, background_color="default"), title=title, subtitle=subtitle, title_align="left"
    )
