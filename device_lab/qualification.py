"""Qualify a device: the reference against itself has to come out as 1.

Done once for a device, runtime and thread count, on a cold device, before any
ratio of it is believed. Also where the cold baseline of the heat gate comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from device_lab.device import Clock, Device
from device_lab.errors import DeviceLabError, DeviceNotQualifiedError
from device_lab.measurement import Block, Interval, Measurement, ModelFile, Precision, ProcessRun
from device_lab.protocol import Progress, measure, run_process
from device_lab.statistics import PRECISIONS, half_width, process_median_ns, ratio_interval

MAX_SELF_DIFFERENCE = 0.02
NUM_BASELINE_PROCESSES = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Qualification:
    """The evidence for or against one device: the reference on it cold, and against itself."""

    baseline_runs: tuple[ProcessRun, ...]
    measurement: Measurement

    @property
    def cold_baseline_ns(self) -> float:
        """Median over the baseline processes of their median times, in nanoseconds."""
        return float(np.median([process_median_ns(run) for run in self.baseline_runs]))

    @property
    def ratio(self) -> Interval:
        """Ratio of the reference to itself, with its 95 % interval.

        Raises:
            TooFewBlocksError: If fewer than two blocks were kept.
        """
        return ratio_interval(self.measurement.blocks)

    @property
    def is_qualified(self) -> bool:
        """Whether the interval contains 1.00 and is at most 2 % wide to either side."""
        width = half_width(self.measurement.blocks)
        return width <= MAX_SELF_DIFFERENCE and self.ratio.low <= 1 <= self.ratio.high

    def require(self) -> None:
        """Refuse a device that cannot tell the reference from itself.

        Raises:
            DeviceNotQualifiedError: If it is not qualified; with the figures.
            TooFewBlocksError: If fewer than two blocks were kept.
        """
        if self.is_qualified:
            return
        ratio, width = self.ratio, half_width(self.measurement.blocks)
        raise DeviceNotQualifiedError(
            f"{self.measurement.device.device_id}: the reference against itself gave {ratio.estimate:.3f} "
            f"({ratio.low:.3f} to {ratio.high:.3f}, half-width {width:.1%}); the interval must contain 1 and its "
            f"half-width be at most {MAX_SELF_DIFFERENCE:.0%}; end other work on the device and qualify it again"
        )


def qualify(
    reference: ModelFile,
    *,
    device: Device,
    num_threads: int,
    generator: np.random.Generator,
    precision: Precision = PRECISIONS["normal"],
    budget_s: float | None = None,
    on_block: Callable[[ModelFile, Block], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Clock | None = None,
) -> Qualification:
    """Measure the cold baseline of the reference, then the reference against itself.

    Returns:
        The evidence, whether it speaks for the device or against it.

    Raises:
        DeviceLabError: If the reference cannot be run; see `device_lab.protocol.run_process`.
    """
    baseline_runs = tuple(
        run_process(reference, device=device, num_threads=num_threads, precision=precision)
        for _ in range(NUM_BASELINE_PROCESSES)
    )
    baseline_ns = float(np.median([process_median_ns(run) for run in baseline_runs]))
    (outcome,) = measure(
        [reference],
        reference=reference,
        device=device,
        num_threads=num_threads,
        precision=precision,
        generator=generator,
        cold_baseline_ns=baseline_ns,
        budget_s=budget_s,
        on_block=on_block,
        on_progress=on_progress,
        clock=clock,
    )
    if isinstance(outcome, DeviceLabError):
        raise outcome
    return Qualification(baseline_runs=baseline_runs, measurement=outcome)
