"""Pictures of what is inside: group counts layer by layer, and the reference over time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from device_lab.statistics import process_median_ns, reference_runs
from reports.analysis import Analysis
from reports.evidence import Evidence
from reports.style import BLUE, INK, VERMILLION, in_style, new_figure, settle
from reports.text import SHORT_POSITION_NAMES
from search_spaces.architecture import GROUP_POSITIONS, Architecture

MAX_PANELS = 8
MAX_VECTOR_DOTS = 400
_PANELS_PER_ROW = 4
# A panel: a layer a row under its heads, six positions between the layer's number and its sizes.
_HEADER_ROWS, _PANEL_COLUMNS = 3, 10
_LAYER_INCHES = 0.19
_FONT_POINTS = 7.0
# Of a font of size 1.
_DIGIT_HEIGHT = 0.73


@in_style
def groups_figure(analysis: Analysis) -> Figure | None:
    """Draw the group counts of the front's models: a panel each, layers down, the six positions across.

    Beside each layer stand its heads and FFN width. A front of more than
    `MAX_PANELS` is thinned evenly from its cheapest to its dearest member.
    The panels share one image (``counts``, empty between them) and one set of axes.

    Returns:
        The figure, or ``None`` without a front.
    """
    members = panel_members(analysis)
    if not members:
        return None
    columns = min(_PANELS_PER_ROW, len(members))
    rows = -(-len(members) // columns)
    depth = max(item.trial.architecture.num_hidden_layers for item in members)
    height = depth + _HEADER_ROWS
    figure, (axes,) = new_figure(width=2.3 * columns, height=rows * height * _LAYER_INCHES)
    # One picture that fills its figure needs no computed layout, which would take longer than all the drawing.
    figure.set_layout_engine(None)
    figure.subplots_adjust(left=0, right=1, top=1, bottom=0)
    counts = np.full((rows * height, columns * _PANEL_COLUMNS), np.nan)
    writing = _Writing()
    for place, item in enumerate(members):
        top, left = height * (place // columns) + _HEADER_ROWS, _PANEL_COLUMNS * (place % columns) + 1
        arch = item.trial.architecture
        counts[top : top + arch.num_hidden_layers, left : left + len(GROUP_POSITIONS)] = group_counts(arch)
        title = f"trial {item.trial.number}, hidden {arch.hidden_size}"
        axes.text(left + 2.5, top - 2, title, ha="center", va="center", fontsize=8, color=INK)
        _write_panel(writing, arch, top=top, left=left)
    largest = max(int(np.nanmax(counts)), 2)
    norm = LogNorm(vmin=1, vmax=largest * 2)
    axes.imshow(counts, cmap="cividis_r", norm=norm, aspect="auto", gid="counts")
    for groups in np.unique(counts[~np.isnan(counts)]).astype(int).tolist():
        layers, positions = np.nonzero(counts == groups)
        color = "white" if norm(float(groups)) > 0.5 else "black"
        writing.add_all(str(groups), positions.tolist(), layers.tolist(), color=color)
    writing.draw(axes)
    axes.set_ylim(rows * height - 0.2, 0)
    axes.set_axis_off()
    return figure


def panel_members(analysis: Analysis) -> list[Evidence]:
    """Return the front members `groups_figure` draws, cheapest first."""
    front = analysis.front
    chosen = np.unique(np.linspace(0, len(front) - 1, min(MAX_PANELS, len(front))).round().astype(int))
    return [front[i] for i in chosen]


def group_counts(arch: Architecture) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the group counts of ``arch`` as (layers, positions), in the order of `GROUP_POSITIONS`."""
    return np.array([[getattr(block, name) for name in GROUP_POSITIONS] for block in arch.blocks], dtype=np.int64)


