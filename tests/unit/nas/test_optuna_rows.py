"""Trials read off Optuna's tables are those that Optuna itself reads."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from nas.optuna_rows import count_states, newest_complete, read_rows
from nas.store import Store

KINDS = {
    "layers": IntDistribution(0, 3),
    "rate": FloatDistribution(0.1, 10.0, log=True),
    "kind": CategoricalDistribution(("a", None, 2.5)),
}


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    yield store
    store.close()


def study_with_everything(store: Store) -> optuna.Study:
    """Trials of every state, with every kind of parameter and of value, and a trial of another study between them."""
    study = optuna.create_study(storage=store.optuna_storage, study_name="run", directions=["minimize", "maximize"])
    other = optuna.create_study(storage=store.optuna_storage, study_name="other")
    for values in ([1.5, float("inf")], [float("-inf"), 0.25]):
        params = {"rate": 0.5, "layers": 2, "kind": None}
        attributes = {"nas:note": {"role": "candidate"}, "more": [1, 2]}
        study.add_trial(create_trial(values=values, params=params, distributions=KINDS, user_attrs=attributes))
    other.tell(other.ask({"rate": KINDS["rate"]}), 1.0)
    failed = study.ask(KINDS)
    study.tell(failed, state=TrialState.FAIL)
    rejected = study.ask(KINDS)
    rejected.set_constraint("macs", 0.5)
    study.tell(rejected, state=TrialState.PRUNED)
    study.enqueue_trial({"layers": 1})
    study.ask()
    study.enqueue_trial({"layers": 3})
    single = other.ask({"layers": KINDS["layers"]})
    single.report(0.5, step=3)
    single.report(float("nan"), step=4)
    return study


def test_trials_are_those_that_optuna_reads_itself(store: Store) -> None:
    study_with_everything(store)
    storage = store.optuna_storage

    for each in storage.get_all_studies():
        ours = storage._get_trials(each._study_id, None, set(), -1)
        its = RDBStorage._get_trials(storage, each._study_id, None, set(), -1)
        # Not-a-number is no equal of itself.
        assert list(map(repr, ours)) == list(map(repr, its))
        assert [list(trial.params) for trial in ours] == [list(trial.params) for trial in its]


def test_only_what_was_asked_for_is_read(store: Store) -> None:
    study = study_with_everything(store)
    ids = [trial._trial_id for trial in study.get_trials()]
    waiting = (TrialState.WAITING,)

    later = store.optuna_storage._get_trials(study._study_id, None, {ids[0]}, ids[2])

    assert [trial._trial_id for trial in later] == [ids[0], *ids[3:]]
    assert [trial.state for trial in store.optuna_storage._get_trials(study._study_id, waiting, set(), -1)] == [
        TrialState.WAITING
    ]


def test_rows_have_one_attribute_and_no_parameters(store: Store) -> None:
    study = study_with_everything(store)

    rows = store.transaction(lambda connection: read_rows(connection, study_name="run", key="nas:note"))

    assert [(row.number, row.state) for row in rows] == [(trial.number, trial.state) for trial in study.get_trials()]
    assert [row.attribute for row in rows] == ['{"role": "candidate"}'] * 2 + [None] * 4
    began = [trial.datetime_start and trial.datetime_start.astimezone() for trial in study.get_trials()]
    assert [row.began_at for row in rows] == began


def test_counts_and_newest_are_of_one_study(store: Store) -> None:
    study = study_with_everything(store)

    counts = store.transaction(lambda connection: count_states(connection, study_name="run"))
    newest = store.transaction(lambda connection: newest_complete(connection, study_name="run", limit=2))

    assert counts == {
        TrialState.RUNNING: 1,
        TrialState.COMPLETE: 2,
        TrialState.PRUNED: 1,
        TrialState.FAIL: 1,
        TrialState.WAITING: 1,
    }
    assert [number for number, _ in newest] == [1, 0]
    ended = study.get_trials()[1].datetime_complete
    assert ended is not None
    assert newest[0][1] == ended.astimezone()
