"""Who goes on to the next fidelity: multi-objective successive halving.

Optuna prunes studies of one objective only. Here a rung's candidates are
ranked by non-domination (Deb et al., NSGA-II, 2002), and of the front that does
not fit whole the points go that cover the least on their own.

Shapes: n candidates, d objectives, all of them losses.
"""

from __future__ import annotations

import math

import numpy as np

from reports.front import Floats, hypervolume, non_dominated

# The corner that volumes are taken to lies this share of the range beyond the worst, so that ends of a front count.
MARGIN = 0.1


def survivors(losses: Floats, *, share: float) -> list[int]:
    """Return which of the candidates are promoted, the best ranks first.

    Args:
        losses: What each candidate came to, (n, d).
        share: Part of them to promote, rounded up.

    Returns:
        Positions of ceil(share * n) candidates.
    """
    # 0.28 of 25 is 7.000000000000001 in binary.
    wanted = math.ceil(round(share * len(losses), 9))
    chosen: list[int] = []
    left = np.arange(len(losses))
    while len(chosen) < wanted:
        on_front = non_dominated(losses[left])
        front, left = left[on_front], left[~on_front]
        if len(chosen) + len(front) > wanted:
            front = _thin_out(losses, front, wanted - len(chosen))
        chosen += front.tolist()
    return chosen


def _thin_out(losses: Floats, front: np.ndarray, count: int) -> np.ndarray:
    """Take away, one by one, the member of ``front`` without which the volume shrinks least."""
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    corner = np.full(losses.shape[1], 1 + MARGIN)
    while len(front) > count:
        without = [hypervolume(scaled[np.delete(front, i)], reference=corner) for i in range(len(front))]
        front = np.delete(front, int(np.argmax(without)))
    return front
