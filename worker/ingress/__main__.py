"""`python -m worker.ingress` prints the API's description, as `schemas/openapi.json` has it; a test fails where they differ."""

from __future__ import annotations

import json

from worker.ingress.app import described


def document() -> str:
    """Return the API's description as its file holds it."""
    return json.dumps(described().openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201 - asked for
