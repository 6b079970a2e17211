"""Searches that predict latencies, and searches within constraints; only training and the device are stand-ins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from device_lab.errors import OutOfMemoryError
from device_lab.measurement import Backend, ModelFile
from nas.cost import model_cost
from nas.errors import PredictionError, SettingsError
from nas.latency_guide import NUM_DESIGN, LatencyGuide
from nas.records import LatencyMode, Objective, Role, Run, Trial
from nas.runs import SearchRequest, keep_goal, load_run
from nas.shared_run import WorkRole
from nas.store import Store, sqlite_url
from nas.timing import TimingPlan
from reports.analysis import analyse
from reports.front import hypervolume
from search_spaces.reference import squeezebert_rule
from tests.fake_parts import SEQUENCE_LENGTH, TEACHER, FormulaEvaluator, Listener, SizeDevice, make_search

HYBRID = SearchRequest(
    space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.HYBRID, sampler="random", seed=3
)
PREDICTED = replace(HYBRID, latency=LatencyMode.PREDICTED)
NUM_TRIALS = 26


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(sqlite_url(tmp_path / "store.db"))


def timed(run: Run) -> list[Trial]:
    return [trial for trial in run.trials if trial.measurements]


def parameters_of(trial: Trial) -> int:
    return model_cost(trial.architecture, sequence_length=SEQUENCE_LENGTH, num_labels=2).parameters


def test_a_search_that_predicts_measures_a_part_and_finds_the_true_front(store: Store, tmp_path: Path) -> None:
    listener = Listener()
    make_search(store, tmp_path, request=HYBRID, listener=listener).run(NUM_TRIALS)

    run = load_run(store, "run")

    assert len(listener.values) == NUM_TRIALS
    assert NUM_DESIGN <= len(timed(run)) < NUM_TRIALS
    assert len(listener.predicted) >= NUM_TRIALS - len(timed(run))
    # On this device a model takes as long as its weights are large, and accuracy is in the score.
    losses = {
        trial.number: [parameters_of(trial) / 1e6, -trial.score.interval.estimate]
        for trial in run.trials
        if trial.score is not None
    }
    corner = np.array([max(size for size, _ in losses.values()), -0.5])
    found = [losses[item.trial.number] for item in analyse(run).front]
    assert hypervolume(np.array(found), reference=corner) > 0.98 * hypervolume(
        np.array(list(losses.values())), reference=corner
    )


def test_what_was_not_timed_says_what_is_predicted(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, request=HYBRID).run(NUM_TRIALS)

    left_out = [item for item in analyse(load_run(store, "run")).evidence if not item.trial.measurements]

    assert left_out
    assert all(item.trial.predicted is not None for item in left_out)
    assert all(str(item.left_out).startswith("not timed: a ratio of ") for item in left_out)


def test_predictions_are_close_to_what_measuring_says(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, request=HYBRID).run(NUM_TRIALS)
    predicted = {
        trial.architecture.arch_id: trial.predicted for trial in load_run(store, "run").trials if trial.predicted
    }
    make_search(store, tmp_path, run="all", request=replace(HYBRID, latency=LatencyMode.MEASURED)).run(NUM_TRIALS)

    errors = [
        item.ratio.estimate / predicted[item.trial.architecture.arch_id].estimate - 1
        for item in analyse(load_run(store, "all")).compared
        if item.ratio and item.trial.architecture.arch_id in predicted
    ]

    assert len(errors) > 5
    assert np.abs(errors).mean() < 0.05


def test_a_second_run_on_the_device_begins_with_what_the_first_measured(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, run="first", request=HYBRID).run(NUM_TRIALS)
    listener = Listener()

    make_search(store, tmp_path, run="second", request=replace(HYBRID, seed=4), listener=listener).run(16)

    assert len([trial for trial in load_run(store, "second").trials if trial.predicted]) > 0
    # From its first own candidates on, which no other run has measured.
    assert min(listener.predicted) < NUM_DESIGN


def test_a_run_that_may_not_measure_needs_something_to_predict_from(store: Store, tmp_path: Path) -> None:
    device = SizeDevice()
    with pytest.raises(PredictionError, match=r"nothing to predict from: .* `nas search --latency hybrid` measures"):
        make_search(store, tmp_path, request=PREDICTED, device=device).run(8)

    assert device.num_runs == 0
    assert store.run_names() == []
    make_search(store, tmp_path, run="first", request=HYBRID).run(NUM_TRIALS)
    listener = Listener()
    make_search(store, tmp_path, request=PREDICTED, listener=listener).run(20)
    assert len(listener.predicted) == 20
    # All that a report compares is measured.
    assert all(item.ratio is not None for item in analyse(load_run(store, "run")).compared)
    assert listener.settled == []
    assert listener.refined != []


def stop_after(count: int) -> Callable[[ModelFile], None]:
    calls = iter(range(count))

    def before(_: ModelFile) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    return before


@pytest.mark.parametrize("num_runs", [40, 150])
def test_ctrl_c_loses_nothing_and_the_next_search_ends_the_same(store: Store, tmp_path: Path, num_runs: int) -> None:
    make_search(store, tmp_path, request=HYBRID).run(24)
    other = Store(sqlite_url(tmp_path / "other.db"))

    with pytest.raises(KeyboardInterrupt):
        make_search(other, tmp_path, request=HYBRID, device=SizeDevice(before=stop_after(num_runs))).run(24)
    make_search(other, tmp_path, request=HYBRID).run(24)

    whole, resumed = load_run(store, "run"), load_run(other, "run")
    assert [trial.architecture for trial in resumed.trials] == [trial.architecture for trial in whole.trials]
    fronts = [{item.trial.architecture for item in analyse(run).front} for run in (resumed, whole)]
    assert fronts[0] == fronts[1]


@pytest.mark.parametrize("backend", [Backend.VIRTUAL_PHONE, Backend.HOST])
def test_a_phone_measures_while_the_next_batch_is_scored_and_this_machine_does_not(
    store: Store, tmp_path: Path, backend: Backend
) -> None:
    in_background: list[bool] = []
    device = SizeDevice(before=lambda _: in_background.append(threading.current_thread() != threading.main_thread()))
    device.info = replace(device.info, backend=backend)

    make_search(store, tmp_path, request=HYBRID, device=device).run(NUM_TRIALS)

    assert any(in_background) == (backend is not Backend.HOST)
    assert not any(in_background[:50])


def test_a_model_that_does_not_run_after_it_was_predicted_is_told(store: Store, tmp_path: Path) -> None:
    listener = Listener()

    def refuse(model: ModelFile) -> None:
        if threading.current_thread() != threading.main_thread():
            raise OutOfMemoryError(f"{model.path.name}: killed for memory")

    make_search(store, tmp_path, request=HYBRID, device=SizeDevice(before=refuse), listener=listener).run(NUM_TRIALS)

    assert listener.failures
    assert all("memory" in reason for reason in listener.failures.values())
    assert len(listener.values) == NUM_TRIALS


def test_a_search_in_which_nothing_can_be_timed_ends_with_its_reasons(store: Store, tmp_path: Path) -> None:
    def refuse(model: ModelFile) -> None:
        raise OutOfMemoryError(f"{model.path.name}: killed for memory")

    listener = Listener()
    make_search(store, tmp_path, request=HYBRID, device=SizeDevice(before=refuse), listener=listener).run(6)

    assert len(listener.failures) == 6
    assert listener.values == {}


def test_without_time_for_the_device_the_design_is_all_that_is_measured(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, request=HYBRID, timing_plan=TimingPlan(total_budget_s=0.0)).run(NUM_TRIALS)

    assert len(timed(load_run(store, "run"))) <= NUM_DESIGN + 4


@pytest.mark.parametrize("mode", list(LatencyMode)[::2])
def test_candidates_that_miss_a_constraint_cost_no_training(store: Store, tmp_path: Path, mode: LatencyMode) -> None:
    limit = 40_000  # of which those as wide as the teacher have more in their embeddings and pooler alone
    evaluator, listener = FormulaEvaluator(), Listener()
    request = replace(HYBRID, latency=mode, max_parameters=limit)

    make_search(store, tmp_path, request=request, evaluators=[evaluator], listener=listener).run(16)

    run = load_run(store, "run")
    candidates = [trial for trial in run.trials if trial.role == Role.CANDIDATE]
    assert len(run.trials) == 16
    assert all(parameters_of(trial) <= limit for trial in candidates)
    assert listener.rejections
    assert set(listener.rejections.values()) == {f"--max-parameters {limit}"}
    assert len(evaluator.scored) == 16
    # The dense teacher misses it too: it stays for comparison, and is never chosen.
    assert Role.DENSE_TEACHER not in {item.trial.role for item in analyse(run).front}
    assert analyse(run).dense is not None


def test_what_is_slow_by_its_prediction_is_neither_scored_nor_timed(store: Store, tmp_path: Path) -> None:
    listener = Listener()
    request = replace(HYBRID, max_latency_ratio=0.85)

    make_search(store, tmp_path, request=request, listener=listener).run(NUM_TRIALS)

    analysis = analyse(load_run(store, "run"))
    assert "--max-latency-ratio 0.85" in listener.rejections.values()
    assert all(item.ratio is not None and item.ratio.estimate <= 0.85 for item in analysis.front)
    assert any("misses a constraint: a latency ratio of" in str(item.left_out) for item in analysis.evidence)


def test_the_least_accuracy_is_asked_of_the_last_fidelity_alone(store: Store, tmp_path: Path) -> None:
    evaluators = [FormulaEvaluator(name="projected"), FormulaEvaluator(name="distilled", bonus=0.3)]
    best_projected = max(
        evaluators[0].evaluate(arch).interval.estimate for arch in (TEACHER, squeezebert_rule(TEACHER))
    )
    # Met by nothing that is projected, and by all that is distilled.
    request = replace(HYBRID, min_accuracy=round(best_projected + 0.1, 3))
    listener = Listener()

    make_search(store, tmp_path, request=request, evaluators=evaluators, listener=listener).run(16)

    front = analyse(load_run(store, "run")).front
    assert front
    assert {item.trial.score.evaluator for item in front if item.trial.score} == {"distilled"}
    assert Role.CANDIDATE in {item.trial.role for item in front}


def test_what_scores_too_little_is_left_out(store: Store, tmp_path: Path) -> None:
    evaluators = [FormulaEvaluator(name="projected"), FormulaEvaluator(name="distilled", bonus=0.01)]
    scores = sorted(evaluators[0].evaluate(arch).interval.estimate for arch in (TEACHER,))
    floor = round(scores[0] - 0.05, 3)

    make_search(store, tmp_path, request=replace(HYBRID, min_accuracy=floor), evaluators=evaluators).run(20)

    analysis = analyse(load_run(store, "run"))
    assert all(item.accuracy is not None and item.accuracy.estimate >= floor for item in analysis.front)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            replace(HYBRID, max_parameters=10),
            r"none of \d+ drawn candidates keeps --max-parameters 10; --max-parameters 10 rejects",
        ),
        (
            replace(HYBRID, max_parameters=10, max_model_mb=0.15),
            r"keeps --max-parameters 10 --max-model-mb 0.15; --max-parameters 10 rejects most",
        ),
    ],
)
def test_constraints_that_nothing_keeps_are_refused_before_anything_is_spent(
    store: Store, tmp_path: Path, wanted: SearchRequest, message: str
) -> None:
    evaluator = FormulaEvaluator()

    with pytest.raises(SettingsError, match=message):
        make_search(store, tmp_path, request=wanted, evaluators=[evaluator]).run(8)

    assert evaluator.scored == []
    # The name is free for a search that can be done.
    assert store.run_names() == []


def test_without_latency_as_an_objective_nothing_is_predicted(store: Store, tmp_path: Path) -> None:
    listener, device = Listener(), SizeDevice()
    request = replace(HYBRID, objectives=(Objective.ACCURACY, Objective.MACS))

    make_search(store, tmp_path, request=request, device=device, listener=listener).run(6)

    assert device.num_runs == 0
    assert listener.predicted == set()


class ImpatientListener(Listener):
    """Stops the search where it would wait for other processes."""

    def waiting(self, *, lacking: str | None = None, unserved: Sequence[str] = ()) -> None:
        super().waiting(lacking=lacking, unserved=unserved)
        self.lacking = lacking
        raise KeyboardInterrupt


def test_a_process_that_measures_has_one_session_on_its_phone_at_a_time(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_search(store, tmp_path, request=HYBRID).run(16)
    # A trainer that knew of too few measurements to predict from leaves its last batch to whoever measures.
    listener = ImpatientListener()
    trainer = make_search(store, tmp_path, request=HYBRID, listener=listener, role=WorkRole.TRAIN)
    monkeypatch.setattr(LatencyGuide, "is_ready", False)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(20)
    assert listener.lacking == WorkRole.MEASURE
    monkeypatch.undo()
    # There is more to come, so the one that measures does not end, and looks for something to do.
    keep_goal(optuna.load_study(storage=store.optuna_storage, study_name="run"), 24)
    in_use = threading.Lock()

    def run_slowly(_: ModelFile) -> None:
        assert in_use.acquire(blocking=False), "the phone runs two models at once"
        time.sleep(0.1)
        in_use.release()

    device = SizeDevice(before=run_slowly)
    measurer = make_search(
        store,
        tmp_path,
        request=HYBRID,
        listener=listener,
        device=device,
        role=WorkRole.MEASURE,
        timing_plan=TimingPlan(resolution=0.0),
    )
    with pytest.raises(KeyboardInterrupt):
        measurer.run()

    assert device.num_runs > 0
    assert listener.lacking == WorkRole.TRAIN
