"""
The shape of a customer: from parsed JSON to a typed `Customer`, with every member of the wrong shape named.

What is wrong is taken out and the rest is kept, so that the rules can go on and one answer names all faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import is_typeddict

from schemas.commands import COUNTRY_PATTERN, DATE_PATTERN, PHONE_PATTERN, TEXT_PATTERN, Customer
from worker.core.customer import Fault

Path: TypeAlias = tuple[int | str, ...]

_CUSTOMER: Final = TypeAdapter(Customer)
FAULTS_MAX: Final = 500
"""How many faults one answer names: more than any body has by mistake. Naming 5,000 would take a tenth of a second."""

_PASSES_MAX: Final = 10
_RELATIONS: Final = ("individualCustomer", "categorization", "categoryFeatureRelations")
"""The one list of lists, and the last member of all: whatever has more faults than that has them here."""
_TYPES: Final = {
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
}
_PATTERNS: Final = {
    TEXT_PATTERN: ("text.not_allowed", "No control characters, and none that change the direction of writing."),
    PHONE_PATTERN: ("phone.not_e164", "Expected E.164: a plus sign and 7 to 15 digits, the first not zero."),
    COUNTRY_PATTERN: ("country.unknown", "Expected an ISO 3166-1 alpha-2 code in upper case."),
    DATE_PATTERN: ("date.invalid", "Expected a day of the calendar as YYYY-MM-DD."),
}
_STAND_INS: Final = MappingProxyType({"nationalities": "ZZ", "roleIds": "-", "roles": "-"})
"""What stands for a list's text that was taken out, so that the others keep their places."""


def is_whole(text: str) -> bool:
    """Say whether a text is of whole characters: half a surrogate pair is none, and what it is taken for may be another text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_customer(document: object) -> tuple[Customer, tuple[Fault, ...]]:
    """
    Read a customer from parsed JSON, leaving out what has the wrong shape.

    Args:
        document: what a JSON parser returned, of any type; it is not changed.
    Returns:
        The customer without the members that are wrong, and a fault for each of them. A list's member that is wrong
        is replaced by one that says nothing, so that positions hold. Of more than `FAULTS_MAX` the first are named, and
        one says that there are more.
    """
    faults: dict[Fault, None] = {}
    for _ in range(_PASSES_MAX):
        try:
            return without_nulls(_CUSTOMER.validate_python(document)), tuple(faults)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            faults.update((_fault(each), None) for each in errors[:FAULTS_MAX])
            if len(errors) > FAULTS_MAX:
                faults[too_many(pointer(_RELATIONS))] = None
                errors = [each for each in errors if each["loc"][: len(_RELATIONS)] != _RELATIONS]
                errors.append({"type": "too_many_faults", "loc": _RELATIONS, "msg": "", "input": None})
            document = _without(document, [(each["loc"], each) for each in errors], "")
    msg = "a customer's shape did not settle"
    raise AssertionError(msg)


def without_nulls(customer: Customer) -> Customer:
    """Return a customer in which what was sent as null is left out, at any depth: the two mean the same."""
    told: Customer = _told(customer)
    return told


def _told(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, dict):
        return {name: _told(inner) for name, inner in value.items() if inner is not None}
    return [_told(inner) for inner in value] if isinstance(value, list) else value


def in_body_order(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return faults in the order in which the schema names their places; of one place, in the order found."""
    return tuple(sorted(faults, key=_rank))


def too_many(pointer: str) -> Fault:
    """Return the fault that says that there are more of them."""
    return Fault(pointer, "faults.too_many", f"There are more than {FAULTS_MAX} faults: correct these first.")


def pointer(path: Iterable[int | str]) -> str:
    """Write a path as a JSON pointer (RFC 6901); names of the schema hold nothing that must be escaped."""
    return "".join([f"/{step}" for step in path])


def _fault(error: ErrorDetails) -> Fault:
    context: Mapping[str, Any] = error.get("ctx", {})
    kind = error["type"]
    match kind:
        case "string_too_long":
            code, detail = "text.too_long", f"At most {context['max_length']} characters."
        case "string_too_short":
            code, detail = "text.too_short", f"At least {context['min_length']} characters."
        case "too_long":
            code, detail = "list.too_long", f"At most {context['max_length']} members."
        case "string_pattern_mismatch":
            code, detail = _PATTERNS[context["pattern"]]
        case "string_unicode":
            code, detail = "text.not_allowed", "Expected whole Unicode characters, no lone surrogates."
        case _:
            code, detail = "type.unexpected", f"Expected {_TYPES.get(kind, 'another type')}."
    return Fault(pointer(error["loc"]), code, detail)


def _without(value: object, errors: Sequence[tuple[Path, ErrorDetails]], name: str) -> object:
    """
    Return a value without what is wrong in it; only what changes is copied.

    Args:
        value: at that place of the document.
        errors: those at or below it, each with its path from here; there is at least one.
        name: of the member that the value is or belongs to.
    """
    below: dict[int | str, list[tuple[Path, ErrorDetails]]] = {}
    for path, error in errors:
        if not path:
            too_long = error["type"] == "too_long" and isinstance(value, list)
            return value[: error["ctx"]["max_length"]] if too_long else _STAND_INS.get(name, {})  # type: ignore[index]
        below.setdefault(path[0], []).append((path[1:], error))
    if isinstance(value, list):
        return [_without(each, below[place], name) if place in below else each for place, each in enumerate(value)]
    if isinstance(value, dict):
        kept = {step: each for step, each in value.items() if step not in below}
        mended = {str(step): _without(value[step], wrong, str(step)) for step, wrong in below.items() if not _taken_out(wrong)}
        return {**kept, **mended}
    return value


def _taken_out(errors: Sequence[tuple[Path, ErrorDetails]]) -> bool:
    """Say whether a member itself is wrong, and not only too long or wrong inside."""
    return any(not path and error["type"] != "too_long" for path, error in errors)


def _places(shape: type[object], above: str = "") -> Iterable[str]:
    """Name every place of a typed dictionary, in the order of its members; those of a list share one."""
    for name, member in get_type_hints(shape).items():
        place, inner = f"{above}/{name}", member
        yield place
        while arguments := get_args(inner):
            inner = arguments[0]
        if is_typeddict(inner):
            yield from _places(inner, place)


_RANKS: Final = {place: rank for rank, place in enumerate(_places(Customer))}


def _rank(fault: Fault) -> tuple[int, ...]:
    """Return what sorts a fault: for each step of its pointer the rank of the name, or the position in a list."""
    steps, place = [], ""
    for step in fault.pointer.split("/")[1:]:
        if step.isdecimal():
            steps.append(int(step))
        else:
            place = f"{place}/{step}"
            steps.append(_RANKS.get(place, len(_RANKS)))
    return tuple(steps)
