"""The answers of a report, computed once: front, certainty, progress, what to ship."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from device_lab.measurement import Interval, ProcessRun
from device_lab.statistics import Percentiles, candidate_runs, percentiles_ms, reference_runs
from nas.records import Objective, Role, Run
from reports.errors import EmptyRunError
from reports.evidence import Bench, Evidence, Gathered, gather
from reports.front import Bools, Floats, front_probability, hypervolume_history, knee
from reports.resampling import feasible_front, losses_of, resampled_losses

KNEE_RULE = (
    "the front model nearest to the ideal corner, after scaling every objective to run from the best to the worst "
    "of the front"
)
SHIP_RULE = "the cheapest front model that scores at least as well as SqueezeBERT's rule"
# Costs of the hypervolume's reference point, in units of SqueezeBERT's rule; its accuracy is 0.
REFERENCE_COST = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Analysis:
    """A run with everything a page, a table or a figure shows of it.

    Shapes: n = compared trials, d = objectives. ``losses`` (n, d), ``on_front``
    and ``hypervolume`` (n,) follow ``compared``, which is in trial order.
    ``hypervolume`` is a share of the box between the ideal and
    ``reference_losses`` (d,). ``probabilities`` of being on the front and
    ``milliseconds`` are by trial number; the latter have meaningful bounds for
    the front and the references only; of a run on several devices, whose times
    have no common unit, it is empty. ``no_worse`` has the shares of redraws in
    which ``ship`` is no worse than SqueezeBERT's rule, for what was scored or
    timed; it is empty where the two are one, or one is missing.
    """

    run: Run
    bench: Bench | None
    objectives: tuple[Objective, ...]
    notices: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    compared: tuple[Evidence, ...]
    losses: Floats
    on_front: Bools
    probabilities: Mapping[int, float]
    reference_losses: Floats
    hypervolume: Floats
    knee: Evidence | None
    ship: Evidence | None
    squeezebert: Evidence | None
    dense: Evidence | None
    milliseconds: Mapping[int, Percentiles]
    no_worse: Mapping[Objective, float]

    @property
    def front(self) -> tuple[Evidence, ...]:
        """The non-dominated trials, cheapest first."""
        members = (item for item, is_member in zip(self.compared, self.on_front, strict=True) if is_member)
        return tuple(sorted(members, key=lambda item: item.value(self.cost) or 0.0))

    @property
    def cost(self) -> Objective:
        """The objective a model is paid with: the first that is not accuracy."""
        return next((o for o in self.objectives if o is not Objective.ACCURACY), Objective.MACS)

    @property
    def metric(self) -> str:
        """Name of the score's metric, ``"accuracy"`` while nothing is scored."""
        return next((item.trial.score.metric for item in self.evidence if item.trial.score is not None), "accuracy")


def analyse(run: Run) -> Analysis:
    """Return the answers of a report on ``run``; the same run gives the same answers.

    Raises:
        EmptyRunError: If the run has no trials.
    """
    if not run.trials:
        raise EmptyRunError(run=run.name)
    gathered = gather(run)
    compared = tuple(item for item in gathered.evidence if item.left_out is None)
    generator = np.random.default_rng(run.seed)
    losses = losses_of(compared, gathered.objectives)
    on_front = feasible_front(run, compared, losses)
    resampled = resampled_losses(compared, gathered.objectives, generator)
    numbers = [item.trial.number for item in compared]
    front = [item for item, is_member in zip(compared, on_front, strict=True) if is_member]
    balanced = front[knee(losses[on_front])] if front else None
    squeezebert = _with_role(compared, Role.SQUEEZEBERT_RULE)
    dense = _with_role(compared, Role.DENSE_TEACHER)
    reference = _reference_losses(gathered, losses, squeezebert)
    ship = _choose_to_ship(front, squeezebert, gathered.objectives) or balanced
    precise = {item.trial.number for item in (*front, squeezebert, dense) if item is not None}
    return Analysis(
        run=run,
        bench=gathered.bench,
        objectives=gathered.objectives,
        notices=gathered.notices,
        evidence=gathered.evidence,
        compared=compared,
        losses=losses,
        on_front=on_front,
        probabilities=dict(zip(numbers, front_probability(resampled).tolist(), strict=True)),
        reference_losses=reference,
        hypervolume=hypervolume_history(losses, reference=reference) / np.prod(reference),
        knee=balanced,
        ship=ship,
        squeezebert=squeezebert,
        dense=dense,
        milliseconds=_milliseconds(gathered, precise, generator),
        no_worse=_no_worse(compared, gathered.objectives, resampled, ship=ship, rule=squeezebert),
    )


