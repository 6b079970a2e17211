from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nas.losses import distillation_loss, predictions_from_logits, supervised_loss
from nas.tasks import TaskKind
from nas.tokens import Batch


class Fixed(nn.Module):
    """Answers the same logits to everything."""

    def __init__(self, *logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.logits


def _batch(*labels: float, rows: tuple[int, ...]) -> Batch:
    ids = torch.zeros(len(labels), 3, dtype=torch.int64)
    return Batch(
        rows=torch.tensor(rows), input_ids=ids, attention_mask=ids, token_type_ids=ids, labels=torch.tensor(labels)
    )


def test_labels_alone_are_cross_entropy_or_squared_error() -> None:
    classes, numbers = _batch(0, 1, rows=(0, 1)), _batch(1.0, 5.0, rows=(0, 1))

    assert supervised_loss(TaskKind.CLASSIFICATION)(Fixed([0.0, 0.0], [0.0, 0.0]), classes).item() == pytest.approx(
        math.log(2)
    )
    # ((3 - 1)^2 + (4 - 5)^2) / 2
    assert supervised_loss(TaskKind.REGRESSION)(Fixed([3.0], [4.0]), numbers).item() == 2.5


def test_the_teacher_of_a_batch_is_looked_up_by_row() -> None:
    answers = torch.tensor([[torch.nan, torch.nan], [2.0, 0.0], [0.0, 4.0]])
    loss = distillation_loss(TaskKind.CLASSIFICATION, answers, temperature=2.0, teacher_weight=1.0)

    agreeing = loss(Fixed([0.0, 4.0], [2.0, 0.0]), _batch(0, 0, rows=(2, 1)))
    swapped = loss(Fixed([2.0, 0.0], [0.0, 4.0]), _batch(0, 0, rows=(2, 1)))

    assert agreeing.item() == pytest.approx(0, abs=1e-6)
    assert swapped.item() > 1


def test_softened_divergence_and_labels_are_mixed_by_weight() -> None:
    answers = torch.tensor([[4.0, 0.0]])
    network, batch = Fixed([0.0, 0.0]), _batch(1, rows=(0,))
    softened = 1 / (1 + math.exp(-4.0 / 2.0))
    divergence = softened * math.log(softened / 0.5) + (1 - softened) * math.log((1 - softened) / 0.5)

    loss = distillation_loss(TaskKind.CLASSIFICATION, answers, temperature=2.0, teacher_weight=0.75)(network, batch)

    assert loss.item() == pytest.approx(0.75 * 4.0 * divergence + 0.25 * math.log(2))


def test_regression_mixes_two_squared_errors() -> None:
    loss = distillation_loss(TaskKind.REGRESSION, torch.tensor([[2.0]]), temperature=2.0, teacher_weight=0.25)

    assert loss(Fixed([3.0]), _batch(0.0, rows=(0,))).item() == pytest.approx(0.25 * 1 + 0.75 * 9)


def test_predictions_are_classes_or_numbers() -> None:
    logits = torch.tensor([[0.5, -1.0], [-2.0, 3.0]])

    assert predictions_from_logits(logits, TaskKind.CLASSIFICATION).tolist() == [0, 1]
    assert predictions_from_logits(logits, TaskKind.REGRESSION).tolist() == [0.5, -2.0]
