"""Mistakes in a categorization that was right: each with the faults that it must be answered with, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

from tests.unit.core_examples import RELATIONS, changed
from tests.unit.generated_customers import FIRST, SECOND, Asked, Registrant
from worker.core.catalogue import Catalogue, Category, Feature, Parameter

Body: TypeAlias = dict[str, Any]

_UNKNOWN: Final = "nobody's"


@dataclass(frozen=True, slots=True)
class Mistaken:
    """
    A body with mistakes, and what must be answered.

    Args:
        body: what is sent.
        faults: pointer and code of each, in any order; one for each key that is missing.
        missing_keys: mandatory keys that are not there.
        invalid_values: what is allowed for each key with a value that is not.
    """

    body: Body
    faults: tuple[tuple[str, str], ...]
    missing_keys: frozenset[str]
    invalid_values: Mapping[str, tuple[str, ...] | str]


@dataclass(slots=True)
class _Making:
    """A body while mistakes are put into it."""

    catalogue: Catalogue
    category: Category
    relations: list[Body] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    missing_keys: set[str] = field(default_factory=set)
    invalid_values: dict[str, tuple[str, ...] | str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    unnamed: bool = False

    def missing(self, pointer: str, keys: tuple[str, ...]) -> None:
        """Expect a fault for each key."""
        self.faults += [(pointer, "parameter.missing")] * len(keys)
        self.missing_keys.update(keys)


@st.composite
def mistaken(draw: st.DrawFn, registrant: Registrant, catalogue: Catalogue) -> Mistaken:
    """
    Draw mistakes that do not hide each other, any number of them.

    Args:
        draw: what Hypothesis gives.
        registrant: a customer who fits, or whose category is no longer offered, which is a mistake too.
        catalogue: that they fit.
    """
    category = catalogue.categories[registrant.category_id]
    made = _Making(catalogue, category)
    references = _mistake_references(draw, registrant, made)
    if references is None:
        changes: dict[str, object] = {FIRST: _UNKNOWN, SECOND: _UNKNOWN}
        return Mistaken(
            changed(changes, registrant.body()), tuple((place, "category.unknown") for place in changes), frozenset(), {}
        )
    for asked in registrant.features:
        _mistake_feature(draw, asked, made)
    for asked in registrant.features:
        if asked.code not in made.left_out and draw(st.integers(0, 9)) == 0:
            made.faults.append((f"{RELATIONS}/{len(made.relations)}/feature", "feature.repeated"))
            made.relations.append(asked.relation())
    if not made.unnamed:
        for code in category.required_features:
            if code in made.left_out:
                made.faults.append((RELATIONS, "feature.missing"))
                made.missing(RELATIONS, catalogue.features[code].mandatory_keys)
    body = changed({FIRST: references[0], SECOND: references[1], RELATIONS: made.relations}, registrant.body())
    return Mistaken(body, tuple(made.faults), frozenset(made.missing_keys), made.invalid_values)


def _mistake_references(draw: st.DrawFn, registrant: Registrant, made: _Making) -> tuple[str, str] | None:
    """Return the category's two ids, perhaps one of them wrong; None where both are to be."""
    if not made.category.active:
        made.faults.append((SECOND, "category.inactive"))
    others = [name for name in made.catalogue.categories if name != registrant.category_id]
    first, second = registrant.references
    match draw(st.sampled_from(["neither", "neither", "neither", "first", "second", "both", "differs"])):
        case "first":
            made.faults.append((FIRST, "category.unknown"))
            return _UNKNOWN, second
        case "second":
            made.faults.append((SECOND, "category.unknown"))
            return first, _UNKNOWN
        case "both":
            return None
        case "differs" if others:
            made.faults.append((SECOND, "category.differs"))
            return draw(st.sampled_from(others)), second
        case _:
            return first, second


