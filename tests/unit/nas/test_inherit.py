from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nas.errors import SettingsError
from nas.inherit import diagonal_blocks, inherit, kept_layers
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, build
from search_spaces.reference import dense_encoder, squeezebert_rule

TEACHER = dense_encoder(hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64)
IDS = torch.tensor([[101, 2000, 3000, 102], [101, 4000, 102, 0]])
MASK = (IDS > 0).long()


@pytest.fixture(scope="module")
def teacher() -> Bert:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(TEACHER, num_labels=3, dropout=0.0).eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def _logits(network: Bert) -> Tensor:
    with torch.no_grad():
        logits: Tensor = network(IDS, MASK, torch.zeros_like(IDS))
    return logits


def _candidate(teacher: Bert, arch: Architecture) -> Bert:
    network = build(arch, num_labels=3, dropout=0.0).eval()
    network.load_state_dict(inherit(teacher.state_dict(), teacher.arch, arch))
    return network


@pytest.mark.torch
def test_the_teachers_own_shape_inherits_the_teacher(teacher: Bert) -> None:
    assert torch.equal(_logits(_candidate(teacher, TEACHER)), _logits(teacher))


@pytest.mark.torch
def test_inherited_weights_are_copies(teacher: Bert) -> None:
    state = inherit(teacher.state_dict(), TEACHER, TEACHER)
    for tensor in state.values():
        tensor.zero_()

    assert _logits(teacher).abs().sum() > 0


@pytest.mark.torch
def test_a_teacher_that_is_block_diagonal_loses_nothing_to_the_rule(teacher: Bert) -> None:
    rule = squeezebert_rule(TEACHER)
    grouped = _candidate(teacher, rule)
    dense = build(TEACHER, num_labels=3, dropout=0.0).eval()
    state = grouped.state_dict()
    for name, tensor in dense.state_dict().items():
        if state[name].shape != tensor.shape:
            state[name] = _block_diagonal(state[name], groups=4)
    dense.load_state_dict(state)

    assert torch.equal(_logits(_candidate(dense, rule)), _logits(grouped))
    assert torch.allclose(_logits(dense), _logits(grouped), atol=1e-5)


@pytest.mark.torch
def test_heads_and_channels_that_do_nothing_are_the_ones_that_go(teacher: Bert) -> None:
    idle = _candidate(teacher, TEACHER)
    for name, tensor in idle.state_dict().items():
        if ".value." in name:
            tensor[8:16] = 0  # head 1
        if ".intermediate." in name:
            tensor[::2] = 0  # every other FFN channel
    narrow = replace(
        TEACHER, blocks=tuple(replace(b, num_attention_heads=3, intermediate_size=32) for b in TEACHER.blocks)
    )

    assert torch.allclose(_logits(_candidate(idle, narrow)), _logits(idle), atol=1e-5)


@pytest.mark.torch
def test_hidden_channels_are_kept_by_the_size_of_their_embeddings(teacher: Bert) -> None:
    state = teacher.state_dict()
    state["embeddings.word_embeddings.weight"] = state["embeddings.word_embeddings.weight"].clone()
    state["embeddings.word_embeddings.weight"][:, 5::2] *= 9
    arch = replace(TEACHER, hidden_size=14)

    new = inherit(state, TEACHER, arch)

    kept = list(range(5, 32, 2))
    assert torch.equal(new["pooler.weight"], state["pooler.weight"][kept][:, kept])
    assert torch.equal(new["layers.0.output.weight"], state["layers.0.output.weight"][kept])
    assert torch.equal(new["layers.3.output_layer_norm.bias"], state["layers.3.output_layer_norm.bias"][kept])
    assert new["classifier.weight"].shape == (3, 14)


@pytest.mark.parametrize(("num_layers", "kept"), [(1, [3]), (2, [1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3])])
def test_kept_layers_are_spread_and_end_with_the_last(num_layers: int, kept: list[int]) -> None:
    assert kept_layers(4, num_layers) == kept


@pytest.mark.torch
def test_a_shallower_candidate_has_the_kept_layers_in_order(teacher: Bert) -> None:
    new = inherit(teacher.state_dict(), TEACHER, replace(TEACHER, blocks=TEACHER.blocks[:2]))

    assert torch.equal(new["layers.0.query.weight"], teacher.state_dict()["layers.1.query.weight"])
    assert torch.equal(new["layers.1.query.weight"], teacher.state_dict()["layers.3.query.weight"])
    assert not any(name.startswith("layers.2.") for name in new)


def test_diagonal_blocks_keep_each_groups_own_inputs() -> None:
    weight = torch.arange(24.0).view(4, 6, 1)

    assert diagonal_blocks(weight, 2)[:, :, 0].tolist() == [[0, 1, 2], [6, 7, 8], [15, 16, 17], [21, 22, 23]]


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (replace(TEACHER, hidden_size=64), r"hidden_size=64 of \w+ must be at most the teacher's 32"),
        (replace(TEACHER, blocks=TEACHER.blocks * 2), "num_hidden_layers=8 .* at most the teacher's 4"),
        (
            replace(TEACHER, blocks=(replace(TEACHER.blocks[0], num_attention_heads=5),)),
            "num_attention_heads=5 .* at most the teacher's 4",
        ),
        (
            replace(TEACHER, blocks=(replace(TEACHER.blocks[0], intermediate_size=65),)),
            "intermediate_size=65 .* at most the teacher's 64",
        ),
        (replace(TEACHER, attention_head_size=4), "attention_head_size=4 .* equal the teacher's 8"),
        (replace(TEACHER, vocab_size=9), "vocab_size=9 .* equal the teacher's 30522"),
    ],
)
def test_a_candidate_that_does_not_fit_is_named(arch: Architecture, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        inherit({}, TEACHER, arch)


def test_a_teacher_with_groups_is_refused() -> None:
    with pytest.raises(SettingsError, match="has groups; a candidate inherits from a dense network only"):
        inherit({}, squeezebert_rule(TEACHER), TEACHER)


def _block_diagonal(weight: Tensor, *, groups: int) -> Tensor:
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    dense = torch.zeros(groups * rows, groups * columns, 1)
    for k in range(groups):
        block_rows = slice(k * rows, (k + 1) * rows)
        dense[block_rows, k * columns : (k + 1) * columns] = weight[block_rows]
    return dense
