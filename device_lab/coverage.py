"""How often the protocol's intervals contain the truth, by simulated sessions of the real scheduling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_lab.device import Device
from device_lab.errors import DeviceLabError
from device_lab.measurement import ModelFile, Precision, Reason
from device_lab.protocol import measure
from device_lab.simulation import Scenario, SimulatedDevice
from device_lab.statistics import half_width, is_disturbed, ratio_interval

_REFERENCE = "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What many simulated sessions of one scenario came to.

    ``covered`` is a share of the intervals, ``goal_met`` one of all outcomes, as is
    ``explained``: that of an interval as narrow as asked, or of a reason why not. An
    outcome of fewer than two kept blocks has no interval. ``told`` is the share of
    intervals that contain the truth, or whose measurement missed its goal or is
    not quiet and says so; ``median_width`` that of their half-widths;
    ``root_mean_square_error`` is that of the log ratio, ``duration_s`` the mean
    simulated time for each candidate.
    """

    num_intervals: int
    covered: float
    told: float
    median_width: float
    goal_met: float
    explained: float
    num_blocks: float
    root_mean_square_error: float
    duration_s: float


def simulate_coverage(
    scenario: Scenario,
    *,
    precision: Precision,
    num_sessions: int,
    num_candidates: int,
    reference_s: float,
    has_heat_gate: bool,
    seed: int,
    through: Callable[[SimulatedDevice], Device] = lambda simulated: simulated,
) -> Coverage:
    """Run sessions of fresh simulated devices, each with candidates of 0.4 to 1.6 times the reference.

    Args:
        scenario: What disturbs the devices.
        precision: What the sessions aim at.
        num_sessions: Devices simulated.
        num_candidates: Candidates that share the references of one session.
        reference_s: True time of one inference of the reference.
        has_heat_gate: Whether the sessions know the cold baseline.
        seed: Session ``i`` draws from the generator seeded with ``seed`` and ``i``.
        through: Returns the device the protocol sees; one that hands on what the simulated one answers.

    Raises:
        DeviceLabError: If a session ends in an error instead of a measurement.
    """
    errors, widths, covered, told, goal_met, explained, num_blocks, duration_s = [], [], 0, 0, 0, 0, 0, 0.0
    candidates = [simulated_model(f"candidate-{i}") for i in range(num_candidates)]
    for session in range(num_sessions):
        generator = np.random.default_rng([seed, session])
        ratios = generator.uniform(0.4, 1.6, num_candidates)
        times_s = {model.sha256: reference_s * ratio for model, ratio in zip(candidates, ratios, strict=True)}
        device = SimulatedDevice({_REFERENCE: reference_s} | times_s, scenario=scenario, generator=generator)
        outcomes = measure(
            candidates,
            reference=simulated_model(_REFERENCE),
            device=through(device),
            num_threads=1,
            precision=precision,
            generator=generator,
            cold_baseline_ns=reference_s * 1e9 if has_heat_gate else None,
            clock=device,
        )
        duration_s += device.monotonic_s()
        for ratio, outcome in zip(ratios.tolist(), outcomes, strict=True):
            if isinstance(outcome, DeviceLabError):
                raise outcome
            goal_met += outcome.reason is Reason.GOAL_MET
            explained += outcome.reason is not Reason.GOAL_MET or half_width(outcome.blocks) <= precision.goal
            num_blocks += len(outcome.blocks)
            if math.isfinite(half_width(outcome.blocks)):
                interval = ratio_interval(outcome.blocks)
                is_covered = interval.low <= ratio <= interval.high
                covered += is_covered
                told += is_covered or outcome.reason is not Reason.GOAL_MET or is_disturbed(outcome.blocks)
                widths.append(math.log(interval.high / interval.low) / 2)
                errors.append(math.log(interval.estimate / ratio))
    num_outcomes = num_sessions * num_candidates
    return Coverage(
        num_intervals=len(errors),
        covered=covered / len(errors),
        told=told / len(errors),
        median_width=float(np.median(widths)),
        goal_met=goal_met / num_outcomes,
        explained=explained / num_outcomes,
        num_blocks=num_blocks / num_outcomes,
        root_mean_square_error=math.sqrt(sum(error * error for error in errors) / len(errors)),
        duration_s=duration_s / num_outcomes,
    )


def simulated_model(name: str) -> ModelFile:
    """Return a model for a `SimulatedDevice`, which knows it by its ``sha256``: its name."""
    return ModelFile(
        path=Path(name), sha256=name, sequence_length=1, batch_size=1, token_limit=1, expected_output=(0.0,)
    )
