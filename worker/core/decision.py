"""What was decided about one customer, with its reasons: a value, and the bytes that are stored and shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter
from pydantic.alias_generators import to_camel

from worker.core.scales import DueDiligence, Monitoring, RiskLevel, SanctionsScreening, VerificationLevel

_WIRE: Final = ConfigDict(alias_generator=to_camel, extra="ignore")


@dataclass(frozen=True, slots=True)
class Reason:
    """
    One step on the way to a decision.

    Args:
        factor: what was found, such as `PEP_FOREIGN` or the name of a country list.
        points: what it added to the score; the points of all reasons add up to the score.
        rule: number of the rule in the README, such as `R-3`.
        input: name of the input that it was found in; never what stood there.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    factor: str
    points: int
    rule: str
    input: str


@dataclass(frozen=True, slots=True)
class CustomerParameter:
    """What a caller asked a feature to be, and what holds."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    requested: str
    effective: str


@dataclass(frozen=True, slots=True)
class CustomerFeature:
    """A feature as it holds for the customer; parameters by name, in alphabetical order."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    code: str
    enabled: bool
    parameters: dict[str, CustomerParameter]


@dataclass(frozen=True, slots=True)
class Consent:
    """A document that the customer must agree to, at a version."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    code: str
    document_version: str


@dataclass(frozen=True, slots=True)
class CustomerLimits:
    """Account limits in whole units of `currency` (ISO 4217): transaction ≤ day ≤ month."""

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    currency: str
    day: int
    month: int
    transaction: int


@dataclass(frozen=True)
class Decision:
    """
    Everything that follows from a customer, their category's parameters, a catalogue's version and a day.

    `features` and what they hold are in alphabetical order, so that the order in which they were sent changes nothing;
    `activation_blockers` are in the order in which a customer can clear them; `explanation` in
    the order in which it was worked out.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _WIRE

    risk_level: RiskLevel
    risk_score: int
    features: tuple[CustomerFeature, ...]
    due_diligence: DueDiligence
    sanctions_screening: SanctionsScreening
    monitoring: Monitoring
    next_review_on: date
    senior_approval: bool
    verification_level: VerificationLevel
    verification_checks: tuple[str, ...]
    consents: tuple[Consent, ...]
    limits: CustomerLimits
    activation_blockers: tuple[str, ...]
    catalogue_version: int
    automated: bool
    human_review: bool
    explanation: tuple[Reason, ...]

    def to_json(self) -> bytes:
        """Return the decision as compact UTF-8 JSON in camelCase: the same bytes for the same decision."""
        return self._json

    @classmethod
    def from_json(cls, document: bytes | str) -> Decision:
        """
        Read a decision that `to_json` wrote; members that this version does not know are left out.

        Raises:
            pydantic.ValidationError: the document is no decision.
        """
        return _ADAPTER.validate_json(document)

    @cached_property
    def _json(self) -> bytes:
        return _ADAPTER.dump_json(self, by_alias=True)


_ADAPTER: Final = TypeAdapter(Decision)
