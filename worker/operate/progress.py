"""How a long command tells how far it is, to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is gone through, how much of it is done, and how much there is."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""
