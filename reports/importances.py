"""Which design choices go with a better score or a lower cost, over the trials of a run.

Shapes: n = compared trials, f = features, r = resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

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


def features(arch: Architecture) -> dict[str, float]:
    """Return what a design comes down to: its sizes, and its group counts as means over the layers, by name.

    Means of groups are geometric, as 4 groups lie halfway between 2 and 8.
    """
    blocks = arch.blocks
    sizes = {
        "layers": float(arch.num_hidden_layers),
        "hidden size": float(arch.hidden_size),
        "heads": float(np.mean([block.num_attention_heads for block in blocks])),
        "FFN width": float(np.mean([block.intermediate_size for block in blocks])),
    }
    groups = {
        f"groups, {POSITION_NAMES[name]}": float(np.exp(np.mean([np.log(getattr(block, name)) for block in blocks])))
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
    found = [
        Importance(
            feature=name,
            correlations=tuple(
                (objective, _rank_correlation(column, target, draws))
                for objective, target in targets.items()
                if len(np.unique(target)) > 1
            ),
        )
        for name, column in values.items()
    ]
    return tuple(sorted((each for each in found if each.correlations), key=lambda each: -each.strength))


def _rank_correlation(
    first: Floats, second: Floats, draws: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> Interval:
    ranks = np.vstack([rankdata(first), rankdata(second)])
    estimate = float(np.asarray(np.corrcoef(ranks))[0, 1])
    x, y = (row[draws] - row[draws].mean(axis=1, keepdims=True) for row in ranks)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    resampled = np.divide((x * y).sum(axis=1), spread, out=np.zeros_like(spread), where=spread > 0)
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate=estimate, low=min(float(low), estimate), high=max(float(high), estimate), level=LEVEL)
