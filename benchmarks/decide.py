"""
How long a decision takes: check, categorize and decide, in one process, with nothing else running.

Commands are the backlog's, parsed. With the development catalogue, and with one of 500 more categories of 20 features each,
over which the same commands are spread; as they come, where most share their parameters and answers are remembered, and
anew, where each asks for a limit of its own and none is.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from statistics import median
from typing import Any, Final

from rich.table import Table

from benchmarks.frozen.backlog import commands
from schemas.commands import Customer, RegisterCustomer
from worker.core.assess import Approved, assess
from worker.core.catalogue import Catalogue, parse

COMMANDS: Final = 4000
ROUNDS: Final = 3
MORE_CATEGORIES: Final = 500
FEATURES_OF_EACH: Final = 20
DAY: Final = date(2026, 1, 15)
_LIMIT: Final = "monthlyLimit"
_CATEGORY: Final = "MEDIUM_RISK_INDIVIDUAL"
_PROFILE: Final = "LOW_RISK_PROFILE"
"""It has every key that the commands send, and the fewest that must be there."""


@dataclass(frozen=True, slots=True)
class Decided:
    """
    Microseconds for one command, medians.

    Args:
        median_us: with the development catalogue.
        anew_us: the same, nothing remembered.
        large_us: with the large catalogue.
        large_anew_us: the same, nothing remembered.
        large_ratio: `large_us` by `median_us`.
        large_anew_ratio: `large_anew_us` by `anew_us`.
    """

    median_us: float
    anew_us: float
    large_us: float
    large_anew_us: float
    large_ratio: float
    large_anew_ratio: float

    def document(self) -> dict[str, float]:
        """Return it for the JSON line."""
        return asdict(self)


def decide(catalogue: Catalogue) -> Decided:
    """
    Measure.

    Args:
        catalogue: the development tenant's.
    """
    large = _large(catalogue)
    people = [RegisterCustomer.model_validate_json(each.value).customer for each in commands(0, COMMANDS)]
    paces = {
        "median_us": _paces(people, catalogue),
        "anew_us": _paces(_anew(people), catalogue),
        "large_us": _paces(_spread(people), large),
        "large_anew_us": _paces(_anew(_spread(people)), large),
    }
    found = {name: round(each, 1) for name, each in paces.items()}
    return Decided(
        **found,
        large_ratio=round(paces["large_us"] / paces["median_us"], 2),
        large_anew_ratio=round(paces["large_anew_us"] / paces["anew_us"], 2),
    )


def table(decided: Decided) -> Table:
    """Lay it out."""
    shown = Table(title="A decision, median µs a command", title_justify="left")
    for name in ("catalogue", "as they come", "nothing remembered"):
        shown.add_column(name, justify="left" if name == "catalogue" else "right")
    shown.add_row("development", f"{decided.median_us:.1f}", f"{decided.anew_us:.1f}")
    large = f"{MORE_CATEGORIES} more categories of {FEATURES_OF_EACH} features"
    shown.add_row(large, f"{decided.large_us:.1f}", f"{decided.large_anew_us:.1f}")
    shown.add_row("ratio", f"{decided.large_ratio:.2f}", f"{decided.large_anew_ratio:.2f}")
    return shown


def _paces(people: Sequence[Customer], catalogue: Catalogue) -> float:
    """Return the median over the commands, the first round left out: it fills what is remembered."""
    spent: list[int] = []
    for number in range(ROUNDS + 1):
        for customer in people:
            begun = time.perf_counter_ns()
            outcome = assess(customer, catalogue, 1, DAY)
            ended = time.perf_counter_ns()
            assert isinstance(outcome, Approved), outcome  # noqa: S101 - a refusal would be quicker
            if number:
                spent.append(ended - begun)
    return median(spent) / 1000


def _anew(people: Sequence[Customer]) -> list[Customer]:
    """Give each a limit of their own."""
    found = copy.deepcopy(list(people))
    for number, customer in enumerate(found):
        ask_for_own_limit(customer, number)
    return found


def ask_for_own_limit(customer: Any, number: int) -> None:  # noqa: ANN401 - as deep as the contract
    """Have a customer ask for a limit that nobody of another number asks for."""
    parameters = _relations(customer)[0]["parametrization"]
    next(each for each in parameters if each["name"] == _LIMIT)["value"] = str(10_000 + number)


def _spread(people: Sequence[Customer]) -> list[Customer]:
    """Give them the categories of the large catalogue in turn."""
    found = copy.deepcopy(list(people))
    for number, customer in enumerate(found):
        category = f"CATEGORY_{number % MORE_CATEGORIES}"
        document: Any = customer
        document["customerCategory"]["id"] = document["individualCustomer"]["categorization"]["id"] = category
        _relations(customer)[0]["feature"] = {"code": f"{category}_FEATURE_0"}
        del _relations(customer)[1:]
    return found


def _relations(customer: Customer) -> Any:  # noqa: ANN401 - as deep as the contract
    document: Any = customer
    return document["individualCustomer"]["categorization"]["categoryFeatureRelations"]


def _large(catalogue: Catalogue) -> Catalogue:
    """Return a catalogue with many categories, each with features of its own, like those of the development tenant."""
    document: Any = catalogue.model_dump(mode="json")
    for number in range(MORE_CATEGORIES):
        category = f"CATEGORY_{number}"
        codes = [f"{category}_FEATURE_{each}" for each in range(FEATURES_OF_EACH)]
        for code in codes:
            document["features"][code] = {**document["features"][_PROFILE], "database_id": f"id-of-{code}"}
        own = {"database_id": f"id-of-{category}", "features": codes, "required_features": codes[:1]}
        document["categories"][category] = {**document["categories"][_CATEGORY], **own}
    return parse(document)
