"""Passes: two commands of one batch that share a registration or an email never meet in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.records import SNAPSHOT, record, verdict_of
from worker.registration import Accepted, DeadLetter, Rejected, Tie, Verdict, examine
from worker.settlement import passes

_ACCEPTED = verdict_of("person@example.com")
_REJECTED = verdict_of("nobody")
_LETTER = examine(record(b"{"), SNAPSHOT, fresh=True)
assert isinstance(_ACCEPTED, Accepted)
assert isinstance(_REJECTED, Rejected)
assert isinstance(_LETTER, DeadLetter)


def accepted(offset: int, tenant: str, registration: str, email: str) -> Accepted:
    """Return an acceptance for one of a few emails."""
    assert isinstance(_ACCEPTED, Accepted)
    applicant = _ACCEPTED.approved.applicant._replace(email_normalized=email)
    approved = _ACCEPTED.approved._replace(applicant=applicant)
    return _ACCEPTED._replace(record=record(b"", offset=offset), tie=Tie(tenant, registration), approved=approved)


def rejected(offset: int, tenant: str, registration: str) -> Rejected:
    """Return a refusal of one of a few registrations."""
    assert isinstance(_REJECTED, Rejected)
    return _REJECTED._replace(record=record(b"", offset=offset), tie=Tie(tenant, registration))


def letter(offset: int, tie: Tie | None) -> DeadLetter:
    """Return a dead letter, tied or not."""
    assert isinstance(_LETTER, DeadLetter)
    return _LETTER._replace(record=record(b"", offset=offset), tie=tie)


@st.composite
def batches(draw: st.DrawFn) -> list[Verdict]:
    """Draw a batch in which much is shared."""
    few = st.sampled_from("abc")
    batch: list[Verdict] = []
    for offset in range(draw(st.integers(0, 12))):
        tenant, registration, email = draw(st.sampled_from("xy")), draw(few), draw(few)
        choices: list[Verdict] = [
            accepted(offset, tenant, registration, email),
            rejected(offset, tenant, registration),
            letter(offset, Tie(tenant, registration)),
            letter(offset, None),
        ]
        batch.append(draw(st.sampled_from(choices)))
    return batch


def shared(verdict: Verdict) -> set[tuple[str, ...]]:
    """Return what no two verdicts of a pass may have in common."""
    if verdict.tie is None:
        return set()
    found: set[tuple[str, ...]] = {("registration", verdict.tie.tenant_id, verdict.tie.registration_id)}
    if isinstance(verdict, Accepted):
        found.add(("email", verdict.tie.tenant_id, verdict.approved.applicant.email_normalized))
    return found


@given(batches())
def test_the_passes_of_a_batch_are_the_batch(batch: Sequence[Verdict]) -> None:
    """Nothing is lost, nothing is doubled, and there is no empty pass."""
    found = list(passes(batch))

    assert all(found)
    assert sorted(v.record.offset for one in found for v in one) == [v.record.offset for v in batch]


@given(batches())
def test_a_pass_has_each_registration_and_each_email_once(batch: Sequence[Verdict]) -> None:
    """So that one statement can tell for each whether it was first; dead letters, which decide nothing, only by themselves."""
    for one in passes(batch):
        letters = {claim for verdict in one if isinstance(verdict, DeadLetter) for claim in shared(verdict)}
        claims = [claim for verdict in one if not isinstance(verdict, DeadLetter) for claim in shared(verdict)]
        assert len(claims) == len(set(claims))
        assert letters.isdisjoint(claims)


@given(batches())
def test_those_that_share_something_keep_their_order(batch: Sequence[Verdict]) -> None:
    """The first by offset is decided first, also where what they share was held back by a third."""
    pass_of = {v.record.offset: number for number, one in enumerate(passes(batch)) for v in one}

    for later, verdict in enumerate(batch):
        for earlier in batch[:later]:
            if shared(earlier) & shared(verdict):
                apart = pass_of[verdict.record.offset] - pass_of[earlier.record.offset]
                assert apart >= (0 if isinstance(earlier, DeadLetter) and isinstance(verdict, DeadLetter) else 1)


@given(batches())
def test_a_pass_is_in_the_order_of_the_log(batch: Sequence[Verdict]) -> None:
    """Events of one transaction are published in that order."""
    for one in passes(batch):
        assert all(before.record.offset < after.record.offset for before, after in pairwise(one))


@given(batches())
def test_nobody_waits_without_need(batch: Sequence[Verdict]) -> None:
    """Whoever is in a later pass shares something with somebody of the pass before."""
    found = list(passes(batch))

    for before, after in pairwise(found):
        for verdict in after:
            assert any(shared(verdict) & shared(other) for other in before if other.record.offset < verdict.record.offset)


def test_dead_letters_of_one_registration_are_one_pass() -> None:
    """A faulty command sent in a loop costs no more than as many different ones."""
    batch: list[Verdict] = [letter(number, Tie("x", "r")) for number in range(500)]

    assert list(passes(batch)) == [batch]


def test_tenants_share_nothing() -> None:
    """The same registration id and the same email of two tenants are two of each."""
    batch: list[Verdict] = [accepted(0, "x", "r", "e"), accepted(1, "y", "r", "e")]

    assert list(passes(batch)) == [batch]


def test_a_batch_without_conflicts_is_one_pass() -> None:
    """The common case costs one statement a table."""
    batch: list[Verdict] = [accepted(number, "x", f"r{number}", f"e{number}") for number in range(500)]

    assert list(passes(batch)) == [batch]
