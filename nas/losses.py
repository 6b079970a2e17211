"""What to minimise at the head: distance from the labels, and from a teacher's answers.

Shape legend: b batch, c num_labels.
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
        return label_loss(forward(network, batch), batch, kind)

    return loss


def logit_loss(kind: TaskKind, logits: Tensor, wanted: Tensor, *, temperature: float) -> Tensor:
    """Return how far ``logits`` (b, c) are from a teacher's: Hinton et al., arXiv 1503.02531.

    For classification the divergence of both distributions after division of
    the logits by ``temperature``; for regression the squared error.
    """
    if kind is TaskKind.REGRESSION:
        return mse_loss(logits, wanted)
    # The squared temperature keeps the gradient's scale, whatever the temperature.
    return temperature**2 * kl_div(
        log_softmax(logits / temperature, dim=1),
        log_softmax(wanted / temperature, dim=1),
        log_target=True,
        reduction="batchmean",
    )


def label_loss(logits: Tensor, batch: Batch, kind: TaskKind) -> Tensor:
    """Return cross entropy of ``logits`` (b, c) with the labels, or squared error for regression."""
    if kind is TaskKind.REGRESSION:
        return mse_loss(logits[:, 0].float(), batch.labels)
    return cross_entropy(logits.float(), batch.labels)


def predictions_from_logits(logits: Tensor, kind: TaskKind) -> Tensor:
    """Turn logits (n, c) into class positions, or into numbers for regression, (n,) as float64."""
    chosen = logits[:, 0] if kind is TaskKind.REGRESSION else torch.argmax(logits, dim=1)
    return chosen.double()
