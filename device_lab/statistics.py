"""What the samples say: ratios with intervals, when to stop, percentiles, drift.

Pure functions of the blocks of a measurement. A block is
``log median(C) - (log median(R before) + log median(R after)) / 2``, so whatever
slows candidate and reference alike, and linearly in time, cancels. Consecutive
blocks share a reference, which makes their mean noisier than independent blocks
would be: with n blocks of equal noise s in every process, the variance of the
mean is close to 2 s^2 / n while the sample variance of the blocks suggests
1.5 s^2 / n, which asks for intervals 1.155 times as wide. `INTERVAL_FACTOR` is
that and 4 % more for the repeated looks, chosen by simulation
(benchmarks/protocol_coverage.py).

Dropping blocks chooses among them, which is harmless while it is rare: what is
left then agrees because nothing disturbed it. Where most blocks go, a few are
left that agree by chance, and those whose references were both quick while the
candidate was not. So once more than `MAX_DROPPED_SHARE` are dropped, the
interval takes in that of the median of all blocks, which needs nothing but that
most of them are equally likely to be too high and too low
(benchmarks/dropped_blocks.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtrit

from device_lab.errors import TooFewBlocksError
from device_lab.measurement import Block, Interval, Precision, ProcessRun, Reason

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEVEL = 0.95
INTERVAL_FACTOR = 1.20
MAX_REFERENCE_CHANGE = 0.05
MAX_DEVIATIONS = 4.0
# Fewer have no interval.
MIN_KEPT_BLOCKS = 2
MAX_DROPPED_SHARE = 0.4
_NOISY_SHARE = 0.25
# Resample-by-sample weights held at once, 8 bytes each: as many as a core has fast memory for.
_MAX_WEIGHTS = 50_000

PRECISIONS = MappingProxyType(
    {
        precision.name: precision
        for precision in (
            Precision(name="coarse", goal=0.05, looks=(5, 8, 12, 16), min_timed_s=0.1, min_runs=5, max_warmup_s=0.3),
            Precision(name="normal", goal=0.02, looks=(10, 14, 20, 28, 40), min_timed_s=1.0),
            Precision(name="fine", goal=0.01, looks=(10, 14, 20, 28, 40, 56, 80), min_timed_s=1.0),
        )
    }
)


def process_median_ns(run: ProcessRun) -> float:
    """Return the median wall-clock time of the timed inferences of one process, in nanoseconds."""
    samples, middle = sorted(run.samples_ns), len(run.samples_ns) // 2
    return float(samples[middle]) if len(samples) % 2 else (samples[middle - 1] + samples[middle]) / 2


def block_medians_ns(blocks: Sequence[Block]) -> Floats:
    """Return the medians of processes by block, (n, 3): reference before, candidate, reference after, nanoseconds."""
    medians: dict[int, float] = {}

    def median_ns(run: ProcessRun) -> float:
        # Consecutive blocks share a reference.
        if id(run) not in medians:
            medians[id(run)] = process_median_ns(run)
        return medians[id(run)]

    rows = [[median_ns(run) for run in (b.reference_before, b.candidate, b.reference_after)] for b in blocks]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def block_log_ratio(block: Block) -> float:
    """Return the log ratio of candidate to reference in one block."""
    return float(_log_ratios(block_medians_ns([block]))[0])


def reference_change(block: Block) -> float:
    """Return the log ratio of the two references of a block, after over before."""
    return float(_reference_changes(block_medians_ns([block]))[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """What the medians of n blocks say.

    ``log_ratios`` (n,) are of candidate to reference, ``is_kept`` (n,) tells the
    blocks that count. ``ratio`` is ``None`` if fewer than two do, and
    ``half_width``, the larger distance from its logarithm to a bound, is then
    infinite. ``is_disturbed`` if more than two fifths of the blocks were
    dropped, so that those kept need not be typical.
    """

    log_ratios: Floats
    is_kept: Bools
    ratio: Interval | None
    half_width: float
    is_disturbed: bool

    @property
    def num_kept(self) -> int:
        """How many blocks count."""
        return int(self.is_kept.sum())


def find(medians_ns: Floats) -> Findings:
    """Return what blocks say by the medians of their processes, see `block_medians_ns`.

    A block is dropped if its two references differ by more than 5 %. Of the
    others, one is dropped if it lies further from their median than 5 % and
    than `MAX_DEVIATIONS` robust standard deviations (1.4826 times the median
    absolute deviation): other work hit its candidate alone.

    The ratio has a t interval over the kept blocks, widened by
    `INTERVAL_FACTOR`, on the log scale and exponentiated: below 1 means faster
    than the reference. Of blocks that are disturbed it takes in the interval of
    the median of them all.
    """
    log_ratios = _log_ratios(medians_ns)
    is_kept = np.abs(_reference_changes(medians_ns)) <= MAX_REFERENCE_CHANGE
    if is_kept.any():
        distances = np.abs(log_ratios - _median(log_ratios[is_kept]))
        is_kept &= distances <= max(MAX_REFERENCE_CHANGE, MAX_DEVIATIONS * 1.4826 * _median(distances[is_kept]))
    is_disturbed = len(log_ratios) - int(is_kept.sum()) > MAX_DROPPED_SHARE * len(log_ratios)
    ratio, half_width = None, math.inf
    if is_kept.sum() >= MIN_KEPT_BLOCKS:
        centre, low, high = _log_interval(log_ratios, is_kept, is_disturbed=is_disturbed)
        half_width = max(high - centre, centre - low)
        ratio = Interval(estimate=math.exp(centre), low=math.exp(low), high=math.exp(high), level=LEVEL)
    return Findings(
        log_ratios=log_ratios, is_kept=is_kept, ratio=ratio, half_width=half_width, is_disturbed=is_disturbed
    )


def kept_blocks(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Return the blocks that count, in order; see `find`.

    Always ask with all blocks: those that were kept have another median, and would lose more.
    """
    blocks = tuple(blocks)
    is_kept = find(block_medians_ns(blocks)).is_kept
    return tuple(block for block, kept in zip(blocks, is_kept.tolist(), strict=True) if kept)


