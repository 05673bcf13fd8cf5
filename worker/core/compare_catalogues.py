"""
What differs between two versions of a tenant's rules, as a person would say it, and whether it protects more or less.

It is said of the rules alone, whoever the customers are: what is not called weaker here lowers nobody's protection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from worker.core.catalogue import Catalogue, Category, Feature, Parameter
from worker.core.catalogue_index import CLAIM_WORDS, LIMIT_CLAIMS
from worker.core.protection import ORDER, Protection, Sense, falling, indifferent, kept, missing, present, rising
from worker.core.scales import DueDiligence, Monitoring, RiskLevel, SanctionsScreening, Scale, VerificationLevel

Path: TypeAlias = tuple[str, ...]
"""Names from the document's root; a member of a list goes by its own text."""

ANY: Final = "*"


class Change(NamedTuple):
    """
    One thing that a catalogue says otherwise.

    Args:
        path: of the member, with dots.
        text: a sentence, such as `level HIGH, limit a day: 2,000 → 1,500`.
        protection: what the change does.
    """

    path: str
    text: str
    protection: Protection


class _Subject(NamedTuple):
    """
    How to speak of a member, and in which sense its values compare.

    Args:
        words: `{}` stands for each name in its path.
        sense: of the values, None being what is not there.
        absent: what it means that nothing is there, for a member that may be left out.
    """

    words: str
    sense: Sense
    absent: str = ""


def _by(scale: type[Scale]) -> Sense:
    """Compare words by their place on a scale."""
    return partial(_on_scale, scale)


def _on_scale(scale: type[Scale], before: str, after: str) -> Protection:
    return rising(scale(before), scale(after))


def _incomparable(_before: object, _after: object) -> Protection:
    """Say that nobody can tell, which is to be looked at like less."""
    return Protection.LESS


