"""What to minimise: the task's labels alone, or a teacher's answers as well.

Shape legend: b batch, n examples, c num_labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss

from nas.tasks import TaskKind
from nas.tokens import Batch
from nas.training import Loss, forward


def supervised_loss(kind: TaskKind) -> Loss:
    """Return cross entropy with the labels, or squared error for regression."""

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        return _label_loss(forward(network, batch), batch, kind)

    return loss


def distillation_loss(kind: TaskKind, teacher_logits: Tensor, *, temperature: float, teacher_weight: float) -> Loss:
    """Return a mix of agreement with a teacher (Hinton et al., arXiv 1503.02531) and with the labels.

    Args:
        kind: Classification (divergence of softened distributions) or regression (squared error).
        teacher_logits: The teacher's answers to all training examples, (n, c).
        temperature: Both sides' logits are divided by it.
        teacher_weight: Share of the teacher's term; the labels have the rest.
    """

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        logits = forward(network, batch).float()
        wanted = teacher_logits[batch.rows.cpu()].to(logits.device)
        if kind is TaskKind.REGRESSION:
            teacher_term = mse_loss(logits, wanted)
        else:
            # The squared temperature keeps the gradient's scale, whatever the temperature.
            teacher_term = temperature**2 * kl_div(
                log_softmax(logits / temperature, dim=1),
                log_softmax(wanted / temperature, dim=1),
                log_target=True,
                reduction="batchmean",
            )
        return teacher_weight * teacher_term + (1 - teacher_weight) * _label_loss(logits, batch, kind)

    return loss


def predictions_from_logits(logits: Tensor, kind: TaskKind) -> Tensor:
    """Turn logits (n, c) into class positions, or into numbers for regression, (n,) as float64."""
    chosen = logits[:, 0] if kind is TaskKind.REGRESSION else torch.argmax(logits, dim=1)
    return chosen.double()


def _label_loss(logits: Tensor, batch: Batch, kind: TaskKind) -> Tensor:
    if kind is TaskKind.REGRESSION:
        return mse_loss(logits[:, 0].float(), batch.labels)
    return cross_entropy(logits.float(), batch.labels)
