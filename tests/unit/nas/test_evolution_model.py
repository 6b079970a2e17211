"""The process and its gains, against the plainest formulas for the same."""

from __future__ import annotations

import numpy as np
import pytest

from nas.evolution_model import Draws, Features, Kernel, Process, expected_gains, kinship
from reports.front import hypervolume

GENERATOR = np.random.default_rng(0)
KERNEL = Kernel(length=0.6, own_variance=0.2, noise_variance=0.01)


def some_features(count: int, *, seed: int = 0) -> Features:
    generator = np.random.default_rng(seed)
    return Features(averages=generator.random((count, 3)), own=generator.normal(scale=0.3, size=(count, 5)))


def test_covariances_are_the_sums_of_their_parts() -> None:
    rows = some_features(4)

    covariance = KERNEL.covariance(kinship(rows, rows))

    for i in range(4):
        for j in range(4):
            squared = sum((rows.averages[i] - rows.averages[j]) ** 2)
            expected = 1 + sum(rows.averages[i] * rows.averages[j]) + 0.2 * sum(rows.own[i] * rows.own[j])
            assert covariance[i, j] == pytest.approx(expected + 2.0 * np.exp(-squared / (2 * 0.6**2)))
    assert KERNEL.variance(rows) == pytest.approx(np.diag(covariance))


def test_predictions_are_those_of_the_textbook() -> None:
    told, asked = some_features(20), some_features(6, seed=1)
    values = 7 + 3 * told.averages[:, 0] + np.sin(4 * told.averages[:, 1])

    means, deviations = Process(told, values, kernel=KERNEL).at(asked)

    inverse = np.linalg.inv(KERNEL.covariance(kinship(told, told)) + 0.01 * np.eye(20))
    across = KERNEL.covariance(kinship(asked, told))
    centred = values - values.mean()
    amplitude = (values.var() + centred @ inverse @ centred) / 21
    expected = KERNEL.variance(asked) - np.diag(across @ inverse @ across.T)
    assert means == pytest.approx(values.mean() + across @ inverse @ centred)
    assert deviations == pytest.approx(np.sqrt(amplitude * expected), rel=1e-6)


def test_chosen_settings_foretell_what_is_smooth_and_linear() -> None:
    told, asked = some_features(60), some_features(30, seed=1)

    def truth(rows: Features) -> np.ndarray:
        return rows.averages @ [3.0, 1.0, 0.0] + np.cos(3 * rows.averages[:, 2]) + 0.2 * rows.own[:, 0]

    means, _ = Process(told, truth(told)).at(asked)

    assert np.sqrt(np.mean((means - truth(asked)) ** 2)) < 0.1 * truth(asked).std()


def test_one_value_and_equal_values_are_predicted_as_they_are() -> None:
    for count in (1, 5):
        means, deviations = Process(some_features(count), np.full(count, 2.5)).at(some_features(3, seed=1))

        assert means == pytest.approx(2.5)
        assert (deviations > 0).all()


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
def test_sure_gains_are_gains_of_hypervolume(num_objectives: int) -> None:
    generator = np.random.default_rng(3)
    front = generator.random((5, num_objectives)) * 0.8
    points = generator.random((12, num_objectives))
    directions = np.abs(generator.standard_normal((40_000, num_objectives)))
    draws = Draws(
        standard=np.zeros((1, num_objectives)),
        directions=directions / np.linalg.norm(directions, axis=1, keepdims=True),
    )
    reference = np.ones(num_objectives)

    gains = expected_gains(points, np.zeros_like(points), front, reference, draws)

    before = hypervolume(front, reference=reference)
    exact = np.array([hypervolume(np.vstack([front, point]), reference=reference) - before for point in points])
    # The mean over directions misses the volume by a constant: of the part of the unit ball where all is positive.
    constant = {1: 1.0, 2: np.pi / 4, 3: np.pi / 6}[num_objectives]
    assert constant * gains == pytest.approx(exact, abs=0.005)
    assert (gains[exact == 0] == 0).all()


def test_without_a_front_everything_better_than_the_reference_gains() -> None:
    draws = Draws(standard=np.zeros((1, 2)), directions=np.array([[0.6, 0.8]]))
    points = np.array([[0.5, 0.5], [1.5, 0.5]])

    gains = expected_gains(points, np.zeros_like(points), np.empty((0, 2)), np.ones(2), draws)

    assert gains[0] > 0 == gains[1]
