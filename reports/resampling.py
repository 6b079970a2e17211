"""Objectives of trials as losses, and how they would have come out had everything been measured again.

Shapes: n = trials, d = objectives, r = resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from device_lab.measurement import Interval
from device_lab.statistics import INTERVAL_FACTOR, block_log_ratio
from nas.records import Objective, Role
from reports.evidence import Evidence
from reports.front import Floats

NUM_RESAMPLES = 500


def losses_of(items: Sequence[Evidence], objectives: Sequence[Objective]) -> Floats:
    """Return the objectives of each trial as losses (n, d): accuracy as ``1 - accuracy``, costs as they are."""
    losses = np.empty((len(items), len(objectives)))
    for i, item in enumerate(items):
        for j, objective in enumerate(objectives):
            # A compared trial has every objective; NaN would show if that broke.
            value = item.value(objective)
            losses[i, j] = np.nan if value is None else _loss(objective, value)
    return losses


def resampled_losses(
    items: Sequence[Evidence], objectives: Sequence[Objective], generator: np.random.Generator
) -> Floats:
    """Draw the losses anew (r, n, d): ratios by bootstrap of their kept blocks, accuracies around their interval."""
    resampled = np.repeat(losses_of(items, objectives)[np.newaxis], NUM_RESAMPLES, axis=0)
    for i, item in enumerate(items):
        for j, objective in enumerate(objectives):
            if objective is Objective.ACCURACY and item.accuracy is not None:
                resampled[:, i, j] = 1 - _accuracy_draws(item.accuracy, generator)
            elif objective is Objective.LATENCY and item.trial.role is not Role.SQUEEZEBERT_RULE:
                resampled[:, i, j] = _ratio_draws(item, generator)
    return resampled


def _loss(objective: Objective, value: float) -> float:
    return 1 - value if objective is Objective.ACCURACY else value


def _accuracy_draws(interval: Interval, generator: np.random.Generator) -> Floats:
    # Only the interval of the bootstrap over examples is stored, so its normal approximation stands in for it.
    deviation = (interval.high - interval.low) / 2 / NormalDist().inv_cdf((1 + interval.level) / 2)
    return generator.normal(interval.estimate, deviation, size=NUM_RESAMPLES)


def _ratio_draws(item: Evidence, generator: np.random.Generator) -> Floats:
    log_ratios = np.array([block_log_ratio(block) for block in item.kept])
    draws = generator.integers(len(log_ratios), size=(NUM_RESAMPLES, len(log_ratios)))
    means = log_ratios[draws].mean(axis=1)
    centre = log_ratios.mean()
    return np.asarray(np.exp(centre + INTERVAL_FACTOR * (means - centre)))
