"""What schemathesis can't know of a registration: parts that must agree. Every second body is one that does."""

from __future__ import annotations

import atexit
import copy
import json
import os
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any, Final

import schemathesis
from hypothesis import strategies as st
from iso3166 import countries
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation

from worker.ingress import examples
from worker.ingress.description import KEY

COUNT: Final = "FUZZ_COUNT"
"""The variable that names the file into which the statuses of consistent bodies go."""

_emails: Final[set[str]] = set()
_unanswered: Final[set[str]] = set()
_answered: Final[Counter[int]] = Counter()
_LETTERS: Final = st.characters(categories=("L", "M", "N", "P", "S", "Zs"), exclude_characters="\u061c")
_NAMES: Final = st.text(st.characters(categories=("Lu", "Ll", "Lo")), min_size=1, max_size=100)
_TEXTS: Final = st.text(_LETTERS, max_size=255).filter(lambda text: bool(text.strip()))
_BORN: Final = (date(1926, 1, 1), date(2006, 1, 1))
_COUNTRIES: Final = st.sampled_from([country.alpha2 for country in countries])


@st.composite
def consistent(draw: st.DrawFn) -> dict[str, Any]:
    """Return the example with other names, email address, phone, dates, countries and texts, the same wherever they stand."""
    body = copy.deepcopy(examples.REQUEST)
    email = f"{draw(st.uuids())}@consistent.example.com"
    phone = f"+3706{draw(st.integers(0, 9_999_999)):07}"
    first, last = draw(_NAMES), draw(_NAMES)
    individual = body["individualCustomer"]
    person, address = individual["person"], individual["person"]["addresses"][0]
    for part in (body, person):
        part |= {"firstName": first, "lastName": last, "email": email}
    body["phone"] = person["contacts"][1]["value"] = phone
    person["contacts"][0]["value"] = email
    individual["customerName"] = f"{first} {last}"
    individual["user"] |= {"username": email, "email": email}
    person["dateOfBirth"] = draw(st.dates(*_BORN)).isoformat()
    person["nationality"] = draw(_COUNTRIES)
    address |= {"street": draw(_TEXTS), "city": draw(_TEXTS), "region": draw(_TEXTS), "country": draw(_COUNTRIES)}
    person["placeOfBirth"], person["gender"] = draw(_TEXTS), draw(_TEXTS)
    for optional in draw(st.sets(st.sampled_from(["firstName", "lastName", "email", "phone"]))):
        body.pop(optional)
    return body


@schemathesis.hook
def flatmap_case(_context: HookContext, case: Case[Any]) -> st.SearchStrategy[Case[Any]]:
    """Give every second body that shall be accepted parts that agree."""
    if case.operation.method != "post" or case.meta is None or not case.meta.generation.mode.is_positive:
        return st.just(case)
    return st.one_of(st.just(case), _made_consistent(case))


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Leave out the example's key, except where headers are what is tried: each boundary of a body is another body."""
    is_about_headers = case.meta is not None and case.meta.phase.data.parameter_location == ParameterLocation.HEADER
    if case.headers.get("Idempotency-Key") == KEY and not is_about_headers:
        case.headers.pop("Idempotency-Key")


@schemathesis.hook
def after_call(_context: HookContext, case: Case[Any], response: Response) -> None:
    """Count what became of consistent bodies whose email address nobody had; of each once, for parts of them come back."""
    body = json.dumps(case.body, default=str)
    if body in _unanswered:
        _unanswered.remove(body)
        _answered[response.status_code] += 1


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, _case: Case[Any], response: Response) -> bool:
    """Let a retry be answered with its first outcome, whatever its passwords are now: they are no part of the comparison."""
    return not (isinstance(failure, AcceptedNegativeData) and response.headers.get("idempotency-replayed") == ["true"])


@st.composite
def _made_consistent(draw: st.DrawFn, case: Case[Any]) -> Case[Any]:
    """Return a case with such a body; most of them wait, and some are retries."""
    body = draw(consistent())
    email = body["individualCustomer"]["user"]["email"]
    if email not in _emails:
        _emails.add(email)
        _unanswered.add(json.dumps(body))
    case.body = body
    case.headers["Prefer"] = draw(st.sampled_from(["wait=10", "wait=20", "wait=30", "wait=40", "wait=50", "respond-async"]))
    if draw(st.booleans()):
        case.headers.pop("Idempotency-Key", None)
    return case


@atexit.register
def _write() -> None:
    if COUNT in os.environ:
        Path(os.environ[COUNT]).write_text(json.dumps(_answered))
