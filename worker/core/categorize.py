"""
The category that a request means, and what its parameters say: by the catalogue, or every fault at once.

A request names its category twice, by either of its ids, and sends each feature by code or id with its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Final, TypeAlias, TypedDict

from pydantic_core import from_json, to_json

from schemas.commands import CategoryFeatureRelation, FeatureReference
from worker.core.catalogue import Catalogue
from worker.core.catalogue_index import (
    LIMIT_CLAIMS,
    ClaimValue,
    Index,
    IndexedCategory,
    IndexedFeature,
    IndexedParameter,
    Refusal,
)
from worker.core.customer import Fault, Findings
from worker.core.scales import Claim

_REFERENCES: Final = ("/customerCategory/id", "/individualCustomer/categorization/id")
_NO_FEATURE: Final = FeatureReference()
_RELATIONS: Final = "/individualCustomer/categorization/categoryFeatureRelations"
_REMEMBERED: Final = 2048
REMEMBERED_CHARACTERS_MAX: Final = 4096
"""How many answers are kept, and for how much JSON at most: the memory that they take is bounded."""


class _Asked(TypedDict):
    categoryReferences: tuple[str | None, str | None]
    categoryFeatureRelations: Sequence[CategoryFeatureRelation]


@dataclass(frozen=True, slots=True)
class Claimed:
    """The strongest value that was claimed, and the input that claimed it."""

    value: ClaimValue
    input: str


@dataclass(frozen=True, slots=True)
class RequestedFeature:
    """A feature as it was sent: its parameters with their texts, in alphabetical order."""

    feature: IndexedFeature
    enabled: bool
    parameters: tuple[tuple[IndexedParameter, str], ...]


Claims: TypeAlias = Mapping[Claim, Claimed]


@dataclass(frozen=True, slots=True, eq=False)
class Categorized:
    """
    A category with its features, in alphabetical order of their codes, and what their parameters claim.

    A claim counts wherever it stands, in a disabled feature too: all that it can do is protect more. `sent` is what the
    caller asked for, as JSON: the two references and the relations, which the decision can be worked out from again.
    """

    sent: str
    category: IndexedCategory
    features: tuple[RequestedFeature, ...]
    claims: Claims

    @property
    def category_id(self) -> str:
        """The catalogue's id of the category, whichever id was sent."""
        return self.category.category_id


@dataclass(frozen=True, slots=True)
class Miscategorized:
    """
    Everything that is wrong with a categorization.

    Args:
        faults: each with its place in the body.
        missing_keys: mandatory keys that are not there, each once.
        invalid_values: for each key with a value that is not allowed, what is: a list, or a range.
    """

    faults: tuple[Fault, ...]
    missing_keys: tuple[str, ...] = ()
    invalid_values: Mapping[str, tuple[str, ...] | str] = field(default_factory=dict)


@dataclass(slots=True)
class _Notes:
    """What is found while a request is read."""

    findings: Findings
    missing_keys: dict[str, None] = field(default_factory=dict)
    invalid_values: dict[str, tuple[str, ...] | str] = field(default_factory=dict)
    claims: dict[Claim, Claimed] = field(default_factory=dict)

    def missing(self, pointer: str, keys: Sequence[str]) -> None:
        """Note mandatory keys that are not there, each with a fault of its own."""
        for key in keys:
            if self.findings.add(pointer, "parameter.missing", f"The mandatory key {key} is missing."):
                self.missing_keys[key] = None

    def not_allowed(self, key: IndexedParameter, pointer: str) -> None:
        """Note a value that the key may not have, and what it may have."""
        if key.allowed is None:
            self.findings.add(pointer, "parameter.not_allowed", "Expected a text that is not blank.")
            return
        expected = f"a number in the range {key.allowed}" if isinstance(key.allowed, str) else " or ".join(key.allowed)
        if key.multiple:
            expected = f"a comma-separated list of {expected}"
        if self.findings.add(pointer, "parameter.not_allowed", f"Expected {expected}."):
            self.invalid_values.setdefault(key.name, key.allowed)

    def claim(self, key: IndexedParameter, claim: Claim, value: ClaimValue) -> None:
        """Keep what was claimed, where it is stronger than before; among equals the alphabet decides on the input."""
        before = self.claims.get(claim)
        if before is not None:
            if before.value == value:
                if before.input <= key.input:
                    return
            elif (before.value < value) is (claim in LIMIT_CLAIMS):  # type: ignore[operator]
                return
        self.claims[claim] = Claimed(value, key.input)


