from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from nas import tables
from nas.errors import StoreError
from nas.records import Role
from nas.run_status import read_status
from nas.store import Store
from nas.trial_notes import INTERRUPTED, TrialNote, write_note
from tests.store_contents import SETTINGS, blocks, measurement


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    yield store
    store.close()


def begin(store: Store, device_id: str, *, is_finished: bool = False, hours_ago: float = 0.0) -> None:
    number, _ = store.begin_measurement(
        device_id=device_id, settings=SETTINGS, precision="coarse", arch_id=f"{hours_ago}", reference_arch_id="rule"
    )
    if is_finished:
        store.finish_measurement(number, replace(measurement(), blocks=blocks(1)))
    when = (datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat(timespec="seconds")
    own = tables.measurements.c.measurement_id == number
    store.transaction(
        lambda connection: connection.execute(sa.update(tables.measurements).where(own).values(created_at=when))
    )


def test_a_status_counts_trials_by_state_and_measurements_of_late_by_device(store: Store) -> None:
    study = optuna.create_study(storage=store.optuna_storage, study_name="run")
    for value in (1.0, 2.0):
        study.tell(study.ask(), value)
    study.ask()
    begin(store, "b", is_finished=True)
    begin(store, "b", hours_ago=2)
    begin(store, "a", hours_ago=1, is_finished=True)
    begin(store, "a", hours_ago=30, is_finished=True)
    begin(store, "c", hours_ago=31)

    status = read_status(store, "run", last_hours=24)

    assert status.num_trials == {TrialState.COMPLETE: 2, TrialState.RUNNING: 1}
    assert [number for number, _ in status.newest_complete] == [1, 0]
    assert all(abs(when - datetime.now(UTC)) < timedelta(minutes=5) for _, when in status.newest_complete)
    assert [(each.device_id, each.num_begun, each.num_finished) for each in status.devices] == [
        ("a", 1, 1),
        ("b", 2, 1),
    ]
    assert abs(datetime.now(UTC) - timedelta(hours=1) - status.devices[0].newest_begun_at) < timedelta(minutes=5)


def test_the_status_of_a_run_that_is_not_there_names_those_that_are(store: Store) -> None:
    optuna.create_study(storage=store.optuna_storage, study_name="run")

    with pytest.raises(StoreError, match=r"no run 'other' in the store \(runs: run\)"):
        read_status(store, "other", last_hours=1)


def test_what_is_done_and_failed_is_counted_once_for_each_architecture(store: Store) -> None:
    study = optuna.create_study(storage=store.optuna_storage, study_name="run")
    note = TrialNote(architecture="{}", role=Role.CANDIDATE)
    ended = [
        (note, TrialState.COMPLETE),
        (note, TrialState.COMPLETE),
        (replace(note, same_as=1), TrialState.COMPLETE),
        (replace(note, failure="no memory"), TrialState.FAIL),
        (replace(note, failure=INTERRUPTED), TrialState.FAIL),
        (replace(note, failure=INTERRUPTED), TrialState.FAIL),
        (replace(note, same_as=3), TrialState.FAIL),
        (note, TrialState.PRUNED),
    ]
    for each, state in ended:
        trial = study.ask()
        write_note(trial, each)
        study.tell(trial, 1.0 if state == TrialState.COMPLETE else None, state=state)

    status = read_status(store, "run", last_hours=1)

    assert (status.num_done, status.num_failed) == (2, 1)
    assert [number for number, _ in status.newest_complete] == [2, 1, 0]