def _no_worse(
    compared: tuple[Evidence, ...],
    objectives: tuple[Objective, ...],
    resampled: Floats,
    *,
    ship: Evidence | None,
    rule: Evidence | None,
) -> dict[Objective, float]:
    if ship is None or rule is None or ship is rule:
        return {}
    own, other = resampled[:, compared.index(ship)], resampled[:, compared.index(rule)]
    shares = (own <= other).mean(axis=0).tolist()
    return {
        objective: share
        for objective, share in zip(objectives, shares, strict=True)
        if objective in (Objective.ACCURACY, Objective.LATENCY)
    }


def _reference_losses(gathered: Gathered, losses: Floats, squeezebert: Evidence | None) -> Floats:
    """Accuracy 0 and twice the cost of SqueezeBERT's rule, or of the dearest trial where the rule is missing."""
    reference = np.ones(len(gathered.objectives))
    for j, objective in enumerate(gathered.objectives):
        if objective is Objective.ACCURACY:
            continue
        own = squeezebert.value(objective) if squeezebert is not None else None
        reference[j] = REFERENCE_COST * (own if own is not None else losses[:, j].max(initial=1.0))
    return reference


def _with_role(compared: tuple[Evidence, ...], role: Role) -> Evidence | None:
    return next((item for item in compared if item.trial.role is role), None)


def _choose_to_ship(
    front: list[Evidence], squeezebert: Evidence | None, objectives: tuple[Objective, ...]
) -> Evidence | None:
    costs = [objective for objective in objectives if objective is not Objective.ACCURACY]
    if squeezebert is None or squeezebert.accuracy is None or not costs or len(objectives) == len(costs):
        return None
    floor = squeezebert.accuracy.estimate
    good_enough = [item for item in front if item.accuracy is not None and item.accuracy.estimate >= floor]
    return min(good_enough, key=lambda item: item.value(costs[0]) or 0.0, default=None)


def _milliseconds(gathered: Gathered, precise: set[int], generator: np.random.Generator) -> dict[int, Percentiles]:
    milliseconds: dict[int, Percentiles] = {}
    if gathered.bench is not None and gathered.bench.devices:
        return milliseconds
    for item in gathered.evidence:
        if item.trial.number in precise and (runs := _timed_runs(item, gathered)):
            milliseconds[item.trial.number] = percentiles_ms(runs, generator=generator)
        elif item.measurement is not None and item.measurement.digest.percentiles_ms is not None:
            p50, p90, p99 = (
                Interval(estimate=value, low=value, high=value) for value in item.measurement.digest.percentiles_ms
            )
            milliseconds[item.trial.number] = Percentiles(p50=p50, p90=p90, p99=p99)
    return milliseconds


def _timed_runs(item: Evidence, gathered: Gathered) -> tuple[ProcessRun, ...]:
    if item.measurement is not None:
        return candidate_runs(item.kept)
    if item.trial.role is not Role.SQUEEZEBERT_RULE:
        return ()
    # Not timed on its own, the rule is the reference of every other trial; the finest session speaks for it.
    finest = max(gathered.evidence, key=lambda other: len(other.kept))
    return reference_runs(finest.kept)
