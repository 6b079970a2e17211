from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from device_lab.caveats import caveats, where_checked
from device_lab.device import Device
from device_lab.errors import (
    DeviceLabError,
    DeviceLostError,
    ModelMismatchError,
    OutOfMemoryError,
    RunnerFailedError,
    RunnerOutputError,
    ThreadCountError,
    WrongOutputError,
)
from device_lab.measurement import (
    Block,
    Conditions,
    DeviceInfo,
    Measurement,
    ModelFile,
    Precision,
    Reason,
    Summary,
)
from device_lab.protocol import COOLDOWN_S, MAX_COOLDOWNS, Progress, measure, run_process
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.simulation import SCENARIOS, SimulatedDevice
from device_lab.statistics import PRECISIONS, candidate_runs, has_samples, ratio_interval
from nas.documents import from_document, to_document

QUICK = Precision(name="quick", goal=0.05, looks=(3, 4, 6), min_timed_s=0.01, min_runs=5, max_warmup_s=0.1)
TRUE_TIMES_S = {"reference": 0.010, "fast": 0.005, "slow": 0.020, "middle": 0.012}


def _model(name: str) -> ModelFile:
    return ModelFile(
        path=Path(f"{name}.onnx"),
        sha256=name,
        sequence_length=64,
        batch_size=1,
        token_limit=1000,
        expected_output=(0.25, -3.0),
    )


REFERENCE, FAST, SLOW, MIDDLE = (_model(name) for name in TRUE_TIMES_S)


def _simulated(seed: int = 0, scenario: str = "quiet") -> SimulatedDevice:
    return SimulatedDevice(TRUE_TIMES_S, scenario=SCENARIOS[scenario], generator=np.random.default_rng(seed))


@dataclass
class _Meddling:
    """The simulated device, with a chance to meddle with each run: what a broken phone would do."""

    inner: SimulatedDevice
    meddle: Callable[[str, int, RunnerOutput], RunnerOutput]
    names: list[str] = field(default_factory=list)

    @property
    def info(self) -> DeviceInfo:
        return self.inner.info

    @property
    def runtime(self) -> str:
        return self.inner.runtime

    @property
    def runtime_version(self) -> str:
        return self.inner.runtime_version

    def conditions(self) -> Conditions:
        return self.inner.conditions()

    def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
        self.names.append(model.sha256)
        return self.meddle(model.sha256, len(self.names), self.inner.run(model, request))


