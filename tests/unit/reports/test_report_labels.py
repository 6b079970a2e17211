from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from reports.front import Floats
from reports.labels import Drawn, Label, place_labels
from reports.style import new_figure

NO_LINES = np.empty((0, 4))


def placed(labels: list[Label], *, marks: Floats, lines: Floats = NO_LINES) -> tuple[Axes, list[Bbox]]:
    """Axes from 0 to 1 with these labels, and what each of them covers."""
    figure, (axes,) = new_figure()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    place_labels(axes, labels, avoid=Drawn(lines=lines, marks=marks))
    figure.draw_without_rendering()  # only now does a text know its place
    return axes, [Text.get_window_extent(text) for text in axes.texts]


def square(axes: Axes, mark: Floats) -> Bbox:
    x, y = axes.transData.transform(mark[:2])
    reach = mark[2] / 2 * axes.figure.dpi / 72
    return Bbox([[x - reach, y - reach], [x + reach, y + reach]])


@pytest.mark.parametrize("seed", range(12))
def test_no_label_reaches_into_a_mark_however_wide(seed: int) -> None:
    generator = np.random.default_rng(seed)
    marks = np.column_stack([generator.uniform(0.2, 0.8, (7, 2)), generator.uniform(4, 16, 7)])
    labels = [Label(text=f"dense teacher: trial {i}", x=x, y=y) for i, (x, y, _) in enumerate(marks[:3].tolist())]

    axes, boxes = placed(labels, marks=marks)

    assert not [mark for mark in marks for box in boxes if box.overlaps(square(axes, mark))]
    assert not [i for i in range(3) for j in range(i) if boxes[i].overlaps(boxes[j])]
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


def test_a_label_with_room_stands_close_to_its_mark() -> None:
    axes, (box,) = placed([Label(text="knee", x=0.5, y=0.5)], marks=np.array([[0.5, 0.5, 8.0]]))

    own = square(axes, np.array([0.5, 0.5, 8.0]))
    assert not box.overlaps(own)
    assert box.overlaps(own.padded(8))


def test_a_label_leaves_a_line_for_the_free_side() -> None:
    x = 0.5
    _, (box,) = placed(
        [Label(text="a long label", x=x, y=0.5)],
        marks=np.array([[x, 0.5, 8.0]]),
        lines=np.array([[0.55, 0.0, 0.55, 1.0], [0.6, 0.0, 0.6, 1.0]]),
    )
    axes, _ = placed([], marks=np.empty((0, 3)))

    assert box.x1 < axes.transData.transform((0.55, 0))[0]
