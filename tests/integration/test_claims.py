"""Claims in both databases: against a model of them, and between real processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas import claims
from nas.claims import Claim, claim, count_deaths, release, renew
from nas.store import Store
from tests.many_processes import at_once

LEASE_S = 10.0
NUM_PROCESSES = 4
NUM_SUBJECTS = 12
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["claim", "renew", "release"]), st.integers(0, 2), st.integers(0, 1)),
        st.tuples(st.just("wait"), st.sampled_from([1, 6, 10, 25]), st.just(0)),
    ),
    max_size=20,
)
_numbers = itertools.count()


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    yield opened
    opened.close()


class Clock:
    """The clock of the database, set by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self, connection: sa.Connection) -> sa.ColumnElement[float]:
        return sa.literal(self.now_s, sa.Double)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(claims, "_now_s", clock)
    return clock


class Model:
    """What claims have to come to, in plain Python."""

    def __init__(self) -> None:
        self.holders: dict[str, tuple[str, float]] = {}
        self.deaths: dict[str, int] = {}

    def claim(self, subject: str, holder: str, now_s: float) -> int | None:
        before = self.holders.get(subject)
        if before is not None and before[0] != holder:
            if now_s < before[1]:
                return None
            self.deaths[subject] = self.deaths.get(subject, 0) + 1
        self.holders[subject] = (holder, now_s + LEASE_S)
        return self.deaths.get(subject, 0)

    def renew(self, subject: str, holder: str, now_s: float) -> bool:
        is_own = self.holders.get(subject, ("", 0.0))[0] == holder
        if is_own:
            self.holders[subject] = (holder, now_s + LEASE_S)
        return is_own

    def release(self, subject: str, holder: str) -> bool:
        is_own = self.holders.get(subject, ("", 0.0))[0] == holder
        if is_own:
            del self.holders[subject]
        return is_own

    def count_deaths(self, subject: str, now_s: float) -> int:
        is_dead = subject in self.holders and self.holders[subject][1] <= now_s
        return self.deaths.get(subject, 0) + is_dead


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taken=steps)
def test_claims_do_what_the_model_does(store: Store, clock: Clock, taken: list[tuple[str, int, int]]) -> None:
    model, prefix = Model(), f"example{next(_numbers)}"
    for what, first, second in taken:
        subject, holder = f"{prefix}-{second}", f"worker{first}"
        held = Claim(subject=subject, holder=holder, num_deaths=0)
        if what == "wait":
            clock.now_s += first
        elif what == "claim":
            got = claim(store, subject, holder=holder, lease_s=LEASE_S)
            expected = model.claim(subject, holder, clock.now_s)
            assert (got.num_deaths if got else None) == expected
            assert got is None or (got.subject, got.holder) == (subject, holder)
        elif what == "renew":
            assert renew(store, held, lease_s=LEASE_S) == model.renew(subject, holder, clock.now_s)
        else:
            assert release(store, held) == model.release(subject, holder)
        assert count_deaths(store, subject) == model.count_deaths(subject, clock.now_s)


def test_the_clock_is_the_databases_and_goes_on(store: Store) -> None:
    first = claim(store, "subject", holder="first", lease_s=0.3)
    assert first is not None
    assert claim(store, "subject", holder="second", lease_s=LEASE_S) is None

    time.sleep(0.4)

    second = claim(store, "subject", holder="second", lease_s=LEASE_S)
    assert second is not None
    assert second.num_deaths == 1
    assert not renew(store, first, lease_s=LEASE_S)
    assert not release(store, first)
    assert release(store, second)
    now_s = store.transaction(lambda each: each.execute(sa.select(claims._now_s(each))).scalar_one())
    assert abs(now_s - time.clock_gettime(time.CLOCK_REALTIME)) < 60


def take_everything(number: int, url: str, lease_s: float) -> list[tuple[int, int]]:
    """Claim whatever is to be had until nothing is left; return what was finished, and how often it killed."""
    store = Store(url)
    holder, got = f"worker{number}", []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(done := finished(store)) < NUM_SUBJECTS:
        for subject in range(NUM_SUBJECTS):
            if subject in done:
                continue
            held = claim(store, f"subject{subject}", holder=holder, lease_s=lease_s)
            if held is None:
                continue
            # Looked at after the claim: whoever had it before may just have finished it.
            if subject not in finished(store):
                mark_finished(store, subject)
                got.append((subject, held.num_deaths))
            release(store, held)
    store.close()
    return got


def finished(store: Store) -> set[int]:
    query = sa.text("SELECT subject FROM nas_claims WHERE subject LIKE 'done-%'")
    names = store.transaction(lambda connection: connection.execute(query).scalars().all())
    return {int(name.removeprefix("done-")) for name in names}


def mark_finished(store: Store, subject: int) -> None:
    statement = sa.text("INSERT INTO nas_claims VALUES (:subject, NULL, 0, 0)")
    # Twice would break the primary key.
    store.transaction(lambda connection: connection.execute(statement, {"subject": f"done-{subject}"}))


@pytest.mark.slow
def test_processes_share_the_work_and_none_is_done_twice(store: Store) -> None:
    given = at_once(take_everything, NUM_PROCESSES, store.url, LEASE_S)

    assert all(isinstance(got, list) for got in given), given
    assert sorted(subject for got in given for subject, _ in got) == list(range(NUM_SUBJECTS))
    assert {num_deaths for got in given for _, num_deaths in got} == {0}


def take_one(number: int, url: str) -> int | None:
    store = Store(url)
    held = claim(store, "subject", holder=f"worker{number}", lease_s=LEASE_S)
    store.close()
    return None if held is None else held.num_deaths


@pytest.mark.slow
def test_of_processes_that_take_over_at_once_one_wins(store: Store) -> None:
    assert claim(store, "subject", holder="dead", lease_s=0.0) is not None

    given = at_once(take_one, NUM_PROCESSES, store.url)

    assert sorted(given, key=str) == [1, None, None, None]
    assert count_deaths(store, "subject") == 1


def take_and_die(url: str) -> None:
    store = Store(url)
    assert claim(store, "subject3", holder="unlucky", lease_s=1.0) is not None
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_what_a_killed_process_held_is_done_by_another_and_its_death_counted(store: Store) -> None:
    process = multiprocessing.get_context("fork").Process(target=take_and_die, args=(store.url,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL

    given = at_once(take_everything, NUM_PROCESSES, store.url, LEASE_S)

    assert all(isinstance(got, list) for got in given), given
    assert dict(sorted(pair for got in given for pair in got)) == {
        subject: int(subject == 3) for subject in range(NUM_SUBJECTS)
    }
