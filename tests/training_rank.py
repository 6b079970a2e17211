"""One training with dropout and uneven batches, in this process and any others torchrun started.

As a program (``torchrun tests/training_rank.py FOLDER``) each process writes what it saw to ``RANK.pt``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.cli.joining import joined_processes
from nas.losses import supervised_loss
from nas.processes import ALONE, Processes
from nas.tasks import TaskKind
from nas.tokens import Batch, tokenize_task
from nas.training import Checkpointing, OnStep, Recipe, train
from search_spaces.bert import build
from tests.small_tasks import TINY, classification_task

# The last batch of a pass has one example: fewer than there are processes.
NUM_EXAMPLES = 25
RECIPE = Recipe(num_steps=12, learning_rate=1e-3, batch_size=8)


@dataclass(slots=True)
class Seen:
    """Steps done, loss and rows of every batch, as one process saw them, and the weights it ended with."""

    steps: list[int] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)


def seen_in_training(folder: Path, *, processes: Processes = ALONE, on_step: OnStep | None = None) -> Seen:
    """Train, going on from a checkpoint in ``folder`` if there is one; every third step is saved there."""
    data = tokenize_task(classification_task(), sequence_length=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(TINY, num_labels=2, dropout=0.1)
    supervised, seen = supervised_loss(TaskKind.CLASSIFICATION), Seen()

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        value = supervised(network, batch)
        seen.losses.append((len(batch.rows), float(value.detach())))
        return value

    def note(step: int, num_steps: int) -> None:
        seen.steps.append(step)
        if on_step is not None:
            on_step(step, num_steps)

    train(
        network,
        data.train.select(torch.arange(NUM_EXAMPLES)),
        loss,
        recipe=RECIPE,
        seed=1,
        device="cpu",
        checkpointing=Checkpointing(path=folder / "run.checkpoint", every_steps=3),
        processes=processes,
        on_step=note,
    )
    seen.weights = network.state_dict()
    return seen


def main() -> None:
    folder = Path(sys.argv[1])
    with joined_processes("cpu") as processes:
        seen = seen_in_training(folder, processes=processes)
    torch.save((seen.steps, seen.losses, seen.weights), folder / f"{processes.rank}.pt")


if __name__ == "__main__":
    main()
