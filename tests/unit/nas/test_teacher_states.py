from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import nas.teacher_states
from nas.teacher_states import LOGITS, RELATED, TeacherStates, observed
from nas.tokens import Batch
from search_spaces.bert import Bert
from search_spaces.reference import dense_encoder
from tests.random_teacher import VOCAB_SIZE, random_split, random_teacher

SHAPE = replace(
    dense_encoder(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64),
    vocab_size=VOCAB_SIZE,
    max_position_embeddings=16,
)
NUM_STATES = 3 + 3


@pytest.fixture
def teacher() -> Bert:
    return random_teacher(SHAPE, num_labels=2).network()


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    split = random_split(36)
    return [split.batch(torch.arange(start, start + 12)) for start in (0, 12, 24)]


def _num_bytes(batch: Batch) -> int:
    """What is remembered of a batch: a float32 each of layers, projections and logits."""
    return 4 * (NUM_STATES * SHAPE.hidden_size * batch.input_ids.numel() + 2 * len(batch.input_ids))


class Counted:
    """Counts the runs of a network."""

    def __init__(self, network: Bert) -> None:
        self.num_runs = 0
        network.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.num_runs += 1


def _same(states: TeacherStates, others: TeacherStates, batch: Batch, layers: tuple[int, ...]) -> bool:
    one, other = states(batch, layers), others(batch, layers)
    keys: list[int | str] = [LOGITS, *RELATED, *layers]
    return all(torch.equal(one[key], other[key]) for key in keys)


@pytest.mark.torch
def test_a_batch_is_run_once_and_remembered_bit_for_bit(teacher: Bert, batches: list[Batch], tmp_path: Path) -> None:
    counted = Counted(teacher)
    remembering, forgetful = TeacherStates(teacher, device="cpu", folder=tmp_path), TeacherStates(teacher, device="cpu")
    for batch in batches:
        remembering(batch, (1,))
    assert counted.num_runs == 3

    for batch in reversed(batches):
        assert _same(remembering, forgetful, batch, (0, 2))

    assert counted.num_runs == 6
    assert not list(tmp_path.iterdir()), "a file that a killed process would leave"


@pytest.mark.torch
def test_batches_that_differ_in_padding_only_are_two(teacher: Bert, batches: list[Batch], tmp_path: Path) -> None:
    remembering, forgetful = TeacherStates(teacher, device="cpu", folder=tmp_path), TeacherStates(teacher, device="cpu")
    masked = replace(batches[0], attention_mask=batches[0].attention_mask.clone())
    masked.attention_mask[:, -1] = 0
    typed = replace(batches[0], token_type_ids=1 - batches[0].token_type_ids)
    for batch in (batches[0], masked, typed):
        remembering(batch, (0,))

    for batch in (batches[0], masked, typed):
        assert _same(remembering, forgetful, batch, (0, 1, 2))


@pytest.mark.torch
def test_what_does_not_fit_is_computed_again(
    teacher: Bert, batches: list[Batch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nas.teacher_states, "MAX_REMEMBERED_BYTES", sum(map(_num_bytes, batches[:2])))
    counted = Counted(teacher)
    remembering, forgetful = TeacherStates(teacher, device="cpu", folder=tmp_path), TeacherStates(teacher, device="cpu")
    for _ in range(2):
        for batch in batches:
            assert _same(remembering, forgetful, batch, (0, 1, 2))

    assert counted.num_runs == 6 + 3 + 1


@pytest.mark.torch
@pytest.mark.parametrize("num_sets", [0, 0.5, 1.0, 1.5])
def test_a_full_disk_costs_time_only(teacher: Bert, batches: list[Batch], tmp_path: Path, num_sets: float) -> None:
    remembering, forgetful = TeacherStates(teacher, device="cpu", folder=tmp_path), TeacherStates(teacher, device="cpu")
    room = int(num_sets * _num_bytes(batches[0]))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        first = [_same(remembering, forgetful, batch, (0,)) for batch in batches + batches]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert all(first)
    for _ in range(2):
        assert all(_same(remembering, forgetful, batch, (1, 2)) for batch in batches)


@pytest.mark.torch
def test_nothing_is_observed_after_the_block(teacher: Bert, batches: list[Batch]) -> None:
    batch = batches[0]
    with observed(teacher, [1]) as seen:
        teacher(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    assert set(seen) == {1, "query", "key", "value"}
    kept = seen[1]

    teacher(batch.input_ids[:3], batch.attention_mask[:3], batch.token_type_ids[:3])

    assert seen[1] is kept
