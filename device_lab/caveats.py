"""What a reader has to know of a measurement: that it was not quiet, or that its runner printed less than ours do."""

from __future__ import annotations

import numpy as np

from device_lab.measurement import Block, Measurement, ProcessRun
from device_lab.statistics import (
    MAX_REFERENCE_CHANGE,
    block_log_ratio,
    is_disturbed,
    kept_blocks,
)

CHECKED_HERE = "outputs checked on the host"
CHECKED_THERE = "outputs checked in every run"


def where_checked(measurement: Measurement) -> str:
    """Return where the answers behind a measurement were held against torch."""
    return CHECKED_HERE if any(run.output_checked_here for run in _runs(measurement)) else CHECKED_THERE


def caveats(measurement: Measurement) -> list[str]:
    """Return sentences on blocks that disagree and on what the runner did not print; nothing if all is well."""
    found = _disagreements(measurement)
    if where_checked(measurement) == CHECKED_HERE:
        found.append(f"{CHECKED_HERE}: the runner prints no answer, so what it computed was not seen in these runs")
    statistics = sorted({run.summary.statistic for run in _runs(measurement) if run.summary is not None})
    if statistics:
        found.append(
            f"each process printed the {' or '.join(statistics)} of its inferences, no samples: "
            "there are no percentiles, and threads are as asked, not counted"
        )
    return found


def _disagreements(measurement: Measurement) -> list[str]:
    kept, total = kept_blocks(measurement.blocks), len(measurement.blocks)
    if is_disturbed(measurement.blocks):
        return [
            f"not a quiet session: {total - len(kept)} of {total} blocks were dropped; those kept need not be typical, "
            "so the interval takes in the median of all; end other work on the device and measure again"
        ]
    scatter = float(np.std([block_log_ratio(block) for block in kept], ddof=1)) if len(kept) > 1 else 0.0
    if scatter > MAX_REFERENCE_CHANGE:
        return [
            f"the candidate's processes scatter by {scatter:.0%} while the reference is steady; the ratio is their "
            "mean, and other work that hits the candidate alone counts as its own"
        ]
    return []


def _runs(measurement: Measurement) -> list[ProcessRun]:
    return [run for block in measurement.blocks for run in _of_block(block)]


def _of_block(block: Block) -> tuple[ProcessRun, ...]:
    return (block.reference_before, block.candidate, block.reference_after)
