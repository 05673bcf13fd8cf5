"""What a running ingress says of itself: its description, and the page to read it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31

import schemas
from tests.boundary.ingress_door import Door

OPENAPI = Path(schemas.__file__).with_name("openapi.json")


def test_the_description_is_as_openapi_3_1_has_it() -> None:
    """By the specification's own schema, which schemathesis brings along."""
    Draft202012Validator(OPENAPI_31).validate(json.loads(OPENAPI.read_text()))


async def test_the_description_is_the_committed_one(alone: Door) -> None:
    """Whoever has the file knows the API; it names no server."""
    answer = await alone.client.get("/openapi.json")

    assert answer.json() == json.loads(OPENAPI.read_text())
    assert "servers" not in answer.json()


async def test_the_page_asks_no_other_host(alone: Door) -> None:
    """It names none, its parts come from here, and they load nothing from elsewhere."""
    page = (await alone.client.get("/docs")).text
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    found = {link: await alone.client.get(link) for link in links}

    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page) == []
    assert '"validatorUrl": null' in page
    assert {link.rpartition(".")[2] for link in links} >= {"js", "css"}
    for link, answer in found.items():
        assert link.startswith("/")
        assert answer.status_code == 200
        if link.endswith(".css"):
            assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", answer.text) == []
        if link.endswith(".js"):
            assert re.findall(r"(?:\.src|\.href)\s*=\s*[\"']https?://", answer.text) == []
