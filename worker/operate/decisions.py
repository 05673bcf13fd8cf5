"""Makes stored decisions again, from exactly what the rules may know of a customer (the view `decision_inputs`)."""

from __future__ import annotations

from worker.catalogues import stored
from worker.core.assess import Refused, assess_again
from worker.core.catalogue import Catalogue
from worker.core.customer import Subject
from worker.core.decision import Decision
from worker.operate.session import Row, Session
from worker.registration import local_day


class Catalogues:
    """Versions of catalogues by tenant and number, each read once."""

    def __init__(self, opened: Session) -> None:
        self._opened = opened
        self._known: dict[tuple[str, int], Catalogue | None] = {}

    async def of(self, tenant_id: str, version: int) -> Catalogue | None:
        """
        Return one version; None where there is none.

        Args:
            tenant_id: id or slug.
            version: its number.
        Raises:
            UnavailableError: the database does not answer, or this release can't read that version.
        """
        place = (tenant_id, version)
        if place not in self._known:
            row = await self._opened.row("catalogue_show", tenant_id, version)
            self._known[place] = stored(tenant_id, version, row["document"]) if row else None
        return self._known[place]


def decide_again(row: Row, catalogue: Catalogue, version: int) -> Decision | Refused:
    """
    Decide about a stored customer.

    Args:
        row: of the view `decision_inputs`.
        catalogue: the rules to decide by, those that held or others.
        version: the catalogue's number.
    """
    day = local_day(row["registered_at"], catalogue.tenant.time_zone)
    return assess_again(row["categorization"], _subject(row), catalogue, version, day)


def is_as_stored(row: Row, outcome: Decision | Refused) -> bool:
    """Say whether a decision that was made again has the bytes of the stored one."""
    return isinstance(outcome, Decision) and outcome.to_json() == row["decision"].encode()


def _subject(row: Row) -> Subject:
    return Subject(
        date_of_birth=row["date_of_birth"],
        nationalities=tuple(row["nationalities"]),
        residences=tuple(row["residences"]),
        nationalities_told=row["nationalities_told"],
        place_of_birth_told=row["place_of_birth_told"],
        phone_told=row["phone_told"],
    )
