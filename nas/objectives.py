"""The numbers a run optimises, of one architecture."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nas.cost import Cost, model_cost
from nas.records import Objective, Score, Trial
from nas.runs import SearchSettings
from reports.front import Floats
from search_spaces.architecture import Architecture


def objective_values(
    settings: SearchSettings, arch: Architecture, *, score: Score | None, latency_ratio: float | None
) -> dict[Objective, float]:
    """Return the values of a run's objectives, in their order."""
    cost = cost_of(settings, arch)
    known = {Objective.MACS: float(cost.macs), Objective.PARAMETERS: float(cost.parameters)}
    if score is not None:
        known[Objective.ACCURACY] = score.interval.estimate
    if latency_ratio is not None:
        known[Objective.LATENCY] = latency_ratio
    return {objective: known[objective] for objective in settings.request.objectives}


def cost_of(settings: SearchSettings, arch: Architecture) -> Cost:
    """Price an architecture as a run counts."""
    return model_cost(arch, sequence_length=settings.request.sequence_length, num_labels=settings.num_labels)


def latency_ratio(trial: Trial, *, at_best: bool = False) -> float | None:
    """Return the measured ratio of a trial, else the predicted one or its lower bound, else ``None``."""
    if trial.measurements:
        ratio = trial.measurements[-1].ratio
        return None if ratio is None else ratio.estimate
    if trial.predicted is None:
        return None
    return trial.predicted.low if at_best else trial.predicted.estimate


def final_accuracy(settings: SearchSettings, score: Score | None) -> float | None:
    """Return the accuracy of a score that ``--min-accuracy`` is about: one of the last fidelity, else ``None``."""
    if score is None or score.evaluator != settings.request.fidelities[-1]:
        return None
    return score.interval.estimate


def all_losses(settings: SearchSettings, known: Iterable[tuple[Architecture, Score | None, float | None]]) -> Floats:
    """Return the objectives of architectures with their scores and latency ratios as losses, (n, d)."""
    objectives = settings.request.objectives
    signs = np.array([-1.0 if objective == Objective.ACCURACY else 1.0 for objective in objectives])
    values = [
        list(objective_values(settings, arch, score=score, latency_ratio=ratio).values())
        for arch, score, ratio in known
    ]
    losses: Floats = signs * np.array(values).reshape(len(values), len(objectives))
    return losses
