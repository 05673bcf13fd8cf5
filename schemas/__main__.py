"""
`python -m schemas` writes the JSON Schema of each message into `schemas/json/`, and `schemas/asyncapi.json`.

A test fails where they differ. The examples are the golden messages of this repository's tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema

from schemas import asyncapi
from schemas.base import Message
from schemas.commands import RegisterCustomer
from schemas.dead_letters import DeadLetter
from schemas.events import CustomerRegistered, CustomerRegistrationRejected

FOLDER: Final = Path(__file__).with_name("json")
ASYNCAPI: Final = Path(__file__).with_name("asyncapi.json")
GOLDEN: Final = Path(__file__).parents[1] / "tests" / "golden"
MESSAGES: Final[dict[str, type[Message]]] = {
    "register-customer.v1": RegisterCustomer,
    "customer-registered.v1": CustomerRegistered,
    "customer-registration-rejected.v1": CustomerRegistrationRejected,
    "dead-letter.v1": DeadLetter,
}


class _Untitled(GenerateJsonSchema):
    """Makes no titles of the members' names: they say nothing that the names do not."""

    def get_title_from_name(self, _name: str) -> str:
        """Return what `_tidy` drops."""
        return ""


def document(name: str) -> str:
    """Return the JSON Schema of a message, draft 2020-12, as its file holds it."""
    model = MESSAGES[name]
    # A dead letter is described by its headers, whose names are those of its fields.
    schema = model.model_json_schema(by_alias=model is not DeadLetter, schema_generator=_Untitled)
    head = {"$schema": _Untitled.schema_dialect, "$id": f"urn:registration:{name}", "title": model.__name__}
    return json.dumps(_tidy({**head, **schema}), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path = FOLDER) -> list[Path]:
    """Write every file anew; return those that changed."""
    changed = []
    for name in MESSAGES:
        path = folder / f"{name}.schema.json"
        if _write(path, document(name)):
            changed.append(path)
    return changed


def asyncapi_document() -> str:
    """Return the AsyncAPI document as its file holds it."""
    examples = {name: json.loads((GOLDEN / f"{name}.json").read_text()) for name in MESSAGES}
    return json.dumps(asyncapi.document(examples), indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> bool:
    if path.exists() and path.read_text() == text:
        return False
    path.write_text(text)
    return True


def _tidy(node: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Drop empty titles, and put each description on one line."""
    if isinstance(node, dict):
        return {
            name: " ".join(inner.split()) if name == "description" and isinstance(inner, str) else _tidy(inner)
            for name, inner in node.items()
            if not (name == "title" and inner == "")
        }
    return [_tidy(inner) for inner in node] if isinstance(node, list) else node


if __name__ == "__main__":
    for written in [*write(), *([ASYNCAPI] if _write(ASYNCAPI, asyncapi_document()) else [])]:
        print(written)  # noqa: T201 - says what it did
