from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.promotion import survivors
from reports.front import non_dominated

LOSSES = arrays(np.float64, st.tuples(st.integers(1, 25), st.integers(1, 3)), elements=st.floats(0, 1, width=16))


@settings(deadline=None, max_examples=60)
@given(LOSSES, st.floats(0, 1))
def test_the_share_is_promoted_once_each_and_nobody_over_a_better_one(losses: np.ndarray, share: float) -> None:
    chosen = survivors(losses, share=share)

    assert len(set(chosen)) == len(chosen)
    assert len(losses) * share - 1e-8 <= len(chosen) < len(losses) * share + 1
    left = sorted(set(range(len(losses))) - set(chosen))
    for loser in left:
        beaten = (losses[loser] <= losses[chosen]).all(axis=1) & (losses[loser] < losses[chosen]).any(axis=1)
        assert not beaten.any()


def test_ranks_come_in_order() -> None:
    losses = np.array([[3.0, 3.0], [1.0, 1.0], [2.0, 2.0], [4.0, 0.5]])

    assert set(survivors(losses, share=0.5)) == {1, 3}
    assert survivors(losses, share=0.75)[-1] == 2
    assert non_dominated(losses)[survivors(losses, share=0.5)].all()


def test_of_a_front_too_large_the_points_that_cover_least_go() -> None:
    # Evenly spread, but for two that all but coincide in the middle.
    losses = np.array([[0.0, 1.0], [0.25, 0.6], [0.5, 0.3], [0.501, 0.299], [1.0, 0.0]])

    kept = survivors(losses, share=0.8)

    assert {0, 1, 4} < set(kept)
    assert len({2, 3} & set(kept)) == 1


@pytest.mark.parametrize(
    ("num_candidates", "share", "count"), [(5, 0.0, 0), (5, 0.01, 1), (5, 1.0, 5), (25, 0.28, 7), (10, 0.3, 3)]
)
def test_shares_are_rounded_up(num_candidates: int, share: float, count: int) -> None:
    assert len(survivors(np.random.default_rng(0).random((num_candidates, 2)), share=share)) == count
