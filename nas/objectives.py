"""The numbers a run optimises, of one architecture."""

from __future__ import annotations

from collections.abc import Mapping

from nas.cost import Cost, model_cost
from nas.records import Objective, Score
from nas.runs import SearchSettings
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


def losses_of(values: Mapping[Objective, float]) -> list[float]:
    """Return values as losses: smaller is better."""
    return [-value if objective == Objective.ACCURACY else value for objective, value in values.items()]
