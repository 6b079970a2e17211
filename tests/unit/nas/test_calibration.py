from __future__ import annotations

import pytest
import torch

from nas.calibration import calibration_sample
from tests.random_teacher import random_split


def test_a_sample_ends_at_its_tokens_and_is_the_seeds() -> None:
    split = random_split(500)

    one, again, other = (calibration_sample(split, seed=seed, num_tokens=300) for seed in (0, 0, 1))

    assert 280 <= int(one.lengths.sum()) <= 300
    assert torch.equal(one.input_ids, again.input_ids)
    assert not torch.equal(one.lengths, other.lengths[: len(one)])


def test_long_sentences_are_drawn_more_often() -> None:
    split = random_split(5_000, max_length=30)

    drawn = calibration_sample(split, seed=0, num_tokens=2_000)

    # In proportion to length the mean becomes the mean square over the mean.
    lengths = split.lengths.double()
    expected = float(lengths.square().mean() / lengths.mean())
    assert float(drawn.lengths.double().mean()) == pytest.approx(expected, rel=0.15)


def test_a_small_split_is_taken_whole_and_a_long_sentence_alone() -> None:
    split = random_split(9)

    assert len(calibration_sample(split, seed=0)) == 9

    assert len(calibration_sample(split, seed=0, num_tokens=1)) == 1
