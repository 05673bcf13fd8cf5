"""The contract: schemas are generated and committed, need pydantic only, and read what is sent as it is sent."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import schemas
from schemas import CUSTOMER_REGISTERED, UnknownEventError, parse_event
from schemas.__main__ import FOLDER, MESSAGES, document, write
from schemas.base import header

ROOT = Path(schemas.__file__).parent
REJECTED = {"registrationId": "r", "tenantId": "t", "code": "c", "faultCodes": [], "rejectedAt": "2026-01-01T00:00:00Z"}
KIND = ("ce_type", b"customer.registration-rejected.v1")
SPEC = ("ce_specversion", b"1.0")


@pytest.mark.parametrize("name", MESSAGES)
def test_a_committed_schema_is_the_generated_one(name: str) -> None:
    """`python -m schemas` writes it; whoever changes a message commits both."""
    assert (FOLDER / f"{name}.schema.json").read_text() == document(name)


def test_no_schema_is_committed_that_is_not_generated() -> None:
    """A message that is gone leaves no file behind."""
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.schema.json" for name in MESSAGES}


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    """The bytes do not depend on when, where or how often they are made."""
    first = write(tmp_path)

    assert len(first) == len(MESSAGES)
    assert write(tmp_path) == []


@pytest.mark.parametrize("name", MESSAGES)
def test_a_schema_is_of_draft_2020_12_and_says_what_it_is(name: str) -> None:
    """With title and description, and without keywords that generators of other languages trip over."""
    schema = json.loads(document(name))

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == MESSAGES[name].__name__
    assert len(schema["description"]) > 40
    assert {"prefixItems", "discriminator"}.isdisjoint(keywords(schema))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_schema_lets_the_contract_grow(name: str) -> None:
    """No object forbids members that it does not know."""
    assert "additionalProperties" not in keywords(json.loads(document(name)))


def keywords(node: Any) -> set[str]:  # noqa: ANN401 - whatever JSON holds
    """Return every name in a document."""
    if isinstance(node, dict):
        return set(node).union(*map(keywords, node.values()))
    return set().union(*map(keywords, node)) if isinstance(node, list) else set()


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")), ids=lambda path: path.name)
def test_schemas_import_pydantic_only(path: Path) -> None:
    """So that a downstream service can copy the folder; typing_extensions comes with pydantic."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")

    own = {"pydantic", "typing_extensions", "schemas", *sys.stdlib_module_names}
    assert {name.split(".")[0] for name in imported} <= own


def test_a_copied_folder_reads_an_event_without_this_project(tmp_path: Path) -> None:
    """In an interpreter that sees nothing of ours but the copy."""
    copy = tmp_path / "schemas"
    copy.mkdir()
    for path in ROOT.glob("*.py"):
        (copy / path.name).write_text(path.read_text())
    program = f"import schemas; print(schemas.parse_event([{SPEC!r}, {KIND!r}], {json.dumps(REJECTED)!r}).code)"
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {program}"],  # noqa: S603
                          cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30)  # fmt: skip

    assert done.stdout == "c\n"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [SPEC],
        [KIND],
        [SPEC, ("ce_type", b"customer.registered.v2")],
        [SPEC, ("ce_type", b"customer.register.v1")],
        [SPEC, ("ce_type", b"\xff")],
        [SPEC, ("ce_type", None)],
        [("ce_specversion", b"0.3"), KIND],
    ],
)
def test_what_is_no_event_of_these_schemas_is_unknown(headers: list[tuple[str, bytes | None]]) -> None:
    """A consumer skips it, and reads on."""
    with pytest.raises(UnknownEventError):
        parse_event(headers, json.dumps(REJECTED).encode())


@pytest.mark.parametrize("missing", REJECTED)
def test_an_event_that_lacks_a_member_is_refused(missing: str) -> None:
    """Typed means that each member is there."""
    with pytest.raises(ValidationError):
        parse_event([SPEC, KIND], json.dumps({name: value for name, value in REJECTED.items() if name != missing}).encode())


def test_names_on_the_wire_are_camel_case_only() -> None:
    """What the schema calls `registrationId` has no second name."""
    renamed = {("registration_id" if name == "registrationId" else name): value for name, value in REJECTED.items()}

    with pytest.raises(ValidationError):
        parse_event([SPEC, KIND], json.dumps(renamed).encode())


@given(st.binary(max_size=100), st.sampled_from([CUSTOMER_REGISTERED, KIND[1].decode()]))
def test_a_value_that_is_no_event_raises_nothing_else(value: bytes, kind: str) -> None:
    """A consumer has one error to think of."""
    with pytest.raises(ValidationError):
        parse_event([SPEC, ("ce_type", kind.encode())], value)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], None),
        ([("x", b"1"), ("x", b"2")], "1"),
        ([("X", b"1")], None),
        ([("x", None), ("x", b"2")], None),
        ([("x", b"\xff")], None),
        ([("x", b"")], ""),
        ([("y", b"1"), ("x", "é".encode())], "é"),
    ],
)
def test_a_header_is_the_first_of_its_name_as_text(headers: list[tuple[str, bytes | None]], found: str | None) -> None:
    """None where it is absent, null or no text."""
    assert header(headers, "x") == found
