"""When a time is believed: only with the right answer, runtime, threads and number of samples."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device_lab.caveats import caveats, where_checked
from device_lab.errors import DeviceLabError, RunnerOutputError, ThreadCountError, WrongOutputError
from device_lab.measurement import Measurement, Summary
from device_lab.protocol import run_process
from device_lab.runner.contract import RunnerOutput
from device_lab.statistics import candidate_runs, has_samples
from nas.documents import from_document, to_document
from tests.meddled_device import FAST, QUICK, MeddledDevice, measure_quickly, measured, simulated_device


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
    device = MeddledDevice(simulated_device(), lambda name, count, output: replace(output, **change))  # type: ignore[arg-type]

    with pytest.raises(error, match=message):
        run_process(FAST, device=device, num_threads=2, precision=QUICK)


def _silent(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
    summary = Summary(statistic="median", num_runs=len(output.samples_ns))
    return replace(output, output=None, cpu_ns=None, samples_ns=output.samples_ns[:1], summary=summary)


def test_a_runner_that_prints_no_answer_is_believed_only_for_a_file_that_was_checked_on_this_machine() -> None:
    simulated = simulated_device()
    device = MeddledDevice(simulated, _silent)

    with pytest.raises(WrongOutputError, match=r"fast.onnx: the runner prints no answer .* use a runner that prints"):
        run_process(FAST, device=device, num_threads=1, precision=QUICK)
    checked = replace(FAST, checked_here_by="litert 2.3.0")
    run = run_process(checked, device=device, num_threads=1, precision=QUICK)

    assert run.output_checked_here
    assert run.summary is not None
    assert (run.summary.statistic, len(run.samples_ns), run.cpu_ns) == ("median", 1, None)


def test_a_checked_file_is_still_held_against_an_answer_that_is_printed() -> None:
    simulated = simulated_device()
    device = MeddledDevice(simulated, lambda name, count, output: replace(output, output=(0.25, -3.1)))

    with pytest.raises(WrongOutputError, match="logit 1"):
        run_process(replace(FAST, checked_here_by="litert"), device=device, num_threads=1, precision=QUICK)


def test_a_wrong_answer_is_held_against_whoever_gave_the_right_one() -> None:
    device = MeddledDevice(simulated_device(), lambda name, count, output: replace(output, output=(0.25, -3.1)))
    fast = replace(FAST, answered_by="ONNX Runtime 9 without optimisations")

    with pytest.raises(WrongOutputError, match=r"logit 1 is -3\.1, ONNX Runtime 9 without optimisations gives -3;"):
        run_process(fast, device=device, num_threads=1, precision=QUICK)


def test_a_summary_of_too_few_inferences_is_refused() -> None:
    simulated = simulated_device()

    def few(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        return replace(_silent(name, count, output), summary=Summary(statistic="average", num_runs=QUICK.min_runs - 1))

    with pytest.raises(RunnerOutputError, match=r"printed 4 samples, at least 5"):
        run_process(
            replace(FAST, checked_here_by="litert"),
            device=MeddledDevice(simulated, few),
            num_threads=1,
            precision=QUICK,
        )


def test_what_a_runner_did_not_print_is_said_of_the_measurement() -> None:
    simulated = simulated_device()
    (whole,) = map(measured, measure_quickly(FAST, device=MeddledDevice(simulated), clock=simulated))
    assert (caveats(whole), where_checked(whole)) == ([], "outputs checked in every run")

    def silent_candidate(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        return _silent(name, count, output) if name == "fast" else output

    checked = replace(FAST, checked_here_by="litert 2.3.0")
    device = MeddledDevice(simulated, silent_candidate)
    (silent,) = map(measured, measure_quickly(checked, device=device, clock=simulated))

    assert where_checked(silent) == "outputs checked on the host"
    unseen, unsampled = caveats(silent)
    assert unseen.startswith("outputs checked on the host: the runner prints no answer")
    assert unsampled.startswith("each process printed the median of its inferences, no samples")
    assert not has_samples(candidate_runs(silent.blocks))
    assert from_document(Measurement, to_document(silent)) == silent
