"""Logs: every event is on the one list, every line is one JSON document, and no exception's text is ever in one."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import worker
from worker import logs

SECRET = "marcus.jensen@example.com"
SOURCES = sorted(Path(worker.__file__).parent.rglob("*.py"))
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Where the logs of a test go."""
    out = io.StringIO()
    logs.configure("DEBUG", "json", out)
    try:
        yield out
    finally:
        logs.configure("INFO", "json")


def documents(lines: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines as the documents that they are."""
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def boom() -> None:
    """Raise what a driver raises: with a row in its text, and another in its cause."""
    try:
        raise KeyError(SECRET)  # noqa: TRY301 - the cause
    except KeyError as error:
        msg = f"duplicate key (email)=({SECRET})"
        raise ValueError(msg, SECRET) from error


def logged(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the event of each call of a logger, as far as it is written there."""
    named = {
        target.id: [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS and node.args):
            continue
        event = node.args[0]
        for each in ast.walk(event):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield node.lineno, each.value
        if isinstance(event, ast.Name):
            yield from ((node.lineno, value) for value in named.get(event.id, ()))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_event_that_is_logged_is_on_the_list(source: Path) -> None:
    """An operator can look each of them up."""
    unknown = [(line, event) for line, event in logged(ast.parse(source.read_text())) if event not in logs.EVENTS]

    assert not unknown


def test_every_event_on_the_list_is_logged_somewhere() -> None:
    """Nobody waits for an alert that can't come."""
    found = {
        node.value
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and isinstance(node, ast.expr)
        if source.name != "logs.py"
    }

    assert not logs.EVENTS.keys() - found


@pytest.mark.parametrize(("event", "meaning"), logs.EVENTS.items())
def test_an_event_is_a_noun_and_what_happened_to_it(event: str, meaning: str) -> None:
    """And a sentence or two say what it means."""
    assert EVENT.fullmatch(event)
    assert meaning[0].isupper()
    assert meaning.endswith(".")


def test_a_line_is_one_json_document_with_level_and_time(lines: io.StringIO) -> None:
    """Whatever its values hold."""
    logs.logger(partition=3).warning("lane.waiting", reason="a\nb", service="kafka")
    [line] = documents(lines)

    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "lane.waiting", "level": "warning", "partition": 3, "reason": "a\nb", "service": "kafka"}


def test_an_exception_is_named_by_type_and_place(lines: io.StringIO) -> None:
    """Its text may hold a row, a body or a key; so may those of its causes, and its arguments."""
    try:
        boom()
    except ValueError as error:
        logs.logger().error("lane.stopped", exc_info=error)
    [line] = documents(lines)

    assert line["error"] == "ValueError"
    assert line["at"][-1].endswith(" boom")
    assert SECRET not in lines.getvalue()


@pytest.mark.parametrize("name", ["asyncio", "uvicorn.error", "asyncpg", "other"])
def test_what_a_library_logs_keeps_its_template_and_loses_its_values(lines: io.StringIO, name: str) -> None:
    """Who knows what they are: Kafka's client alone, whose values are nodes and partitions, keeps them."""
    log = logging.getLogger(name)
    try:
        boom()
    except ValueError as error:
        log.exception("could not read %r", SECRET)
        log.error("failed: %s", error)  # noqa: TRY400 - as libraries do
    found = documents(lines)

    assert [line["message"] for line in found] == ["could not read %r", "failed: %s"]
    assert found[0]["error"] == "ValueError"
    assert SECRET not in lines.getvalue()


async def test_a_task_that_nobody_waited_for_is_logged_without_its_text(lines: io.StringIO) -> None:
    """Into its own message asyncio puts the exception's text, and the arguments of a callback."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    try:
        boom()
    except ValueError as error:
        loop.call_exception_handler({"message": "Task exception was never retrieved", "exception": error, "future": task})
        failed: asyncio.Future[None] = loop.create_future()
        failed.set_exception(error)
        loop.call_exception_handler({"message": f"Exception in callback take({SECRET!r})", "exception": error, "future": failed})
        failed.exception()
    loop.default_exception_handler({"message": "Unclosed connection", "client": SECRET})
    found = documents(lines)

    assert [line["message"] for line in found] == [
        "Task exception was never retrieved",
        "Exception in callback",
        "Unclosed connection",
    ]
    assert found[0]["error"] == "ValueError"
    assert SECRET not in lines.getvalue()


def test_what_a_library_repeats_is_said_once_in_a_while(lines: io.StringIO) -> None:
    """A client that has lost its server says so at each try; no two things that it says hide each other."""
    log = logging.getLogger("aiokafka.conn")
    for number in range(5):
        log.error("no connection to %s", f"node {number}")
        log.error("no leader for %s", f"partition {number}")

    assert [(line["event"], line["message"]) for line in documents(lines)] == [
        ("kafka.client", "no connection to node 0"),
        ("kafka.client", "no leader for partition 0"),
    ]


def test_the_console_shows_no_text_of_an_exception_either() -> None:
    """The form for people holds the same."""
    out = io.StringIO()
    logs.configure("INFO", "console", out)
    try:
        boom()
    except ValueError as error:
        logs.logger().error("lane.stopped", exc_info=error)
        logging.getLogger("other").exception("failed")
    finally:
        logs.configure("INFO", "json")

    assert "lane.stopped" in out.getvalue()
    assert SECRET not in out.getvalue()


def test_a_level_hides_what_is_below_it() -> None:
    """Of ours and of libraries."""
    out = io.StringIO()
    logs.configure("ERROR", "json", out)
    try:
        logs.logger().warning("lane.waiting")
        logging.getLogger("other").warning("x")
        logs.logger().error("lane.stopped")
    finally:
        logs.configure("INFO", "json")

    assert [line["event"] for line in documents(out)] == ["lane.stopped"]
