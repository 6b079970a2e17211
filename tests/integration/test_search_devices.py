"""Searches on several devices, of which the worst counts; only training and the devices are stand-ins."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from device_lab.errors import DeviceLostError, OutOfMemoryError
from device_lab.measurement import ModelFile
from device_lab.runner.weights import find_generated_weights
from device_lab.statistics import PRECISIONS
from nas.errors import SettingsError, StoreError
from nas.objectives import latency_ratio
from nas.records import LatencyMode, Objective, Run, Trial, TrialState
from nas.runs import SearchRequest, load_run
from nas.side_by_side import SideBySide
from nas.store import Store, sqlite_url
from nas.timed_models import TimedModels
from nas.timing import Timer
from search_spaces.architecture import Architecture
from search_spaces.reference import squeezebert_rule
from tests.fake_parts import SEQUENCE_LENGTH, TEACHER, FormulaEvaluator, Listener, SizeDevice, make_search

MEASURED = SearchRequest(
    space="grouped", sequence_length=SEQUENCE_LENGTH, latency=LatencyMode.MEASURED, sampler="random", seed=3
)
HYBRID = replace(MEASURED, latency=LatencyMode.HYBRID)
# So much for every model that small networks have a worse ratio there, and large ones a better.
OVERHEAD_NS = 400_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(sqlite_url(tmp_path / "store.db"))


def nothing(model: ModelFile) -> None:
    pass


def two_devices(
    *, before_quick: Callable[[ModelFile], None] = nothing, before_slow: Callable[[ModelFile], None] = nothing
) -> list[SizeDevice]:
    return [SizeDevice(before_quick, name="quick"), SizeDevice(before_slow, name="slow", overhead_ns=OVERHEAD_NS)]


def ratios_of(trial: Trial) -> dict[str, float]:
    return {
        each.device.device_id: each.measurements[-1].ratio.estimate
        for each in trial.on_devices
        if each.measurements and each.measurements[-1].ratio is not None
    }


def is_lost_after(count: int) -> Callable[[ModelFile], None]:
    calls = iter(range(count))

    def before(_: ModelFile) -> None:
        if next(calls, None) is None:
            raise DeviceLostError(serial="slow", command="run", seen="end of stream")

    return before


def complete(run: Run) -> list[Trial]:
    return [trial for trial in run.trials if trial.state is TrialState.COMPLETE]


@pytest.mark.slow
def test_a_network_is_as_slow_as_on_the_device_where_it_is_worst(store: Store, tmp_path: Path) -> None:
    listener = Listener()
    make_search(store, tmp_path, request=MEASURED, device=two_devices(), listener=listener).run(8)

    run = load_run(store, "run")

    assert [device.device_id for device in run.devices] == ["quick", "slow"]
    worst_on = set()
    for trial in run.trials:
        ratios = ratios_of(trial)
        assert set(ratios) == {"quick", "slow"}
        assert latency_ratio(trial) == max(ratios.values())
        assert listener.values[trial.number][Objective.LATENCY] == pytest.approx(max(ratios.values()), rel=1e-6)
        assert trial.measurements[-1].device.device_id == max(ratios, key=lambda name: ratios[name])
        worst_on.add(trial.measurements[-1].device.device_id)
    # Both count, each for other networks.
    assert worst_on == {"quick", "slow"}


@pytest.mark.slow
def test_devices_are_measured_side_by_side_and_each_in_a_thread_of_its_own(store: Store, tmp_path: Path) -> None:
    threads: dict[str, set[int]] = {"quick": set(), "slow": set()}
    both = threading.Barrier(2, timeout=20)

    def note(name: str) -> Callable[[ModelFile], None]:
        def before(_: ModelFile) -> None:
            if not threads[name]:
                # Passed only if the other device is at work at the same time.
                both.wait()
            threads[name].add(threading.get_ident())

        return before

    devices = two_devices(before_quick=note("quick"), before_slow=note("slow"))
    make_search(store, tmp_path, request=MEASURED, device=devices).run(2)

    assert not threads["quick"] & {threading.get_ident()}
    assert not threads["slow"] & {threading.get_ident()}


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_devices_only(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, request=MEASURED, device=two_devices()).run(3)
    quick, _ = two_devices()

    with pytest.raises(SettingsError, match=r"devices is quick \(o\), slow \(o\), asked for quick \(o\), third \(o\)"):
        make_search(store, tmp_path, request=MEASURED, device=[quick, SizeDevice(name="third")])
    with pytest.raises(SettingsError, match=r"devices is quick \(o\), slow \(o\), asked for \[\]"):
        make_search(store, tmp_path, request=MEASURED, device=quick)
    make_search(store, tmp_path, request=MEASURED, device=two_devices()).run(4)

    assert len(complete(load_run(store, "run"))) == 4


@pytest.mark.slow
def test_a_run_of_a_release_that_knew_one_device_only_is_read_and_gone_on_with(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, request=MEASURED).run(2)
    study = optuna.load_study(storage=store.optuna_storage, study_name="run")
    settings = study.user_attrs["nas:settings"]
    assert settings.pop("devices") == []
    study.set_user_attr("nas:settings", settings)

    make_search(store, tmp_path, request=MEASURED).run(3)

    run = load_run(store, "run")
    assert run.devices == ()
    assert [trial.on_devices for trial in run.trials] == [()] * 3


@pytest.mark.slow
def test_a_lost_device_is_named_and_the_others_go_on(store: Store, tmp_path: Path) -> None:
    devices = two_devices(before_slow=is_lost_after(20))
    listener = Listener()

    make_search(store, tmp_path, request=MEASURED, device=devices, listener=listener).run(7)

    run = load_run(store, "run")
    failed = [trial for trial in run.trials if trial.state is TrialState.FAILED]
    assert failed
    assert complete(run)
    assert all(trial.failure is not None and trial.failure.startswith("slow: ") for trial in failed)
    assert all("quick:" not in reason for reason in listener.failures.values())
    assert all("quick" in ratios_of(trial) for trial in failed)


@pytest.mark.slow
def test_the_next_search_measures_what_a_lost_device_left_and_no_more(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, request=MEASURED, device=two_devices(before_slow=is_lost_after(20))).run(7)
    lost = {trial.architecture for trial in load_run(store, "run").trials if trial.state is TrialState.FAILED}
    evaluator, devices = FormulaEvaluator(), two_devices()

    make_search(store, tmp_path, request=MEASURED, device=devices, evaluators=[evaluator]).run(7)
    make_search(store, tmp_path, request=MEASURED, device=two_devices()).run(7)

    run = load_run(store, "run")
    assert lost <= {trial.architecture for trial in complete(run)}
    assert len({trial.architecture for trial in run.trials}) == 7
    # Nobody is tried a third time.
    assert len(run.trials) == 7 + len(lost)
    assert evaluator.scored == []
    quick, slow = devices
    # The front is timed finely on both; what the search measures lacks on the lost device only.
    assert slow.num_runs > quick.num_runs


@pytest.mark.slow
def test_a_device_that_stays_away_ends_the_search_all_the_same(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        listener = Listener()
        devices = two_devices(before_slow=is_lost_after(0))
        make_search(store, tmp_path, request=MEASURED, device=devices, listener=listener).run(5)
        assert len(listener.failures) == 5

    assert complete(load_run(store, "run")) == []


@pytest.mark.slow
def test_a_model_that_does_not_run_on_one_device_is_not_tried_again(store: Store, tmp_path: Path) -> None:
    rule = squeezebert_rule(TEACHER).arch_id

    def refuse(model: ModelFile) -> None:
        if not model.path.name.startswith(rule):
            raise OutOfMemoryError(f"{model.path.name}: killed for memory")

    for _ in range(2):
        devices = two_devices(before_slow=refuse)
        make_search(store, tmp_path, request=MEASURED, device=devices).run(4)

    run = load_run(store, "run")
    assert len(run.trials) == 4
    assert {trial.failure for trial in run.trials if trial.failure} == {
        "slow: the measurement ended with out_of_memory after 0 blocks"
    }


@pytest.mark.slow
def test_every_device_has_its_own_predictor_and_the_worst_prediction_counts(store: Store, tmp_path: Path) -> None:
    listener = Listener()
    make_search(store, tmp_path, request=HYBRID, device=two_devices(), listener=listener).run(20)

    predicted = [trial for trial in load_run(store, "run").trials if trial.predicted is not None]

    assert predicted
    assert listener.predicted
    errors = []
    rule_ns = size_ns(squeezebert_rule(TEACHER), tmp_path)
    for trial in predicted:
        assert trial.predicted is not None
        estimates = [each.predicted.estimate for each in trial.on_devices if each.predicted is not None]
        assert trial.predicted.estimate == max(estimates)
        own_ns = size_ns(trial.architecture, tmp_path)
        truth = max((own_ns + overhead) / (rule_ns + overhead) for overhead in (0, OVERHEAD_NS))
        errors.append(abs(trial.predicted.estimate / truth - 1))
    assert sum(errors) / len(errors) < 0.06


def size_ns(arch: Architecture, folder: Path) -> float:
    models = TimedModels(folder / "models", runtime="size", sequence_length=SEQUENCE_LENGTH, num_labels=2)
    size = find_generated_weights(models.export(arch).path)
    assert size is not None
    return float(size)


def stop_after(count: int) -> Callable[[ModelFile], None]:
    calls = iter(range(count))

    def before(_: ModelFile) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    return before


@pytest.mark.slow
def test_a_search_on_two_devices_that_was_stopped_ends_the_same(store: Store, tmp_path: Path) -> None:
    make_search(store, tmp_path, request=HYBRID, device=two_devices()).run(16)
    other = Store(sqlite_url(tmp_path / "other.db"))

    with pytest.raises(KeyboardInterrupt):
        make_search(other, tmp_path, request=HYBRID, device=two_devices(before_quick=stop_after(60))).run(16)
    make_search(other, tmp_path, request=HYBRID, device=two_devices()).run(16)

    whole, resumed = load_run(store, "run"), load_run(other, "run")
    assert [trial.architecture for trial in resumed.trials] == [trial.architecture for trial in whole.trials]


def test_what_ends_one_device_for_good_ends_the_others_at_their_next_round(store: Store, tmp_path: Path) -> None:
    def fail(_: ModelFile) -> None:
        raise StoreError("the disk is full")

    devices = two_devices(before_quick=fail)
    told = []
    timing = SideBySide([_timer(store, each, tmp_path) for each in devices], on_stop=lambda: told.append(True))

    with pytest.raises(StoreError, match="the disk is full"):
        timing.measure([TEACHER], precision=replace(PRECISIONS["fine"], looks=(10_000,)))

    assert told == [True]
    assert devices[1].num_runs < 10_000


def test_devices_with_different_versions_of_a_runtime_are_no_run(store: Store, tmp_path: Path) -> None:
    quick, slow = two_devices()
    slow.runtime_version = "2"

    with pytest.raises(SettingsError, match=r"quick has size 1 and slow has size 2: one run times all its devices"):
        SideBySide([_timer(store, each, tmp_path) for each in (quick, slow)])


def _timer(store: Store, device: SizeDevice, folder: Path) -> Timer:
    return Timer(
        store=store,
        device=device,
        num_threads=1,
        reference=squeezebert_rule(TEACHER),
        models=TimedModels(folder / "models", runtime=device.runtime, sequence_length=SEQUENCE_LENGTH, num_labels=2),
        seed=0,
    )
