"""The scales on which the rules compare: ordered words, each stricter than the one before it."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Scale(StrEnum):
    """Words in rising order, as declared. They are text on the wire and compare by their place."""

    _rank: int

    def __new__(cls, word: str) -> Self:
        """Make a member that knows its place."""
        member = str.__new__(cls, word)
        member._value_ = word
        member._rank = len(cls.__members__)  # noqa: SLF001 - its own member
        return member

    def __lt__(self, other: str) -> bool:
        """Say whether this word stands before the other one of its scale."""
        return self._rank < other._rank if isinstance(other, type(self)) else NotImplemented

    def __le__(self, other: str) -> bool:
        """Say whether this word stands before the other one of its scale, or is it."""
        return self._rank <= other._rank if isinstance(other, type(self)) else NotImplemented

    def __gt__(self, other: str) -> bool:
        """Say whether this word stands after the other one of its scale."""
        return self._rank > other._rank if isinstance(other, type(self)) else NotImplemented

    def __ge__(self, other: str) -> bool:
        """Say whether this word stands after the other one of its scale, or is it."""
        return self._rank >= other._rank if isinstance(other, type(self)) else NotImplemented


class RiskLevel(Scale):
    """How much harm a customer of this kind could do. Nobody of the last level is taken."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"
    PROHIBITED = "PROHIBITED"


class DueDiligence(Scale):
    """How closely a customer is examined. Source: FATF recommendation 10; Directive (EU) 2015/849, chapter II."""

    SIMPLIFIED = "SIMPLIFIED"
    STANDARD = "STANDARD"
    ENHANCED = "ENHANCED"


class VerificationLevel(Scale):
    """How much is proved: who they are; and where they live; and where their money comes from."""

    BASIC = "BASIC"
    STANDARD = "STANDARD"
    ENHANCED = "ENHANCED"


class SanctionsScreening(Scale):
    """How widely names are compared with sanctions lists."""

    BASIC = "BASIC"
    STANDARD = "STANDARD"
    ENHANCED = "ENHANCED"


class Monitoring(Scale):
    """How often a customer's transactions are looked over."""

    YEARLY = "YEARLY"
    QUARTERLY = "QUARTERLY"
    MONTHLY = "MONTHLY"
    WEEKLY = "WEEKLY"
    DAILY = "DAILY"


class PepKind(Scale):
    """
    What makes a person politically exposed. Any of them counts; the later ones weigh at least as much.

    Source: Regulation (EU) 2024/1624, articles 42 and 46; FATF recommendation 12.
    """

    UNSPECIFIED = "UNSPECIFIED"
    CLOSE_ASSOCIATE = "CLOSE_ASSOCIATE"
    FAMILY_MEMBER = "FAMILY_MEMBER"
    DOMESTIC = "DOMESTIC"
    INTERNATIONAL_ORGANISATION = "INTERNATIONAL_ORGANISATION"
    FOREIGN = "FOREIGN"


class Claim(StrEnum):
    """What a parameter can say about a customer. A claim may raise a scale or lower a limit, never the reverse."""

    RISK_LEVEL = "RISK_LEVEL"
    RISK_SCORE = "RISK_SCORE"
    PEP = "PEP"
    DUE_DILIGENCE = "DUE_DILIGENCE"
    SANCTIONS_SCREENING = "SANCTIONS_SCREENING"
    MONITORING = "MONITORING"
    DAY_LIMIT = "DAY_LIMIT"
    MONTH_LIMIT = "MONTH_LIMIT"
    TRANSACTION_LIMIT = "TRANSACTION_LIMIT"


class Detail(StrEnum):
    """What a person may leave out at first and must tell before activation."""

    PLACE_OF_BIRTH = "PLACE_OF_BIRTH"
    NATIONALITIES = "NATIONALITIES"


class Confirmation(StrEnum):
    """What the customer proves to hold by answering a message."""

    EMAIL_CONFIRMATION = "EMAIL_CONFIRMATION"
    PHONE_CONFIRMATION = "PHONE_CONFIRMATION"
