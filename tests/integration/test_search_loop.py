"""The study loop on a real store with Optuna and the protocol; only training and the device are stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from device_lab.errors import OutOfMemoryError
from device_lab.measurement import ModelFile
from nas.errors import NonFiniteLossError, SettingsError, StoreError
from nas.records import LatencyMode, Objective, Role, Run, TrialState
from nas.runs import SearchRequest, load_run
from nas.samplers import SAMPLERS
from nas.store import Store, sqlite_url
from nas.timing import TimingPlan
from reports.evidence import gather
from search_spaces.architecture import Architecture
from search_spaces.reference import squeezebert_rule
from search_spaces.space import make_space
from tests.fake_parts import SEQUENCE_LENGTH, TEACHER, FormulaEvaluator, Listener, SizeDevice, make_search

REQUEST = SearchRequest(space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.MEASURED)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(sqlite_url(tmp_path / "store.db"))


def architectures(run: Run) -> list[str]:
    return [trial.architecture.arch_id for trial in run.trials if trial.same_as is None]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_references_come_first_and_every_trial_is_scored_and_timed(store: Store, tmp_path: Path, sampler: str) -> None:
    make_search(store, tmp_path, request=replace(REQUEST, sampler=sampler)).run(9)

    run = load_run(store, "run")

    assert [trial.role for trial in run.trials[:2]] == [Role.SQUEEZEBERT_RULE, Role.DENSE_TEACHER]
    assert {trial.role for trial in run.trials[2:]} == {Role.CANDIDATE}
    designs = make_space("grouped", TEACHER).dense_designs
    assert tuple(trial.architecture for trial in run.trials[2 : 2 + len(designs)]) == designs
    assert len(set(architectures(run))) == 9
    assert all(trial.score and trial.measurements for trial in run.trials if trial.state == TrialState.COMPLETE)


def test_a_run_that_is_resumed_ends_like_one_that_never_stopped(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, run="whole").run(13)
    make_search(store, tmp_path, run="parts").run(5)
    listener = Listener()
    make_search(store, tmp_path, run="parts", listener=listener).run(13)

    assert listener.num_known == 5
    # A batch is proposed before any of it is told, so a stop between batches moves their borders.
    assert set(architectures(load_run(store, "parts"))[:5]) == set(architectures(load_run(store, "whole"))[:5])
    assert len(set(architectures(load_run(store, "parts")))) == 13


def stop_after(count: int) -> Callable[[object], None]:
    calls = iter(range(count))

    def before(_: object) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    return before


@pytest.mark.parametrize("when", ["training", "timing", "front"])
def test_ctrl_c_loses_nothing_and_the_next_search_ends_the_same(store: Store, tmp_path: Path, when: str) -> None:
    make_search(store, tmp_path, run="whole").run(10)
    other = Store(sqlite_url(tmp_path / "other.db"))
    num_runs = {"training": 10_000, "timing": 60, "front": 100}[when]
    evaluator = FormulaEvaluator(before=stop_after(7 if when == "training" else 100))
    device = SizeDevice(before=stop_after(num_runs))

    with pytest.raises(KeyboardInterrupt):
        make_search(other, tmp_path, run="whole", evaluators=[evaluator], device=device).run(10)
    again, cold = FormulaEvaluator(), SizeDevice()
    make_search(other, tmp_path, run="whole", evaluators=[again], device=cold).run(10)

    whole, resumed = load_run(store, "whole"), load_run(other, "whole")
    assert architectures(resumed) == architectures(whole)
    assert [trial.score for trial in resumed.trials] == [trial.score for trial in whole.trials]
    # Nothing that was finished is done again.
    assert not set(again.scored) & set(evaluator.scored)
    assert all(trial.state == TrialState.COMPLETE for trial in resumed.trials)


def test_blocks_of_an_interrupted_session_are_used(store: Store, tmp_path: Path) -> None:
    # Without a second look at the front, whose members may differ.
    plan = TimingPlan(total_budget_s=0.0)
    interrupted = SizeDevice(before=stop_after(17))
    with pytest.raises(KeyboardInterrupt):
        make_search(store, tmp_path, device=interrupted, timing_plan=plan).run(4)
    resumed, fresh = SizeDevice(), SizeDevice()
    make_search(store, tmp_path, device=resumed, timing_plan=plan).run(4)

    make_search(Store(sqlite_url(tmp_path / "fresh.db")), tmp_path, device=fresh, timing_plan=plan).run(4)

    assert resumed.num_runs < fresh.num_runs


def test_a_second_run_on_the_store_trains_and_times_nothing_again(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, run="first").run(8)
    evaluator, device = FormulaEvaluator(), SizeDevice()

    make_search(store, tmp_path, run="second", evaluators=[evaluator], device=device).run(8)

    assert evaluator.scored == []
    assert device.num_runs == 0
    assert architectures(load_run(store, "second")) == architectures(load_run(store, "first"))


def test_a_candidate_that_fails_is_a_failed_trial_with_its_reason(store: Store, tmp_path: Path) -> None:
    seen: list[str] = []

    def fail_third(arch: Architecture) -> None:
        seen.append(arch.arch_id)
        if len(seen) == 3:
            raise NonFiniteLossError(step=7, loss=float("nan"))

    listener = Listener()
    make_search(store, tmp_path, evaluators=[FormulaEvaluator(before=fail_third)], listener=listener).run(6)

    failed = [trial for trial in load_run(store, "run").trials if trial.state == TrialState.FAILED]
    assert [trial.architecture.arch_id for trial in failed] == [seen[2]]
    assert failed[0].failure == listener.failures[failed[0].number]
    assert "loss=nan at step 7" in str(failed[0].failure)
    assert len(listener.values) == 5


def test_a_model_that_does_not_run_on_the_device_fails_alone(store: Store, tmp_path: Path) -> None:
    names: list[str] = []

    def refuse_the_second_model(model: ModelFile) -> None:
        if model.path.name not in names:
            names.append(model.path.name)
        if names.index(model.path.name) == 1:
            raise OutOfMemoryError(f"{model.path.name}: killed for memory")

    listener = Listener()
    device = SizeDevice(before=refuse_the_second_model)
    make_search(store, tmp_path, device=device, listener=listener).run(4)

    assert len(listener.values) == 3
    assert list(listener.failures.values()) == ["the measurement ended with out_of_memory after 0 blocks"]


def test_objectives_without_latency_need_no_device(store: Store, tmp_path: Path) -> None:
    objectives = (Objective.ACCURACY, Objective.MACS, Objective.PARAMETERS)
    device, listener = SizeDevice(), Listener()

    make_search(store, tmp_path, request=replace(REQUEST, objectives=objectives), device=device, listener=listener).run(
        5
    )

    assert device.num_runs == 0
    assert [tuple(values) for values in listener.values.values()] == [objectives] * 5


def test_the_front_and_the_references_are_measured_precisely(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path).run(10)

    fine = {trial.number: trial.measurements[-1].precision.name == "normal" for trial in load_run(store, "run").trials}

    assert fine[0]
    assert fine[1]
    assert 2 <= sum(fine.values()) < 10


def test_a_used_up_timing_budget_ends_the_run_without_the_precise_measurements(store: Store, tmp_path: Path) -> None:
    listener = Listener()

    make_search(store, tmp_path, listener=listener, timing_plan=TimingPlan(total_budget_s=0.0)).run(5)

    assert listener.refined == []
    assert len(listener.values) == 5
    make_search(store, tmp_path, listener=listener).run(5)
    assert listener.refined != []


def test_what_a_batch_budget_cut_short_is_measured_on_by_the_next_search(store: Store, tmp_path: Path) -> None:
    plan = TimingPlan(batch_budget_s=0.0, total_budget_s=0.0)
    make_search(store, tmp_path, run="short", timing_plan=plan).run(4)
    cut = load_run(store, "short")

    make_search(store, tmp_path, run="again").run(4)

    # One round is always run; it gives one block, which has no interval.
    assert [trial.failure for trial in cut.trials] == ["the measurement ended with budget after 1 blocks"] * 4
    assert all(trial.measurements for trial in load_run(store, "again").trials)


def test_a_used_up_space_ends_the_search(store: Store, tmp_path: Path) -> None:
    request = replace(REQUEST, space="squeezebert", sampler="random", objectives=(Objective.MACS, Objective.PARAMETERS))

    make_search(store, tmp_path, request=request).run(12)

    assert len(set(architectures(load_run(store, "run")))) == 12


def test_other_settings_are_refused_with_the_difference(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path).run(2)

    with pytest.raises(SettingsError, match=r"run 'run' has other settings: request is .*choose another run name"):
        make_search(store, tmp_path, request=replace(REQUEST, seed=5))


def test_an_unknown_run_is_named_with_those_there_are(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path).run(2)

    with pytest.raises(StoreError, match=r"no run 'other' in the store \(runs: run\)"):
        load_run(store, "other")


def two_fidelities() -> list[FormulaEvaluator]:
    return [FormulaEvaluator(), FormulaEvaluator(name="distilled", bonus=0.01)]


def test_the_best_share_and_the_references_go_on_to_the_next_fidelity(store: Store, tmp_path: Path) -> None:
    projected, distilled = two_fidelities()
    listener = Listener()

    make_search(store, tmp_path, evaluators=[projected, distilled], listener=listener).run(12)

    run = load_run(store, "run")
    references = [trial.architecture.arch_id for trial in run.trials[:2]]
    assert len(projected.scored) == 12
    assert distilled.scored[:2] == references
    # 0.3 of ten candidates, and the references beside them.
    assert len(distilled.scored) == 2 + 3
    assert listener.promotions == [(5, "distilled")]
    assert {score.evaluator for score in listener.promoted_scores.values()} == {"distilled"}
    assert {0, 1} < set(listener.promoted_scores)
    assert run.evaluator == "distilled"
    promoted = [trial for trial in run.trials if trial.score and trial.score.evaluator == "distilled"]
    assert {trial.architecture.arch_id for trial in promoted} == set(distilled.scored)
    # Nobody left behind beats a promoted candidate in both objectives at the lower fidelity.
    values = {trial.number: listener.values[trial.number] for trial in run.trials if trial.same_as is None}
    for trial in promoted[2:]:
        mine = values[trial.number]
        assert not any(
            other[Objective.ACCURACY] > mine[Objective.ACCURACY] and other[Objective.LATENCY] < mine[Objective.LATENCY]
            for number, other in values.items()
            if number not in {each.number for each in promoted} and number > 1
        )


def test_a_front_never_mixes_fidelities(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, evaluators=two_fidelities()).run(12)

    gathered = gather(load_run(store, "run"))

    compared = [item for item in gathered.evidence if item.left_out is None]
    assert {item.trial.score.evaluator for item in compared if item.trial.score} == {"distilled"}
    assert len(compared) == 5
    assert "scored by 'projected'; this report compares 'distilled'" in {item.left_out for item in gathered.evidence}


def test_promotion_goes_on_where_it_was_stopped_and_where_candidates_were_added(store: Store, tmp_path: Path) -> None:
    projected, distilled = FormulaEvaluator(), FormulaEvaluator(before=stop_after(3), name="distilled")
    with pytest.raises(KeyboardInterrupt):
        make_search(store, tmp_path, evaluators=[projected, distilled]).run(12)
    assert len(distilled.scored) == 3

    again = two_fidelities()
    make_search(store, tmp_path, evaluators=again).run(12)
    more = two_fidelities()
    make_search(store, tmp_path, evaluators=more).run(22)

    assert again[0].scored == []
    assert len(again[1].scored) == 2
    scored = distilled.scored + again[1].scored + more[1].scored
    assert len(set(scored)) == len(scored) >= 2 + 6


def test_references_stay_on_the_front_while_nobody_else_is_promoted(store: Store, tmp_path: Path) -> None:
    evaluators = [FormulaEvaluator(), FormulaEvaluator(before=stop_after(2), name="distilled")]
    with pytest.raises(KeyboardInterrupt):
        make_search(store, tmp_path, evaluators=evaluators).run(6)

    run = load_run(store, "run")

    assert len(evaluators[1].scored) == 2
    assert run.evaluator == "projected"
    assert all(item.left_out is None for item in gather(run).evidence)


def test_a_run_of_references_alone_compares_them(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, evaluators=two_fidelities()).run(2)

    run = load_run(store, "run")

    assert run.evaluator == "distilled"
    assert [item.left_out for item in gather(run).evidence] == [None, None]


def test_a_candidate_that_fails_at_the_next_fidelity_keeps_its_score(store: Store, tmp_path: Path) -> None:
    def fail(arch: Architecture) -> None:
        if arch != TEACHER and arch != squeezebert_rule(TEACHER):
            raise NonFiniteLossError(step=3, loss=float("nan"))

    evaluators = [FormulaEvaluator(), FormulaEvaluator(before=fail, name="distilled")]
    listener = Listener()

    make_search(store, tmp_path, evaluators=evaluators, listener=listener).run(6)

    run = load_run(store, "run")
    assert all(trial.state == TrialState.COMPLETE for trial in run.trials)
    assert set(listener.failures.values()) == {"loss=nan at step 3 is not finite; lower the learning rate"}
    assert run.evaluator == "projected"
