"""
What `schemas/asyncapi.json` says: three topics, their keys, headers and values, with examples, as AsyncAPI 3.0.

Written by hand as JSON, since this folder imports pydantic only: pydantic-asyncapi's models would add nothing but names.

Source: AsyncAPI 3.0.0; its Kafka bindings 0.5.0; CloudEvents 1.0, Kafka protocol binding, binary content mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from schemas.base import CONTENT_TYPE, SPEC_VERSION
from schemas.commands import COMMANDS_TOPIC, REGISTER_CUSTOMER
from schemas.dead_letters import DEAD_LETTERS_TOPIC
from schemas.events import CUSTOMER_REGISTERED, CUSTOMER_REGISTRATION_REJECTED, EVENTS_TOPIC

Json: TypeAlias = dict[str, Any]

REGISTER: Final = "register-customer.v1"
REGISTERED: Final = "customer-registered.v1"
REJECTED: Final = "customer-registration-rejected.v1"
LETTER: Final = "dead-letter.v1"

_BINDING: Final = "0.5.0"
_DAY_MS: Final = 86_400_000
_MIB: Final = 1_048_576
_NEEDED: Final = ("ce_specversion", "ce_id", "ce_type", "ce_source")


def document(examples: Mapping[str, Json]) -> Json:
    """
    Return the document.

    Args:
        examples: a message with `headers` as pairs, `key` and `value`, for each of the four names above.
    """
    return {
        "asyncapi": "3.0.0",
        "id": "urn:registration",
        "info": {
            "title": "Customer registration",
            "version": "1.0.0",
            "description": "Commands in, events and dead letters out, as CloudEvents 1.0 in Kafka's binary mode. "
            "The contract only grows: ignore members and headers that you do not know.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {
            "commands": _channel(COMMANDS_TOPIC, "One registration each, for the worker to decide.", 7, 1, REGISTER),
            "events": _channel(
                EVENTS_TOPIC,
                "What became of registrations. At least once, with one `ce_id` for each fact: keep those that you have acted on.",
                30,
                1,
                REGISTERED,
                REJECTED,
            ),
            "deadLetters": _channel(DEAD_LETTERS_TOPIC, "Commands that can't be processed.", 14, 2, LETTER),
        },
        "operations": {
            "decide": _operation("receive", "commands", "Decide a registration; one that is delivered again changes nothing."),
            "tell": _operation("send", "events", "Tell what became of a registration."),
            "putAside": _operation("send", "deadLetters", "Put aside what can't be processed."),
        },
        "components": {"messages": _messages(examples)},
    }


def _messages(examples: Mapping[str, Json]) -> Json:
    command_headers = _headers(REGISTER_CUSTOMER, _NEEDED)
    command_headers["properties"]["redrive_of"] = _text("Set where an operator sent a dead letter again: which one it was.")
    return {
        REGISTER: _message(
            examples[REGISTER],
            "Asks for one registration.",
            command_headers,
            {"$ref": f"./json/{REGISTER}.schema.json"},
            "Any stable opaque text without personal data, the same for one email address of a tenant.",
        ),
        REGISTERED: _message(
            examples[REGISTERED],
            "A customer exists.",
            _headers(CUSTOMER_REGISTERED),
            {"$ref": f"./json/{REGISTERED}.schema.json"},
            "The customer's id.",
        ),
        REJECTED: _message(
            examples[REJECTED],
            "A registration ended without a customer.",
            _headers(CUSTOMER_REGISTRATION_REJECTED),
            {"$ref": f"./json/{REJECTED}.schema.json"},
            "The registration's id.",
        ),
        LETTER: {
            **_message(
                examples[LETTER],
                "A command that can't be processed: the original record, and where it stood and why.",
                _letter_headers(),
                {
                    "type": ["string", "null"],
                    "description": "The original bytes, whatever they are; null where they were or carried a plaintext password.",
                },
                "The original key; null where the value carried a plaintext password.",
            ),
            "contentType": "application/octet-stream",
        },
    }


def _channel(topic: str, description: str, kept_days: int, message_max_mib: int, *messages: str) -> Json:
    configuration = {"retention.ms": kept_days * _DAY_MS, "max.message.bytes": message_max_mib * _MIB}
    return {
        "address": topic,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, "topicConfiguration": configuration, "bindingVersion": _BINDING}},
    }


def _operation(action: str, channel: str, summary: str) -> Json:
    """Return what the worker does with a topic."""
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(example: Json, summary: str, headers: Json, payload: Json, key: str) -> Json:
    return {
        "summary": summary,
        "contentType": CONTENT_TYPE,
        "headers": headers,
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": ["string", "null"], "description": key}, "bindingVersion": _BINDING}},
        "examples": [{"summary": f"Key: {example['key']}", "headers": dict(example["headers"]), "payload": example["value"]}],
    }


def _headers(kind: str, needed: tuple[str, ...] | None = None) -> Json:
    """Return the schema of a CloudEvent's headers, each of which is UTF-8 text; our own events have all but the trace."""
    known: Json = {
        "ce_specversion": {"const": SPEC_VERSION},
        "ce_id": _text("The same for one fact, however often it is sent.", minLength=1),
        "ce_type": {"const": kind},
        "ce_source": _text("Who sent it.", minLength=1),
        "ce_time": _text("When, as RFC 3339 has it.", format="date-time"),
        "ce_subject": _text("The customer or the registration that it is about."),
        "ce_tenantid": _text("The tenant, as in the value."),
        "content-type": {"const": CONTENT_TYPE},
        "traceparent": _text("W3C trace context.", pattern="^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    }
    required = [name for name in known if name != "traceparent"] if needed is None else list(needed)
    return {"type": "object", "properties": known, "required": required}


def _letter_headers() -> Json:
    added: Json = {
        "dl_code": _text("Why.", examples=["json.malformed"]),
        "dl_topic": _text("From which topic."),
        "dl_partition": _text("From which partition.", pattern="^[0-9]+$"),
        "dl_offset": _text("From which offset.", pattern="^[0-9]+$"),
        "dl_at": _text("When the record was written to its topic.", format="date-time"),
    }
    told = "The original headers, whatever they are, then five that say why and from where; of a repeated name the last counts."
    return {"type": "object", "description": told, "properties": added, "required": list(added)}


def _text(description: str, **more: object) -> Json:
    return {"type": "string", "description": description, **more}
