"""What a session keeps when a candidate, the reference or the device fails in the middle of it."""

from __future__ import annotations

from dataclasses import replace

from device_lab.errors import DeviceLostError, OutOfMemoryError, RunnerFailedError, WrongOutputError
from device_lab.measurement import Conditions, Reason
from device_lab.runner.contract import RunnerOutput
from tests.meddled_device import FAST, SLOW, MeddledDevice, measure_quickly, measured, simulated_device, slowed


def test_a_candidate_whose_answer_is_wrong_leaves_and_the_others_go_on() -> None:
    simulated = simulated_device()
    device = MeddledDevice(
        simulated, lambda name, count, output: replace(output, output=(0.25, -2.99)) if name == "slow" else output
    )

    fast, slow = measure_quickly(FAST, SLOW, device=device, clock=simulated)

    assert isinstance(slow, WrongOutputError)
    assert str(slow) == "logit 1 is -2.99, torch gives -3; they may differ by 0.0001"
    assert measured(fast).reason is Reason.GOAL_MET
    assert device.names.count("slow") == 1


def test_a_candidate_killed_for_memory_keeps_its_blocks_and_says_so() -> None:
    simulated = simulated_device()

    def kill(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        if name == "slow" and count > 4:
            raise OutOfMemoryError("slow.onnx: the runner ran out of memory")
        return output

    fast, slow = map(measured, measure_quickly(FAST, SLOW, device=MeddledDevice(simulated, kill), clock=simulated))

    assert (slow.reason, len(slow.blocks)) == (Reason.OUT_OF_MEMORY, 1)
    assert fast.reason is Reason.GOAL_MET


def test_a_lost_device_keeps_every_finished_block() -> None:
    simulated = simulated_device()

    def lose(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        if count > 5:
            raise DeviceLostError(serial="8A3X1", command="runner")
        return output

    fast, slow = map(measured, measure_quickly(FAST, SLOW, device=MeddledDevice(simulated, lose), clock=simulated))

    assert (fast.reason, len(fast.blocks)) == (Reason.DISCONNECTED, 1)
    assert (slow.reason, len(slow.blocks)) == (Reason.DISCONNECTED, 1)
    assert fast.conditions_after["load_1min"] == "?"


def test_a_verdict_stands_though_the_conditions_after_it_cannot_be_read() -> None:
    simulated = simulated_device()

    device = MeddledDevice(simulated)

    def read() -> Conditions:
        if device.names:
            raise DeviceLostError(serial="8A3X1", command="snapshot")
        return simulated.conditions()

    device.read = read
    (outcome,) = measure_quickly(FAST, device=device, clock=simulated)

    measurement = measured(outcome)
    assert measurement.reason is Reason.GOAL_MET
    assert measurement.conditions_after.readings == ()


def test_a_device_lost_before_the_first_block_is_an_error_of_every_candidate() -> None:
    simulated = simulated_device()

    def lose(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        raise DeviceLostError(serial="8A3X1", command="runner")

    outcomes = measure_quickly(FAST, SLOW, device=MeddledDevice(simulated, lose), clock=simulated)

    assert [type(outcome) for outcome in outcomes] == [DeviceLostError, DeviceLostError]


def test_a_failing_reference_ends_those_still_in_the_batch_and_keeps_those_that_left() -> None:
    simulated = simulated_device()

    def fail(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        if name == "reference" and count > 10:
            raise RunnerFailedError("reference.onnx: the runner exited with 1: no output")
        return slowed(output, 1.3 if count % 2 else 1.0) if name == "slow" else output

    fast, slow = measure_quickly(FAST, SLOW, device=MeddledDevice(simulated, fail), clock=simulated)

    assert measured(fast).reason is Reason.GOAL_MET
    assert isinstance(slow, RunnerFailedError)
