"""Bodies of every kind: whatever arrives is accepted or refused, and never ends in an error of ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.commands import RegisterCustomer
from tests.commands import PASSWORD_HASH, body
from worker.catalogues import Versions
from worker.core.assess import Approved, assess
from worker.core.catalogue import parse as parse_catalogue
from worker.dev.stack import CATALOGUE
from worker.ingress.problems import ProblemError
from worker.ingress.reading import read
from worker.ingress.registering import _checked
from worker.ingress.requests import Json

RULES: Final = parse_catalogue(yaml.safe_load(CATALOGUE.read_text()))
NOW: Final = datetime(2026, 5, 1, tzinfo=UTC)
TENANT: Final = Versions(RULES.tenant.id, RULES.tenant.slug, (NOW,), (1,), (RULES,))
ODD: Final[list[object]] = [
    None, True, 0, -1, 1.5, "", " ", "\u0000", "\ud800", "\u202e", "x" * 300, "1990-02-30", "LT", "+37060012345",
    "a@b.example.com", [], {}, [None], [[]], [{}], {"id": None}, {"person": []},
]  # fmt: skip


def outcome(content: bytes) -> str:
    """Return the code that a body ends with; empty where it is accepted."""
    try:
        _checked(read(content), TENANT, NOW)
    except ProblemError as problem:
        return problem.code
    return ""


def places(value: Json, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every member of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for name, each in inner for place in [(*path, name), *places(each, (*path, name))]]


PLACES: Final = places(body())


def changed(document: Json, path: tuple[str | int, ...], value: object) -> Json:
    """Return a copy with another value at a path, where the path is still there."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(document, dict) and step in document:
        return {**document, step: changed(document[step], rest, value)}
    if isinstance(document, list) and isinstance(step, int) and step < len(document):
        return [*document[:step], changed(document[step], rest, value), *document[step + 1 :]]
    return document


def test_the_example_is_accepted() -> None:
    """As it stands, with every part of it."""
    assert outcome(json.dumps(body()).encode()) == ""


@pytest.mark.parametrize("path", PLACES, ids=lambda path: "/".join(map(str, path)))
def test_an_odd_value_anywhere_is_accepted_or_refused(path: tuple[str | int, ...]) -> None:
    """Every member of the example, with every odd value."""
    codes = {outcome(json.dumps(changed(body(), path, value)).encode()) for value in ODD}

    assert codes <= {"", "validation-failed", "categorization-invalid"}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(ODD)), min_size=2, max_size=6))
def test_many_odd_values_are_accepted_or_refused(changes: list[tuple[tuple[str | int, ...], object]]) -> None:
    """One answer names them all, whatever they are."""
    document: Json = body()
    for path, value in changes:
        document = changed(document, path, value)

    assert outcome(json.dumps(document).encode()) in {"", "validation-failed", "categorization-invalid"}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(ODD)), max_size=2))
def test_what_the_ingress_accepts_the_worker_finds_valid(changes: list[tuple[tuple[str | int, ...], object]]) -> None:
    """Both run the same checks, also on what has travelled as JSON between them."""
    document: Json = body()
    for path, value in changes:
        document = changed(document, path, value)
    content = json.dumps(document).encode()
    if outcome(content):
        return
    customer, _, _ = _checked(read(content), TENANT, NOW)
    command = RegisterCustomer(
        registration_id="reg_1",
        tenant_id="t",
        requested_at=NOW,
        requested_by="a",
        password_hash=PASSWORD_HASH,
        customer=customer,
    )
    arrived = RegisterCustomer.model_validate_json(command.to_json())

    assert arrived == command
    assert isinstance(assess(arrived.customer, RULES, 1, NOW.date()), Approved)
