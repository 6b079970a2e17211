"""The data a page carries for its script and for readers who want to check it."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from scipy.special import stdtrit

from device_lab.measurement import Interval, ProcessRun
from device_lab.statistics import INTERVAL_FACTOR, LEVEL, MAX_DROPPED_SHARE, median_rank, process_median_ns
from device_lab.worst import shared_level
from reports.analysis import Analysis
from reports.document import processes
from reports.evidence import DeviceRatio, Evidence
from reports.figures import pointed_out
from reports.tables import model_name, shown_rows

# A page has to stay small enough to mail: beyond this it keeps every median, and report.json the samples.
MAX_SAMPLES = 80_000
MAX_KEPT_BLOCKS = 200


def page_data(analysis: Analysis) -> Markup:
    """Return what the page's script works on, as JSON that is safe inside a script element.

    ``blocks`` lists, for each trial with a ratio whose samples are here, on each of
    its devices, positions in ``medians_ns`` of the reference before, the candidate
    and the reference after, and whether the block was kept. ``half_width_factors``
    by number of kept blocks turn their
    standard deviation into the half-width of the log ratio. Where more than
    ``max_dropped_share`` of the blocks were dropped, the interval takes in the
    blocks at the rank that ``median_ranks`` has for their number, from below and
    from above. Those that begin with ``low_`` are for the lower bounds, which several
    devices share. ``samples_gzip``
    holds the sorted samples of every process as differences, if they are few
    enough.
    """
    by_id = processes(analysis)
    positions = {run_id: i for i, run_id in enumerate(by_id)}
    front = {item.trial.number for item in analysis.front}
    low_level = shared_level(LEVEL, len(analysis.bench.devices) or 1) if analysis.bench is not None else LEVEL
    document = {
        "points": pointed_out(analysis),
        "trials": {item.trial.number: _trial(item, analysis, front=front) for item in shown_rows(analysis)},
        "metric": analysis.metric,
        "backend": analysis.bench.label if analysis.bench else None,
        "medians_ns": [process_median_ns(process) for process in by_id.values()],
        "blocks": {item.trial.number: _blocks(item, positions) for item in analysis.evidence if item.has_samples},
        "half_width_factors": _half_width_factors(LEVEL),
        "low_half_width_factors": _half_width_factors(low_level),
        "max_dropped_share": MAX_DROPPED_SHARE,
        "median_ranks": _median_ranks(LEVEL),
        "low_median_ranks": _median_ranks(low_level),
        "samples_gzip": _samples(tuple(by_id.values())),
    }
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    # Inside a script element only these could end it or start a comment.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _trial(item: Evidence, analysis: Analysis, *, front: set[int]) -> dict[str, object]:
    percentiles = analysis.milliseconds.get(item.trial.number)
    return {
        "name": model_name(item),
        "accuracy": _rounded(item.accuracy),
        "ratio": _rounded(item.ratio),
        "ms": [round(p.estimate, 4) for p in (percentiles.p50, percentiles.p90, percentiles.p99)]
        if percentiles
        else None,
        "macs": item.trial.cost.macs,
        "parameters": item.trial.cost.parameters,
        "front": item.trial.number in front,
        "probability": analysis.probabilities.get(item.trial.number),
    }


def _rounded(interval: Interval | None) -> list[float] | None:
    return [round(value, 6) for value in (interval.estimate, interval.low, interval.high)] if interval else None


def _blocks(item: Evidence, positions: Mapping[str, int]) -> list[list[list[int]]]:
    return [_blocks_of(each, positions) for each in item.on_devices or (item,)]


def _blocks_of(item: Evidence | DeviceRatio, positions: Mapping[str, int]) -> list[list[int]]:
    blocks = (item.measurement.blocks if item.measurement else None) or ()
    kept = {block.index for block in item.kept}
    return [
        [
            positions[block.reference_before.run_id],
            positions[block.candidate.run_id],
            positions[block.reference_after.run_id],
            int(block.index in kept),
        ]
        for block in blocks
    ]


def _median_ranks(level: float) -> list[int]:
    return [median_rank(count, level=level) for count in range(MAX_KEPT_BLOCKS + 1)]


def _half_width_factors(level: float) -> list[float | None]:
    """Return t x widening / sqrt(n) for n kept blocks; nothing below two."""
    return [
        float(INTERVAL_FACTOR * stdtrit(n - 1, (1 + level) / 2) / math.sqrt(n)) if n >= 2 else None
        for n in range(MAX_KEPT_BLOCKS + 1)
    ]


def _samples(runs: Sequence[ProcessRun]) -> str | None:
    if sum(len(run.samples_ns) for run in runs) > MAX_SAMPLES:
        return None
    # Differences of sorted samples are small numbers, which compress to a third.
    differences = [np.diff(np.sort(run.samples_ns), prepend=0).tolist() for run in runs]
    packed = gzip.compress(json.dumps(differences, separators=(",", ":")).encode(), mtime=0)
    return base64.b64encode(packed).decode()
