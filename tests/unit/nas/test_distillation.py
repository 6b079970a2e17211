from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nas.distillation import Correspondence, DistillationLoss, LossWeights, hidden_loss, relation_loss
from nas.tasks import TaskKind
from nas.teacher_states import TeacherStates
from nas.tokens import Batch
from search_spaces.bert import Bert, build
from search_spaces.reference import dense_encoder, squeezebert_rule
from tests.random_teacher import VOCAB_SIZE, random_split, random_teacher

SHAPE = replace(
    dense_encoder(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64),
    vocab_size=VOCAB_SIZE,
    max_position_embeddings=16,
)
SAME = Correspondence(layers=(0, 1, 2), hidden=torch.arange(32), heads=torch.arange(32))


@pytest.fixture(scope="module")
def teacher() -> Bert:
    return random_teacher(SHAPE, num_labels=2).network()


@pytest.fixture(scope="module")
def batch() -> Batch:
    return random_split(12).batch(torch.arange(12))


def _loss(teacher: Bert, correspondence: Correspondence, **weights: float) -> DistillationLoss:
    return DistillationLoss(
        TeacherStates(teacher, device="cpu"),
        correspondence,
        kind=TaskKind.CLASSIFICATION,
        weights=replace(LossWeights(logits=0.0, hidden=0.0, relations=0.0), **weights),
    )


@pytest.mark.torch
@pytest.mark.parametrize("part", ["hidden", "relations"])
def test_the_teacher_itself_has_nothing_to_learn_inside(teacher: Bert, batch: Batch, part: str) -> None:
    with torch.no_grad():
        labels_only = _loss(teacher, SAME)(teacher, batch)
        with_part = _loss(teacher, SAME, **{part: 1.0})(teacher, batch)

    assert float(with_part - labels_only) == pytest.approx(0, abs=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("part", ["hidden", "relations"])
def test_a_smaller_candidate_is_drawn_to_its_part_of_the_teacher(teacher: Bert, batch: Batch, part: str) -> None:
    arch = squeezebert_rule(replace(SHAPE, hidden_size=16, blocks=SHAPE.blocks[:2]))
    torch.manual_seed(0)
    network = build(arch, num_labels=2, dropout=0.0)
    loss = _loss(teacher, Correspondence(layers=(0, 2), hidden=torch.arange(16), heads=torch.arange(32)), **{part: 1.0})
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    losses = []
    for _ in range(12):
        value = loss(network, batch)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        losses.append(float(value.detach()))

    assert losses[-1] < losses[0] - 0.1
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.torch
def test_hidden_loss_is_a_share_of_the_variance_and_ignores_padding() -> None:
    wanted = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 1]])
    kept = torch.cat([wanted[0, :, :3], wanted[1]], dim=1)
    mean = kept.mean(dim=1)[None, :, None].expand_as(wanted)
    noisy = wanted.clone()
    noisy[0, :, 3] += 100

    assert float(hidden_loss(mean, wanted, mask)) == pytest.approx(1.0, abs=1e-5)
    assert float(hidden_loss(noisy, wanted, mask)) == 0


@pytest.mark.torch
def test_relations_do_not_see_padding_or_a_rotation_of_a_head() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 8, 5, generator=generator)
    mask = torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    turned = torch.einsum("ij,bnjs->bnis", rotation, states.view(2, 2, 4, 5)).reshape(2, 8, 5)
    padded = states.clone()
    padded[0, :, 3:] += 50

    assert float(relation_loss(turned, states, mask, num_heads=2)) == pytest.approx(0, abs=1e-5)
    assert float(relation_loss(padded, states, mask, num_heads=2)) == pytest.approx(0, abs=1e-5)
    assert float(relation_loss(states.flip(2), states, mask, num_heads=2)) > 0.1