def is_disturbed(blocks: Sequence[Block]) -> bool:
    """Return whether more than two fifths of the blocks were dropped, so that those kept need not be typical."""
    return find(block_medians_ns(blocks)).is_disturbed


def half_width(blocks: Sequence[Block]) -> float:
    """Return the larger distance from the log ratio to a bound of its interval; infinite below two kept blocks."""
    return find(block_medians_ns(blocks)).half_width


def ratio_interval(blocks: Sequence[Block], *, level: float = LEVEL) -> Interval:
    """Return the ratio of candidate to reference with its interval, 95 % unless told otherwise; see `find`.

    Raises:
        TooFewBlocksError: If fewer than two blocks were kept.
    """
    found = find(block_medians_ns(blocks))
    if found.ratio is None:
        raise TooFewBlocksError(num_kept=found.num_kept, num_blocks=len(blocks))
    return interval_at(found, level=level)


def interval_at(findings: Findings, *, level: float) -> Interval:
    """Return the ratio that findings have with its interval at another level."""
    centre, low, high = _log_interval(
        findings.log_ratios, findings.is_kept, is_disturbed=findings.is_disturbed, level=level
    )
    return Interval(estimate=math.exp(centre), low=math.exp(low), high=math.exp(high), level=level)


def median_rank(count: int, *, level: float = LEVEL) -> int:
    """Return r so that the r-th smallest and the r-th largest of ``count`` values bound the 95 % of their median.

    Below six values not even the smallest and the largest do; the rank is 1 there.
    """
    rank = 1
    while bdtr(rank, count, 0.5) <= (1 - level) / 2:
        rank += 1
    return rank


