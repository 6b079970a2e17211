from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas.channels import EQUAL_FIELDS, kept_layers, require_fits
from nas.errors import ProjectionWarning, SettingsError, TrainingError
from nas.teacher import Teacher
from nas.training import predict
from search_spaces.architecture import GROUP_POSITIONS, Architecture
from search_spaces.bert import build
from search_spaces.reference import dense_encoder, squeezebert_rule
from search_spaces.space import make_space
from tests.random_teacher import VOCAB_SIZE, Projections, network_of, random_split, random_teacher
from tests.strategies import drawn_from

SHAPE = replace(
    dense_encoder(hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64),
    vocab_size=VOCAB_SIZE,
    max_position_embeddings=16,
)
METHODS = ("sequential", "from_teacher_inputs", "cut")

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return random_teacher(SHAPE)


@pytest.fixture(scope="module")
def projections(teacher: Teacher) -> Projections:
    return Projections(teacher, random_split(400), random_split(60, seed=1))


def _uniform(arch: Architecture = SHAPE, /, **numbers: int) -> Architecture:
    return replace(arch, blocks=tuple(replace(block, **numbers) for block in arch.blocks))


def _grouped(groups: int) -> Architecture:
    return _uniform(SHAPE, **dict.fromkeys(GROUP_POSITIONS, groups))


def _logits(projections: Projections, arch: Architecture, method: str) -> Tensor:
    state = getattr(projections, method).project(arch)
    return predict(network_of(arch, state), projections.dev, device="cpu")


def _error(projections: Projections, arch: Architecture, method: str) -> float:
    wanted = predict(projections.teacher.network(), projections.dev, device="cpu")
    return float((_logits(projections, arch, method) - wanted).square().mean())


@pytest.mark.parametrize("method", METHODS)
def test_the_teachers_own_shape_is_projected_onto_the_teacher(projections: Projections, method: str) -> None:
    wanted = predict(projections.teacher.network(), projections.dev, device="cpu")

    torch.testing.assert_close(_logits(projections, SHAPE, method), wanted, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "arch",
    [squeezebert_rule(SHAPE), _grouped(8), _uniform(intermediate_size=32), _uniform(num_attention_heads=2)],
    ids=["rule", "groups", "ffn", "heads"],
)
def test_least_squares_is_nearer_to_the_teacher_than_cutting(projections: Projections, arch: Architecture) -> None:
    assert _error(projections, arch, "from_teacher_inputs") < _error(projections, arch, "cut")


@pytest.mark.parametrize(
    "arch",
    [squeezebert_rule(SHAPE), _grouped(8), replace(SHAPE, blocks=SHAPE.blocks[:2]), replace(SHAPE, hidden_size=16)],
    ids=["rule", "groups", "depth", "hidden"],
)
def test_fitting_on_the_candidates_own_states_is_nearer_still(projections: Projections, arch: Architecture) -> None:
    assert _error(projections, arch, "sequential") < _error(projections, arch, "from_teacher_inputs")


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_logits_of_the_pass_are_those_of_the_network(projections: Projections, data: st.DataObject) -> None:
    arch = data.draw(drawn_from(make_space("grouped", SHAPE)))

    state, logits = projections.sequential.project_and_run(arch)

    packed = projections.trace.packed
    start = packed.example_ends[0]
    wanted = predict(network_of(arch, state), projections.dev, device="cpu")[packed.examples[start:]]
    torch.testing.assert_close(logits[start:], wanted, atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=15)
