"""What a reader has to know of a measurement whose runner printed less than ours do."""

from __future__ import annotations

from device_lab.measurement import Block, Measurement, ProcessRun

CHECKED_HERE = "outputs checked on the host"
CHECKED_THERE = "outputs checked in every run"


def where_checked(measurement: Measurement) -> str:
    """Return where the answers behind a measurement were held against torch."""
    return CHECKED_HERE if any(run.output_checked_here for run in _runs(measurement)) else CHECKED_THERE


def caveats(measurement: Measurement) -> list[str]:
    """Return sentences on what the runner did not print; nothing for a runner that keeps the contract."""
    found = []
    if where_checked(measurement) == CHECKED_HERE:
        found.append(f"{CHECKED_HERE}: the runner prints no answer, so what it computed was not seen in these runs")
    statistics = sorted({run.summary.statistic for run in _runs(measurement) if run.summary is not None})
    if statistics:
        found.append(
            f"each process printed the {' or '.join(statistics)} of its inferences, no samples: "
            "there are no percentiles, and threads are as asked, not counted"
        )
    return found


def _runs(measurement: Measurement) -> list[ProcessRun]:
    return [run for block in measurement.blocks for run in _of_block(block)]


def _of_block(block: Block) -> tuple[ProcessRun, ...]:
    return (block.reference_before, block.candidate, block.reference_after)
