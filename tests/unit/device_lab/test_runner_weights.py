from __future__ import annotations

import numpy as np
import pytest

from device_lab.runner.weights import PERIOD, generated_weights, generated_weights_name, numbers_at


def test_generated_weights_are_spread_evenly_about_zero() -> None:
    numbers = generated_weights(400_000)

    assert numbers.dtype == np.float32
    assert numbers.shape == (100_000,)
    assert abs(float(numbers.mean())) < 2e-4
    # Of a uniform distribution over an interval of width 0.1.
    assert abs(float(numbers.std()) - 0.1 / np.sqrt(12)) < 2e-4
    assert float(np.abs(numbers).max()) <= np.float32(0.05)
    assert len(np.unique(numbers)) > 99_000


def test_neighbours_do_not_resemble_each_other() -> None:
    numbers = generated_weights(400_000)

    for distance in (1, 2, 64, 768):
        assert abs(float(np.corrcoef(numbers[:-distance], numbers[distance:])[0, 1])) < 0.02


def test_a_longer_file_begins_like_a_shorter_one() -> None:
    assert generated_weights(4096)[:10].tolist() == generated_weights(40).tolist()
    # Position 0 hashes to 0, the lowest number.
    assert generated_weights(4).tolist() == [np.float32(-0.05)]


def test_the_name_of_the_file_says_its_length() -> None:
    assert generated_weights_name(373_248) == "generated-373248.weights"


@pytest.mark.parametrize("position", [0, 7, PERIOD - 5, PERIOD, 3 * PERIOD + 11])
@pytest.mark.parametrize("count", [1, 10, PERIOD, PERIOD + 9])
def test_any_part_is_what_a_file_of_them_all_has_there(position: int, count: int) -> None:
    whole = generated_weights(4 * (position + count))

    assert np.array_equal(numbers_at(position, count), whole[position:])


def test_layers_of_a_usual_size_share_the_memory_of_one_period() -> None:
    assert np.shares_memory(numbers_at(5, 2_000_000), numbers_at(4 * PERIOD + 5, 1))
