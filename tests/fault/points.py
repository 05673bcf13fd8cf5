"""
Every place where the product's coroutines may be suspended, found in what the compiler made of them.

A crash point is an `await`, the entry or the exit of an `async with`, or a step of an `async for`. Nobody lists them: each
is a SEND in a coroutine's bytecode, and a running frame tells by its last instruction which one it is suspended at.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Final

import worker

PACKAGE: Final = Path(worker.__file__).parent
EXCLUDED: Final = {
    "worker/dev/": "servers and tools on a developer's machine; no process of production runs it",
    "worker/operate/": "an operator's commands beside the workers; each has tests of its own",
    "worker/cli/dead_letters.py": "likewise",
    "worker/cli/events.py": "likewise",
    "worker/cli/outbox.py": "likewise",
    "worker/kafka/group.py": "asked by an operator's commands alone",
    "worker/ingress/__main__.py": "prints the description",
}
_KINDS: Final = {("GET_AWAITABLE", 0): "await", ("GET_AWAITABLE", 1): "enter", ("GET_AWAITABLE", 2): "exit"}


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """
    One place.

    Attributes:
        file: from the repository's root.
        line, column: where the awaited expression begins; columns count from 0.
        kind: `await`, `enter`, `exit` (of `async with`) or `next` (of `async for`).
        where: the coroutine.
    """

    file: str
    line: int
    column: int
    kind: str
    where: str

    def __str__(self) -> str:
        """Name it for people and for `--at`."""
        return f"{self.file}:{self.line}:{self.column}:{self.kind}"


@dataclass(frozen=True, slots=True)
class Wait:
    """The instructions of one await's loop: from asking what is awaited, to going back after a suspension."""

    point: Point
    first: int
    last: int


def modules(package: Path = PACKAGE, excluded: Mapping[str, str] = EXCLUDED) -> list[Path]:
    """Return the modules of a package, without those that a prefix excludes."""
    root = package.parent
    found = (path for path in sorted(package.rglob("*.py")))
    return [path for path in found if not path.relative_to(root).as_posix().startswith(tuple(excluded))]


def points(package: Path = PACKAGE, excluded: Mapping[str, str] = EXCLUDED) -> list[Point]:
    """Return every point of a package, in order."""
    found: set[Point] = set()
    for path in modules(package, excluded):
        file = path.relative_to(package.parent).as_posix()
        for code in _codes(compile(path.read_bytes(), str(path), "exec")):
            found.update(wait.point for wait in waits_in(code, file))
    return sorted(found)


@cache
def waits_in(code: CodeType, file: str) -> tuple[Wait, ...]:
    """Return the waits of one code object; a `finally` has each of its awaits more than once."""
    found, before, opened = [], None, None
    for each in dis.get_instructions(code):
        if each.opname == "SEND" and before is not None and (kind := _kind(before)) is not None:
            opened = each.offset, kind, each.positions
        elif each.opname == "JUMP_BACKWARD_NO_INTERRUPT" and opened is not None and each.argval == opened[0]:
            first, kind, at = opened
            assert at is not None
            point = Point(file, at.lineno or 0, at.col_offset or 0, kind, code.co_qualname)
            found.append(Wait(point, first, each.offset))
            opened = None
        before = each if each.opname != "LOAD_CONST" else before
    return tuple(found)


@cache
def waits_of(code: CodeType, package: Path = PACKAGE) -> tuple[Wait, ...]:
    """Return the waits of code that was loaded; none where it is not the package's."""
    path = Path(code.co_filename)
    return waits_in(code, path.relative_to(package.parent).as_posix()) if path.is_relative_to(package) else ()


@cache
def wait_at(code: CodeType, offset: int, package: Path = PACKAGE) -> Wait | None:
    """Return what a frame of the package is suspended at, by its last instruction; None where that is no await of ours."""
    return next((wait for wait in waits_of(code, package) if wait.first <= offset <= wait.last), None)


def _kind(before: dis.Instruction) -> str | None:
    return "next" if before.opname == "GET_ANEXT" else _KINDS.get((before.opname, before.arg or 0))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
