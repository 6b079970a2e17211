from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.undecided import undecided

POINTS = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.floats(0, 1, width=16))


def mask(*flags: int) -> np.ndarray:
    return np.array(flags, dtype=np.bool_)


def test_what_a_measured_one_beats_even_at_its_best_is_decided() -> None:
    losses = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 0.5]])

    assert undecided(losses, is_measured=mask(1, 0, 0), tolerance=0.0) == [2]


def test_what_may_gain_most_comes_first() -> None:
    losses = np.array([[5.0, 5.0], [4.0, 4.0], [1.0, 1.0], [0.0, 10.0]])

    assert undecided(losses, is_measured=mask(1, 0, 0, 0), tolerance=0.0)[0] == 2


def test_what_would_gain_less_than_the_tolerance_is_as_good_as_decided() -> None:
    losses = np.array([[1.0, 0.0], [0.0, 1.0], [0.499, 0.499], [0.5, 0.5]])

    assert undecided(losses, is_measured=mask(1, 1, 0, 1), tolerance=0.0) == [2]
    assert undecided(losses, is_measured=mask(1, 1, 0, 1), tolerance=0.02) == []


def test_nothing_is_undecided_among_none() -> None:
    assert undecided(np.zeros((0, 2)), is_measured=mask(), tolerance=0.0) == []


@given(POINTS, st.data())
def test_only_what_is_not_measured_is_undecided(losses: np.ndarray, data: st.DataObject) -> None:
    flags = data.draw(arrays(np.bool_, len(losses)))

    found = undecided(losses, is_measured=flags, tolerance=0.0)

    assert not any(flags[i] for i in found)
    assert len(set(found)) == len(found)


@given(POINTS)
def test_with_nothing_measured_there_is_always_something_to_measure(losses: np.ndarray) -> None:
    assert undecided(losses, is_measured=np.zeros(len(losses), dtype=np.bool_), tolerance=0.0)
