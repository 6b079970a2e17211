"""Labels that stand beside their points and on top of nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from reports.front import Floats
from reports.style import INK

_DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_DISTANCES_POINTS = (8, 18, 32, 48, 66, 90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text for the point at ``x``, ``y`` in data coordinates."""

    text: str
    x: float
    y: float


def place_labels(axes: Axes, labels: Iterable[Label], *, avoid: Floats) -> None:
    """Write each label where it covers the fewest of the points in ``avoid`` and no earlier label.

    Call once everything else is drawn and the layout has settled.
    Labels are placed in order, so the important ones come first.

    Args:
        axes: Where to write.
        labels: What to write.
        avoid: Points (n, 2) in data coordinates.
    """
    points = axes.transData.transform(avoid)
    scale = axes.figure.dpi / 72
    taken: list[Bbox] = []
    for label in labels:
        anchor = axes.transData.transform((label.x, label.y))
        draft = _annotate(axes, label, offset=(0, 0))
        size = np.array(draft.get_window_extent().size)
        draft.remove()
        offsets = [(dx * distance, dy * distance) for distance, (dx, dy) in product(_DISTANCES_POINTS, _DIRECTIONS)]
        boxes = [_box(anchor, np.multiply(offset, scale), size) for offset in offsets]
        # The small term prefers the nearest of equally free places.
        costs = [_cost(box, taken=taken, points=points, frame=axes.bbox) + 0.01 * i for i, box in enumerate(boxes)]
        best = int(np.argmin(costs))
        taken.append(boxes[best])
        _annotate(axes, label, offset=offsets[best])


def _annotate(axes: Axes, label: Label, *, offset: tuple[float, float]) -> Annotation:
    is_far = max(map(abs, offset)) > _DISTANCES_POINTS[0]
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=offset,
        textcoords="offset points",
        ha={1: "left", -1: "right", 0: "center"}[int(np.sign(offset[0]))],
        va={1: "bottom", -1: "top", 0: "center"}[int(np.sign(offset[1]))],
        color=INK,
        fontsize=9,
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkB": 4} if is_far else None,
    )


def _box(anchor: Floats, offset: Floats, size: Floats) -> Bbox:
    """Pixels a text of ``size`` covers, ``offset`` away from ``anchor`` and growing further away."""
    low = anchor + offset + size * (np.sign(offset) - 1) / 2
    return Bbox([low, low + size]).padded(2)


def _cost(box: Bbox, *, taken: Sequence[Bbox], points: Floats, frame: Bbox) -> float:
    inside = (points >= box.min).all(axis=1) & (points <= box.max).all(axis=1)
    collisions = sum(box.overlaps(other) for other in taken)
    outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    return float(inside.sum()) + 20 * collisions + 50 * outside
