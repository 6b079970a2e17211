from __future__ import annotations

from dataclasses import replace

import pytest

from device_lab.errors import ModelMismatchError
from device_lab.measurement import Block, Reason
from device_lab.protocol import Progress
from device_lab.runner.contract import RunnerOutput
from device_lab.statistics import PRECISIONS, ratio_interval
from tests.meddled_device import (
    FAST,
    MIDDLE,
    QUICK,
    SLOW,
    MeddledDevice,
    measure_quickly,
    measured,
    simulated_device,
    slowed,
)


def test_every_round_is_bracketed_by_references_that_neighbours_share() -> None:
    simulated = simulated_device()
    device = MeddledDevice(simulated)

    fast, slow = map(measured, measure_quickly(FAST, SLOW, device=device, clock=simulated))

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
    simulated = simulated_device()

    outcomes = measure_quickly(FAST, SLOW, MIDDLE, device=simulated, clock=simulated, precision=PRECISIONS["normal"])

    ratios = [ratio_interval(measured(outcome).blocks).estimate for outcome in outcomes]
    assert ratios == pytest.approx([0.5, 2.0, 1.2], rel=0.02)
    assert {measured(outcome).reason for outcome in outcomes} == {Reason.GOAL_MET}


def test_settings_and_conditions_are_recorded_with_the_samples() -> None:
    simulated = simulated_device()

    (outcome,) = measure_quickly(FAST, device=simulated, clock=simulated)

    measurement = measured(outcome)
    settings = measurement.settings
    assert (settings.runtime, settings.runtime_version, settings.num_threads) == ("simulated", "1", 2)
    assert (settings.sequence_length, settings.batch_size) == (64, 1)
    assert measurement.conditions_before.taken_at == "0.0 s"
    assert measurement.conditions_after.taken_at == f"{simulated.monotonic_s():.1f} s"
    assert [block.index for block in measurement.blocks] == [0, 1, 2]


def test_a_candidate_that_met_its_goal_leaves_the_batch() -> None:
    simulated = simulated_device()
    # The slow one jumps by 30 % every other time, so it never settles.
    device = MeddledDevice(
        simulated, lambda name, count, output: slowed(output, 1.3 if count % 2 else 1.0) if name == "slow" else output
    )

    fast, slow = map(measured, measure_quickly(FAST, SLOW, device=device, clock=simulated))

    assert (fast.reason, len(fast.blocks)) == (Reason.GOAL_MET, 3)
    assert len(slow.blocks) > 3
    assert device.names.count("fast") == 3


def test_a_round_that_would_pass_the_budget_is_not_begun() -> None:
    simulated = simulated_device()

    (outcome,) = measure_quickly(FAST, device=simulated, clock=simulated, precision=PRECISIONS["normal"], budget_s=10.0)

    measurement = measured(outcome)
    assert measurement.reason is Reason.BUDGET
    assert 1 <= len(measurement.blocks) < 10
    assert simulated.monotonic_s() <= 10.0


def test_the_first_round_is_always_run() -> None:
    simulated = simulated_device()

    (outcome,) = measure_quickly(FAST, device=simulated, clock=simulated, budget_s=0.001)

    assert (measured(outcome).reason, len(measured(outcome).blocks)) == (Reason.BUDGET, 1)


def test_an_interrupted_session_goes_on_from_the_blocks_it_had() -> None:
    simulated = simulated_device()
    saved: list[Block] = []

    def interrupt(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        if count > 4:
            raise KeyboardInterrupt
        return output

    with pytest.raises(KeyboardInterrupt):
        measure_quickly(
            FAST,
            device=MeddledDevice(simulated, interrupt),
            clock=simulated,
            on_block=lambda model, block: saved.append(block),
        )
    device = MeddledDevice(simulated)
    (outcome,) = measure_quickly(FAST, device=device, clock=simulated, earlier_blocks={"fast": saved})

    assert len(saved) == 1
    assert measured(outcome).blocks[0] == saved[0]
    assert [block.index for block in measured(outcome).blocks] == [0, 1, 2]
    assert device.names.count("fast") == 2


def test_progress_tells_the_half_width_of_every_candidate_still_in_the_batch() -> None:
    simulated = simulated_device()
    seen: list[Progress] = []

    measure_quickly(FAST, SLOW, device=simulated, clock=simulated, on_progress=seen.append)

    first, last = seen[0], seen[-1]
    assert (first.num_blocks, first.half_width) == (1, float("inf"))
    assert {progress.model_sha256 for progress in seen[:2]} == {"fast", "slow"}
    assert (last.num_blocks, last.num_kept) == (3, 3)
    assert 0 < last.half_width <= QUICK.goal


def test_models_of_different_shapes_are_not_compared() -> None:
    simulated = simulated_device()

    with pytest.raises(ModelMismatchError, match=r"fast\.onnx: sequence_length=32, the reference has 64"):
        measure_quickly(replace(FAST, sequence_length=32), device=simulated, clock=simulated)
    with pytest.raises(ModelMismatchError, match=r"fast\.onnx: batch_size=4, the reference has 1"):
        measure_quickly(replace(FAST, batch_size=4), device=simulated, clock=simulated)
