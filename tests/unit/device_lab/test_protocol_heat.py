"""The heat gate: when a session pauses, and when it gives up."""

from __future__ import annotations

from device_lab.measurement import Reason
from device_lab.protocol import COOLDOWN_S, MAX_COOLDOWNS, Progress
from device_lab.runner.contract import RunnerOutput
from tests.meddled_device import FAST, MeddledDevice, measure_quickly, measured, simulated_device, slowed


def test_a_hot_device_is_paused_until_the_reference_is_near_its_cold_baseline() -> None:
    simulated = simulated_device()
    slept_from: list[float] = []

    def heat(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        return slowed(output, 1.2 if len(slept_from) < 2 else 1.0)

    def note(progress: Progress) -> None:
        if progress.is_cooling:
            slept_from.append(progress.elapsed_s)

    (outcome,) = measure_quickly(
        FAST, device=MeddledDevice(simulated, heat), clock=simulated, cold_baseline_ns=1e7, on_progress=note
    )

    measurement = measured(outcome)
    assert (measurement.num_cooldowns, len(slept_from)) == (2, 2)
    assert slept_from[1] - slept_from[0] >= COOLDOWN_S
    assert measurement.reason is Reason.GOAL_MET


def test_a_device_that_stays_hot_ends_as_thermal() -> None:
    simulated = simulated_device()
    device = MeddledDevice(simulated, lambda name, count, output: slowed(output, 1.2))

    (outcome,) = measure_quickly(FAST, device=device, clock=simulated, cold_baseline_ns=1e7)

    measurement = measured(outcome)
    assert (measurement.reason, measurement.num_cooldowns) == (Reason.THERMAL, MAX_COOLDOWNS)
    assert simulated.monotonic_s() >= MAX_COOLDOWNS * COOLDOWN_S


def test_without_a_cold_baseline_there_is_no_pause() -> None:
    simulated = simulated_device()

    (outcome,) = measure_quickly(FAST, device=simulated, clock=simulated)

    assert measured(outcome).num_cooldowns == 0
