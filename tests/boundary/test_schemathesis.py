"""The API does what its description says, to whatever schemathesis thinks of; `FUZZ_MINUTES` lets it think longer (`make fuzz`)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Final

from tests.boundary.fuzz_hooks import COUNT
from tests.boundary.ingress_door import TENANT, Door

ROOT: Final = Path(__file__).parents[2]
CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
MINUTES: Final = float(os.environ.get("FUZZ_MINUTES", "0"))
SEED: Final = "20261125"
EXAMPLES: Final = "12"
ACCEPTED_SHARE_MIN: Final = 0.3


async def ask(door: Door, authorization: str, folder: Path, *arguments: str) -> dict[str, int]:
    """Run schemathesis against a door, with every check; count the statuses of bodies whose parts agree."""
    count = folder / "count.json"
    variables = {
        "FUZZ_AUTHORIZATION": authorization,
        "FUZZ_TENANT": TENANT.id,
        COUNT: str(count),
        "PYTHONPATH": str(ROOT),
    }
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{door.client.base_url}/openapi.json"),
        *("--checks", "all", "--no-color", *arguments),
        cwd=folder,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await running.communicate()

    assert running.returncode == 0, told.decode()
    answered: dict[str, int] = json.loads(count.read_text())
    print(told.decode(), answered)  # noqa: T201 - what `make fuzz` shows
    return answered


async def test_whatever_is_asked_is_answered_as_described(door: Door, tmp_path: Path) -> None:
    """Examples, boundaries, chance, and what follows from an answer; of the bodies whose parts agree many become customers."""
    how = ("--max-time", str(int(MINUTES * 60))) if MINUTES else ("--seed", SEED, "--max-examples", EXAMPLES)
    phases = ("--phases", "examples,coverage,fuzzing,stateful")
    answered = await ask(door, door.client.headers["authorization"], tmp_path, *phases, *how)

    assert sum(answered.values()) >= int(EXAMPLES)
    assert answered.get("201", 0) >= ACCEPTED_SHARE_MIN * sum(answered.values()), answered


async def test_whatever_is_asked_without_a_good_token_is_answered_as_described(door: Door, tmp_path: Path) -> None:
    """Nothing is told to strangers, and nothing else is."""
    how = ("--phases", "examples,fuzzing", "--seed", SEED, "--max-examples", "3")
    answered = await ask(door, "Bearer of-bad-news", tmp_path, *how)

    assert answered.keys() == {"401"}
