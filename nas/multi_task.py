"""One score over several tasks: the mean of what an architecture reaches on each.

Every task keeps its own evaluator, teacher and weights. A task's score is kept
in the store under its own settings too, so that a stopped evaluation goes on
with the next task and the weights of each task are found again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

from device_lab.measurement import Interval
from nas.accuracy import Evaluator, find_or_evaluate
from nas.errors import TrainingError
from nas.records import Score
from nas.store import Store
from nas.training import OnStep
from search_spaces.architecture import Architecture


class MultiTaskEvaluator:
    """Scores architectures on several tasks by evaluators of one fidelity; see `nas.accuracy.Evaluator`.

    ``evaluators`` are by task. ``store`` is where the score of each task is kept.
    """

    def __init__(self, evaluators: Mapping[str, Evaluator], *, store: Store) -> None:
        self._evaluators = dict(evaluators)
        self._store = store
        self.name = next(iter(self._evaluators.values())).name

    @property
    def settings_id(self) -> str:
        """See `nas.accuracy.Evaluator.settings_id`."""
        parts = [(task, evaluator.settings_id) for task, evaluator in self._evaluators.items()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    def evaluate(self, arch: Architecture, *, on_step: OnStep | None = None) -> Score:
        """Score one architecture on every task that has no score of it yet. See `nas.accuracy.Evaluator.evaluate`."""
        scores = {}
        for position, (task, evaluator) in enumerate(self._evaluators.items()):
            try:
                scores[task] = find_or_evaluate(
                    evaluator, arch, store=self._store, on_step=self._part_of(on_step, position)
                )
            except TrainingError as error:
                raise TrainingError(f"task {task!r}: {error}") from error
        return mean_score(scores)

    def _part_of(self, on_step: OnStep | None, position: int) -> OnStep | None:
        """Count the steps of one task after those of the tasks before it: all have the same recipe."""
        if on_step is None:
            return None
        num_tasks = len(self._evaluators)
        return lambda step, num_steps: on_step(position * num_steps + step, num_tasks * num_steps)


def mean_score(scores: Mapping[str, Score]) -> Score:
    """Average the scores of one architecture over tasks, each by its first metric.

    Args:
        scores: At least one score of the same evaluator, by task.

    Returns:
        A score whose ``metrics`` hold all metrics of all tasks as ``task.metric``,
        and whose time and examples are sums.
    """
    parts = list(scores.values())
    metrics = {score.metric for score in parts}
    divergences = [score.teacher_divergence for score in parts if score.teacher_divergence is not None]
    return Score(
        task=",".join(scores),
        metric=f"mean {metrics.pop()}" if len(metrics) == 1 else "mean score",
        evaluator=parts[0].evaluator,
        interval=mean_interval([score.interval for score in parts]),
        metrics=tuple((f"{task}.{name}", value) for task, score in scores.items() for name, value in score.metrics),
        num_examples=sum(score.num_examples for score in parts),
        duration_s=sum(score.duration_s for score in parts),
        weights_sha256=None,
        teacher_divergence=sum(divergences) / len(parts) if len(divergences) == len(parts) else None,
    )


def mean_interval(intervals: Sequence[Interval]) -> Interval:
    """Return the interval of the mean of independent estimates, from the interval of each.

    Distances to the bounds add up as standard errors do, each side on its own
    (Zou and Donner, 2008), so an interval near the end of its range stays
    lopsided. Tasks share no examples, and so their bootstraps are independent.

    Args:
        intervals: At least one, all of the same level.
    """
    count = len(intervals)
    estimate = sum(each.estimate for each in intervals) / count
    below = math.hypot(*(each.estimate - each.low for each in intervals)) / count
    above = math.hypot(*(each.high - each.estimate for each in intervals)) / count
    return Interval(estimate=estimate, low=estimate - below, high=estimate + above, level=intervals[0].level)