def categorize(
    references: tuple[str | None, str | None],
    relations: Sequence[CategoryFeatureRelation],
    catalogue: Catalogue,
    known: tuple[Fault, ...] = (),
) -> Categorized | Miscategorized:
    """
    Find the category, check its features and parameters, and read what they claim.

    Args:
        references: the ids under `customerCategory` and `categorization`; None where one could not be read.
        relations: the features with their parameters, as sent.
        catalogue: the tenant's rules.
        known: faults already found in the body; nothing that follows from one of them is reported again.
    Returns:
        The categorization, or all its faults.
    Source: README, rules R-17 to R-19.
    """
    return _answer(to_json({"categoryReferences": references, "categoryFeatureRelations": relations}), catalogue, known)


def categorize_again(sent: str, catalogue: Catalogue) -> Categorized | Miscategorized:
    """
    Do so for a categorization as it is stored.

    Args:
        sent: `Categorized.sent`, whichever catalogue accepted it.
        catalogue: the rules to read it by.
    """
    return _answer(sent.encode(), catalogue, ())


def _answer(sent: bytes, catalogue: Catalogue, known: tuple[Fault, ...]) -> Categorized | Miscategorized:
    answer = _categorize if len(sent) <= REMEMBERED_CHARACTERS_MAX else _categorize.__wrapped__
    return answer(catalogue.index, sent, known)


@lru_cache(maxsize=_REMEMBERED)
def _categorize(index: Index, sent: bytes, known: tuple[Fault, ...]) -> Categorized | Miscategorized:
    """Do so for the same as JSON: most customers of a product send the same, so that answers are remembered."""
    asked: _Asked = from_json(sent)
    notes = _Notes(Findings(known))
    category = _category(asked["categoryReferences"], index, notes.findings)
    if category is None:
        return Miscategorized(tuple(notes.findings.faults))
    requested: dict[str, RequestedFeature] = {}
    all_read = True
    for position, each in enumerate(asked["categoryFeatureRelations"]):
        reference = each.get("feature") or _NO_FEATURE
        if reference.get("code") is None and reference.get("id") is None:
            all_read = False
            _unnamed(position, notes.findings)
            continue
        feature = _feature(reference, category, position, notes.findings)
        if feature is None:
            continue
        if feature.code in requested:
            notes.findings.add(f"{_RELATIONS}/{position}/feature", "feature.repeated", "A feature may be sent once.")
        requested[feature.code] = _requested(feature, each, position, category, notes)
    for feature in category.required:
        if feature.code not in requested and all_read:
            detail = f"The category requires the feature {feature.code}."
            notes.findings.add(_RELATIONS, "feature.missing", detail)
            notes.missing(_RELATIONS, feature.mandatory)
    if notes.findings.faults:
        return Miscategorized(tuple(notes.findings.faults), tuple(notes.missing_keys), notes.invalid_values)
    return Categorized(sent.decode(), category, tuple(requested[code] for code in sorted(requested)), notes.claims)


