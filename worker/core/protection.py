"""Whether a change protects more or less: the senses in which the values of rules and decisions are compared."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, TypeAlias


class Protection(StrEnum):
    """What a change does to the protection of bank and customer."""

    MORE = "MORE"
    LESS = "LESS"
    SAME = "SAME"


Sense: TypeAlias = Callable[[Any, Any], Protection]
"""Says what it means that a value was one thing and is another now; None stands for what is not there."""


def rising(before: Any, after: Any) -> Protection:  # noqa: ANN401 - whatever compares
    """Say that more of it protects more."""
    return Protection.MORE if after > before else Protection.LESS if after < before else Protection.SAME


def falling(before: Any, after: Any) -> Protection:  # noqa: ANN401 - whatever compares
    """Say that less of it protects more."""
    return rising(after, before)


def present(before: Any, after: Any) -> Protection:  # noqa: ANN401 - whatever may be there
    """Say that it protects to be there."""
    return rising(before is not None, after is not None)


def missing(before: Any, after: Any) -> Protection:  # noqa: ANN401 - whatever may be there
    """Say that it protects not to be there."""
    return present(after, before)


def kept(before: Any, after: Any) -> Protection:  # noqa: ANN401 - whatever may be there
    """Say that it protects to be there, and that nothing else can stand for it."""
    return Protection.MORE if before is None else Protection.LESS if after != before else Protection.SAME


def indifferent(_before: Any, _after: Any) -> Protection:  # noqa: ANN401 - whatever
    """Say that it protects nobody."""
    return Protection.SAME


def superset(before: frozenset[str], after: frozenset[str]) -> Protection:
    """Say that each member protects."""
    if before - after:
        return Protection.LESS
    return Protection.MORE if after - before else Protection.SAME


ORDER: Final = (Protection.LESS, Protection.MORE, Protection.SAME)
"""In which people read changes: first what they must look at."""

PROTECTS: Final = {Protection.LESS: "protects less", Protection.MORE: "protects more", Protection.SAME: ""}
"""A change in words."""
