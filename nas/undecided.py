"""Which candidates a front cannot be told without measuring.

Shapes: n candidates, d objectives, all of them losses.
"""

from __future__ import annotations

import numpy as np

from nas.promotion import MARGIN
from reports.front import Bools, Floats, hypervolume, non_dominated

# A latency better by a resolution of 2 % moves the hypervolume by far less: most of it lies under other models too.
GAIN_OF_RESOLUTION = 0.05


def undecided(optimistic: Floats, *, is_measured: Bools, tolerance: float) -> list[int]:
    """Return the candidates that are not measured and whose measurement might move the front.

    Args:
        optimistic: What each comes to, or, where it is not measured, may come to at its best, (n, d).
        is_measured: (n,).
        tolerance: Share of the hypervolume of all that one must be able to add to what is measured.

    Returns:
        Positions, what may add most first.
    """
    if not len(optimistic):
        return []
    low, high = optimistic.min(axis=0), optimistic.max(axis=0)
    scaled = (optimistic - low) / np.where(high > low, high - low, 1.0)
    corner = np.full(scaled.shape[1], 1 + MARGIN)
    known = scaled[is_measured]
    known = known[non_dominated(known)]
    volume = hypervolume(known, reference=corner) if len(known) else 0.0
    best = scaled[non_dominated(scaled)]
    least = tolerance * hypervolume(best, reference=corner)
    gains = {}
    for i in np.nonzero(~is_measured)[0].tolist():
        # Most are dominated by something measured; that is quicker to see.
        if not (known <= scaled[i]).all(axis=1).any():
            gain = hypervolume(np.vstack([known, scaled[i]]), reference=corner) - volume
            if gain > least:
                gains[i] = gain
    return sorted(gains, key=lambda i: -gains[i])
