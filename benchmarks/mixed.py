"""
A backlog as it is in the wild: 2 % are repeats, 2 % want an email that is taken, 5 % are refused. Keyed as the ingress keys.

Everything follows from a command's number, as in the clean backlog; whatever it repeats or meets came a little before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.frozen.backlog import Command, commands

_OF: Final = 100
_REPEATS: Final = {37: 17, 87: 67}
"""Of a hundred commands: which are sent again, and in place of which."""
_TAKEN: Final = {11: 6, 61: 56}
"""Of a hundred commands: which have the email of which."""
_REFUSED: Final = frozenset({5, 25, 45, 65, 85})
_EMAIL: Final = re.compile(rb'"email":"([^"]+)"')
_PHONE: Final = re.compile(rb'"\+[0-9]+"')


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a backlog comes to."""

    records: int
    registrations: int
    customers: int


def outcomes(first: int, count: int) -> Outcomes:
    """Return what must come of `mixed(first, count)`."""
    numbers = [number % _OF for number in range(first, first + count)]
    repeats = sum(number in _REPEATS for number in numbers)
    without = sum(number in _TAKEN or number in _REFUSED for number in numbers)
    return Outcomes(count, count - repeats, count - repeats - without)


def mixed(first: int, count: int) -> Iterator[Command]:
    """
    Make commands by their numbers.

    Args:
        first: the first number, a multiple of 100.
        count: how many.
    """
    recent: dict[int, Command] = {}
    for number, command in enumerate(commands(first, count), first):
        place = number % _OF
        if place == 0:
            recent.clear()
        recent[place] = command
        yield _changed(place, command, recent)


def _changed(place: int, command: Command, recent: dict[int, Command]) -> Command:
    if place in _REPEATS:
        return recent[_REPEATS[place]]
    if place in _TAKEN:
        other = recent[_TAKEN[place]]
        return replace(command, key=other.key, value=command.value.replace(_email(command), _email(other)))
    if place in _REFUSED:
        return replace(command, value=_PHONE.sub(b'"12"', command.value))
    return command


def _email(command: Command) -> bytes:
    found = _EMAIL.search(command.value)
    assert found is not None, "every command has one"  # noqa: S101 - held by the bench's own check
    return found[1]