def _unchanged(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
    return output


def _measure(
    *candidates: ModelFile,
    device: Device,
    clock: SimulatedDevice,
    precision: Precision = QUICK,
    cold_baseline_ns: float | None = None,
    budget_s: float | None = None,
    earlier_blocks: dict[str, list[Block]] | None = None,
    on_block: Callable[[ModelFile, Block], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Measurement | DeviceLabError]:
    return measure(
        candidates,
        reference=REFERENCE,
        device=device,
        num_threads=2,
        precision=precision,
        generator=np.random.default_rng(1),
        cold_baseline_ns=cold_baseline_ns,
        budget_s=budget_s,
        earlier_blocks=earlier_blocks or {},
        on_block=on_block,
        on_progress=on_progress,
        clock=clock,
    )


def _measured(outcome: Measurement | DeviceLabError) -> Measurement:
    if isinstance(outcome, DeviceLabError):
        raise outcome
    return outcome


def test_every_round_is_bracketed_by_references_that_neighbours_share() -> None:
    simulated = _simulated()
    device = _Meddling(simulated, _unchanged)

    fast, slow = map(_measured, _measure(FAST, SLOW, device=device, clock=simulated))

    rounds = [device.names[i : i + 3] for i in range(0, len(device.names) - 1, 3)]
    assert device.names[-1] == "reference"
    assert all(names[0] == "reference" and set(names[1:]) == {"fast", "slow"} for names in rounds)
    assert len({tuple(names) for names in rounds}) == 2, "the order of the candidates is drawn anew each round"
    assert [block.reference_before for block in fast.blocks] == [block.reference_before for block in slow.blocks]
    assert [block.reference_after for block in fast.blocks[:-1]] == [
        block.reference_before for block in fast.blocks[1:]
    ]
    assert (fast.model_sha256, slow.model_sha256, fast.reference_sha256) == ("fast", "slow", "reference")


def test_the_measured_ratios_are_near_the_true_ones() -> None:
    simulated = _simulated()

    outcomes = _measure(FAST, SLOW, MIDDLE, device=simulated, clock=simulated, precision=PRECISIONS["normal"])

    ratios = [ratio_interval(_measured(outcome).blocks).estimate for outcome in outcomes]
    assert ratios == pytest.approx([0.5, 2.0, 1.2], rel=0.02)
    assert {_measured(outcome).reason for outcome in outcomes} == {Reason.GOAL_MET}


def test_settings_and_conditions_are_recorded_with_the_samples() -> None:
    simulated = _simulated()

    (outcome,) = _measure(FAST, device=simulated, clock=simulated)

    measurement = _measured(outcome)
    settings = measurement.settings
    assert (settings.runtime, settings.runtime_version, settings.num_threads) == ("simulated", "1", 2)
    assert (settings.sequence_length, settings.batch_size) == (64, 1)
    assert measurement.conditions_before.taken_at == "0.0 s"
    assert measurement.conditions_after.taken_at == f"{simulated.monotonic_s():.1f} s"
    assert [block.index for block in measurement.blocks] == [0, 1, 2]


def test_a_candidate_that_met_its_goal_leaves_the_batch() -> None:
    simulated = _simulated()
    # The slow one jumps by 30 % every other time, so it never settles.
    device = _Meddling(
        simulated, lambda name, count, output: _times(output, 1.3 if count % 2 else 1.0) if name == "slow" else output
    )

    fast, slow = map(_measured, _measure(FAST, SLOW, device=device, clock=simulated))

    assert (fast.reason, len(fast.blocks)) == (Reason.GOAL_MET, 3)
    assert len(slow.blocks) > 3
    assert device.names.count("fast") == 3


def _times(output: RunnerOutput, factor: float) -> RunnerOutput:
    return replace(output, samples_ns=tuple(int(sample * factor) for sample in output.samples_ns))


def test_a_candidate_whose_answer_is_wrong_leaves_and_the_others_go_on() -> None:
    simulated = _simulated()
    device = _Meddling(
        simulated, lambda name, count, output: replace(output, output=(0.25, -2.99)) if name == "slow" else output
    )

    fast, slow = _measure(FAST, SLOW, device=device, clock=simulated)

    assert isinstance(slow, WrongOutputError)
    assert str(slow) == "logit 1 is -2.99, torch gives -3; they may differ by 0.0001"
    assert _measured(fast).reason is Reason.GOAL_MET
    assert device.names.count("slow") == 1


def test_a_candidate_killed_for_memory_keeps_its_blocks_and_says_so() -> None:
    simulated = _simulated()

    def kill(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        if name == "slow" and count > 4:
            raise OutOfMemoryError("slow.onnx: the runner ran out of memory")
        return output

    fast, slow = map(_measured, _measure(FAST, SLOW, device=_Meddling(simulated, kill), clock=simulated))

    assert (slow.reason, len(slow.blocks)) == (Reason.OUT_OF_MEMORY, 1)
    assert fast.reason is Reason.GOAL_MET


def test_a_lost_device_keeps_every_finished_block() -> None:
    simulated = _simulated()

    def lose(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        if count > 5:
            raise DeviceLostError(serial="8A3X1", command="runner")
        return output

    fast, slow = map(_measured, _measure(FAST, SLOW, device=_Meddling(simulated, lose), clock=simulated))

    assert (fast.reason, len(fast.blocks)) == (Reason.DISCONNECTED, 1)
    assert (slow.reason, len(slow.blocks)) == (Reason.DISCONNECTED, 1)
    assert fast.conditions_after["load_1min"] == "?"


def test_a_verdict_stands_though_the_conditions_after_it_cannot_be_read() -> None:
    simulated = _simulated()

    class Mute(_Meddling):
        def conditions(self) -> Conditions:
            if self.names:
                raise DeviceLostError(serial="8A3X1", command="snapshot")
            return super().conditions()

    (outcome,) = _measure(FAST, device=Mute(simulated, _unchanged), clock=simulated)

    measurement = _measured(outcome)
    assert measurement.reason is Reason.GOAL_MET
    assert measurement.conditions_after.readings == ()


def test_a_device_lost_before_the_first_block_is_an_error_of_every_candidate() -> None:
    simulated = _simulated()

    def lose(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        raise DeviceLostError(serial="8A3X1", command="runner")

    outcomes = _measure(FAST, SLOW, device=_Meddling(simulated, lose), clock=simulated)

    assert [type(outcome) for outcome in outcomes] == [DeviceLostError, DeviceLostError]


def test_a_failing_reference_ends_those_still_in_the_batch_and_keeps_those_that_left() -> None:
    simulated = _simulated()

    def fail(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        if name == "reference" and count > 10:
            raise RunnerFailedError("reference.onnx: the runner exited with 1: no output")
        return _times(output, 1.3 if count % 2 else 1.0) if name == "slow" else output

    fast, slow = _measure(FAST, SLOW, device=_Meddling(simulated, fail), clock=simulated)

    assert _measured(fast).reason is Reason.GOAL_MET
    assert isinstance(slow, RunnerFailedError)


def test_a_hot_device_is_paused_until_the_reference_is_near_its_cold_baseline() -> None:
    simulated = _simulated()
    slept_from: list[float] = []

    def heat(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        return _times(output, 1.2 if len(slept_from) < 2 else 1.0)

    def note(progress: Progress) -> None:
        if progress.is_cooling:
            slept_from.append(progress.elapsed_s)

    (outcome,) = _measure(
        FAST, device=_Meddling(simulated, heat), clock=simulated, cold_baseline_ns=1e7, on_progress=note
    )

    measurement = _measured(outcome)
    assert (measurement.num_cooldowns, len(slept_from)) == (2, 2)
    assert slept_from[1] - slept_from[0] >= COOLDOWN_S
    assert measurement.reason is Reason.GOAL_MET


def test_a_device_that_stays_hot_ends_as_thermal() -> None:
    simulated = _simulated()
    device = _Meddling(simulated, lambda name, count, output: _times(output, 1.2))

    (outcome,) = _measure(FAST, device=device, clock=simulated, cold_baseline_ns=1e7)

    measurement = _measured(outcome)
    assert (measurement.reason, measurement.num_cooldowns) == (Reason.THERMAL, MAX_COOLDOWNS)
    assert simulated.monotonic_s() >= MAX_COOLDOWNS * COOLDOWN_S


def test_without_a_cold_baseline_there_is_no_pause() -> None:
    simulated = _simulated()

    (outcome,) = _measure(FAST, device=simulated, clock=simulated)

    assert _measured(outcome).num_cooldowns == 0


def test_a_round_that_would_pass_the_budget_is_not_begun() -> None:
    simulated = _simulated()

    (outcome,) = _measure(FAST, device=simulated, clock=simulated, precision=PRECISIONS["normal"], budget_s=10.0)

    measurement = _measured(outcome)
    assert measurement.reason is Reason.BUDGET
    assert 1 <= len(measurement.blocks) < 10
    assert simulated.monotonic_s() <= 10.0


def test_the_first_round_is_always_run() -> None:
    simulated = _simulated()

    (outcome,) = _measure(FAST, device=simulated, clock=simulated, budget_s=0.001)

    assert (_measured(outcome).reason, len(_measured(outcome).blocks)) == (Reason.BUDGET, 1)


def test_an_interrupted_session_goes_on_from_the_blocks_it_had() -> None:
    simulated = _simulated()
    saved: list[Block] = []

    def interrupt(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        if count > 4:
            raise KeyboardInterrupt
        return output

    with pytest.raises(KeyboardInterrupt):
        _measure(
            FAST,
            device=_Meddling(simulated, interrupt),
            clock=simulated,
            on_block=lambda model, block: saved.append(block),
        )
    device = _Meddling(simulated, _unchanged)
    (outcome,) = _measure(FAST, device=device, clock=simulated, earlier_blocks={"fast": saved})

    assert len(saved) == 1
    assert _measured(outcome).blocks[0] == saved[0]
    assert [block.index for block in _measured(outcome).blocks] == [0, 1, 2]
    assert device.names.count("fast") == 2


def test_progress_tells_the_half_width_of_every_candidate_still_in_the_batch() -> None:
    simulated = _simulated()
    seen: list[Progress] = []

    _measure(FAST, SLOW, device=simulated, clock=simulated, on_progress=seen.append)

    first, last = seen[0], seen[-1]
    assert (first.num_blocks, first.half_width) == (1, float("inf"))
    assert {progress.model_sha256 for progress in seen[:2]} == {"fast", "slow"}
    assert (last.num_blocks, last.num_kept) == (3, 3)
    assert 0 < last.half_width <= QUICK.goal


def test_models_of_different_shapes_are_not_compared() -> None:
    simulated = _simulated()

    with pytest.raises(ModelMismatchError, match=r"fast\.onnx: sequence_length=32, the reference has 64"):
        _measure(replace(FAST, sequence_length=32), device=simulated, clock=simulated)
    with pytest.raises(ModelMismatchError, match=r"fast\.onnx: batch_size=4, the reference has 1"):
        _measure(replace(FAST, batch_size=4), device=simulated, clock=simulated)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_threads": 1}, ThreadCountError, r"num_threads=2 was asked for, the runner used 1"),
        ({"runtime_version": "0.9"}, RunnerOutputError, r"runner is simulated 0\.9, not simulated 1; build"),
        ({"samples_ns": (1, 2)}, RunnerOutputError, r"runner printed 2 samples, at least 5 positive ones"),
        ({"samples_ns": (1, 2, 3, 4, 0)}, RunnerOutputError, r"at least 5 positive ones"),
        ({"output": (0.25,)}, WrongOutputError, r"the model gave 1 logits, torch gives 2"),
        ({"output": (float("nan"), -3.0)}, WrongOutputError, r"logit 0 is nan, torch gives 0\.25"),
    ],
)
def test_a_time_is_believed_only_if_everything_about_it_is_right(
    change: dict[str, object], error: type[DeviceLabError], message: str
) -> None:
    device = _Meddling(_simulated(), lambda name, count, output: replace(output, **change))  # type: ignore[arg-type]

    with pytest.raises(error, match=message):
        run_process(FAST, device=device, num_threads=2, precision=QUICK)


def _silent(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
    summary = Summary(statistic="median", num_runs=len(output.samples_ns))
    return replace(output, output=None, cpu_ns=None, samples_ns=output.samples_ns[:1], summary=summary)


def test_a_runner_that_prints_no_answer_is_believed_only_for_a_file_that_was_checked_on_this_machine() -> None:
    simulated = _simulated()
    device = _Meddling(simulated, _silent)

    with pytest.raises(WrongOutputError, match=r"fast.onnx: the runner prints no answer .* use a runner that prints"):
        run_process(FAST, device=device, num_threads=1, precision=QUICK)
    checked = replace(FAST, checked_here_by="litert 2.3.0")
    run = run_process(checked, device=device, num_threads=1, precision=QUICK)

    assert run.output_checked_here
    assert run.summary is not None
    assert (run.summary.statistic, len(run.samples_ns), run.cpu_ns) == ("median", 1, None)


def test_a_checked_file_is_still_held_against_an_answer_that_is_printed() -> None:
    simulated = _simulated()
    device = _Meddling(simulated, lambda name, count, output: replace(output, output=(0.25, -3.1)))

    with pytest.raises(WrongOutputError, match="logit 1"):
        run_process(replace(FAST, checked_here_by="litert"), device=device, num_threads=1, precision=QUICK)


def test_a_summary_of_too_few_inferences_is_refused() -> None:
    simulated = _simulated()

    def few(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        return replace(_silent(name, count, output), summary=Summary(statistic="average", num_runs=QUICK.min_runs - 1))

    with pytest.raises(RunnerOutputError, match=r"printed 4 samples, at least 5"):
        run_process(
            replace(FAST, checked_here_by="litert"),
            device=_Meddling(simulated, few),
            num_threads=1,
            precision=QUICK,
        )


def test_what_a_runner_did_not_print_is_said_of_the_measurement() -> None:
    simulated = _simulated()
    (whole,) = map(_measured, _measure(FAST, device=_Meddling(simulated, _unchanged), clock=simulated))
    assert (caveats(whole), where_checked(whole)) == ([], "outputs checked in every run")

    def silent_candidate(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        return _silent(name, count, output) if name == "fast" else output

    checked = replace(FAST, checked_here_by="litert 2.3.0")
    device = _Meddling(simulated, silent_candidate)
    (silent,) = map(_measured, _measure(checked, device=device, clock=simulated))

    assert where_checked(silent) == "outputs checked on the host"
    unseen, unsampled = caveats(silent)
    assert unseen.startswith("outputs checked on the host: the runner prints no answer")
    assert unsampled.startswith("each process printed the median of its inferences, no samples")
    assert not has_samples(candidate_runs(silent.blocks))
    assert from_document(Measurement, to_document(silent)) == silent
