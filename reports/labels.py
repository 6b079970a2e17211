"""Labels that stand beside their points and on top of nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from reports.front import Bools, Floats
from reports.style import INK

_DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_DISTANCES_POINTS = (8, 13, 18, 25, 32, 48, 66, 90, 120)
# What a label costs for each thing it covers: a line is read through a letter, a mark is not.
_LINE_COST, _LEADER_COST, _MARK_COST, _LABEL_COST, _OUTSIDE_COST = 1.0, 10.0, 30.0, 60.0, 200.0
# For each point of distance: better a few lines behind a text than a text far from its mark.
_FURTHER_COST = 0.05
_GAP_PIXELS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text for the point at ``x``, ``y`` in data coordinates."""

    text: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """What labels have to keep free of, in data coordinates.

    ``lines`` (k, 4) run level or upright from x, y to x, y; ``marks`` (m, 3) have
    x, y and their width in points.
    """

    lines: Floats
    marks: Floats


def place_labels(axes: Axes, labels: Iterable[Label], *, avoid: Drawn) -> None:
    """Write each label where it covers no mark and no earlier label if it can, and the fewest lines.

    Call once everything else is drawn and the layout has settled.
    Labels are placed in order, so the important ones come first.

    Args:
        axes: Where to write.
        labels: What to write.
        avoid: What is drawn.
    """
    scale = axes.figure.dpi / 72
    ends = axes.transData.transform(avoid.lines.reshape(-1, 2)).reshape(-1, 2, 2)
    lines = np.hstack([ends.min(axis=1), ends.max(axis=1)])
    centres = axes.transData.transform(avoid.marks[:, :2])
    marks = np.hstack([centres, avoid.marks[:, 2:] * scale / 2])
    taken: list[Bbox] = []
    for label in labels:
        anchor = np.asarray(axes.transData.transform((label.x, label.y)))
        draft = _annotate(axes, label, offset=(0, 0))
        size = np.array(draft.get_window_extent().size)
        draft.remove()
        offsets = [(dx * distance, dy * distance) for distance, (dx, dy) in product(_DISTANCES_POINTS, _DIRECTIONS)]
        boxes = [_box(anchor, np.multiply(offset, scale), size) for offset in offsets]
        costs = [
            _cost(box, anchor, taken=taken, lines=lines, marks=marks, frame=axes.bbox)
            + _FURTHER_COST * float(np.hypot(*offset))
            for offset, box in zip(offsets, boxes, strict=True)
        ]
        best = int(np.argmin(costs))
        taken.append(boxes[best])
        _annotate(axes, label, offset=offsets[best])


def _annotate(axes: Axes, label: Label, *, offset: tuple[float, float]) -> Annotation:
    is_far = max(map(abs, offset)) > _DISTANCES_POINTS[1]
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
    return Bbox([low, low + size]).padded(_GAP_PIXELS)


def _cost(box: Bbox, anchor: Floats, *, taken: Sequence[Bbox], lines: Floats, marks: Floats, frame: Bbox) -> float:
    low, high = np.array(box.min), np.array(box.max)
    crossed = ((lines[:, :2] <= high) & (lines[:, 2:] >= low)).all(axis=1).sum()
    centres, radii = marks[:, :2], marks[:, 2:]
    covered = ((centres - radii <= high) & (centres + radii >= low)).all(axis=1).sum()
    passed = _are_passed(marks, start=np.clip(anchor, low, high), end=anchor).sum()
    collisions = sum(box.overlaps(other) for other in taken)
    outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    return float(
        _LINE_COST * crossed
        + _MARK_COST * covered
        + _LEADER_COST * passed
        + _LABEL_COST * collisions
        + _OUTSIDE_COST * outside
    )


def _are_passed(marks: Floats, *, start: Floats, end: Floats) -> Bools:
    """Tell which marks (m, 3) lie between a label's nearest point and its own mark, which is none of them."""
    way = end - start
    length = float(np.hypot(*way)) or 1.0
    from_start = marks[:, :2] - start
    along = from_start @ way / length
    across = np.abs(from_start[:, 0] * way[1] - from_start[:, 1] * way[0]) / length
    is_own = np.hypot(*(marks[:, :2] - end).T) < 1
    passed: Bools = (along > 0) & (along < length) & (across < marks[:, 2]) & ~is_own
    return passed
