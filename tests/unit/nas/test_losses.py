from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nas.losses import logit_loss, predictions_from_logits, supervised_loss
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


def test_divergence_from_a_teacher_is_softened_and_zero_for_the_same_answers() -> None:
    wanted = torch.tensor([[4.0, 0.0]])
    softened = 1 / (1 + math.exp(-4.0 / 2.0))
    divergence = softened * math.log(softened / 0.5) + (1 - softened) * math.log((1 - softened) / 0.5)

    apart = logit_loss(TaskKind.CLASSIFICATION, torch.zeros(1, 2), wanted, temperature=2.0)
    same = logit_loss(TaskKind.CLASSIFICATION, wanted + 3, wanted, temperature=2.0)

    assert apart.item() == pytest.approx(4.0 * divergence)
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_distance_from_a_teacher_of_numbers_is_squared() -> None:
    wanted = torch.tensor([[2.0], [1.0]])

    assert logit_loss(TaskKind.REGRESSION, torch.tensor([[3.0], [1.0]]), wanted, temperature=2.0).item() == 0.5


def test_predictions_are_classes_or_numbers() -> None:
    logits = torch.tensor([[0.5, -1.0], [-2.0, 3.0]])

    assert predictions_from_logits(logits, TaskKind.CLASSIFICATION).tolist() == [0, 1]
    assert predictions_from_logits(logits, TaskKind.REGRESSION).tolist() == [0.5, -2.0]