def _category(references: Sequence[str | None], index: Index, findings: Findings) -> IndexedCategory | None:
    """Return the one category that both references mean; where they disagree, the second's, which has the features."""
    first, second = (index.categories.get(each) if each is not None else None for each in references)
    if first is not second or first is None:
        for reference, category, pointer in zip(references, (first, second), _REFERENCES, strict=True):
            if reference is not None and category is None:
                findings.add(pointer, "category.unknown", "The tenant has no category of this id.")
        if first is not None and second is not None:
            findings.add(_REFERENCES[1], "category.differs", "Must mean the same category as customerCategory.id.")
    chosen = second or first
    if chosen is not None and not chosen.category.active:
        findings.add(_REFERENCES[1], "category.inactive", "The category is no longer offered.")
    return chosen


def _feature(reference: FeatureReference, category: IndexedCategory, position: int, findings: Findings) -> IndexedFeature | None:
    """Return the feature that is meant. The code decides; an id beside it is a fault only if it means another one."""
    code, feature_id = reference.get("code"), reference.get("id")
    by_id = category.features_by_id.get(feature_id) if feature_id is not None else None
    if code is None:
        if by_id is None:
            pointer = f"{_RELATIONS}/{position}/feature/id"
            findings.add(pointer, "feature.unknown", "The category has no feature of this id.")
        return by_id
    feature = category.features.get(code)
    if feature is None:
        pointer = f"{_RELATIONS}/{position}/feature/code"
        findings.add(pointer, "feature.unknown", "The category has no feature of this code.")
    elif by_id is not None and by_id is not feature:
        pointer = f"{_RELATIONS}/{position}/feature/id"
        findings.add(pointer, "feature.differs", "Code and id mean two different features.")
    return feature


def _unnamed(position: int, findings: Findings) -> None:
    """Note a feature without code and id, where it is not known already that one of them could not be read."""
    pointer = f"{_RELATIONS}/{position}/feature"
    if not findings.covers(f"{pointer}/code") and not findings.covers(f"{pointer}/id"):
        findings.add(pointer, "required", "Must be there, with its code or its id.")


def _requested(
    feature: IndexedFeature, relation: CategoryFeatureRelation, position: int, category: IndexedCategory, notes: _Notes
) -> RequestedFeature:
    """Check one feature's parameters, and note what they claim."""
    pointer, enabled = f"{_RELATIONS}/{position}/parametrization", relation.get("enabled") is not False
    seen: set[str | None] = set()
    texts: list[tuple[str, IndexedParameter, str]] = []
    for number, parameter in enumerate(relation.get("parametrization") or ()):
        name, value = parameter.get("name"), parameter.get("value")
        if name is None or value is None:
            _half(name, value, f"{pointer}/{number}", notes.findings)
        elif (key := feature.parameters.get(name)) is None:
            notes.findings.add(f"{pointer}/{number}/name", "parameter.unknown", "The feature has no key of this name.")
        elif name in seen:
            notes.findings.add(f"{pointer}/{number}/name", "parameter.repeated", "A key may be sent once.")
        else:
            meaning = key.read(value)
            if meaning is Refusal.NOT_ALLOWED:
                notes.not_allowed(key, f"{pointer}/{number}/value")
            elif meaning is not None and key.claim is not None:
                notes.claim(key, key.claim, meaning)
            texts.append((name, key, value))
        seen.add(name)
    if not enabled and feature in category.required:
        detail = "The category requires this feature."
        notes.findings.add(f"{_RELATIONS}/{position}/enabled", "feature.disabled", detail)
        notes.missing(pointer, feature.mandatory)
    elif enabled and None not in seen:
        notes.missing(pointer, [key for key in feature.mandatory if key not in seen])
    texts.sort(key=itemgetter(0))
    return RequestedFeature(feature, enabled, tuple((key, text) for _, key, text in texts))


def _half(name: str | None, value: str | None, pointer: str, findings: Findings) -> None:
    """Note what a parameter lacks."""
    if name is None:
        findings.add(f"{pointer}/name", "required", "Must be there.")
    if value is None:
        findings.add(f"{pointer}/value", "required", "Must be there.")
