"""Whether a service works: the health check of its container, `python -m downstream.alive FILE`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

SILENT_S = 30.0
"""Longer than a poll, a slow disk and a rebalance together."""


def main() -> int:
    """Return 0 where the file was touched lately."""
    path = Path(sys.argv[1])
    return 0 if path.exists() and time.time() - path.stat().st_mtime < SILENT_S else 1


if __name__ == "__main__":
    sys.exit(main())
