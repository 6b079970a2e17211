from __future__ import annotations

import numpy as np
import pytest

from reports.front import front_probability, hypervolume, hypervolume_history, knee, non_dominated


def test_a_point_worse_everywhere_is_dominated_and_equal_points_are_not() -> None:
    losses = np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 2.0], [3.0, 3.0], [3.0, 1.0]])

    assert non_dominated(losses).tolist() == [True, True, True, False, True]


def test_a_tie_in_one_objective_is_decided_by_the_other() -> None:
    assert non_dominated(np.array([[1.0, 2.0], [1.0, 1.0]])).tolist() == [False, True]


def test_one_objective_has_its_minima_as_front() -> None:
    assert non_dominated(np.array([[2.0], [1.0], [1.0]])).tolist() == [False, True, True]


def test_no_points_have_an_empty_front_without_volume() -> None:
    empty = np.empty((0, 2))

    assert non_dominated(empty).tolist() == []
    assert hypervolume(empty, reference=np.array([1.0, 1.0])) == 0.0


def test_hypervolume_of_two_steps_is_the_area_by_hand() -> None:
    losses = np.array([[1.0, 2.0], [2.0, 1.0]])

    # From (3, 3): the rectangles 2x1 and 1x2 share the square 1x1.
    assert hypervolume(losses, reference=np.array([3.0, 3.0])) == pytest.approx(3.0)


def test_hypervolume_of_two_boxes_is_their_union_by_hand() -> None:
    losses = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])

    # From (2, 2, 2): boxes of 2 and 4 that share the cube 1x1x1.
    assert hypervolume(losses, reference=np.array([2.0, 2.0, 2.0])) == pytest.approx(5.0)


def test_a_point_beyond_the_reference_adds_no_volume() -> None:
    losses = np.array([[1.0, 1.0], [0.0, 5.0]])

    assert hypervolume(losses, reference=np.array([2.0, 2.0])) == pytest.approx(1.0)


def test_history_rises_only_with_points_that_are_new_to_the_front() -> None:
    losses = np.array([[2.0, 2.0], [2.5, 2.5], [1.0, 2.5], [2.0, 2.0], [1.0, 1.0]])

    # From (3, 3): 1, nothing new, a strip of 1 x 0.5, nothing new, the square 2 x 2.
    assert hypervolume_history(losses, reference=np.array([3.0, 3.0])).tolist() == [1.0, 1.0, 1.5, 1.5, 4.0]


def test_the_knee_is_nearest_to_the_corner_of_all_bests() -> None:
    losses = np.array([[0.0, 10.0], [0.2, 3.0], [1.0, 0.0]])

    assert knee(losses) == 1


def test_the_knee_of_two_ends_is_the_one_better_in_the_first_objective() -> None:
    assert knee(np.array([[0.9, 1.0], [0.1, 7.0]])) == 1


def test_the_knee_of_one_point_is_that_point() -> None:
    assert knee(np.array([[0.3, 4.0]])) == 0


def test_the_probability_is_the_share_of_resamples_on_the_front() -> None:
    resampled = np.array([[[1.0, 1.0], [2.0, 2.0]], [[1.0, 1.0], [0.5, 2.0]]])

    assert front_probability(resampled).tolist() == [1.0, 0.5]
