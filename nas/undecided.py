"""Which candidates a front cannot be told without measuring.

Shapes: n candidates, d objectives, all of them losses.
"""

from __future__ import annotations

import numpy as np

from reports.front import Bools, Floats, non_dominated


def undecided(losses: Floats, optimistic: Floats, *, is_measured: Bools) -> list[int]:
    """Return the candidates that are not measured and that nothing dominates even at their best.

    Args:
        losses: What each is expected to come to, (n, d).
        optimistic: The same at the favourable end of what is predicted, (n, d); equal to ``losses`` where measured.
        is_measured: (n,).

    Returns:
        Positions, those first that nothing dominates as expected, then those that may gain most.
    """
    if not len(losses):
        return []
    no_worse = (losses[:, None, :] <= optimistic[None, :, :]).all(axis=2)
    better: Bools = np.any(losses[:, None, :] < optimistic[None, :, :], axis=2)
    is_possible = ~(no_worse & better).any(axis=0) & ~is_measured
    is_expected = non_dominated(losses)
    gains = (losses - optimistic).sum(axis=1)
    return sorted(np.nonzero(is_possible)[0].tolist(), key=lambda i: (not is_expected[i], -gains[i]))
