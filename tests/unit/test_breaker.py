"""The breaker: a long run of nothing but dead letters pauses a partition, ever longer; a success or an operator ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests import commands
from tests.records import SNAPSHOT, record, verdict_of
from worker.breaker import Breaker
from worker.config import Settings, load
from worker.registration import Verdict, examine

RUN, PAUSE_S, PAUSE_MAX_S, BATCH = 3, 30.0, 100.0, 50

GOOD = verdict_of("good@example.com")
BAD = examine(record(b"{"), SNAPSHOT, fresh=True)
REFUSED = verdict_of("nobody")
OUR_MISTAKE = examine(
    record(commands.data("nobody"), headers=commands.headers(ce_source=b"/registration/ingress")), SNAPSHOT, fresh=True
)


@dataclass
class Clock:
    """Time as a test wants it."""

    now_s: float = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """A breaker that trips at three."""
    return Breaker(settings(), clock)


def settings() -> Settings:
    """Return settings with small numbers."""
    return load(
        kafka_bootstrap="localhost:9092",
        database_url="postgresql://localhost/x",
        breaker_run=RUN,
        breaker_pause_s=PAUSE_S,
        breaker_pause_max_s=PAUSE_MAX_S,
        batch_max_records=BATCH,
    )


def store(breaker: Breaker, *verdicts: Verdict) -> None:
    """Do what a lane does around a batch."""
    breaker.moved(breaker.after(verdicts))


@pytest.mark.parametrize(
    ("verdicts", "run"),
    [
        ([], 0),
        ([GOOD], 0),
        ([BAD], 1),
        ([BAD, BAD, BAD, BAD], 4),
        ([BAD, BAD, GOOD], 0),
        ([BAD, GOOD, BAD, BAD], 2),
        ([BAD, REFUSED, BAD], 1),
        ([BAD, OUR_MISTAKE, BAD], 3),
        ([REFUSED, REFUSED, REFUSED, REFUSED], 0),
    ],
)
def test_only_an_unbroken_run_up_to_the_position_counts(breaker: Breaker, verdicts: Sequence[Verdict], run: int) -> None:
    """A refusal is an outcome and ends a run, except where our own ingress should have found it."""
    assert breaker.after(verdicts) == run


def test_a_run_goes_on_over_batches(breaker: Breaker, clock: Clock) -> None:
    """Small batches trip it like large ones."""
    for _ in range(RUN - 1):
        store(breaker, BAD)
        assert not breaker.tripped
    store(breaker, BAD)

    assert breaker.tripped
    assert breaker.open
    clock.now_s += PAUSE_S
    assert not breaker.open
    assert breaker.tripped


@pytest.mark.parametrize(("run", "cuts"), [(0, False), (RUN - 1, False), (RUN, True), (RUN + 1, True)])
def test_a_batch_is_cut_where_the_run_is_full(breaker: Breaker, run: int, *, cuts: bool) -> None:
    """No more than so many records become dead letters before somebody has looked."""
    assert breaker.cuts(run) is cuts


def test_one_tripped_try_is_small_and_is_not_cut(breaker: Breaker) -> None:
    """After the pause as many are tried as trip it, all of them, for the good one may be the last."""
    assert breaker.most_records() == BATCH
    store(breaker, BAD, BAD, BAD)

    assert breaker.most_records() == RUN
    assert not breaker.cuts(RUN + 1)


def test_a_try_is_never_larger_than_a_batch(clock: Clock) -> None:
    """However long the run is that an operator allows."""
    patient = Breaker(settings().model_copy(update={"breaker_run": 2 * BATCH}), clock)
    store(patient, *[BAD] * (2 * BATCH))

    assert patient.tripped
    assert patient.most_records() == BATCH


def test_pauses_double_up_to_the_longest(breaker: Breaker, clock: Clock) -> None:
    """30 s, 60 s, then never more than the longest."""
    store(breaker, BAD, BAD, BAD)
    pauses = []
    for _ in range(4):
        started = clock.now_s
        while breaker.open:
            clock.now_s += 1
        pauses.append(clock.now_s - started)
        store(breaker, BAD)

    assert pauses == [30, 60, 100, 100]


@pytest.mark.parametrize("verdicts", [[GOOD], [BAD, GOOD], [GOOD, BAD], [REFUSED]])
def test_the_first_success_closes_it(breaker: Breaker, clock: Clock, verdicts: Sequence[Verdict]) -> None:
    """Whatever follows it in the batch; and the next time it begins with the first pause."""
    store(breaker, BAD, BAD, BAD)
    clock.now_s += PAUSE_S
    store(breaker, *verdicts)

    assert not breaker.tripped
    assert not breaker.open
    store(breaker, BAD, BAD, BAD)
    clock.now_s += PAUSE_S
    assert not breaker.open


def test_an_operator_closes_it_at_once(breaker: Breaker, clock: Clock) -> None:
    """No pause is waited for, the count begins anew, and the next pause is the first again."""
    store(breaker, BAD, BAD, BAD)
    clock.now_s += PAUSE_S
    store(breaker, BAD)
    breaker.resumed()

    assert (breaker.run, breaker.open, breaker.most_records()) == (0, False, BATCH)
    store(breaker, BAD, BAD, BAD)
    clock.now_s += PAUSE_S
    assert not breaker.open


def test_resuming_what_is_closed_changes_nothing(breaker: Breaker) -> None:
    """An order may come late, or twice."""
    breaker.resumed()
    breaker.resumed()

    assert (breaker.run, breaker.tripped, breaker.open) == (0, False, False)


def test_a_new_owner_takes_over_the_count(breaker: Breaker, clock: Clock) -> None:
    """Moving a partition to another worker is no success: it pauses there too, one first pause long."""
    breaker.claimed(RUN, resumed=False)

    assert breaker.open
    clock.now_s += PAUSE_S
    assert not breaker.open
    assert breaker.tripped


def test_claiming_again_does_not_shorten_or_lengthen_a_pause(breaker: Breaker, clock: Clock) -> None:
    """A database that blinks neither closes it nor makes it wait longer."""
    store(breaker, BAD, BAD, BAD)
    clock.now_s += PAUSE_S - 1
    breaker.claimed(RUN, resumed=False)

    assert breaker.open
    clock.now_s += 1
    assert not breaker.open


def test_a_claim_that_finds_an_operators_order_closes_it(breaker: Breaker, clock: Clock) -> None:
    """As if the order had been seen by a look: the next pause is the first again."""
    store(breaker, BAD, BAD, BAD)
    clock.now_s += PAUSE_S
    store(breaker, BAD)
    breaker.claimed(RUN + 1, resumed=True)

    assert (breaker.run, breaker.open) == (0, False)
    store(breaker, BAD, BAD, BAD)
    clock.now_s += PAUSE_S
    assert not breaker.open


def test_a_claim_that_finds_a_run_ended_by_another_forgets_the_pause(breaker: Breaker, clock: Clock) -> None:
    """Between two claims of ours somebody else had a success."""
    store(breaker, BAD, BAD, BAD)
    clock.now_s += PAUSE_S
    store(breaker, BAD)
    breaker.claimed(0, resumed=False)
    store(breaker, BAD, BAD, BAD)

    assert breaker.open
    clock.now_s += PAUSE_S
    assert not breaker.open
