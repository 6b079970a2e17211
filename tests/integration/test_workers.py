"""Several real processes on one run, in both databases; only training and the device are stand-ins."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

from benchmarks.killed_search import DieAt, content, search
from device_lab.measurement import ModelFile
from nas.claims import find_claims
from nas.errors import TrainingError
from nas.holders import is_known_dead
from nas.records import LatencyMode, Objective, Run, TrialState
from nas.run_workers import RunWorker, find_workers
from nas.runs import SearchRequest, find_settings, load_run
from nas.shared_run import MAX_DEATHS, SharedRun, WorkRole
from nas.store import Store, sqlite_url
from nas.timing import TimingPlan
from nas.trial_notes import INTERRUPTED, read_note, write_note
from search_spaces.architecture import Architecture
from tests.fake_parts import SEQUENCE_LENGTH, FormulaEvaluator, Listener, SizeDevice, make_search
from tests.many_processes import at_once, until_killed

REQUEST = SearchRequest(
    space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.MEASURED, sampler="random"
)
NUM_WORKERS = 4
NUM_TRIALS = 20
# What this process does not see again after a worker was killed.
DEADLY_PLACE = 6


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store(store_url)
    yield opened
    opened.close()


def work(number: int, url: str, folder: Path, request: SearchRequest, roles: Sequence[WorkRole]) -> list[str]:
    """Take part in the run until nothing is left to do; return what this process scored."""
    evaluator = FormulaEvaluator()
    promoting = FormulaEvaluator(name="distilled", bonus=0.05)
    store = Store(url)
    search = make_search(
        store,
        folder / str(number),
        request=request,
        evaluators=[evaluator, promoting],
        role=roles[number],
        timing_plan=TimingPlan(total_budget_s=None),
    )
    search.run()
    store.close()
    return [*evaluator.scored, *(f"distilled {arch_id}" for arch_id in promoting.scored)]


def begin_run(url: str, folder: Path, request: SearchRequest, *, num_trials: int = NUM_TRIALS) -> None:
    """Make a run that has everything to be done still."""
    store = Store(url)
    evaluators = [FormulaEvaluator(), FormulaEvaluator(name="distilled", bonus=0.05)]
    search = make_search(store, folder / "begin", request=request, evaluators=evaluators)
    search.run(num_trials, max_minutes=0.0)
    store.close()


def run_of(url: str) -> tuple[Run, list[optuna.trial.FrozenTrial]]:
    store = Store(url)
    try:
        study = optuna.load_study(storage=store.optuna_storage, study_name="run")
        return load_run(store, "run"), study.get_trials(deepcopy=False)
    finally:
        store.close()


def claims_left(url: str) -> list[str]:
    store = Store(url)
    try:
        return [each.subject for each in find_claims(store, "") if each.holder and not is_known_dead(each.holder)]
    finally:
        store.close()


@pytest.mark.slow
def test_workers_together_do_what_one_does_and_nothing_twice(store_url: str, tmp_path: Path) -> None:
    alone = sqlite_url(tmp_path / "alone.db")
    begin_run(alone, tmp_path / "alone", REQUEST)
    work(0, alone, tmp_path / "alone", REQUEST, [WorkRole.BOTH])
    begin_run(store_url, tmp_path, REQUEST)

    scored = at_once(work, NUM_WORKERS, store_url, tmp_path, REQUEST, [WorkRole.BOTH] * NUM_WORKERS)

    counts = Counter(arch_id for each in scored for arch_id in each)
    run, trials = run_of(store_url)
    assert set(counts.values()) == {1}, scored
    # A random sampler's draws depend on nothing but their number, so the run is a single worker's.
    wanted, _ = run_of(alone)
    by_arch = {trial.architecture.arch_id: trial for trial in wanted.trials if trial.same_as is None}
    found = {trial.architecture.arch_id: trial for trial in run.trials if trial.same_as is None}
    assert found.keys() == by_arch.keys()
    assert {key: trial.score for key, trial in found.items()} == {key: trial.score for key, trial in by_arch.items()}
    assert all(trial.measurements for trial in found.values())
    assert all(trial.state in (OptunaState.COMPLETE, OptunaState.FAIL) for trial in trials)
    assert claims_left(store_url) == []


@pytest.mark.slow
@pytest.mark.parametrize("latency", [LatencyMode.MEASURED, LatencyMode.HYBRID])
def test_trainers_leave_the_timing_to_those_who_measure(store_url: str, tmp_path: Path, latency: LatencyMode) -> None:
    request = replace(REQUEST, latency=latency)
    begin_run(store_url, tmp_path, request)

    roles = [WorkRole.TRAIN, WorkRole.TRAIN, WorkRole.MEASURE]
    scored = at_once(work, len(roles), store_url, tmp_path, request, roles)

    run, trials = run_of(store_url)
    assert scored[2] == []
    assert len({trial.architecture for trial in run.trials}) == NUM_TRIALS
    assert all(trial.state == TrialState.COMPLETE for trial in run.trials)
    assert all(trial.state.is_finished() for trial in trials)
    num_measured = sum(bool(trial.measurements) for trial in run.trials if trial.same_as is None)
    assert num_measured == NUM_TRIALS if latency is LatencyMode.MEASURED else 12 <= num_measured < NUM_TRIALS
    assert claims_left(store_url) == []


def be_killed_by(arch_id: str) -> FormulaEvaluator:
    def die(arch: Architecture) -> None:
        if arch.arch_id == arch_id:
            os.kill(os.getpid(), signal.SIGKILL)

    return FormulaEvaluator(before=die)


def search_and_die(url: str, folder: Path, request: SearchRequest, arch_id: str) -> None:
    """Work until the scoring of one architecture kills the process."""
    make_search(Store(url), folder, request=request, evaluators=[be_killed_by(arch_id)]).run(NUM_TRIALS)


def test_what_kills_its_worker_twice_is_failed_and_the_others_go_on(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    request = replace(REQUEST, objectives=(Objective.ACCURACY, Objective.MACS))
    seen = FormulaEvaluator()
    make_search(Store(sqlite_url(tmp_path / "seen.db")), tmp_path, request=request, evaluators=[seen]).run(NUM_TRIALS)
    deadly = seen.scored[DEADLY_PLACE]
    for _ in range(MAX_DEATHS):
        until_killed(search_and_die, store_url, tmp_path, request, deadly)
    listener = Listener()

    make_search(
        store, tmp_path, request=request, evaluators=[be_killed_by(deadly)], listener=listener
    ).run(NUM_TRIALS)  # fmt: skip

    run = load_run(store, "run")
    failed = [trial for trial in run.trials if trial.state == TrialState.FAILED]
    assert [trial.architecture.arch_id for trial in failed] == [deadly]
    assert "2 processes that worked on it were killed" in str(failed[0].failure)
    assert len(run.trials) == NUM_TRIALS
    assert claims_left(store_url) == []


def time_and_die(url: str, folder: Path, arch_id: str) -> None:
    """Work until the timing of one architecture, in a batch or by itself, kills the process."""

    def die(model: ModelFile) -> None:
        if arch_id in model.path.name:
            os.kill(os.getpid(), signal.SIGKILL)

    make_search(Store(url), folder, request=REQUEST, device=SizeDevice(before=die)).run(8)


def test_what_was_timed_beside_what_killed_its_worker_is_not_failed(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    seen = FormulaEvaluator()
    make_search(Store(sqlite_url(tmp_path / "seen.db")), tmp_path, request=REQUEST, evaluators=[seen]).run(8)
    deadly = seen.scored[DEADLY_PLACE]

    # Once in its batch, and twice by itself.
    for _ in range(1 + MAX_DEATHS):
        until_killed(time_and_die, store_url, tmp_path, deadly)
    make_search(store, tmp_path, request=REQUEST).run(8)

    trials = load_run(store, "run").trials
    failed = [trial for trial in trials if trial.state == TrialState.FAILED]
    assert [trial.architecture.arch_id for trial in failed] == [deadly]
    assert len({trial.architecture for trial in trials}) == 8


def test_a_lost_worker_is_shown_until_its_work_is_taken_up(store: Store, store_url: str, tmp_path: Path) -> None:
    request = replace(REQUEST, objectives=(Objective.ACCURACY, Objective.MACS))
    seen = FormulaEvaluator()
    make_search(Store(sqlite_url(tmp_path / "seen.db")), tmp_path, request=request, evaluators=[seen]).run(NUM_TRIALS)
    until_killed(search_and_die, store_url, tmp_path, request, seen.scored[DEADLY_PLACE])

    [lost] = find_workers(store, "run")
    assert not lost.is_alive
    assert lost.does == (("score", seen.scored[DEADLY_PLACE]),)
    others: list[RunWorker] = []

    def look(arch: Architecture) -> None:
        if arch.arch_id == seen.scored[DEADLY_PLACE]:
            others.extend(find_workers(store, "run"))

    make_search(store, tmp_path, request=request, evaluators=[FormulaEvaluator(before=look)]).run(NUM_TRIALS)

    assert [worker.is_alive for worker in others] == [True]
    assert find_workers(store, "run") == []


def test_a_trial_of_a_machine_that_vanished_is_taken_up_once_its_lease_has_ended(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(REQUEST, objectives=(Objective.ACCURACY, Objective.MACS))
    make_search(store, tmp_path, request=request).run(4)
    study = optuna.load_study(storage=store.optuna_storage, study_name="run")
    # Another machine's process: whether it lives is not to be seen from here.
    monkeypatch.setattr("nas.shared_run.new_holder", lambda: "elsewhere/1/0badcafe-1/aaaaaa")
    lost = SharedRun(store, study._study_id, role=WorkRole.TRAIN, lease_s=2.0)
    monkeypatch.undo()
    number = study.ask().number
    assert lost.own_trial(number)
    listener = Listener()

    make_search(store, tmp_path, request=request, listener=listener).run(4)

    assert listener.num_waits >= 1
    assert study.trials[number].state == OptunaState.FAIL


@pytest.mark.slow
@pytest.mark.parametrize("at", [25, 83, 390, 1100])
def test_a_search_killed_at_any_statement_ends_once_resumed_like_one_never_stopped(tmp_path: Path, at: int) -> None:
    whole, killed = sqlite_url(tmp_path / "whole.db"), sqlite_url(tmp_path / "killed.db")
    search(whole, tmp_path)
    search(killed, tmp_path, before_statement=DieAt(at))
    search(killed, tmp_path)

    assert content(killed) == content(whole)


def test_a_trial_that_another_told_in_the_meantime_is_told_once(store: Store, tmp_path: Path) -> None:
    request = replace(REQUEST, objectives=(Objective.ACCURACY, Objective.MACS))
    other = Store(store.url)
    told: list[int] = []

    def be_late(arch: Architecture) -> None:
        study = optuna.load_study(storage=other.optuna_storage, study_name="run")
        running = [trial.number for trial in study.trials if trial.state == OptunaState.RUNNING]
        if len(study.trials) > DEADLY_PLACE and not told:
            told.append(running[0])
            study.tell(running[0], [0.25, 1.0])

    make_search(store, tmp_path, request=request, evaluators=[FormulaEvaluator(before=be_late)]).run(8)
    other.close()

    study = optuna.load_study(storage=store.optuna_storage, study_name="run")
    assert study.trials[told[0]].values == [0.25, 1.0]
    assert len(load_run(store, "run").trials) == 8


@pytest.mark.parametrize("ends", ["told", "told to miss a constraint", "failed"])
def test_a_trial_that_another_gave_up_in_the_meantime_stops_nobody(store: Store, tmp_path: Path, ends: str) -> None:
    request = replace(REQUEST, objectives=(Objective.ACCURACY, Objective.MACS))
    if ends == "told to miss a constraint":
        request = replace(request, min_accuracy=0.999)
    other = Store(store.url)
    given_up: list[int] = []

    def be_late(arch: Architecture) -> None:
        study = optuna.load_study(storage=other.optuna_storage, study_name="run")
        running = [trial for trial in study.trials if trial.state == OptunaState.RUNNING]
        if running[0].number >= 4 and not given_up:
            given_up.append(running[0].number)
            write_note(optuna.Trial(study, running[0]._trial_id), replace(read_note(running[0]), failure=INTERRUPTED))
            study.enqueue_trial(running[0].params)
            study.tell(running[0].number, state=OptunaState.FAIL)
            if ends == "failed":
                raise TrainingError("bad luck")

    make_search(store, tmp_path, request=request, evaluators=[FormulaEvaluator(before=be_late)]).run(8)
    other.close()

    run = load_run(store, "run")
    assert len({trial.architecture for trial in run.trials}) == 8
    assert given_up[0] not in {trial.number for trial in run.trials}
    assert claims_left(store.url) == []


def test_a_stopped_run_that_has_more_than_it_is_asked_for_ends(store: Store, tmp_path: Path) -> None:
    request = replace(REQUEST, objectives=(Objective.ACCURACY, Objective.MACS))
    numbers = itertools.count(1)

    def stop(_: Architecture) -> None:
        if next(numbers) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_search(store, tmp_path, request=request, evaluators=[FormulaEvaluator(before=stop)]).run(16)
    listener = Impatient()

    make_search(store, tmp_path, request=request, listener=listener).run(4)

    assert len(load_run(store, "run").trials) == 4
    make_search(store, tmp_path, request=request).run(8)
    assert len({trial.architecture for trial in load_run(store, "run").trials}) == 8


class Impatient(Listener):
    """Stops the process it listens to where that would wait for others."""

    def waiting(self, *, lacking: str | None = None, unserved: Sequence[str] = ()) -> None:
        super().waiting(lacking=lacking, unserved=unserved)
        self.lacking = lacking
        raise KeyboardInterrupt


def test_whoever_was_killed_while_it_made_a_run_leaves_its_name_free(store: Store, tmp_path: Path) -> None:
    request = replace(REQUEST, objectives=(Objective.ACCURACY, Objective.MACS))
    directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    store.optuna_storage.create_new_study(directions, study_name="run")

    assert find_settings(store, "run") is None
    make_search(store, tmp_path, request=request).run(4)

    assert len(load_run(store, "run").trials) == 4


def make_with_seed(number: int, url: str, folder: Path) -> int:
    store = Store(url)
    search = make_search(store, folder, request=replace(REQUEST, seed=number))
    store.close()
    return search._settings.request.seed


@pytest.mark.slow
def test_of_those_who_make_a_run_at_once_with_other_settings_one_wins(store: Store, tmp_path: Path) -> None:
    given = at_once(make_with_seed, NUM_WORKERS, store.url, tmp_path)

    settings = find_settings(store, "run")
    assert settings is not None
    winners = [seed for seed in given if isinstance(seed, int)]
    assert winners == [settings.request.seed]
    assert sum("has other settings" in str(seed) for seed in given) == NUM_WORKERS - 1
