"""The AsyncAPI document: generated, committed, valid, and its examples are the golden messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from schemas.__main__ import ASYNCAPI, FOLDER, GOLDEN, MESSAGES, asyncapi_document
from schemas.commands import COMMANDS_TOPIC
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import EVENTS_TOPIC
from worker.app import RETENTION_DAYS
from worker.kafka import topic_settings

OFFICIAL: Final = Path(__file__).parents[1] / "asyncapi-3.0.0.schema.json"
"""The specification's own schema; which parts of it are left out stands in it."""
SINCE_DRAFT_7: Final = {
    "prefixItems", "dependentSchemas", "dependentRequired", "unevaluatedItems", "unevaluatedProperties", "minContains",
    "maxContains", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary",
}  # fmt: skip
"""What a reader of AsyncAPI, whose schemas are of draft 7, would not know."""


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    """Return the document as it is committed."""
    found: dict[str, Any] = json.loads(ASYNCAPI.read_text())
    return found


def test_the_committed_document_is_the_generated_one() -> None:
    """`make schemas` writes it; whoever changes a message commits both."""
    assert ASYNCAPI.read_text() == asyncapi_document()


def test_the_document_is_as_the_specification_has_it(asyncapi: dict[str, Any]) -> None:
    """By its own schema, which refuses what it does not know."""
    official = Draft7Validator(json.loads(OFFICIAL.read_text()))
    asyncapi_with_a_slip = {**asyncapi, "channels": {"commands": {**asyncapi["channels"]["commands"], "adress": ""}}}

    assert [error.message for error in official.iter_errors(asyncapi)] == []
    assert not official.is_valid(asyncapi_with_a_slip)


def test_every_reference_of_the_document_leads_somewhere(asyncapi: dict[str, Any]) -> None:
    """Into itself, or to a schema beside it that readers of draft 7 understand."""
    for reference in references(asyncapi):
        file, _, pointer = reference.partition("#")
        target = json.loads((ASYNCAPI.parent / file).read_text()) if file else asyncapi
        for name in pointer.split("/")[1:]:
            target = target[name]
        assert not file or SINCE_DRAFT_7.isdisjoint(keywords(target))


def references(node: Any) -> set[str]:  # noqa: ANN401 - whatever JSON holds
    """Return every reference in a document."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = {node["$ref"]} if isinstance(node, dict) and "$ref" in node else set()
    return own.union(*map(references, inner))


def keywords(node: Any) -> set[str]:  # noqa: ANN401 - whatever JSON holds
    """Return every name in a document."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set(node if isinstance(node, dict) else ()).union(*map(keywords, inner))


def test_the_topics_are_those_that_are_made_with_their_settings(asyncapi: dict[str, Any]) -> None:
    """As `registration migrate` makes them."""
    made = topic_settings(RETENTION_DAYS, 3)
    told = {channel["address"]: channel["bindings"]["kafka"] for channel in asyncapi["channels"].values()}

    assert told.keys() == made.keys() == {COMMANDS_TOPIC, EVENTS_TOPIC, DEAD_LETTERS_TOPIC}
    for topic, binding in told.items():
        assert binding["topic"] == topic
        for name, value in binding["topicConfiguration"].items():
            assert str(value) == made[topic][name]


@pytest.mark.parametrize("name", MESSAGES)
def test_the_example_of_a_message_is_the_golden_one_and_fits(asyncapi: dict[str, Any], name: str) -> None:
    """Headers and value, by the schemas that the document names for them."""
    message, golden = asyncapi["components"]["messages"][name], json.loads((GOLDEN / f"{name}.json").read_text())
    (example,) = message["examples"]
    payload = message["payload"]
    if "$ref" in payload:
        payload = json.loads((FOLDER / f"{name}.schema.json").read_text())

    assert [[*pair] for pair in example["headers"].items()] == golden["headers"]
    assert example["payload"] == golden["value"]
    assert golden["key"] in example["summary"]
    Draft202012Validator(message["headers"]).validate(example["headers"])
    Draft202012Validator(payload).validate(example["payload"])


@pytest.mark.parametrize("name", MESSAGES)
def test_the_headers_that_a_message_must_have_are_needed_by_the_schema(asyncapi: dict[str, Any], name: str) -> None:
    """Without any of them the example does not fit."""
    message = asyncapi["components"]["messages"][name]
    (example,) = message["examples"]
    check = Draft202012Validator(message["headers"])

    assert len(message["headers"]["required"]) >= 4
    for header in message["headers"]["required"]:
        assert not check.is_valid({key: value for key, value in example["headers"].items() if key != header})
