"""Which points nothing beats, and how much space they cover: plain arrays in, arrays out.

Every objective is a *loss* here: smaller is better. Accuracy enters as
``1 - accuracy``.

Shapes: n = points, d = objectives, r = resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def non_dominated(losses: Floats) -> Bools:
    """Tell for every point of ``losses`` (n, d) that no other is as good everywhere and better somewhere.

    Equal points do not dominate each other.

    Returns:
        A mask (n,).
    """
    # By ascending sum, the first point left is never dominated by a later one, so few passes are needed.
    order = np.argsort(losses.sum(axis=1), kind="stable")
    remaining = losses[order]
    next_index = 0
    while next_index < len(remaining):
        point = remaining[next_index]
        survives = (remaining < point).any(axis=1) | (remaining == point).all(axis=1)
        order, remaining = order[survives], remaining[survives]
        next_index = int(survives[:next_index].sum()) + 1
    mask = np.zeros(len(losses), dtype=np.bool_)
    mask[order] = True
    return mask


def hypervolume(losses: Floats, *, reference: Floats) -> float:
    """Return the exact volume between the points of ``losses`` (n, d) and ``reference`` (d,).

    Points that are not better than ``reference`` in every objective add nothing.
    """
    inside = losses[(losses < reference).all(axis=1)]
    return _volume(_front_of(inside), reference)


def hypervolume_history(losses: Floats, *, reference: Floats) -> Floats:
    """Return the hypervolume after each point of ``losses`` (n, d), in their order, as (n,)."""
    history = np.zeros(len(losses))
    front = np.empty((0, losses.shape[1]))
    total = 0.0
    for i, point in enumerate(losses):
        if (point < reference).all() and not (front <= point).all(axis=1).any():
            total += float(np.prod(reference - point)) - _volume(_front_of(np.maximum(front, point)), reference)
            front = np.vstack([front[(front < point).any(axis=1)], point])
        history[i] = total
    return history


def knee(losses: Floats) -> int:
    """Return the index of the balanced point of a front ``losses`` (n, d).

    The rule: every objective is scaled to run from 0 (best of the front) to 1
    (worst of the front), and the point nearest to the corner of all bests is
    taken. A tie goes to the point better in the first objective.
    """
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    # Rounded, so that the two ends of a front of two tie in spite of the last bit.
    distances = np.round(np.sqrt((scaled**2).sum(axis=1)), 12)
    return int(np.lexsort((losses[:, 0], distances))[0])


def front_probability(resampled: Floats) -> Floats:
    """Return how often each point is on the front over resampled losses (r, n, d), as (n,)."""
    low, high = resampled.min(axis=0), resampled.max(axis=0)
    # What at its best is worse than another at its worst never is, and most are in a long run.
    worst = high[non_dominated(high)]
    may_be = np.array([not (worst < point).all(axis=1).any() for point in low], dtype=np.bool_)
    shares = np.zeros(len(low))
    resampled = resampled[:, may_be]
    find = _non_dominated_pairs if resampled.shape[2] == 2 else non_dominated
    shares[may_be] = np.mean([find(losses) for losses in resampled], axis=0)
    return shares


def _non_dominated_pairs(losses: Floats) -> Bools:
    """Return `non_dominated` of losses (n, 2), quicker where one objective is different for all points."""
    for first, second in ((1, 0), (0, 1)):
        order = np.argsort(losses[:, first])
        x, y = losses[order, first], losses[order, second]
        if (x[1:] > x[:-1]).all():
            # Down the order of one objective, a point is beaten unless it is better in the other than all before.
            survives = np.ones(len(y), dtype=np.bool_)
            survives[1:] = y[1:] < np.minimum.accumulate(y)[:-1]
            mask = np.zeros(len(y), dtype=np.bool_)
            mask[order[survives]] = True
            return mask
    return non_dominated(losses)


def _front_of(losses: Floats) -> Floats:
    return np.unique(losses[non_dominated(losses)], axis=0)


def _volume(front: Floats, reference: Floats) -> float:
    """Volume of a front whose points all lie inside ``reference``, one objective less at each level.

    Taken from the worst to the best last objective, every point adds a slab of
    its own depth over the part of its base that no later point covers.
    """
    if len(front) == 0:
        return 0.0
    if front.shape[1] == 1:
        return float(reference[0] - front.min())
    if front.shape[1] == 2:
        return _area(front, reference)
    front = front[np.argsort(-front[:, -1], kind="stable")]
    total = 0.0
    for i, point in enumerate(front):
        base = point[:-1]
        covered = _front_of(np.maximum(front[i + 1 :, :-1], base))
        own = float(np.prod(reference[:-1] - base)) - _volume(covered, reference[:-1])
        total += own * float(reference[-1] - point[-1])
    return total


def _area(front: Floats, reference: Floats) -> float:
    ordered = front[np.lexsort((front[:, 1], front[:, 0]))]
    ceilings = np.concatenate([[reference[1]], ordered[:-1, 1]])
    return float(((reference[0] - ordered[:, 0]) * (ceilings - ordered[:, 1])).sum())
