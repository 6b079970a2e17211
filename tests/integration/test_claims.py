"""Claims in both databases: against a model of them, and between real processes."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas import claims
from nas.claims import Claim, claim, clock_s, end_leases, find_claims, forget, forget_all, release, renew_all
from nas.store import Store
from tests.many_processes import at_once, until_killed

LEASE_S = 10.0
NUM_PROCESSES = 4
NUM_SUBJECTS = 12
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["claim", "release", "forget"]), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.sampled_from(["renew_all", "forget_all", "end_leases"]), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([1, 6, 10, 25]), st.just(0)),
    ),
    max_size=25,
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
    """What claims have to come to, in plain Python: (holder, end of the lease, deaths) by subject."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str | None, float, int]] = {}

    def claim(self, subject: str, holder: str, now_s: float) -> int | None:
        before, expires_at_s, num_deaths = self.rows.get(subject, (None, 0.0, 0))
        if before not in (None, holder):
            if now_s < expires_at_s:
                return None
            num_deaths += 1
        self.rows[subject] = (holder, now_s + LEASE_S, num_deaths)
        return num_deaths

    def release(self, subject: str, holder: str) -> None:
        before, _, num_deaths = self.rows.get(subject, (None, 0.0, 0))
        if before == holder:
            self.rows[subject] = (None, 0.0, num_deaths)

    def forget(self, subject: str, holder: str) -> None:
        if self.rows.get(subject, (None, 0.0, 0))[0] == holder:
            del self.rows[subject]

    def renew_all(self, holder: str, expires_at_s: float) -> None:
        for subject, (held_by, _, num_deaths) in self.rows.items():
            if held_by == holder:
                self.rows[subject] = (holder, expires_at_s, num_deaths)

    def end_leases(self, holder: str, now_s: float) -> None:
        for subject, (held_by, expires_at_s, num_deaths) in self.rows.items():
            if held_by == holder:
                self.rows[subject] = (holder, min(expires_at_s, now_s), num_deaths)

    def forget_all(self, holder: str) -> None:
        for subject, (held_by, _, num_deaths) in list(self.rows.items()):
            if held_by == holder:
                self.release(subject, holder)
                if num_deaths == 0:
                    del self.rows[subject]

    def shown(self, now_s: float) -> list[tuple[str, str | None, int, bool]]:
        return [
            (subject, holder, num_deaths, holder is not None and expires_at_s > now_s)
            for subject, (holder, expires_at_s, num_deaths) in sorted(self.rows.items())
        ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taken=steps)
def test_claims_do_what_the_model_does(store: Store, clock: Clock, taken: list[tuple[str, int, int]]) -> None:
    # Holders of their own: what one example left behind is nothing to the next.
    number = next(_numbers)
    model, prefix = Model(), f"example{number}_"
    for what, first, second in taken:
        subject, holder = f"{prefix}{second}", f"worker{number}-{first}"
        held = Claim(subject=subject, holder=holder, num_deaths=0)
        match what:
            case "wait":
                clock.now_s += first
            case "claim":
                got = claim(store, subject, holder=holder, lease_s=LEASE_S)
                assert (got.num_deaths if got else None) == model.claim(subject, holder, clock.now_s)
                assert got is None or (got.subject, got.holder) == (subject, holder)
            case "release":
                release(store, held)
                model.release(subject, holder)
            case "forget":
                forget(store, held)
                model.forget(subject, holder)
            case "renew_all":
                renew_all(store, holder, lease_s=LEASE_S)
                model.renew_all(holder, clock.now_s + LEASE_S)
            case "forget_all":
                forget_all(store, holder)
                model.forget_all(holder)
            case "end_leases":
                end_leases(store, holder)
                model.end_leases(holder, clock.now_s)
        found = find_claims(store, prefix)
        ends = {each.subject: clock.now_s + each.left_s for each in found if each.holder}
        assert ends == pytest.approx({subject: row[1] for subject, row in model.rows.items() if row[0]})
        shown = [(each.subject, each.holder, each.num_deaths, bool(each.holder) and each.left_s > 0) for each in found]
        assert shown == model.shown(clock.now_s)


def test_the_clock_is_the_databases_and_goes_on(store: Store) -> None:
    first = claim(store, "subject", holder="first", lease_s=0.3)
    assert first is not None
    assert claim(store, "subject", holder="second", lease_s=LEASE_S) is None

    time.sleep(0.4)

    second = claim(store, "subject", holder="second", lease_s=LEASE_S)
    assert second is not None
    assert second.num_deaths == 1
    renew_all(store, first.holder, lease_s=LEASE_S)
    release(store, first)
    assert [state.holder for state in find_claims(store, "subject")] == ["second"]
    assert abs(clock_s(store) - time.clock_gettime(time.CLOCK_REALTIME)) < 60


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
    assert [state.num_deaths for state in find_claims(store, "subject")] == [1]


def take_and_die(url: str) -> None:
    store = Store(url)
    assert claim(store, "subject3", holder="unlucky", lease_s=1.0) is not None
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_what_a_killed_process_held_is_done_by_another_and_its_death_counted(store: Store) -> None:
    until_killed(take_and_die, store.url)

    given = at_once(take_everything, NUM_PROCESSES, store.url, LEASE_S)

    assert all(isinstance(got, list) for got in given), given
    assert dict(sorted(pair for got in given for pair in got)) == {
        subject: int(subject == 3) for subject in range(NUM_SUBJECTS)
    }
