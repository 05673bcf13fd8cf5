"""
A tenant's catalogue: its categories, their features, and every number that the rules work with.

The rules are code, what they weigh is data. A document is read once, checked as a whole, and never changes; unknown
keys are refused, so that a typing error is not a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Final, Self, TypeAlias

import rfc8785
from iso3166 import countries_by_alpha2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from schemas.commands import TEXT_PATTERN
from worker.core.catalogue_checks import contradictions
from worker.core.catalogue_index import CLAIM_WORDS, NUMBER_CLAIMS, SCORE_MAX, Index, index
from worker.core.scales import (
    Claim,
    Confirmation,
    Detail,
    DueDiligence,
    Monitoring,
    PepKind,
    RiskLevel,
    SanctionsScreening,
    VerificationLevel,
)

COUNTRIES: Final = frozenset(countries_by_alpha2)
"""ISO 3166-1 alpha-2, and XK, which is user-assigned there and in common use for Kosovo."""


_REVIEW_MONTHS_MAX: Final = 60


def _country(code: str) -> str:
    if code not in COUNTRIES:
        msg = "must be an ISO 3166-1 alpha-2 code in upper case"
        raise ValueError(msg)
    return code


OpaqueId: TypeAlias = Annotated[StrictStr, Field(min_length=1, max_length=255, pattern=TEXT_PATTERN)]
Label: TypeAlias = Annotated[StrictStr, Field(min_length=1, max_length=1000, pattern=TEXT_PATTERN)]
Code: TypeAlias = Annotated[StrictStr, Field(max_length=100, pattern=r"^[A-Z][A-Z0-9_]*$")]
Key: TypeAlias = Annotated[StrictStr, Field(max_length=100, pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]
Range: TypeAlias = Annotated[StrictStr, Field(pattern=r"^[0-9]{1,12}-[0-9]{1,12}$", examples=["0-100"])]
Country: TypeAlias = Annotated[StrictStr, AfterValidator(_country), Field(json_schema_extra={"enum": sorted(COUNTRIES)})]
Points: TypeAlias = Annotated[StrictInt, Field(ge=0, le=SCORE_MAX)]
Amount: TypeAlias = Annotated[StrictInt, Field(ge=0, le=999_999_999_999)]
"""A sum in whole units of the tenant's currency."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Passwords(_Part):
    """What a new password must be. Lengths are in characters."""

    length_min: Annotated[StrictInt, Field(ge=8, le=128)] = 12
    length_max: Annotated[StrictInt, Field(ge=64, le=1024)] = 128
    common_refused: StrictBool = True
    like_email_refused: StrictBool = True


