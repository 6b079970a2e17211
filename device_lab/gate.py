"""Whether a model is slower than it may be, and how often a gate that asks so cries wolf.

A gate stands between a change and its release, so it errs on the side of
letting through: it closes only where the whole interval of the ratio lies above
the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from device_lab.coverage import simulated_model
from device_lab.errors import DeviceLabError
from device_lab.measurement import Interval, Precision
from device_lab.protocol import measure
from device_lab.simulation import Scenario, SimulatedDevice
from device_lab.statistics import ratio_interval


class Verdict(StrEnum):
    """What the interval of a ratio says about its limit."""

    WITHIN = "within"
    UNDECIDED = "undecided"
    ABOVE = "above"


def judge(ratio: Interval, *, max_ratio: float) -> Verdict:
    """Return `Verdict.ABOVE` only if the lower bound exceeds ``max_ratio``, `Verdict.WITHIN` if the upper keeps it."""
    if ratio.low > max_ratio:
        return Verdict.ABOVE
    return Verdict.WITHIN if ratio.high <= max_ratio else Verdict.UNDECIDED


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRates:
    """How a gate answered over many simulated sessions: shares of `Verdict.ABOVE` and `Verdict.UNDECIDED`."""

    num_sessions: int
    above: float
    undecided: float


def simulate_gate(
    scenario: Scenario,
    *,
    true_ratio: float,
    max_ratio: float,
    precision: Precision,
    num_sessions: int,
    reference_s: float,
    seed: int,
) -> GateRates:
    """Gate a model of known ratio on fresh simulated devices, by the real scheduling and statistics.

    Args:
        scenario: What disturbs the devices.
        true_ratio: The candidate's time over the reference's.
        max_ratio: The limit of the gate.
        precision: What the sessions aim at.
        num_sessions: Devices simulated.
        reference_s: True time of one inference of the reference.
        seed: Session ``i`` draws from the generator seeded with ``seed`` and ``i``.

    Raises:
        DeviceLabError: If a session ends in an error instead of an interval.
    """
    reference, candidate = simulated_model("reference"), simulated_model("candidate")
    times_s = {reference.sha256: reference_s, candidate.sha256: true_ratio * reference_s}
    verdicts = []
    for session in range(num_sessions):
        generator = np.random.default_rng([seed, session])
        device = SimulatedDevice(times_s, scenario=scenario, generator=generator)
        (outcome,) = measure(
            [candidate],
            reference=reference,
            device=device,
            num_threads=1,
            precision=precision,
            generator=generator,
            clock=device,
        )
        if isinstance(outcome, DeviceLabError):
            raise outcome
        verdicts.append(judge(ratio_interval(outcome.blocks), max_ratio=max_ratio))
    return GateRates(
        num_sessions=num_sessions,
        above=verdicts.count(Verdict.ABOVE) / num_sessions,
        undecided=verdicts.count(Verdict.UNDECIDED) / num_sessions,
    )
