"""Laws of fronts and hypervolumes, for two to four objectives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.front import Floats, front_probability, hypervolume, hypervolume_history, knee, non_dominated

REFERENCE = 10.0


@st.composite
def point_sets(draw: st.DrawFn) -> Floats:
    """Points on a small grid, so that ties and repeats are common."""
    num_objectives = draw(st.integers(2, 4))
    coordinate = st.integers(0, 12).map(float)
    point = st.lists(coordinate, min_size=num_objectives, max_size=num_objectives)
    return np.array(draw(st.lists(point, min_size=1, max_size=8)))


def reference_of(losses: Floats) -> Floats:
    return np.full(losses.shape[1], REFERENCE)


@given(point_sets())
def test_the_front_is_what_the_definition_says(losses: Floats) -> None:
    for point, is_member in zip(losses, non_dominated(losses), strict=True):
        is_beaten = any((other <= point).all() and (other < point).any() for other in losses)

        assert bool(is_member) is not is_beaten


@given(point_sets(), st.data())
def test_order_changes_neither_front_nor_volume(losses: Floats, data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(len(losses)))))

    assert non_dominated(losses[order]).tolist() == non_dominated(losses)[order].tolist()
    volume = hypervolume(losses, reference=reference_of(losses))
    assert hypervolume(losses[order], reference=reference_of(losses)) == pytest.approx(volume)


@given(point_sets())
def test_a_dominated_point_changes_nothing(losses: Floats) -> None:
    more = np.vstack([losses, losses[0] + 0.5])

    assert non_dominated(more).tolist() == [*non_dominated(losses).tolist(), False]
    assert hypervolume(more, reference=reference_of(losses)) == pytest.approx(
        hypervolume(losses, reference=reference_of(losses))
    )


@given(point_sets())
def test_the_history_never_falls_and_ends_at_the_volume(losses: Floats) -> None:
    history = hypervolume_history(losses, reference=reference_of(losses))

    assert (np.diff(history) >= -1e-9).all()
    assert history[-1] == pytest.approx(hypervolume(losses, reference=reference_of(losses)))


@settings(max_examples=50)
@given(point_sets())
def test_the_volume_counts_the_cells_of_the_grid_that_are_dominated(losses: Floats) -> None:
    # All corners are integers, so unit cells are dominated wholly or not at all.
    axes = [np.arange(REFERENCE)] * losses.shape[1]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, losses.shape[1])
    covered = np.zeros(len(cells), dtype=bool)
    for point in losses:
        covered |= (cells >= point).all(axis=1)

    assert hypervolume(losses, reference=reference_of(losses)) == pytest.approx(int(covered.sum()))


@given(point_sets())
def test_the_knee_is_on_the_front_it_is_taken_from(losses: Floats) -> None:
    front = losses[non_dominated(losses)]

    assert 0 <= knee(front) < len(front)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([1, 2, 3, 5, 8, 1000]))
def test_pairs_are_judged_as_the_definition_says_however_many_tie(seed: int, num_points: int, num_values: int) -> None:
    resampled = np.random.default_rng(seed).integers(num_values, size=(6, num_points, 2)).astype(float)

    expected = np.mean([non_dominated(losses) for losses in resampled], axis=0)

    assert front_probability(resampled) == pytest.approx(expected)


@given(point_sets())
def test_without_noise_the_probability_is_the_front(losses: Floats) -> None:
    resampled = np.repeat(losses[np.newaxis], 3, axis=0)

    assert front_probability(resampled).tolist() == non_dominated(losses).astype(float).tolist()


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
def test_the_volume_agrees_with_optuna(num_objectives: int) -> None:
    hypervolume_of_optuna = pytest.importorskip("optuna._hypervolume").compute_hypervolume
    generator = np.random.default_rng(num_objectives)
    for _ in range(20):
        losses = generator.random((40, num_objectives))
        reference = np.full(num_objectives, 0.9)
        inside = losses[(losses < reference).all(axis=1)]

        expected = hypervolume_of_optuna(inside, reference)

        assert hypervolume(losses, reference=reference) == pytest.approx(expected)