def _mistake_feature(draw: st.DrawFn, asked: Asked, made: _Making) -> None:
    """Put a feature into the body with mistakes, or leave it out."""
    pointer, feature = f"{RELATIONS}/{len(made.relations)}", made.catalogue.features[asked.code]
    required, relation = asked.code in made.category.required_features, asked.relation()
    others = [made.catalogue.features[code].database_id for code in made.category.features if code != asked.code]
    mistake = draw(st.sampled_from(["none"] * 5 + ["left out", "code", "id", "unnamed", "differs", "disabled"]))
    if mistake in {"left out", "code", "id", "unnamed"}:
        made.left_out.append(asked.code)
    match mistake:
        case "left out":
            return
        case "code" | "id":
            relation["feature"] = {mistake: _UNKNOWN}
            made.faults.append((f"{pointer}/feature/{mistake}", "feature.unknown"))
        case "unnamed":
            relation["feature"] = {}
            made.unnamed = True
            made.faults.append((f"{pointer}/feature", "required"))
        case _:
            if mistake == "differs" and others:
                relation["feature"] = {"code": asked.code, "id": draw(st.sampled_from(others))}
                made.faults.append((f"{pointer}/feature/id", "feature.differs"))
            disabled = mistake == "disabled" and required
            if disabled:
                relation["enabled"] = False
                made.faults.append((f"{pointer}/enabled", "feature.disabled"))
            enabled = asked.enabled is not False and not disabled
            relation["parametrization"] = _mistake_parameters(draw, asked, pointer, feature, made, enabled=enabled)
            if disabled:
                made.missing(f"{pointer}/parametrization", feature.mandatory_keys)
    made.relations.append(relation)


def _mistake_parameters(
    draw: st.DrawFn, asked: Asked, pointer: str, feature: Feature, made: _Making, *, enabled: bool
) -> list[Body]:
    """Return a feature's parameters with mistakes."""
    place, all_named = f"{pointer}/parametrization", True
    sent: list[Body] = []
    missing: list[str] = []
    for name, text in asked.parameters.items():
        parameter, number = feature.parameters[name], len(sent)
        match draw(st.sampled_from(["none"] * 3 + ["not allowed", "left out", "twice", "no value", "no name", "unknown"])):
            case "not allowed":
                sent.append({"name": name, "value": draw(_not_allowed(parameter))})
                made.faults.append((f"{place}/{number}/value", "parameter.not_allowed"))
                if (allowed := _expected(parameter)) is not None:
                    made.invalid_values.setdefault(name, allowed)
            case "left out":
                missing += [name] if parameter.mandatory and enabled else []
            case "twice":
                sent += [{"name": name, "value": text}, {"name": name, "value": "whatever"}]
                made.faults.append((f"{place}/{number + 1}/name", "parameter.repeated"))
            case "no value":
                sent.append({"name": name})
                made.faults.append((f"{place}/{number}/value", "required"))
            case "no name":
                sent += [{"name": name, "value": text}, {"value": text}]
                all_named = False
                made.faults.append((f"{place}/{number + 1}/name", "required"))
            case "unknown":
                sent += [{"name": "nothing", "value": text}, {"name": name, "value": text}]
                made.faults.append((f"{place}/{number}/name", "parameter.unknown"))
            case _:
                sent.append({"name": name, "value": text})
    if all_named:
        made.missing(place, tuple(missing))
    return sent


def _expected(parameter: Parameter) -> tuple[str, ...] | str | None:
    """Return what an answer says is allowed; a limit has a range though its key names none."""
    if parameter.allowed is None and parameter.claims is not None:
        return "0-999999999999"
    return parameter.allowed


def _not_allowed(parameter: Parameter) -> st.SearchStrategy[str]:
    """Draw a value that the key may not have."""
    allowed = _expected(parameter)
    if allowed is None:
        return st.sampled_from(["", " "])
    if isinstance(allowed, str):
        low, _, high = allowed.partition("-")
        below = [str(int(low) - 1)] if int(low) else []
        return st.sampled_from(["", "-1", "one", "1e2", "١", f"{int(high) + 1}", *below])
    wrong = ["", "no such", allowed[0].swapcase() + "?", f"{allowed[0]};{allowed[0]}"]
    if parameter.multiple:
        wrong += [f"{allowed[0]},", f"{allowed[0]},no such"]
    else:
        wrong += [f" {allowed[0]}", f"{allowed[0]},{allowed[0]}"]
    return st.sampled_from(wrong)