def _key(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Protection:
    """Say that a key protects by what it says to the rules."""
    return rising(*(each is not None and bool(each["claims"] or each["mandatory"]) for each in (before, after)))


SUBJECTS: Final[Mapping[str, _Subject]] = {
    "tenant.id": _Subject("tenant, id", _incomparable),
    "tenant.slug": _Subject("tenant, slug", indifferent),
    "tenant.name": _Subject("tenant, name", indifferent),
    "tenant.currency": _Subject("tenant, currency of all limits", _incomparable),
    "tenant.time_zone": _Subject('tenant, time zone of "today"', _incomparable),
    "tenant.roles.*": _Subject("tenant, role {}", missing),
    "tenant.minimum_age_years": _Subject("tenant, minimum age in years", rising),
    "tenant.passwords.length_min": _Subject("passwords, least length", rising),
    "tenant.passwords.length_max": _Subject("passwords, greatest length", indifferent),
    "tenant.passwords.common_refused": _Subject("passwords, common ones refused", rising),
    "tenant.passwords.like_email_refused": _Subject("passwords, those like the email refused", rising),
    "tenant.human_review": _Subject("tenant, review by a person", rising),
    "tenant.test_domains_accepted": _Subject("tenant, addresses of .test accepted", falling),
    "tenant.refusals_kept_days": _Subject("tenant, days that refusals are kept", indifferent, absent="45"),
    "levels.*.score_min": _Subject("level {}, score at which it begins", falling),
    "levels.*.due_diligence": _Subject("level {}, due diligence", _by(DueDiligence)),
    "levels.*.sanctions_screening": _Subject("level {}, sanctions screening", _by(SanctionsScreening)),
    "levels.*.monitoring": _Subject("level {}, monitoring", _by(Monitoring)),
    "levels.*.verification": _Subject("level {}, verification", _by(VerificationLevel)),
    "levels.*.review_after_months": _Subject("level {}, review after months", falling),
    "levels.*.senior_approval": _Subject("level {}, senior approval", rising),
    "levels.*.limits.*": _Subject("level {}, limit a {}", falling),
    "levels.*.consents.*": _Subject("level {}, consent {}", present),
    "factors.country_lists.*": _Subject("country list {}", present),
    "factors.country_lists.*.nationality_points": _Subject("country list {}, points for a nationality", rising),
    "factors.country_lists.*.residence_points": _Subject("country list {}, points for a residence", rising),
    "factors.country_lists.*.minimum_level": _Subject("country list {}, least level", _by(RiskLevel)),
    "factors.country_lists.*.countries.*": _Subject("country list {}, country {}", present),
    "factors.country_lists.*.countries.*.source": _Subject("country list {}, source for {}", indifferent),
    "factors.country_lists.*.countries.*.listed_on": _Subject("country list {}, day of listing of {}", indifferent),
    "factors.pep.*.points": _Subject("politically exposed {}, points", rising),
    "factors.pep.*.minimum_level": _Subject("politically exposed {}, least level", _by(RiskLevel)),
    "factors.age_bands.*": _Subject("age band {}", present),
    "factors.age_bands.*.from_years": _Subject("age band {}, from years", falling),
    "factors.age_bands.*.below_years": _Subject("age band {}, below years", rising),
    "factors.age_bands.*.points": _Subject("age band {}, points", rising),
    "verification.*.*": _Subject("verification {}, check {}", present),
    "documents.*": _Subject("document {}, version", indifferent),
    "consents.*": _Subject("consent of everybody, {}", present),
    "activation.details.*": _Subject("activation, detail {}", present),
    "activation.confirmations.*": _Subject("activation, {}", present),
    "activation.sanctions_screening": _Subject("activation, waits for sanctions screening", rising),
    "features.*": _Subject("feature {}", indifferent),
    "features.*.database_id": _Subject("feature {}, database id", indifferent),
    "features.*.name": _Subject("feature {}, name", indifferent),
    "features.*.risk_points": _Subject("feature {}, points", rising),
    "features.*.parameters.*": _Subject("feature {}, key {}", _key),
    "features.*.parameters.*.mandatory": _Subject("feature {}, key {} mandatory", rising),
    "features.*.parameters.*.allowed": _Subject("feature {}, values of key {}", indifferent, absent="any text"),
    "features.*.parameters.*.allowed.*": _Subject("feature {}, key {}, value {}", indifferent),
    "features.*.parameters.*.multiple": _Subject("feature {}, key {} takes several values", indifferent),
    "features.*.parameters.*.claims": _Subject("feature {}, what key {} says to the rules", kept, absent="nothing"),
    "categories.*": _Subject("category {}", indifferent),
    "categories.*.database_id": _Subject("category {}, database id", indifferent),
    "categories.*.name": _Subject("category {}, name", indifferent),
    "categories.*.description": _Subject("category {}, description", indifferent),
    "categories.*.risk_level": _Subject("category {}, level", _by(RiskLevel)),
    "categories.*.base_score": _Subject("category {}, score", rising),
    "categories.*.active": _Subject("category {}, offered", indifferent),
    "categories.*.features.*": _Subject("category {}, feature {}", indifferent),
    "categories.*.required_features.*": _Subject("category {}, required feature {}", present),
    "categories.*.consents.*": _Subject("category {}, consent {}", present),
}
"""Every member that a catalogue can have, by its path; `*` stands for one name."""


def compare(before: Catalogue, after: Catalogue) -> tuple[Change, ...]:
    """
    Say what differs, what protects less first, then in the order of the document.

    Args:
        before: one version.
        after: another one of the same tenant.
    """
    found = [_change(*each) for each in _differences((), before.model_dump(mode="json"), after.model_dump(mode="json"))]
    found += [*_moved_names(before, after), *_weaker_claims(before, after)]
    if not found and before != after:
        found.append(Change("", "only the order of lists", Protection.SAME))
    return tuple(sorted(found, key=lambda change: ORDER.index(change.protection)))


def _moved_names(before: Catalogue, after: Catalogue) -> Iterator[Change]:
    """Name each id that means another category or feature than it did: the same request would be decided by other rules."""
    for kind in ("categories", "features"):
        one, other = (_names(getattr(catalogue, kind)) for catalogue in (before, after))
        for name in one.keys() & other.keys():
            if one[name] != other[name]:
                text = f"id {name} of {kind}: meant {one[name]}, means {other[name]}"
                yield Change(f"{kind}.{other[name]}", text, Protection.LESS)


def _names(things: Mapping[str, Category | Feature]) -> dict[str, str]:
    return {name: key for key, each in things.items() for name in (key, each.database_id)}


def _weaker_claims(before: Catalogue, after: Catalogue) -> Iterator[Change]:
    """Name each mandatory key by which a caller could say less than before: it no longer makes everybody claim as much."""
    for code in before.features.keys() & after.features.keys():
        one, other = (catalogue.features[code].parameters for catalogue in (before, after))
        for key in one.keys() & other.keys():
            if one[key].mandatory and one[key].claims is not None and _least(other[key]) < _least(one[key]):
                path = f"features.{code}.parameters.{key}.allowed"
                yield Change(path, f"feature {code}, key {key}: may now say less than everybody had to", Protection.LESS)


def _least(parameter: Parameter) -> float:
    """Return how much protection whoever sends the key asks for at the very least, on the scale of its claim."""
    allowed, claim = parameter.allowed, parameter.claims
    if claim in LIMIT_CLAIMS:
        return -float(allowed.partition("-")[2]) if isinstance(allowed, str) else -inf
    if isinstance(allowed, str):
        return float(allowed.partition("-")[0])
    words = CLAIM_WORDS[claim] if claim is not None else {}
    said = [words.get(word) for word in allowed or ()]
    return min((float(list(type(each)).index(each)) if isinstance(each, Scale) else -1 for each in said), default=-1)


def subject_of(path: Path) -> tuple[_Subject, list[str]]:
    """
    Return how to speak of a path, and the names in it.

    Raises:
        KeyError: it is no member of a catalogue, which a test rules out for all that the model has.
    """
    for pattern, subject in _PATTERNS.get(len(path), ()):
        if all(step in {ANY, own} for step, own in zip(pattern, path, strict=True)):
            return subject, [own for step, own in zip(pattern, path, strict=True) if step == ANY]
    raise KeyError(".".join(path))


def _patterns() -> dict[int, list[tuple[Path, _Subject]]]:
    found: dict[int, list[tuple[Path, _Subject]]] = {}
    for path, subject in SUBJECTS.items():
        steps = tuple(path.split("."))
        found.setdefault(len(steps), []).append((steps, subject))
    return found


_PATTERNS: Final = _patterns()


def _differences(path: Path, before: Any, after: Any) -> Iterator[tuple[Path, Any, Any]]:  # noqa: ANN401 - JSON
    """Yield each member that differs, with what it was and is; None is what is not there."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _differences((*path, name), before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list):
        for each in dict.fromkeys((*before, *after)):
            yield from _differences((*path, each), *(each if each in members else None for members in (before, after)))
    else:
        yield path, before, after


def _change(path: Path, before: Any, after: Any) -> Change:  # noqa: ANN401 - JSON
    subject, names = subject_of(path)
    words, protection = subject.words.format(*names), subject.sense(before, after)
    if not subject.absent and (before is None or after is None):
        return Change(".".join(path), f"{words}: {'added' if before is None else 'removed'}", protection)
    one, other = (subject.absent if value is None else _said(value) for value in (before, after))
    return Change(".".join(path), f"{words}: {one} → {other}", protection)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(value) if isinstance(value, list) else str(value)
