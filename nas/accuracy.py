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
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from device_lab.files import write_atomically
from nas.artifacts import ArtifactFolder, pack, unpack
from nas.errors import UnknownEvaluatorError
from nas.inherit import inherit
from nas.losses import distillation_loss, predictions_from_logits
from nas.metrics import bootstrap_interval, compute_metric
from nas.records import Score
from nas.teacher import Teacher
from nas.teacher_plans import SMALL
from nas.tokens import TokenizedTask, training_batches
from nas.training import OnStep, Recipe, predict, train, translate_out_of_memory
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, build

# Part of every settings_id: raise it when a change to an evaluator makes other scores of the same settings.
SCORING_VERSION = 1

# A small network wants a high rate; weights that were pretrained would forget at it.
SMALL_DISTILLATION = Recipe(num_steps=40, learning_rate=1e-3)
PRETRAINED_DISTILLATION = Recipe(num_steps=200, learning_rate=3e-4)
TEMPERATURE = 2.0
TEACHER_WEIGHT = 0.5


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

    ``artifacts`` is where weights and the teacher's answers are kept.
    ``num_steps`` is the training budget of a candidate, or None for the evaluator's own.
    """

    data: TokenizedTask
    teacher: Teacher
    artifacts: ArtifactFolder
    seed: int
    device: str
    num_steps: int | None = None


def make_evaluator(name: str, context: ScoringContext) -> Evaluator:
    """Make the evaluator called ``name``.

    Raises:
        UnknownEvaluatorError: If no evaluator has that name.
    """
    check_evaluator(name)
    return EVALUATORS[name](context)


def check_evaluator(name: str) -> None:
    """Refuse a name before anything is loaded or trained for it.

    Raises:
        UnknownEvaluatorError: If no evaluator has that name.
    """
    if name not in EVALUATORS:
        raise UnknownEvaluatorError(name=name, known=EVALUATORS)


class DistilledEvaluator:
    """Cuts a candidate out of the teacher and trains it shortly on the teacher's answers and the labels.

    All candidates see the same examples in the same order, so that the luck of
    the draw is common to them and does not blur their ranking.
    """

    name = "distilled"

    def __init__(self, context: ScoringContext) -> None:
        self._context = context
        recipe = SMALL_DISTILLATION if context.teacher.origin == SMALL else PRETRAINED_DISTILLATION
        self._recipe = recipe if context.num_steps is None else replace(recipe, num_steps=context.num_steps)
        self._answers: Tensor | None = None

    @property
    def settings_id(self) -> str:
        """See `Evaluator.settings_id`."""
        parts = {
            "scoring_version": SCORING_VERSION,
            "evaluator": self.name,
            "task": self._context.data.content_sha256,
            "sequence_length": self._context.data.sequence_length,
            "teacher": self._context.teacher.teacher_id,
            "recipe": asdict(self._recipe),
            "temperature": TEMPERATURE,
            "teacher_weight": TEACHER_WEIGHT,
            "seed": self._context.seed,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def evaluate(self, arch: Architecture, *, on_step: OnStep | None = None) -> Score:
        """Distil and score one architecture, and keep its weights. See `Evaluator.evaluate`."""
        start_s = time.perf_counter()
        context = self._context
        with translate_out_of_memory(f"architecture {arch.arch_id}"):
            network = inherited_network(context.teacher, arch)
            loss = distillation_loss(
                context.data.task.kind, self._teacher_answers(), temperature=TEMPERATURE, teacher_weight=TEACHER_WEIGHT
            )
            train(
                network,
                context.data.train,
                loss,
                recipe=self._recipe,
                seed=context.seed,
                device=context.device,
                on_step=on_step,
            )
            logits = predict(network, context.data.dev, device=context.device)
        weights_sha256 = context.artifacts.put_weights(network.state_dict(), description=self._describe(arch))
        return score_logits(
            logits,
            context.data,
            evaluator=self.name,
            seed=context.seed,
            duration_s=time.perf_counter() - start_s,
            weights_sha256=weights_sha256,
        )

    def _describe(self, arch: Architecture) -> str:
        """Say what a file of weights is, for who finds it alone."""
        task = self._context.data.task
        description = {
            "arch": json.loads(arch.to_json()),
            "task": task.name,
            "label_names": task.label_names,
            "evaluator": self.name,
            "settings_id": self.settings_id,
        }
        return json.dumps(description, sort_keys=True)

    def _teacher_answers(self) -> Tensor:
        """Return the teacher's logits (n, c), computed once for the examples that training visits; NaN elsewhere."""
        if self._answers is None:
            path = self._context.artifacts.answers_file(self.settings_id)
            if not path.exists():
                write_atomically(path, pack({"logits": self._ask_teacher()}, description=self.settings_id))
            tensors, _ = unpack(path.read_bytes(), source=path)
            self._answers = tensors["logits"]
        return self._answers

    def _ask_teacher(self) -> Tensor:
        context, recipe = self._context, self._recipe
        split = context.data.train
        batches = training_batches(
            split.lengths, batch_size=recipe.batch_size, seed=context.seed, first_step=0, num_steps=recipe.num_steps
        )
        visited = torch.unique(torch.cat(list(batches)))
        logits = torch.full((len(split), context.data.task.num_labels), torch.nan)
        logits[visited] = predict(context.teacher.network(), split.select(visited), device=context.device)
        return logits


def inherited_network(teacher: Teacher, arch: Architecture) -> Bert:
    """Build the network of ``arch`` with weights cut out of the teacher's, without dropout.

    Raises:
        SettingsError: If the architecture does not fit into the teacher.
    """
    state = inherit(teacher.state, teacher.arch, arch)
    with torch.random.fork_rng(devices=[]):
        network = build(arch, num_labels=len(state["classifier.bias"]), dropout=0.0)
    network.load_state_dict(state)
    return network


def score_logits(
    logits: Tensor, data: TokenizedTask, *, evaluator: str, seed: int, duration_s: float, weights_sha256: str | None
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
    )


EVALUATORS: dict[str, Callable[[ScoringContext], Evaluator]] = {DistilledEvaluator.name: DistilledEvaluator}
