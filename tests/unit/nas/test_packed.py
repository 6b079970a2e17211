from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nas.packed import attend, grouped_linear, pack_splits
from nas.teacher_pass import TeacherWeights, trace_teacher
from nas.training import predict
from search_spaces.reference import dense_encoder
from tests.random_teacher import VOCAB_SIZE, random_split, random_teacher

SHAPE = replace(
    dense_encoder(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64),
    vocab_size=VOCAB_SIZE,
    max_position_embeddings=16,
    layer_norm_eps_exponent=5,
)


@pytest.mark.torch
def test_packed_sentences_have_every_token_once_and_no_padding() -> None:
    network = random_teacher(SHAPE).network()
    splits = [random_split(30), random_split(7, seed=1)]

    packed = pack_splits(network, splits, device="cpu")

    first, second = (int(split.lengths.sum()) for split in splits)
    assert packed.embeddings.shape == (first + second, 32)
    assert packed.token_ends == (first, first + second)
    assert packed.example_ends == (30, 37)
    assert sorted(packed.examples[:30].tolist()) == list(range(30))
    rows = [row for bucket in packed.buckets for row in range(bucket.rows.start, bucket.rows.stop)]
    assert rows == list(range(first + second))
    for start, example in zip(packed.first_tokens.tolist(), packed.examples[:30].tolist(), strict=False):
        ids = splits[0].input_ids[example : example + 1, :1].long()
        assert torch.allclose(packed.embeddings[start], network.embeddings.summed(ids, torch.zeros_like(ids))[0, 0])


@pytest.mark.torch
def test_the_teachers_pass_without_padding_gives_its_logits() -> None:
    teacher, split = random_teacher(SHAPE), random_split(40)

    trace = trace_teacher(TeacherWeights(teacher, device="cpu"), pack_splits(teacher.network(), [split], device="cpu"))

    wanted = predict(teacher.network(), split, device="cpu")[trace.packed.examples]
    torch.testing.assert_close(trace.logits, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.torch
def test_sentences_attend_to_themselves_alone() -> None:
    packed = pack_splits(random_teacher(SHAPE).network(), [random_split(12)], device="cpu")
    states = torch.randn(3, packed.token_ends[0], 32, generator=torch.Generator().manual_seed(0))
    last = packed.buckets[-1].rows

    before = attend(*states, num_heads=4, buckets=packed.buckets)
    states[:, last] += 1
    after = attend(*states, num_heads=4, buckets=packed.buckets)

    assert torch.equal(after[: last.start], before[: last.start])
    assert not torch.allclose(after[last], before[last])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_map_their_own_channels(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(groups, 12 // groups, 8 // groups, generator=generator)
    states, bias = torch.randn(5, 8, generator=generator), torch.randn(12, generator=generator)

    wanted = torch.nn.functional.conv1d(states[:, :, None], weight.flatten(0, 1)[:, :, None], bias, groups=groups)

    torch.testing.assert_close(grouped_linear(states, weight, bias), wanted[:, :, 0])
    torch.testing.assert_close(grouped_linear(states, weight, bias, activation=torch.tanh), wanted[:, :, 0].tanh())
