"""The made-up people of `make seed`: each is a registration that the rules can decide."""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core_examples import DAY, DEVELOPMENT
from worker.core.assess import Checked, check_document
from worker.dev.people import COUNTRIES, registration
from worker.ingress.answers import hierarchy

HIERARCHY = hierarchy(DEVELOPMENT)


@given(st.integers(0, 2**32), st.integers(0, 365))
def test_whoever_is_made_up_has_no_fault(seed: int, days: int) -> None:
    """On any day, whichever way the dice fall."""
    today = DAY + timedelta(days=days)
    body = registration(random.Random(seed), HIERARCHY, 1, "run", today)

    assert isinstance(check_document(body, DEVELOPMENT, today), Checked)


def test_the_same_dice_make_the_same_people_and_no_two_share_an_email() -> None:
    """So a person can be met again, and everybody can register."""
    people, again = ([registration(dice, HIERARCHY, number, "run", DAY) for number in range(300)] for dice in _two_alike())

    assert people == again
    assert len({person["email"] for person in people}) == len(people)


def test_a_crowd_is_of_every_country_and_category() -> None:
    """Else what is rare is never seen in a demonstration."""
    dice = random.Random(7)
    people = [registration(dice, HIERARCHY, number, "run", DAY) for number in range(300)]

    assert {person["individualCustomer"]["person"]["nationality"] for person in people} == {country.code for country in COUNTRIES}
    assert {person["individualCustomer"]["categorization"]["id"] for person in people} == HIERARCHY["categories"].keys()


def _two_alike() -> tuple[random.Random, random.Random]:
    return random.Random(7), random.Random(7)
