"""Evaluators: how well an architecture would do a task.

An evaluator has a name, which is its fidelity, and a ``settings_id``. Scores
with the same ``settings_id`` may be compared, and equal architectures have
equal ones, so a score is found again by (settings_id, arch_id).

Shape legend: n training examples, c num_labels.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from nas.artifacts import ArtifactFolder
from nas.candidates import Candidates
from nas.distillation import DistillationLoss, LossWeights
from nas.errors import SettingsError, UnknownEvaluatorError
from nas.losses import logit_loss, predictions_from_logits
from nas.metrics import bootstrap_interval, compute_metric
from nas.outcomes import pack_outcomes
from nas.records import Score
from nas.store import Store
from nas.teacher_plans import SMALL
from nas.tokens import TokenizedTask
from nas.training import OnStep, Recipe, predict, train, translate_out_of_memory
from search_spaces.architecture import Architecture

# Part of every settings_id: raise it when a change to an evaluator makes other scores of the same settings.
SCORING_VERSION = 2

# By the teacher's origin. A small network wants a high rate; weights that were pretrained would forget at it.
SMALL_RECIPES = {
    "distilled": Recipe(num_steps=40, learning_rate=1e-3),
    "full": Recipe(num_steps=188, learning_rate=1e-3),
}
PRETRAINED_RECIPES = {
    "distilled": Recipe(num_steps=200, learning_rate=3e-4),
    "full": Recipe(num_steps=2000, learning_rate=3e-4),
}
LOSS_WEIGHTS = LossWeights()


class Evaluator(Protocol):
    """Scores architectures on one task, from one teacher, always in the same way."""

    @property
    def name(self) -> str:
        """Name of the method, and so of the fidelity."""
        ...

    @property
    def settings_id(self) -> str:
        """Twelve hex digits of a hash over all that defines a score besides the architecture."""
        ...

    def evaluate(self, arch: Architecture, *, on_step: OnStep | None = None) -> Score:
        """Score one architecture.

        Args:
            arch: The candidate.
            on_step: Hears of every training step, if the method trains.

        Raises:
            TrainingError: If its loss is not finite, or memory does not suffice.
            SettingsError: If the architecture does not fit into the teacher.
            OSError: If its weights cannot be kept.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoringContext:
    """What an evaluator is made from.

    ``artifacts`` is where trained weights are kept. ``num_steps`` is the
    training budget of a distilled candidate, or None for the evaluator's own.
    """

    candidates: Candidates
    artifacts: ArtifactFolder
    seed: int
    device: str
    num_steps: int | None = None


def make_evaluator(name: str, context: ScoringContext) -> Evaluator:
    """Make the evaluator called ``name``.

    Raises:
        UnknownEvaluatorError: If no evaluator has that name.
    """
    if name not in EVALUATORS:
        raise UnknownEvaluatorError(name=name, known=EVALUATORS)
    return EVALUATORS[name](context)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownScores:
    """Stands for an evaluator where only scores that others made are read. See `Evaluator`."""

    name: str
    settings_id: str

    def evaluate(self, arch: Architecture, *, on_step: OnStep | None = None) -> Score:  # noqa: ARG002 - the protocol's
        """Raise `SettingsError`: this process cannot score."""
        raise SettingsError(f"{arch.arch_id} has no {self.name} score, and this worker only times")


def find_or_evaluate(evaluator: Evaluator, arch: Architecture, *, store: Store, on_step: OnStep | None = None) -> Score:
    """Return the score of an architecture from the store; evaluate and keep it if it is not there.

    Raises:
        NasError: If the architecture cannot be scored; see `Evaluator.evaluate`.
        OSError: If its weights cannot be kept.
    """
    score = store.find_score(evaluator.settings_id, arch.arch_id)
    if score is None:
        score = evaluator.evaluate(arch, on_step=on_step)
        store.save_score(score, settings_id=evaluator.settings_id, arch_id=arch.arch_id)
    return score


def check_fidelities(names: Sequence[str]) -> None:
    """Refuse evaluators of a search before anything is loaded or trained for them.

    Raises:
        UnknownEvaluatorError: If no evaluator has a name.
        SettingsError: If there are none, or they do not go from the cheapest to the dearest.
    """
    for name in names:
        if name not in EVALUATORS:
            raise UnknownEvaluatorError(name=name, known=EVALUATORS)
    places = [list(EVALUATORS).index(name) for name in names]
    if not names or any(later <= earlier for earlier, later in pairwise(places)):
        raise SettingsError(
            f"fidelities {','.join(names)!r} must be one or more of {','.join(EVALUATORS)}, in this order"
        )