class Tenant(_Part):
    """
    Whose catalogue it is.

    `roles` are those that a registration may ask for; one that administers has no place here. `test_domains_accepted`
    lets addresses of the reserved domain `.test` pass (RFC 2606), for development. `refusals_kept_days` is how long a
    registration that was refused or failed is kept; 45 days where it is left out. It is written only where it is said, so
    that catalogues without it stay as they are stored, and readable to the release before.
    """

    id: OpaqueId
    slug: Annotated[StrictStr, Field(max_length=63, pattern=r"^[a-z][a-z0-9-]*$")]
    name: Label
    currency: Annotated[StrictStr, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])]
    time_zone: Annotated[StrictStr, Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$")] = "UTC"
    roles: Annotated[tuple[Code, ...], Field(min_length=1)]
    minimum_age_years: Annotated[StrictInt, Field(ge=0, le=120)] = 18
    passwords: Passwords = Passwords()
    human_review: StrictBool = True
    test_domains_accepted: StrictBool = False
    refusals_kept_days: Annotated[
        Annotated[StrictInt, Field(ge=45, le=36_500)] | None, Field(exclude_if=lambda days: days is None)
    ] = None

    @model_validator(mode="after")
    def _no_administrators(self) -> Self:
        if any("ADMIN" in role or "SUPERUSER" in role or role == "ROOT" for role in self.roles):
            msg = "roles: an administrator's role is never given by a registration"
            raise ValueError(msg)
        return self


class Parameter(_Part):
    """
    A key of a feature.

    Args:
        mandatory: must be sent for every enabled feature.
        allowed: the values, or a range of whole numbers such as "0-100"; any text where it is left out.
        multiple: the value is a comma-separated list of allowed values.
        claims: what the value says about the customer to the rules; nothing where it is left out.
    """

    mandatory: StrictBool = False
    allowed: Range | Annotated[tuple[Label, ...], Field(min_length=1)] | None = None
    multiple: StrictBool = False
    claims: Claim | None = None

    @model_validator(mode="after")
    def _claims_can_be_read(self) -> Self:
        ranged = isinstance(self.allowed, str)
        if self.claims in NUMBER_CLAIMS:
            if not ranged and (self.allowed is not None or self.claims is Claim.RISK_SCORE):
                msg = f'allowed: {self.claims} needs a range such as "0-100"'
                raise ValueError(msg)
        elif self.claims is not None:
            words = CLAIM_WORDS[self.claims]
            if ranged or not set(self.allowed or ("",)) <= set(words):
                msg = f"allowed: {self.claims} needs a list, with words among {', '.join(words)}"
                raise ValueError(msg)
        if self.multiple and not isinstance(self.allowed, tuple):
            msg = "allowed: a key that takes several values needs a list of them"
            raise ValueError(msg)
        if self.multiple and any("," in word or word != word.strip(" ") for word in self.allowed or ()):
            msg = "allowed: values of which several may be sent have no comma in them, and no space around them"
            raise ValueError(msg)
        if isinstance(self.allowed, str):
            low, _, high = self.allowed.partition("-")
            if int(low) > int(high):
                msg = "allowed: a range begins with its smaller number"
                raise ValueError(msg)
        return self


class Feature(_Part):
    """A product or profile that a category offers; `risk_points` count where it is enabled."""

    database_id: OpaqueId
    name: Label
    risk_points: Points = 0
    parameters: dict[Key, Parameter] = {}

    @property
    def mandatory_keys(self) -> tuple[str, ...]:
        """The keys that must be sent, in alphabetical order."""
        return tuple(sorted(key for key, parameter in self.parameters.items() if parameter.mandatory))

    @property
    def allowed_values(self) -> dict[str, tuple[str, ...] | str]:
        """What each key may hold, where not every text is allowed."""
        return {key: each.allowed for key, each in sorted(self.parameters.items()) if each.allowed is not None}

    @property
    def multi_value_keys(self) -> tuple[str, ...]:
        """The keys that hold comma-separated lists."""
        return tuple(sorted(key for key, parameter in self.parameters.items() if parameter.multiple))


class Category(_Part):
    """A kind of customer. `features` may be sent, `required_features` must be sent enabled."""

    database_id: OpaqueId
    name: Label
    description: Label
    risk_level: RiskLevel
    base_score: Points
    active: StrictBool = True
    features: tuple[Code, ...] = ()
    required_features: tuple[Code, ...] = ()
    consents: tuple[Code, ...] = ()


class Limits(_Part):
    """The most that a customer may move, in whole units of the tenant's currency."""

    day: Amount
    month: Amount
    transaction: Amount

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if not self.transaction <= self.day <= self.month:
            msg = "must hold: transaction <= day <= month"
            raise ValueError(msg)
        return self


class Level(_Part):
    """What follows from a level of risk, from the score at which it begins."""

    score_min: Points
    due_diligence: DueDiligence
    sanctions_screening: SanctionsScreening
    monitoring: Monitoring
    verification: VerificationLevel
    review_after_months: Annotated[StrictInt, Field(ge=1, le=_REVIEW_MONTHS_MAX)]
    senior_approval: StrictBool = False
    limits: Limits
    consents: tuple[Code, ...] = ()


class ListedCountry(_Part):
    """Why a country is on a list: who put it there, and when."""

    source: Label
    listed_on: date


class CountryList(_Part):
    """Countries that raise risk, for whoever has their nationality or lives there."""

    nationality_points: Points
    residence_points: Points
    minimum_level: RiskLevel
    countries: dict[Country, ListedCountry]


class Pep(_Part):
    """What it weighs to be a politically exposed person of one kind."""

    points: Points
    minimum_level: RiskLevel


class AgeBand(_Part):
    """Points for whoever is at least `from_years` and younger than `below_years`."""

    from_years: Annotated[StrictInt, Field(ge=0, le=150)]
    below_years: Annotated[StrictInt, Field(ge=1, le=200)]
    points: Points

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.from_years >= self.below_years:
            msg = "below_years: must be more than from_years"
            raise ValueError(msg)
        return self


class Factors(_Part):
    """What adds to a category's risk."""

    country_lists: dict[Code, CountryList]
    pep: dict[PepKind, Pep]
    age_bands: dict[Code, AgeBand] = {}

    @model_validator(mode="after")
    def _every_pep(self) -> Self:
        kinds = [self.pep[kind] for kind in PepKind if kind in self.pep]
        if len(kinds) != len(PepKind) or any(one.points > next_one.points for one, next_one in pairwise(kinds)):
            msg = f"pep: must have points that never fall in this order: {', '.join(PepKind)}"
            raise ValueError(msg)
        if any(one.minimum_level > next_one.minimum_level for one, next_one in pairwise(kinds)):
            msg = f"pep: must have a minimum_level that never falls in this order: {', '.join(PepKind)}"
            raise ValueError(msg)
        if any(kind.minimum_level < RiskLevel.HIGH for kind in kinds):
            msg = "pep: minimum_level must be HIGH or above (Regulation (EU) 2024/1624, article 42)"
            raise ValueError(msg)
        return self


class Activation(_Part):
    """What keeps a new customer inactive, beside consents and checks."""

    details: tuple[Detail, ...] = ()
    confirmations: tuple[Confirmation, ...] = (Confirmation.EMAIL_CONFIRMATION,)
    sanctions_screening: StrictBool = True


class Catalogue(_Part):
    """
    One version of a tenant's rules, checked as a whole.

    `documents` gives the version of each text that somebody may have to agree to, `consents` those that everybody
    must. `verification` names the checks of each verification level.
    """

    tenant: Tenant
    levels: dict[RiskLevel, Level]
    factors: Factors
    verification: dict[VerificationLevel, Annotated[tuple[Code, ...], Field(min_length=1)]]
    documents: dict[Code, Label]
    consents: tuple[Code, ...]
    activation: Activation = Activation()
    features: dict[Code, Feature]
    categories: dict[OpaqueId, Category]

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if faults := contradictions(self):
            raise ValueError("; ".join(faults))
        return self

    @cached_property
    def index(self) -> Index:
        """The same rules, laid out for deciding; made once for a catalogue."""
        return index(self)

    def level_at(self, score: int) -> RiskLevel:
        """Return the level that a score belongs to."""
        return max(name for name, level in self.levels.items() if level.score_min <= score)

    def to_json(self) -> bytes:
        """Return the catalogue as it is stored: RFC 8785, every default written out. `from_json` gives it back."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, document: bytes | str) -> Catalogue:
        """
        Read a stored catalogue.

        Raises:
            pydantic.ValidationError: the document is no catalogue of this version of the program.
        """
        return cls.model_validate_json(document)


def parse(document: Mapping[str, object]) -> Catalogue:
    """
    Read a catalogue from a document, such as a YAML file's content.

    Raises:
        pydantic.ValidationError: with the path of each member that is wrong and what was expected.
    """
    return Catalogue.model_validate(document)
