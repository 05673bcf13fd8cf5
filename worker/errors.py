"""
What can go wrong, and what the loop then does: the error's type is the action (README, "When something fails").

A business refusal is a value, not one of these.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Service: TypeAlias = Literal["database", "kafka", "catalogue", "sealing"]

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 3
EXIT_INTERRUPTED: Final = 130


class UnavailableError(Exception):
    """A server that we need does not do its work just now: keep the offset, back off, claim again."""

    def __init__(self, service: Service, reason: str) -> None:
        super().__init__(f"{service}: {reason}")
        self.service = service
        self.reason = reason


class MissingTopicError(UnavailableError):
    """Kafka answers, and has no such topic: it is waited for like a server, but only an operator can make it."""

    def __init__(self, topic: str) -> None:
        super().__init__("kafka", f"there is no topic {topic}: run `registration migrate`")


class UnstorableError(Exception):
    """The database refuses the data of this batch: bisect until the record is alone; that one becomes a dead letter."""


class TooSlowError(Exception):
    """The database could not take this batch in time: halve it; alone and still too slow it is unavailable."""


class FencedError(Exception):
    """Another owner has claimed this partition: drop everything, prove membership to the group, then claim again."""


class CommitUnknownError(Exception):
    """COMMIT was sent and not answered: only a new claim can say what is true."""


class LostPartitionError(Exception):
    """The group no longer counts this partition as ours: close the lane; a new assignment opens another."""


class RejoinError(Exception):
    """This membership can't be trusted any more: leave the group and join anew."""


class DatabaseBugError(Exception):
    """The database refuses a statement of ours (SQLSTATE 42 and the like): a bug; end without moving the offset."""


class DeniedError(DatabaseBugError):
    """The database's role lacks a right; the message is one line that names the role and what to grant. Ends as a bug does."""


class ConfigurationError(Exception):
    """A setting is missing or wrong; the message is one line that names it."""
