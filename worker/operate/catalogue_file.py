"""
Reads a catalogue from a YAML file, or says what is wrong with it: file, line, path and what was expected.

Keys that stand twice are refused: YAML would silently take the last, and half a policy would be gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zoneinfo import available_timezones

import yaml
from pydantic import ValidationError

from worker.core.catalogue import Catalogue, parse

_PREFIX: Final = "Value error, "


@dataclass(frozen=True, slots=True)
class CatalogueFault:
    """
    One thing that is wrong with a file.

    Attributes:
        file: as it was named.
        line: counted from 1; 0 where it concerns the file as a whole.
        path: of the member, with dots; empty for the document itself.
        expected: what must be there.
    """

    file: str
    line: int
    path: str
    expected: str

    def __str__(self) -> str:
        """Return it as compilers say it."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.expected}" if self.path else f"{place}: {self.expected}"


def validate(path: Path) -> Catalogue | tuple[CatalogueFault, ...]:
    """
    Read a catalogue.

    Args:
        path: of a YAML file with one document.
    Returns:
        The catalogue, or every fault, by line.
    """
    file = str(path)
    try:
        loader = yaml.SafeLoader(path.read_bytes())
        root = loader.get_single_node()
    except OSError as error:
        return (CatalogueFault(file, 0, "", f"can't be read: {error.strerror}"),)
    except yaml.YAMLError as error:
        return (_yaml_fault(file, error),)
    return _read(file, loader, root)


def schema() -> str:
    """Return the JSON Schema (draft 2020-12) of a catalogue, for editors of the YAML file."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Catalogue.model_json_schema()}
    return json.dumps(document, indent=2, sort_keys=True)


def _read(file: str, loader: yaml.SafeLoader, root: yaml.Node | None) -> Catalogue | tuple[CatalogueFault, ...]:
    if not isinstance(root, yaml.MappingNode):
        return (CatalogueFault(file, 1, "", "must be a mapping: tenant, levels, factors, …"),)
    faults = [CatalogueFault(file, _line(key), where, "stands there twice") for key, where in _doubled(root)]
    faults += [CatalogueFault(file, _line(node), where, f"can't be read: {why}") for node, where, why in _unreadable(loader, root)]
    if faults:
        return tuple(sorted(faults, key=lambda fault: fault.line))
    try:
        catalogue = parse(loader.construct_document(root))
    except yaml.YAMLError as error:
        return (_yaml_fault(file, error),)
    except ValidationError as error:
        return _faults(file, root, error)
    if catalogue.tenant.time_zone not in available_timezones():
        line, where = _locate(root, ("tenant", "time_zone"), missing=False)
        return (CatalogueFault(file, line, where, "must be a time zone of the IANA database, such as Europe/Vilnius"),)
    return catalogue


def _unreadable(loader: yaml.SafeLoader, root: yaml.Node) -> Iterator[tuple[yaml.Node, str, str]]:
    """Name each scalar that has the form of a date or a number and is none, such as 2026-02-30."""
    for node, where in _nodes(root):
        if isinstance(node, yaml.ScalarNode):
            try:
                loader.construct_object(node)
            except ValueError as error:
                yield node, ".".join(where), str(error)


def _yaml_fault(file: str, error: yaml.YAMLError) -> CatalogueFault:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return CatalogueFault(file, mark.line + 1 if mark else 0, "", f"must be YAML: {problem}")


def _doubled(root: yaml.Node) -> Iterator[tuple[yaml.Node, str]]:
    """Name each key that its mapping has before."""
    for node, where in _nodes(root):
        if isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, _ in node.value:
                name = str(key.value)
                if name in names:
                    yield key, ".".join((*where, name))
                names.add(name)


def _nodes(root: yaml.Node) -> Iterator[tuple[yaml.Node, tuple[str, ...]]]:
    """Yield every node once, an alias too, with its path."""
    seen: set[int] = set()
    waiting: list[tuple[yaml.Node, tuple[str, ...]]] = [(root, ())]
    while waiting:
        node, where = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node, where
        if isinstance(node, yaml.MappingNode):
            waiting += [(value, (*where, str(key.value))) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(child, (*where, str(index))) for index, child in enumerate(node.value)]


def _faults(file: str, root: yaml.Node, error: ValidationError) -> tuple[CatalogueFault, ...]:
    """Return a fault for each member; where a union gave several reasons for one, they are joined."""
    found: dict[tuple[int, str], list[str]] = {}
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        for steps, expected in _told(fault["loc"], fault["msg"]):
            line, where = _locate(root, steps, missing=fault["type"] == "missing")
            reasons = found.setdefault((line, where), [])
            if expected not in reasons:
                reasons.append(expected)
    return tuple(CatalogueFault(file, line, where, ", or: ".join(reasons)) for (line, where), reasons in sorted(found.items()))


def _told(steps: Sequence[str | int], message: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Divide what a check of the whole says, `path: expected; path: expected`, into its parts."""
    here = tuple(map(str, steps))
    if not message.startswith(_PREFIX):
        yield here, message
        return
    for part in message.removeprefix(_PREFIX).split("; "):
        where, colon, expected = part.partition(": ")
        if colon:
            yield (*here, *where.split(".")), expected
        else:
            yield here, part


def _locate(root: yaml.Node, steps: Sequence[str], *, missing: bool) -> tuple[int, str]:
    """
    Find the line of a member, and its path as far as it is one: a validator's own words in it are left out.

    A key may itself hold dots, so that several steps are tried as one.
    """
    node, line, where, rest = root, 1, [], list(steps)
    while rest:
        found = _child(node, rest)
        if found is None:
            break
        key, node, used = found
        line = _line(key)
        where.append(".".join(rest[:used]))
        rest = rest[used:]
    if missing and rest:
        where.append(".".join(rest))
    return line, ".".join(where)


def _child(node: Any, steps: Sequence[str]) -> tuple[Any, Any, int] | None:  # noqa: ANN401 - PyYAML's nodes
    if isinstance(node, yaml.SequenceNode):
        if steps[0].isdigit() and int(steps[0]) < len(node.value):
            child = node.value[int(steps[0])]
            return child, child, 1
        return None
    if isinstance(node, yaml.MappingNode):
        for used in range(len(steps), 0, -1):
            name = ".".join(steps[:used])
            for key, value in node.value:
                if str(key.value) == name:
                    return key, value, used
    return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