def decide(blocks: Sequence[Block], *, precision: Precision) -> Reason | None:
    """Return why to stop after ``blocks``, or ``None`` to go on.

    Looks only after the numbers of kept blocks that ``precision`` names. The
    goal missed at the last look, or twice that many blocks with the dropped
    ones, ends the measurement: `Reason.NOISY_REFERENCE` when more than a
    quarter of the blocks were dropped, else `Reason.BUDGET`.
    """
    found = find(block_medians_ns(blocks))
    num_kept = found.num_kept
    if num_kept in precision.looks and found.half_width <= precision.goal:
        return Reason.GOAL_MET
    last_look = precision.looks[-1]
    if num_kept < last_look and len(blocks) < 2 * last_look:
        return None
    num_dropped = len(blocks) - num_kept
    return Reason.NOISY_REFERENCE if num_dropped > _NOISY_SHARE * len(blocks) else Reason.BUDGET


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Latency of one inference in milliseconds, each with its 95 % interval."""

    p50: Interval
    p90: Interval
    p99: Interval


def percentiles_ms(
    runs: Sequence[ProcessRun], *, generator: np.random.Generator, num_resamples: int = 1000
) -> Percentiles:
    """Return p50, p90 and p99 over processes, by bootstrap of whole processes.

    Every process weighs the same, however many inferences it timed. Inferences
    of one process are not independent, so processes are drawn, never samples.
    Without resamples the bounds are the estimates.
    Only for processes that printed `has_samples`.

    Raises:
        TooFewBlocksError: If there is no process.
    """
    if not runs:
        raise TooFewBlocksError(num_kept=0, num_blocks=0)
    sizes = np.array([len(run.samples_ns) for run in runs])
    samples_ms = np.concatenate([np.asarray(run.samples_ns, dtype=np.float64) for run in runs]) / 1e6
    order = np.argsort(samples_ms)
    owners = np.repeat(np.arange(len(runs)), sizes)[order]
    samples_ms = samples_ms[order]
    draws = generator.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=num_resamples)
    (observed,) = _weighted_quantiles(samples_ms, (1 / sizes)[np.newaxis, owners])
    low, high = observed, observed
    if num_resamples:
        num_slices = min(num_resamples, 1 + num_resamples * len(owners) // _MAX_WEIGHTS)
        slices = np.array_split(draws / sizes, num_slices)
        resampled = np.concatenate([_weighted_quantiles(samples_ms, each[:, owners]) for each in slices])
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    p50, p90, p99 = (
        Interval(
            estimate=float(estimate), low=float(min(bottom, estimate)), high=float(max(top, estimate)), level=LEVEL
        )
        for estimate, bottom, top in zip(observed, low, high, strict=True)
    )
    return Percentiles(p50=p50, p90=p90, p99=p99)


def peak_memory_bytes(runs: Iterable[ProcessRun]) -> int | None:
    """Return the largest peak of memory of any process, runner and engine included; ``None`` if none was told."""
    return max((run.peak_rss_bytes for run in runs if run.peak_rss_bytes is not None), default=None)


def has_samples(runs: Iterable[ProcessRun]) -> bool:
    """Return whether every process printed its samples; one that summed them up has a time but no percentiles."""
    return all(run.summary is None for run in runs)


def candidate_runs(blocks: Iterable[Block]) -> tuple[ProcessRun, ...]:
    """Return the processes of the candidate, in the order run."""
    return tuple(block.candidate for block in blocks)


def reference_runs(blocks: Iterable[Block]) -> tuple[ProcessRun, ...]:
    """Return the processes of the reference in the order run, each once though blocks share them."""
    runs = {run.run_id: run for block in blocks for run in (block.reference_before, block.reference_after)}
    return tuple(runs.values())


def heat_slope(blocks: Sequence[Block]) -> float:
    """Return the drift of the reference: the slope of its log median time per block, 0.01 for 1 % slower each.

    Fitted by least squares over all reference processes of ``blocks``, dropped blocks too.

    Raises:
        TooFewBlocksError: If there is no block.
    """
    if not blocks:
        raise TooFewBlocksError(num_kept=0, num_blocks=0)
    logs = np.log([process_median_ns(run) for run in reference_runs(blocks)])
    steps = np.arange(len(logs)) - (len(logs) - 1) / 2
    return float(steps @ logs / (steps @ steps))


def busy_cores(runs: Iterable[ProcessRun]) -> float:
    """Return cpu time over wall-clock time of the timed parts: how many cores were at work; NaN if one is unknown."""
    both = [(math.nan if run.cpu_ns is None else run.cpu_ns, run.wall_ns) for run in runs]
    cpu_ns, wall_ns = np.sum(both, axis=0)
    return float(cpu_ns / wall_ns)


def _log_ratios(medians_ns: Floats) -> Floats:
    logs: Floats = np.log(medians_ns)
    ratios: Floats = logs[:, 1] - (logs[:, 0] + logs[:, 2]) / 2
    return ratios


def _reference_changes(medians_ns: Floats) -> Floats:
    changes: Floats = np.log(medians_ns[:, 2] / medians_ns[:, 0])
    return changes


def _median(values: Floats) -> float:
    # What `np.median` gives, in a third of its time for the few values a measurement has.
    middle = len(values) // 2
    ordered = np.sort(values)
    return float(ordered[middle]) if len(values) % 2 else float(ordered[middle - 1] + ordered[middle]) / 2


def _log_interval(
    log_ratios: Floats, is_kept: Bools, *, is_disturbed: bool, level: float = LEVEL
) -> tuple[float, float, float]:
    """Return the log ratio of two or more kept blocks, and the bounds of its interval."""
    kept = log_ratios[is_kept]
    quantile = _student_quantile(len(kept) - 1, (1 + level) / 2)
    centre = float(kept.mean())
    distances = kept - centre
    # What `kept.std(ddof=1)` gives, in a fifth of its time.
    deviation = math.sqrt(float(distances @ distances) / (len(kept) - 1))
    half = INTERVAL_FACTOR * quantile * deviation / math.sqrt(len(kept))
    low, high = centre - half, centre + half
    if is_disturbed:
        everything = np.sort(log_ratios)
        rank = median_rank(len(everything), level=level)
        low, high = min(low, float(everything[rank - 1])), max(high, float(everything[-rank]))
    return centre, low, high


@cache
def _student_quantile(degrees: int, probability: float) -> float:
    return float(stdtrit(degrees, probability))


def _weighted_quantiles(sorted_values: Floats, weights: Floats) -> Floats:
    """Return the smallest values below or at which 50, 90 and 99 % of each row of ``weights`` (r, n) lie, as (r, 3)."""
    cumulative = np.cumsum(weights, axis=1)
    # The slack keeps a share that is exact in theory from being missed by a rounding of the sum.
    targets = cumulative[:, -1:] * (1 - 1e-12) * np.array([0.50, 0.90, 0.99])
    positions = [np.searchsorted(row, target) for row, target in zip(cumulative, targets, strict=True)]
    quantiles: Floats = sorted_values[np.array(positions)]
    return quantiles