@in_style
def reference_figure(analysis: Analysis) -> Figure | None:
    """Draw the median time of every process of the reference, in the order its sessions began.

    Returns:
        The figure, or ``None`` if nothing was timed, or on several devices: their times share no axis.
    """
    sessions = [item.measurement for item in analysis.evidence if item.measurement is not None]
    sessions.sort(key=lambda session: session.conditions_before.taken_at)
    runs = reference_runs(block for session in sessions for block in session.blocks or ())
    if not runs or analysis.bench is None or analysis.bench.devices:
        return None
    medians_ms = np.array([process_median_ns(run) for run in runs]) / 1e6
    figure, (axes,) = new_figure(height=2.8)
    # Thousands of dots as vectors would fill the page's whole allowance.
    is_crowded = len(runs) > MAX_VECTOR_DOTS
    order = np.arange(1, len(runs) + 1)
    axes.plot(order, medians_ms, ".", color=BLUE, markersize=4, gid="reference", rasterized=is_crowded)
    middle = float(np.median(medians_ms))
    axes.axhline(middle, color=VERMILLION, linewidth=1, label=f"median {middle:.3g} ms")
    axes.legend(loc="upper right", frameon=False)
    axes.set_xlabel("process of the reference, in the order run")
    axes.set_ylabel(f"median (ms)\n{analysis.bench.label}")
    axes.margins(0.02, 0.25)
    settle(figure)
    return figure


class _Writing:
    """Short texts as outlines, all of one colour in one artist: as texts, they would cost more than all else drawn."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def add(self, text: str, x: float, y: float, *, anchor: str = "center") -> None:
        """Write ``text`` at one place, in ink."""
        self._places.setdefault((INK, f"{anchor} {text}"), []).append((x, y))

    def add_all(self, text: str, xs: Sequence[float], ys: Sequence[float], *, color: str) -> None:
        """Write ``text`` at many places."""
        self._places.setdefault((color, f"center {text}"), []).extend(zip(xs, ys, strict=True))

    def draw(self, axes: Axes) -> None:
        """Draw what was written."""
        for (color, written), places in self._places.items():
            anchor, _, text = written.partition(" ")
            marker, longest_points = _outline(text, anchor)
            xs, ys = zip(*places, strict=True)
            axes.scatter(xs, ys, marker=marker, s=longest_points**2, color=color, linewidths=0)


@cache
def _outline(text: str, anchor: str) -> tuple[Path, float]:
    """Return a text as a marker, and its longest side in points; markers are scaled to their longest side.

    Args:
        text: What is written.
        anchor: Which of its sides lies at the point: ``left``, ``right`` or its ``center``.
    """
    outline = TextPath((0, 0), text, size=1)
    box = outline.get_extents()
    x = {"left": box.x0, "center": (box.x0 + box.x1) / 2, "right": box.x1}[anchor]
    # Every letter stands on the same line, whatever reaches below it.
    straight = _straightened(outline)
    centred = np.asarray(straight.vertices) - [x, _DIGIT_HEIGHT / 2]
    return Path(centred, straight.codes), 2 * _FONT_POINTS * float(np.abs(centred).max())


def _straightened(outline: Path) -> Path:
    """Return an outline with two lines for each curve: matplotlib takes long to find how far a curve reaches."""
    vertices: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    codes: list[int] = []
    for points, code in outline.iter_segments():
        corners = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        if code == Path.CURVE3:
            control, end = corners
            vertices += [(vertices[-1] + 2 * control + end) / 4, end]
            codes += [int(Path.LINETO)] * 2
        else:
            vertices.append(corners[-1])
            codes.append(int(code))
    return Path(vertices, codes)


def _write_panel(writing: _Writing, arch: Architecture, *, top: int, left: int) -> None:
    for position, name in enumerate(SHORT_POSITION_NAMES.values()):
        writing.add(name, left + position, top - 0.9)
    for layer, block in enumerate(arch.blocks):
        writing.add(str(layer + 1), left - 0.7, top + layer, anchor="right")
        # Apart, as a page holds the outline of every different text once.
        writing.add(f"{block.num_attention_heads}h", left + len(GROUP_POSITIONS) + 0.5, top + layer, anchor="right")
        writing.add(str(block.intermediate_size), left + len(GROUP_POSITIONS) + 0.7, top + layer, anchor="left")