class ProjectedEvaluator:
    """Projects a candidate from the teacher in closed form: seconds, and no training."""

    name = "projected"

    def __init__(self, context: ScoringContext) -> None:
        self._context = context

    @property
    def settings_id(self) -> str:
        """See `Evaluator.settings_id`."""
        return _settings_id(self.name, self._context, {})

    def evaluate(self, arch: Architecture, *, on_step: OnStep | None = None) -> Score:
        """Project and score one architecture. Its weights are not kept: they are made again as fast as read."""
        del on_step
        start_s = time.perf_counter()
        candidates = self._context.candidates
        with translate_out_of_memory(f"architecture {arch.arch_id}"):
            projected = candidates.project(arch)
        return score_logits(
            projected.logits,
            candidates.data,
            evaluator=self.name,
            seed=self._context.seed,
            duration_s=time.perf_counter() - start_s,
            weights_sha256=None,
            teacher_logits=candidates.teacher_logits,
        )


class TrainedEvaluator:
    """Trains a candidate from its projected weights, on the teacher's states and answers and on the labels.

    All candidates see the same examples in the same order, so that the luck of
    the draw is common to them and does not blur their ranking.
    """

    def __init__(self, name: str, context: ScoringContext) -> None:
        self.name = name
        self._context = context
        small = context.candidates.teacher.origin == SMALL
        recipe = (SMALL_RECIPES if small else PRETRAINED_RECIPES)[name]
        own_budget = context.num_steps if name == "distilled" else None
        self._recipe = recipe if own_budget is None else replace(recipe, num_steps=own_budget)

    @property
    def settings_id(self) -> str:
        """See `Evaluator.settings_id`."""
        return _settings_id(self.name, self._context, {"recipe": asdict(self._recipe), "weights": asdict(LOSS_WEIGHTS)})

    def evaluate(self, arch: Architecture, *, on_step: OnStep | None = None) -> Score:
        """Distil and score one architecture, and keep its weights. See `Evaluator.evaluate`."""
        start_s = time.perf_counter()
        context, candidates = self._context, self._context.candidates
        data = candidates.data
        with translate_out_of_memory(f"architecture {arch.arch_id}"):
            network = candidates.network(arch)
            loss = DistillationLoss(
                candidates.teacher_states, candidates.correspondence(arch), kind=data.task.kind, weights=LOSS_WEIGHTS
            )
            train(
                network,
                data.train,
                loss,
                recipe=self._recipe,
                seed=context.seed,
                device=context.device,
                on_step=on_step,
            )
            logits = predict(network, data.dev, device=context.device)
        weights_sha256 = context.artifacts.put_weights(network.state_dict(), description=self._describe(arch))
        return score_logits(
            logits,
            data,
            evaluator=self.name,
            seed=context.seed,
            duration_s=time.perf_counter() - start_s,
            weights_sha256=weights_sha256,
            teacher_logits=candidates.teacher_logits,
        )

    def _describe(self, arch: Architecture) -> str:
        """Say what a file of weights is, for who finds it alone."""
        task = self._context.candidates.data.task
        description = {
            "arch": json.loads(arch.to_json()),
            "task": task.name,
            "label_names": task.label_names,
            "evaluator": self.name,
            "settings_id": self.settings_id,
        }
        return json.dumps(description, sort_keys=True)


def _settings_id(name: str, context: ScoringContext, own: dict[str, object]) -> str:
    parts = {
        "scoring_version": SCORING_VERSION,
        "evaluator": name,
        "seed": context.seed,
        "candidates": context.candidates.settings,
        **own,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def score_logits(
    logits: Tensor,
    data: TokenizedTask,
    *,
    evaluator: str,
    seed: int,
    duration_s: float,
    weights_sha256: str | None,
    teacher_logits: Tensor,
) -> Score:
    """Turn logits (examples, c) for the dev split into a score, with a bootstrap interval over the examples."""
    task = data.task
    predictions = predictions_from_logits(logits, task.kind).numpy()
    labels = data.dev.labels.double().numpy()
    return Score(
        task=task.name,
        metric=task.metrics[0],
        evaluator=evaluator,
        interval=bootstrap_interval(task.metrics[0], predictions, labels, seed=seed),
        metrics=tuple((name, compute_metric(name, predictions, labels)) for name in task.metrics),
        num_examples=len(labels),
        duration_s=duration_s,
        weights_sha256=weights_sha256,
        teacher_divergence=float(logit_loss(task.kind, logits, teacher_logits, temperature=1.0)),
        outcomes=pack_outcomes(predictions == labels) if task.metrics[0] == "accuracy" else None,
    )


EVALUATORS: dict[str, Callable[[ScoringContext], Evaluator]] = {
    "projected": ProjectedEvaluator,
    "distilled": partial(TrainedEvaluator, "distilled"),
    "full": partial(TrainedEvaluator, "full"),
}
"""Evaluators by name, from the cheapest to the dearest; a score of a later one says more."""
