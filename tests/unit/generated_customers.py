"""Customers who fit a generated catalogue, and the same ones with more risk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

from tests.unit.core_examples import PERSON, RELATIONS, REMOVED, changed
from tests.unit.generated_catalogues import AMOUNT_MAX, COUNTRIES
from worker.core.catalogue import Catalogue, Feature, Parameter
from worker.core.catalogue_index import CLAIM_WORDS, LIMIT_CLAIMS
from worker.core.scales import Claim, Scale

Body: TypeAlias = dict[str, Any]

FIRST: Final = "/customerCategory/id"
SECOND: Final = "/individualCustomer/categorization/id"

_MOSTLY: Final = st.sampled_from([True, True, True, False])
_SELDOM: Final = st.sampled_from([False, False, False, True])


@dataclass(frozen=True, slots=True)
class Asked:
    """A feature as a customer asks for it, named by code or id; `enabled` may be left out."""

    code: str
    reference: Mapping[str, str]
    enabled: bool | None
    parameters: Mapping[str, str]

    def relation(self) -> Body:
        """Return it as a body has it, with its parameters in their order."""
        parameters = [{"name": name, "value": value} for name, value in self.parameters.items()]
        enabled = {} if self.enabled is None else {"enabled": self.enabled}
        return {"feature": dict(self.reference), **enabled, "parametrization": parameters}


@dataclass(frozen=True, slots=True)
class Person:
    """Who registers, as far as the rules look at them."""

    born_on: date
    nationality: str
    nationalities: tuple[str, ...]
    residences: tuple[str, ...]
    place_of_birth: bool
    phone: bool


@dataclass(frozen=True, slots=True)
class Registrant:
    """A customer: their category by an id for each of the two places, their features, and who they are."""

    category_id: str
    references: tuple[str, str]
    features: tuple[Asked, ...]
    person: Person

    def body(self) -> Body:
        """Return what they send."""
        person = self.person
        phone: dict[str, object] = {} if person.phone else {"/phone": REMOVED, f"{PERSON}/contacts": REMOVED}
        return changed(
            {
                FIRST: self.references[0],
                SECOND: self.references[1],
                RELATIONS: [asked.relation() for asked in self.features],
                f"{PERSON}/dateOfBirth": person.born_on.isoformat(),
                f"{PERSON}/nationality": person.nationality,
                f"{PERSON}/nationalities": list(person.nationalities),
                f"{PERSON}/addresses": [{"street": "1", "city": "Here", "country": country} for country in person.residences],
                f"{PERSON}/placeOfBirth": "There" if person.place_of_birth else REMOVED,
                **phone,
                "/roleIds": ["USER"],
                "/individualCustomer/user/roles": ["USER"],
            }
        )

    def claims(self, catalogue: Catalogue, claim: Claim) -> list[str]:
        """Return every word or number that is claimed, wherever it stands."""
        return [
            word.strip(" ")
            for asked in self.features
            for key, text in asked.parameters.items()
            if catalogue.features[asked.code].parameters[key].claims is claim
            for word in text.split(",")
        ]


@st.composite
def registrants(draw: st.DrawFn, catalogue: Catalogue, *, offered: bool = True, terse: bool = False) -> Registrant:
    """
    Draw a customer who fits.

    Args:
        draw: what Hypothesis gives.
        catalogue: that they fit.
        offered: they choose a category that is offered; else any.
        terse: they mostly say no more than they must, and nothing that raises risk, so that there is more to raise.
    """
    category_id = draw(st.sampled_from([name for name, each in catalogue.categories.items() if each.active or not offered]))
    category = catalogue.categories[category_id]
    also = _SELDOM if terse else _MOSTLY
    needed = {code: code in category.required_features for code in draw(st.permutations(category.features))}
    return Registrant(
        category_id=category_id,
        references=draw(st.tuples(*[st.sampled_from([category_id, category.database_id])] * 2)),
        features=tuple(
            draw(_asked(code, catalogue.features[code], required=required, terse=terse))
            for code, required in needed.items()
            if required or draw(also)
        ),
        person=draw(_persons(terse=terse)),
    )


@st.composite
def stronger(draw: st.DrawFn, registrant: Registrant, catalogue: Catalogue) -> Registrant:
    """Draw the same customer with each input of risk as high or higher; further features and claims are risk too."""
    asked = {each.code: each for each in registrant.features}
    features = []
    for code in draw(st.permutations(catalogue.categories[registrant.category_id].features)):
        feature = catalogue.features[code]
        if code in asked:
            features.append(draw(_stronger_feature(asked[code], feature)))
        elif draw(_MOSTLY):
            features.append(draw(_asked(code, feature, required=False)))
    person, more = registrant.person, st.lists(st.sampled_from(COUNTRIES), min_size=1, max_size=2).map(tuple)
    if draw(_MOSTLY):
        person = replace(person, nationalities=person.nationalities + draw(more), residences=person.residences + draw(more))
    return replace(registrant, features=tuple(features), person=person)


@st.composite
def otherwise_told(draw: st.DrawFn, registrant: Registrant, catalogue: Catalogue) -> Registrant:
    """Draw another way to say the same: features and parameters in another order, each named by another of its ids."""
    category = catalogue.categories[registrant.category_id]
    features = [
        replace(
            asked,
            reference=draw(_references(asked.code, catalogue.features[asked.code])),
            parameters=dict(draw(st.permutations(list(asked.parameters.items())))),
        )
        for asked in draw(st.permutations(registrant.features))
    ]
    references = draw(st.tuples(*[st.sampled_from([registrant.category_id, category.database_id])] * 2))
    return replace(registrant, references=references, features=tuple(features))


@st.composite
def _persons(draw: st.DrawFn, *, terse: bool) -> Person:
    country = st.sampled_from([*COUNTRIES[:1] * 9, *COUNTRIES] if terse else COUNTRIES)
    return Person(
        born_on=date(draw(st.integers(1920, 2005)), draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        nationality=draw(country),
        nationalities=tuple(draw(st.lists(country, max_size=2))),
        residences=tuple(draw(st.lists(country, min_size=1, max_size=2))),
        place_of_birth=draw(st.booleans()),
        phone=draw(st.booleans()),
    )


def _references(code: str, feature: Feature) -> st.SearchStrategy[Mapping[str, str]]:
    """Draw one of the ways to name a feature; an id that nobody knows says nothing beside a code."""
    ways = [{"code": code}, {"id": code}, {"id": feature.database_id}]
    ways += [{"code": code, "id": feature.database_id}, {"code": code, "id": "nobody's"}]
    return st.sampled_from(ways)


@st.composite
def _asked(draw: st.DrawFn, code: str, feature: Feature, *, required: bool, terse: bool = False) -> Asked:
    enabled = draw(st.sampled_from([None, True] if required else [None, True, False]))
    names = [
        name
        for name, parameter in draw(st.permutations(list(feature.parameters.items())))
        if (parameter.mandatory and enabled is not False) or draw(_SELDOM if terse else _MOSTLY)
    ]
    parameters = {name: draw(_texts(feature.parameters[name], terse=terse)) for name in names}
    return Asked(code, draw(_references(code, feature)), enabled, parameters)


@st.composite
def _stronger_feature(draw: st.DrawFn, asked: Asked, feature: Feature) -> Asked:
    enabled = asked.enabled if asked.enabled is not False else draw(st.booleans())
    parameters = {name: draw(_stronger_texts(feature.parameters[name], text)) for name, text in asked.parameters.items()}
    for name, parameter in feature.parameters.items():
        if name not in parameters and ((enabled is not False and parameter.mandatory) or draw(st.booleans())):
            parameters[name] = draw(_texts(parameter))
    return replace(asked, enabled=enabled, parameters=parameters)


def _range(parameter: Parameter) -> tuple[int, int]:
    low, _, high = str(parameter.allowed or f"0-{AMOUNT_MAX}").partition("-")
    return int(low), int(high)


@st.composite
def _numbers(draw: st.DrawFn, low: int, high: int, *, fractions: bool) -> str:
    """Draw a number; a limit may have a fraction, which is cut off."""
    number = draw(st.integers(low, high))
    return f"{number}{draw(st.sampled_from(['', '.5', '.99']))}" if fractions and number < high else str(number)


@st.composite
def _texts(draw: st.DrawFn, parameter: Parameter, *, terse: bool = False) -> str:
    """Draw a value that the key may have; from the terse mostly the one that says least of risk."""
    if terse and parameter.claims is not None and draw(_MOSTLY):
        return _weakest(parameter, parameter.claims)
    if isinstance(parameter.allowed, tuple):
        words = draw(st.lists(st.sampled_from(parameter.allowed), min_size=1, max_size=3 if parameter.multiple else 1))
        return draw(st.sampled_from([",", ", "])).join(words)
    limit = parameter.claims in LIMIT_CLAIMS
    if parameter.allowed is None and not limit:
        return draw(st.sampled_from(["Savings", " for a rainy day ", "0"]))
    return draw(_numbers(*_range(parameter), fractions=limit))


@st.composite
def _stronger_texts(draw: st.DrawFn, parameter: Parameter, text: str) -> str:
    """Draw a value that says as much of risk as another one, or more."""
    low, high = _range(parameter) if not isinstance(parameter.allowed, tuple) else (0, 0)
    if parameter.claims in LIMIT_CLAIMS:
        return str(draw(st.integers(low, int(float(text)))))
    if parameter.claims is Claim.RISK_SCORE:
        return str(draw(st.integers(int(text), high)))
    if parameter.claims is None or not isinstance(parameter.allowed, tuple):
        return draw(_texts(parameter))
    if parameter.multiple:
        return f"{text}, {draw(st.sampled_from(parameter.allowed))}"
    return draw(st.sampled_from(_no_weaker(parameter.allowed, text, parameter.claims)))


def _weakest(parameter: Parameter, claim: Claim) -> str:
    if isinstance(parameter.allowed, tuple):
        return min(parameter.allowed, key=lambda word: _strength(word, claim))
    return str(_range(parameter)[claim in LIMIT_CLAIMS])


def _no_weaker(allowed: Sequence[str], text: str, claim: Claim) -> list[str]:
    return [word for word in allowed if _strength(word, claim) >= _strength(text, claim)]


def _strength(word: str, claim: Claim) -> int:
    """Return how much a word says of risk; one that says nothing is the weakest."""
    meaning = CLAIM_WORDS[claim][word]
    return list(type(meaning)).index(meaning) if isinstance(meaning, Scale) else -1
