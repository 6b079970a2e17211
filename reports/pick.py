"""One model out of a run, by a limit on its latency or on its score, with how sure that is."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from device_lab.measurement import Interval
from nas.records import Objective
from reports import text
from reports.analysis import Analysis
from reports.errors import NothingFitsError
from reports.evidence import Evidence
from reports.tables import model_name
from reports.wording import accuracy_difference, describe, latency_difference

SURE = 0.975


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pick:
    """The model that was picked, and the next best of those that keep the limit.

    ``rule`` says in words what it is the best at; ``probability`` is how likely
    its true value keeps the limit, by the normal distribution its interval implies.
    """

    model: Evidence
    runner_up: Evidence | None
    rule: str
    limit: str
    probability: float


def pick_within_latency(analysis: Analysis, *, max_ratio: float) -> Pick:
    """Return the model with the best score among those at most ``max_ratio`` times as slow as SqueezeBERT's rule.

    A tie, or a run without scores, is settled by the lower latency.

    Raises:
        NothingFitsError: If no compared model was timed and keeps the limit.
    """
    limit = f"a latency ratio of at most {max_ratio:g}"
    timed = [item for item in analysis.compared if item.ratio is not None]
    fitting = [item for item in timed if item.ratio is not None and item.ratio.estimate <= max_ratio]
    if not fitting:
        nearest = min(timed, key=lambda item: item.value(Objective.LATENCY) or math.inf, default=None)
        raise NothingFitsError(
            run=analysis.run.name,
            limit=limit,
            nearest=None if nearest is None else f"the fastest is {_at(nearest, nearest.ratio)}",
            lacking="timed",
        )
    ranked = sorted(fitting, key=_by_score)
    chosen = ranked[0]
    return Pick(
        model=chosen,
        runner_up=_next(ranked),
        rule=f"the best {analysis.metric} of the {len(fitting)} models with {limit}",
        limit=limit,
        probability=1.0 if chosen.ratio is None else _share_below(chosen.ratio, max_ratio, is_ratio=True),
    )


def pick_by_accuracy(analysis: Analysis, *, min_accuracy: float) -> Pick:
    """Return the cheapest model that scores at least ``min_accuracy``, a fraction.

    Raises:
        NothingFitsError: If no compared model was scored and reaches the limit.
    """
    limit = f"{analysis.metric} of at least {100 * min_accuracy:g} %"
    scored = [item for item in analysis.compared if item.accuracy is not None]
    fitting = [item for item in scored if item.accuracy is not None and item.accuracy.estimate >= min_accuracy]
    if not fitting:
        nearest = max(scored, key=lambda item: item.value(Objective.ACCURACY) or 0.0, default=None)
        raise NothingFitsError(
            run=analysis.run.name,
            limit=limit,
            nearest=None if nearest is None else f"the best is {_at(nearest, nearest.accuracy)}",
            lacking="scored",
        )
    cost = analysis.cost
    ranked = sorted(fitting, key=lambda item: (item.value(cost) or 0.0, *_by_score(item)))
    chosen = ranked[0]
    return Pick(
        model=chosen,
        runner_up=_next(ranked),
        rule=f"the lowest {cost.value} of the {len(fitting)} models with {limit}",
        limit=limit,
        probability=1.0 if chosen.accuracy is None else 1 - _share_below(chosen.accuracy, min_accuracy),
    )


def sentences(pick: Pick, analysis: Analysis) -> tuple[str, ...]:
    """Return what was picked, why, how sure that is, and what came second."""
    found = [
        f"Pick {model_name(pick.model)}: {pick.rule}.",
        *describe(pick.model, analysis),
        f"It keeps the limit {_how_surely(pick.probability)}.",
    ]
    if pick.runner_up is None:
        return (*found, "There is no runner-up: no other model keeps the limit.")
    return (*found, _against_runner_up(pick.model, pick.runner_up, analysis))


def export_command(item: Evidence, analysis: Analysis) -> str:
    """Return the command that writes the files of a model to ship."""
    run, number = shlex.quote(analysis.run.name), item.trial.number
    return f"nas export {run} {number} --to {run}-{number}"


def _by_score(item: Evidence) -> tuple[float, float, int]:
    return (-(item.value(Objective.ACCURACY) or 0.0), item.value(Objective.LATENCY) or 0.0, item.trial.cost.macs)


def _next(ranked: Sequence[Evidence]) -> Evidence | None:
    return ranked[1] if len(ranked) > 1 else None


def _share_below(interval: Interval, limit: float, *, is_ratio: bool = False) -> float:
    """Return how likely the true value lies at or below ``limit``, by a normal distribution on each side.

    Of a ratio in its log. An interval need not be symmetric: that of the worst of several devices is not.
    """
    scale = math.log if is_ratio else float
    end = interval.high if limit > interval.estimate else interval.low
    width = abs(scale(end) - scale(interval.estimate))
    if width == 0:
        return float(interval.estimate <= limit)
    quantile = NormalDist().inv_cdf((1 + interval.level) / 2)
    return NormalDist().cdf((scale(limit) - scale(interval.estimate)) / width * quantile)


def _how_surely(probability: float) -> str:
    if probability >= SURE:
        return "with its whole 95 % interval"
    return f"by its estimate; with its interval, the chance is {text.probability(probability)}"


def _against_runner_up(model: Evidence, other: Evidence, analysis: Analysis) -> str:
    parts = [f"Runner-up is {model_name(other)}. Against it the pick has"]
    if model.accuracy is not None and other.accuracy is not None:
        parts.append(accuracy_difference(model.accuracy, other.accuracy, metric=analysis.metric))
    if model.ratio is not None and other.ratio is not None and analysis.bench is not None:
        parts.append(latency_difference(model.ratio, other.ratio, place=analysis.bench.label))
    parts.append(f"{model.trial.cost.macs / other.trial.cost.macs:.2f} times the MACs.")
    return " ".join(parts)


def _at(item: Evidence, interval: Interval | None) -> str:
    value = "" if interval is None else f" at {interval.estimate:.3g} ({interval.low:.3g} to {interval.high:.3g})"
    return f"{model_name(item)}{value}"
