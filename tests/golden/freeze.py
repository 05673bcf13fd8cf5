"""
What a release asks of the database, frozen when it is made: `python -m tests.golden.freeze N` writes `release.vN.json`.

`test_releases.py` holds today's migrations against every one of these files, since a deploy runs two releases on one schema.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from worker.migrate import read
from worker.postgres import statement
from worker.settlement import _COLUMNS

FOLDER: Final = Path(__file__).parent
STATEMENTS: Final = {
    "registration_worker": (
        "begin_anew", "catalogues_read", "claim", "claim_again", "customers_by_email", "customers_insert", "dead_letters_insert",
        "look", "move_offset", "outbox_delete", "outbox_leftover", "registrations_find", "registrations_replace_failed",
        "synchronous_standbys", "take_resume",
    ),
    "registration_ingress": ("catalogues_read", "customer", "ingress_keys", "outcomes", "row_security"),
}  # fmt: skip
"""What worker and ingress ask, by the role that asks."""


def frozen() -> dict[str, Any]:
    """Return what this release asks."""
    return {
        "migration": max(each.number for each in read()),
        "statements": {role: {name: statement(name) for name in names} for role, names in STATEMENTS.items()},
        "copies": {table: list(columns) for table, columns in _COLUMNS.items()},
    }


if __name__ == "__main__":
    (FOLDER / f"release.v{int(sys.argv[1])}.json").write_text(json.dumps(frozen(), indent=1) + "\n")
