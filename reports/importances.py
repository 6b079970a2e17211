"""Which design choices go with a better score or a lower cost, over the trials of a run.

Shapes: n = compared trials, f = features, r = resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from device_lab.measurement import Interval
from device_lab.statistics import LEVEL
from nas.records import Objective
from reports.analysis import Analysis
from reports.front import Floats
from reports.text import POSITION_NAMES
from search_spaces.architecture import GROUP_POSITIONS, Architecture

MIN_TRIALS = 10
NUM_RESAMPLES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """The rank correlation of one feature with each objective: +1 is "more of it, higher value" without exception."""

    feature: str
    correlations: tuple[tuple[Objective, Interval], ...]

    @property
    def strength(self) -> float:
        """The largest correlation in size, of any objective."""
        return max(abs(interval.estimate) for _, interval in self.correlations)


# Asked for by several parts of one report.
@lru_cache(maxsize=16_384)
def features(arch: Architecture) -> dict[str, float]:
    """Return what a design comes down to: its sizes, and its group counts as means over the layers, by name.

    Means of groups are geometric, as 4 groups lie halfway between 2 and 8.
    """
    blocks = arch.blocks
    sizes = {
        "layers": float(arch.num_hidden_layers),
        "hidden size": float(arch.hidden_size),
        "heads": sum(block.num_attention_heads for block in blocks) / len(blocks),
        "FFN width": sum(block.intermediate_size for block in blocks) / len(blocks),
    }
    # Rounded, so that the same counts in another order or depth tie, as their ranks have to.
    groups = {
        f"groups, {POSITION_NAMES[name]}": round(
            math.prod(getattr(block, name) for block in blocks) ** (1 / len(blocks)), 9
        )
        for name in GROUP_POSITIONS
    }
    return sizes | groups


def importances(analysis: Analysis) -> tuple[Importance, ...]:
    """Return every feature that varies with its rank correlations, the strongest first.

    Intervals are bootstraps over trials of the ranks. Nothing with fewer than
    `MIN_TRIALS` compared trials, where they would say nothing.
    """
    compared = analysis.compared
    if len(compared) < MIN_TRIALS:
        return ()
    described = [features(item.trial.architecture) for item in compared]
    values = {
        name: np.array([each[name] for each in described])
        for name in described[0]
        if len({each[name] for each in described}) > 1
    }
    targets = {
        objective: np.array([item.value(objective) for item in compared], dtype=np.float64)
        for objective in analysis.objectives
    }
    generator = np.random.default_rng(analysis.run.seed)
    draws = generator.integers(len(compared), size=(NUM_RESAMPLES, len(compared)))
    # How often each resample drew each trial; the ones in front are the trials as they are.
    counts = np.vstack([np.ones(len(compared)), *(np.bincount(row, minlength=len(compared)) for row in draws)])
    ranks = {name: _centred_ranks(column) for name, column in values.items()}
    goals = {objective: _centred_ranks(target) for objective, target in targets.items() if len(np.unique(target)) > 1}
    pairs = [(name, objective) for name in ranks for objective in goals]
    found_in_order = _correlations([(ranks[name], goals[each]) for name, each in pairs], counts)
    intervals = dict(zip(pairs, found_in_order, strict=True))
    found = [
        Importance(feature=name, correlations=tuple((objective, intervals[name, objective]) for objective in goals))
        for name in ranks
    ]
    return tuple(sorted((each for each in found if each.correlations), key=lambda each: -each.strength))


def importance_rows(found: Sequence[Importance]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of features with their rank correlations, in their order."""
    header = ["feature", *(objective.value for objective, _ in found[0].correlations)]
    rows = [
        [each.feature, *(f"{i.estimate:+.2f} ({i.low:+.2f} to {i.high:+.2f})" for _, i in each.correlations)]
        for each in found
    ]
    return header, rows


def _centred_ranks(values: Floats) -> Floats:
    # `scipy.stats.rankdata`, whose package takes longer to import than all else here takes together.
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    centred: Floats = (np.cumsum(counts) - (counts - 1) / 2)[places] - (len(values) + 1) / 2
    return centred


def _correlations(pairs: Sequence[tuple[Floats, Floats]], counts: Floats) -> Iterator[Interval]:
    """Yield the correlation of pairs of columns (n,) with its bootstrap interval, from ``counts`` (1 + r, n)."""
    if not pairs:
        return
    # One product for all pairs, so that the counts, which are much the largest, are read once.
    columns = [(x, y, x * x, y * y, x * y) for x, y in pairs]
    means = counts @ np.column_stack([column for each in columns for column in each]) / counts.shape[1]
    for of_pair in np.split(means, len(pairs), axis=1):
        mean, other_mean, square, other_square, product = of_pair.T
        spread = np.sqrt(np.maximum((square - mean**2) * (other_square - other_mean**2), 0.0))
        correlations = np.divide(product - mean * other_mean, spread, out=np.zeros_like(spread), where=spread > 0)
        estimate = float(correlations[0])
        low, high = np.quantile(correlations[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        yield Interval(estimate=estimate, low=min(float(low), estimate), high=max(float(high), estimate), level=LEVEL)