@given(st.data())
@pytest.mark.parametrize("method", METHODS)
def test_every_candidate_of_a_space_gets_finite_weights_of_its_shapes(
    projections: Projections, method: str, data: st.DataObject
) -> None:
    arch = data.draw(drawn_from(make_space("grouped", SHAPE)))

    state = getattr(projections, method).project(arch)

    shapes = {name: tensor.shape for name, tensor in build(arch, num_labels=3).state_dict().items()}
    assert {name: tensor.shape for name, tensor in state.items()} == shapes
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_a_teacher_that_has_groups_inside_loses_nothing_to_them(teacher: Teacher) -> None:
    rule = _grouped(4)
    shape = {name: tensor.shape for name, tensor in build(rule, num_labels=3).state_dict().items()}
    mask = {
        name: torch.kron(torch.eye(4), torch.ones(tensor.shape[0] // 4, tensor.shape[1] // 4))[:, :, None]
        for name, tensor in teacher.state.items()
        if tensor.shape != shape[name]
    }
    separable = replace(
        teacher, state={name: tensor * mask.get(name, torch.ones(())) for name, tensor in teacher.state.items()}
    )
    projections = Projections(separable, random_split(400), random_split(60, seed=1))

    for method in METHODS:
        assert _error(projections, rule, method) < 1e-4


def test_two_halves_lose_nothing_of_a_teacher_that_fits_into_one(teacher: Teacher) -> None:
    idle_channels, idle_ffn = torch.arange(1, 32, 2), torch.arange(0, 64, 2)
    idle_heads = torch.cat([torch.arange(0, 8), torch.arange(16, 24)])
    state = {name: tensor.clone() for name, tensor in teacher.state.items()}
    for name, tensor in state.items():
        if name.startswith("embeddings.") and "layer_norm" not in name:
            tensor[:, idle_channels] = 0
        elif "layer_norm" in name or ".post_attention." in name or ".output." in name:
            tensor[idle_channels] = 0
        elif ".value." in name:
            tensor[idle_heads] = 0
        elif ".intermediate." in name:
            tensor[idle_ffn] = 0
    narrow = Projections(replace(teacher, state=state), random_split(400), random_split(60, seed=1))

    assert _error(narrow, _grouped(2), "cut") < 1e-6
    with pytest.warns(ProjectionWarning, match="do not determine"):  # the idle half has nothing to be fitted on
        assert _error(narrow, _grouped(2), "sequential") < 1e-4


def test_logits_of_the_pass_are_those_of_two_halves(projections: Projections) -> None:
    state, logits = projections.sequential.project_and_run(_grouped(2))

    packed = projections.trace.packed
    start = packed.example_ends[0]
    wanted = predict(network_of(_grouped(2), state), projections.dev, device="cpu")[packed.examples[start:]]
    torch.testing.assert_close(logits[start:], wanted, atol=1e-4, rtol=1e-4)


def test_heads_and_channels_that_do_nothing_are_the_ones_that_go(teacher: Teacher) -> None:
    state = {name: tensor.clone() for name, tensor in teacher.state.items()}
    for name, tensor in state.items():
        if ".value." in name:
            tensor[8:16] = 0  # head 1
        if ".intermediate." in name:
            tensor[::2] = 0  # every other channel of the FFN
    idle = Projections(replace(teacher, state=state), random_split(300), random_split(60, seed=1))
    narrow = _uniform(num_attention_heads=3, intermediate_size=32)

    assert _error(idle, narrow, "cut") < 1e-6
    assert _error(idle, narrow, "sequential") < 1e-5


def test_a_head_that_a_teacher_does_not_use_is_no_obstacle(teacher: Teacher) -> None:
    state = {name: tensor.clone() for name, tensor in teacher.state.items()}
    for layer in range(4):
        state[f"layers.{layer}.post_attention.weight"][:, 8:16] = 0
        state[f"layers.{layer}.value.weight"][8:16] = 0
    pruned = Projections(replace(teacher, state=state), random_split(50), random_split(5, seed=1))

    projected = pruned.sequential.project(_grouped(4))

    assert all(torch.isfinite(tensor).all() for tensor in projected.values())


def test_the_classifier_is_fitted_to_the_teachers_answers(projections: Projections) -> None:
    arch = replace(SHAPE, hidden_size=16)
    state, logits = projections.sequential.project_and_run(arch)
    kept = projections.planner.hidden(arch)
    cut = {**state, "classifier.weight": projections.teacher.state["classifier.weight"][:, kept]}
    cut["classifier.bias"] = projections.teacher.state["classifier.bias"]
    packed = projections.trace.packed
    wanted = projections.trace.logits[: packed.example_ends[0]]

    fitted_error = (logits[: packed.example_ends[0]] - wanted).square().mean()

    sample = projections.calibration
    in_packed_order = predict(network_of(arch, cut), sample, device="cpu")[packed.examples[: packed.example_ends[0]]]
    cut_error = (in_packed_order - wanted).square().mean()
    assert fitted_error < cut_error


def test_equal_first_layers_are_fitted_once_and_change_nothing(projections: Projections, teacher: Teacher) -> None:
    first = squeezebert_rule(SHAPE)
    second = replace(first, blocks=(*first.blocks[:3], SHAPE.blocks[3]))
    fresh = Projections(teacher, random_split(400), random_split(60, seed=1)).sequential

    projections.sequential.project(first)
    after, alone = projections.sequential.project(second), fresh.project(second)

    assert all(torch.equal(after[name], alone[name]) for name in alone)


def test_a_piece_is_solved_once_for_all_candidates_that_have_it(
    projections: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = _grouped(2)
    before = projections.from_teacher_inputs.project(arch)
    monkeypatch.setattr("nas.pieces.fit_groups", lambda **_: pytest.fail("solved again"))

    again = projections.from_teacher_inputs.project(arch)

    assert all(torch.equal(again[name], before[name]) for name in before)


@pytest.mark.parametrize("method", METHODS)
def test_projected_weights_are_copies(projections: Projections, method: str) -> None:
    before = getattr(projections, method).project(_grouped(2))
    kept = {name: tensor.clone() for name, tensor in before.items()}
    for tensor in before.values():
        tensor.zero_()

    again = getattr(projections, method).project(_grouped(2))

    assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_a_sample_of_one_sentence_stays_near_the_teachers_weights(teacher: Teacher) -> None:
    tiny = Projections(teacher, random_split(1), random_split(60, seed=1))

    with pytest.warns(ProjectionWarning, match="classifier: its inputs do not determine a projection"):
        state = tiny.sequential.project(squeezebert_rule(SHAPE))

    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_a_teacher_whose_states_are_not_finite_is_refused(teacher: Teacher) -> None:
    broken = {name: tensor.clone() for name, tensor in teacher.state.items()}
    broken["layers.1.intermediate.bias"][0] = torch.nan

    with pytest.raises(TrainingError, match="teacher random: states of layer 1 are not finite; train it again"):
        Projections(replace(teacher, state=broken), random_split(50), random_split(5, seed=1))


@pytest.mark.parametrize(("num_layers", "kept"), [(1, [3]), (2, [1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3])])
def test_kept_layers_are_spread_and_end_with_the_last(num_layers: int, kept: list[int]) -> None:
    assert kept_layers(4, num_layers) == kept


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (replace(SHAPE, hidden_size=64), r"hidden_size=64 of \w+ must be at most the teacher's 32"),
        (replace(SHAPE, blocks=SHAPE.blocks * 2), "num_hidden_layers=8 .* at most the teacher's 4"),
        (_uniform(num_attention_heads=5), "num_attention_heads=5 .* at most the teacher's 4"),
        (_uniform(intermediate_size=65), "intermediate_size=65 .* at most the teacher's 64"),
        (replace(SHAPE, attention_head_size=4), "attention_head_size=4 .* equal the teacher's 8"),
        (replace(SHAPE, vocab_size=9), "vocab_size=9 .* equal the teacher's 60"),
    ],
)
def test_a_candidate_that_does_not_fit_is_named(
    projections: Projections, arch: Architecture, message: str, method: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        getattr(projections, method).project(arch)


def test_every_number_of_an_architecture_is_projected_or_must_be_equal() -> None:
    checked = {"layer_norm_eps_exponent" if name == "layer_norm_eps" else name for name in EQUAL_FIELDS}

    assert {field.name for field in fields(Architecture)} == {"hidden_size", "blocks"} | checked


def test_a_teacher_with_groups_is_refused() -> None:
    grouped = squeezebert_rule(SHAPE)

    with pytest.raises(SettingsError, match="has groups; a candidate is projected from a dense network only"):
        require_fits(grouped, grouped)
