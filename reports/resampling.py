"""Objectives of trials as losses, and how they would have come out had everything been measured again.

Shapes: n = trials, d = objectives, r = resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from device_lab.measurement import Interval
from device_lab.statistics import INTERVAL_FACTOR
from nas.outcomes import unpack_outcomes
from nas.records import Objective, Role, Run
from reports.evidence import DeviceRatio, Evidence, missed_constraint
from reports.front import Bools, Floats, non_dominated

NUM_RESAMPLES = 500
# The mean of so many blocks drawn anew is normal for all that can be seen, and is drawn as such.
MANY_BLOCKS = 40
_DRAWN_AT_ONCE = 50


def losses_of(items: Sequence[Evidence], objectives: Sequence[Objective]) -> Floats:
    """Return the objectives of each trial as losses (n, d): accuracy as ``1 - accuracy``, costs as they are."""
    losses = np.empty((len(items), len(objectives)))
    for i, item in enumerate(items):
        for j, objective in enumerate(objectives):
            # A compared trial has every objective; NaN would show if that broke.
            value = item.value(objective)
            losses[i, j] = np.nan if value is None else _loss(objective, value)
    return losses


def feasible_front(run: Run, compared: Sequence[Evidence], losses: Floats) -> Bools:
    """Tell who is on the front: a reference that misses the run's constraints is compared with, but never chosen."""
    is_feasible = np.array([missed_constraint(item, run) is None for item in compared], dtype=np.bool_)
    on_front = np.zeros(len(compared), dtype=np.bool_)
    on_front[is_feasible] = non_dominated(losses[is_feasible])
    return on_front


def resampled_losses(
    items: Sequence[Evidence], objectives: Sequence[Objective], generator: np.random.Generator
) -> Floats:
    """Draw the losses anew (r, n, d): ratios by bootstrap of their kept blocks, accuracies of the dev examples.

    The ratio of a session that was not quiet is drawn from around its interval.

    Every redraw takes the same examples for all trials. A trial whose outcomes
    on them are not kept is drawn by itself, around its interval.
    """
    paired = _paired_accuracies(items, generator) if Objective.ACCURACY in objectives else {}
    resampled = np.repeat(losses_of(items, objectives)[np.newaxis], NUM_RESAMPLES, axis=0)
    for i, item in enumerate(items):
        for j, objective in enumerate(objectives):
            if objective is Objective.ACCURACY and i in paired:
                resampled[:, i, j] = 1 - paired[i]
            elif objective is Objective.ACCURACY and item.accuracy is not None:
                resampled[:, i, j] = 1 - _accuracy_draws(item.accuracy, generator)
            elif objective is Objective.LATENCY and item.trial.role is not Role.SQUEEZEBERT_RULE:
                resampled[:, i, j] = _latency_draws(item, generator)
    return resampled


def is_paired(items: Sequence[Evidence]) -> bool:
    """Return whether the accuracies of all trials are redrawn on the same dev examples."""
    return 0 < len(_outcomes(items)) == sum(item.accuracy is not None for item in items)


def _paired_accuracies(items: Sequence[Evidence], generator: np.random.Generator) -> dict[int, Floats]:
    """Return accuracies over resampled dev examples (r,) by the position of the trial."""
    known = _outcomes(items)
    if not known:
        return {}
    # Counts of examples are exact in float32, whose products are fast.
    outcomes = np.array(list(known.values()), dtype=np.float32)
    num_examples = outcomes.shape[1]
    even = np.full(num_examples, 1 / num_examples)
    accuracies = np.empty((len(known), NUM_RESAMPLES))
    # Some at once, so that outcomes are not read anew for each and memory does not grow with resamples times examples.
    for begin in range(0, NUM_RESAMPLES, _DRAWN_AT_ONCE):
        size = min(_DRAWN_AT_ONCE, NUM_RESAMPLES - begin)
        drawn = generator.multinomial(num_examples, even, size=size).astype(np.float32)
        accuracies[:, begin : begin + size] = outcomes @ drawn.T
    accuracies /= num_examples
    return dict(zip(known, accuracies, strict=True))


def _outcomes(items: Sequence[Evidence]) -> dict[int, Bools]:
    """Return which dev examples each trial answered rightly, by its position; those of one number of examples."""
    scores = {i: item.trial.score for i, item in enumerate(items) if item.accuracy is not None}
    kept = {i: score for i, score in scores.items() if score is not None and score.outcomes is not None}
    num_examples = next((score.num_examples for score in kept.values()), 0)
    return {
        i: unpack_outcomes(score.outcomes or "", num_examples=num_examples)
        for i, score in kept.items()
        if score.num_examples == num_examples
    }


def _loss(objective: Objective, value: float) -> float:
    return 1 - value if objective is Objective.ACCURACY else value


def _accuracy_draws(interval: Interval, generator: np.random.Generator) -> Floats:
    # Its normal approximation stands in for the bootstrap over examples, of which only the interval is there.
    deviation = (interval.high - interval.low) / 2 / NormalDist().inv_cdf((1 + interval.level) / 2)
    return generator.normal(interval.estimate, deviation, size=NUM_RESAMPLES)


def _latency_draws(item: Evidence, generator: np.random.Generator) -> Floats:
    if not item.on_devices:
        return _ratio_draws(item, generator)
    return np.asarray(np.max([_ratio_draws(each, generator) for each in item.on_devices], axis=0))


def _ratio_draws(item: Evidence | DeviceRatio, generator: np.random.Generator) -> Floats:
    if item.measurement is None or item.ratio is None:
        # A compared trial is timed; NaN would show if that broke.
        return np.full(NUM_RESAMPLES, np.nan)
    findings = item.measurement.findings
    if findings.is_disturbed:
        # The few blocks that were kept agree more than those of a repetition would.
        width = math.log(item.ratio.high / item.ratio.low) / 2
        deviation = width / NormalDist().inv_cdf((1 + item.ratio.level) / 2)
        return np.asarray(item.ratio.estimate * np.exp(generator.normal(0, deviation, size=NUM_RESAMPLES)))
    log_ratios = findings.log_ratios[findings.is_kept]
    if len(log_ratios) >= MANY_BLOCKS:
        deviation = INTERVAL_FACTOR * float(log_ratios.std()) / math.sqrt(len(log_ratios))
        return np.asarray(np.exp(generator.normal(log_ratios.mean(), deviation, size=NUM_RESAMPLES)))
    draws = generator.integers(len(log_ratios), size=(NUM_RESAMPLES, len(log_ratios)))
    means = log_ratios[draws].mean(axis=1)
    centre = log_ratios.mean()
    return np.asarray(np.exp(centre + INTERVAL_FACTOR * (means - centre)))
