"""The figures of a report. Each returns a matplotlib figure and touches no global state.

A point keeps its place: the scatter with the id ``points`` holds the trials of
`pointed_out` in order of their numbers, so that a page can tell which is which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from nas.records import Objective
from reports.analysis import Analysis
from reports.evidence import Evidence
from reports.front import Floats, non_dominated
from reports.labels import Drawn, Label, place_labels
from reports.style import BLUE, GREEN, INK, ORANGE, PAPER, VERMILLION, in_style, new_figure, settle

MIN_POINTS_OF_A_LINE = 3
MANY_POINTS = 60
# More are drawn as an image and without bars, which would hide each other and take most of a report's time.
MAX_VECTOR_POINTS = 1500
WIDE_RATIO = 2.0
_SQUEEZEBERT_COLOR, _DENSE_COLOR = VERMILLION, GREEN
_POINT_SIZE = 26
# All ticks between the decades would be too many beyond the first of these, any beyond the second.
_SOME_DECADES, _MANY_DECADES = 12.0, 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A straight line of latency ratio over FLOPs, least squares.

    ``residuals`` are relative: 0.1 is 10 % slower than the line says.
    """

    gflops: Floats
    ratios: Floats
    residuals: Floats
    intercept: float
    slope: float


def axis_label(analysis: Analysis, objective: Objective) -> str:
    """Return what an axis of ``objective`` says: quantity, unit, and where times come from."""
    place = analysis.bench.label if analysis.bench is not None else ""
    return axis_text(objective, metric=analysis.metric, place=place)


def axis_text(objective: Objective, *, metric: str, place: str) -> str:
    """Return what an axis of ``objective`` says, given the score's metric and where times come from."""
    match objective:
        case Objective.ACCURACY:
            return f"{metric} (%), dev examples"
        case Objective.LATENCY:
            return f"latency / SqueezeBERT's rule, {place}"
        case Objective.MACS:
            return "GFLOPs (2 per MAC)"
        case Objective.PARAMETERS:
            return "parameters (millions)"


def plane(analysis: Analysis) -> tuple[Objective, Objective] | None:
    """Return the objectives on the two axes of the front, cost first; ``None`` if fewer than two are compared."""
    if len(analysis.objectives) < 2 or not analysis.compared:
        return None
    others = [objective for objective in analysis.objectives if objective is not analysis.cost]
    return analysis.cost, others[0]


@in_style
def front_figure(analysis: Analysis, *, x: Objective, y: Objective) -> Figure:
    """Draw the compared trials with their 95 % intervals and the front as steps.

    The steps join the trials that are best in these two objectives; with more
    objectives, blue points off the steps are on the front by another one.
    """
    figure, (axes,) = new_figure()
    labels, avoid = draw_front(axes, analysis, x=x, y=y)
    settle(figure)
    place_labels(axes, labels, avoid=avoid)
    return figure


def is_crowd(items: Sequence[Evidence]) -> bool:
    """Tell whether trials are too many for points and bars of their own."""
    return len(items) > MAX_VECTOR_POINTS


def pointed_out(analysis: Analysis) -> list[int]:
    """Return the numbers of the trials that are points of their own: all, or the front's if there are very many."""
    pairs = zip(analysis.compared, analysis.on_front.tolist(), strict=True)
    return [item.trial.number for item, on_front in pairs if on_front or not is_crowd(analysis.compared)]


def draw_front(axes: Axes, analysis: Analysis, *, x: Objective, y: Objective) -> tuple[list[Label], Drawn]:
    """Draw what `front_figure` shows on axes of the caller's, without its labels.

    Returns:
        The labels, and what `place_labels` has to keep free once the layout has settled.
    """
    on_front = analysis.on_front
    xs, ys = coordinates(analysis.compared, x), coordinates(analysis.compared, y)
    faint = 0.15 if len(analysis.compared) > MANY_POINTS else 0.35
    crowded = is_crowd(analysis.compared)
    for members, color, alpha, width in ((~on_front, INK, faint, 0.7), (on_front, BLUE, 0.9, 1.1)):
        if not crowded or color == BLUE:
            draw_bars(axes, xs[members], ys[members], color=color, alpha=alpha, width=width)
    steps = step_corners(xs[:, 0], ys[:, 0], larger_is_better=y is Objective.ACCURACY, end=float(xs[:, 0].max()))
    axes.plot(steps[:, 0], steps[:, 1], drawstyle="steps-post", color=BLUE, zorder=1, gid="front")
    blue, grey = to_rgba(BLUE, 1.0), to_rgba(INK, 0.35)
    size, edge = _POINT_SIZE, 0.5
    if crowded:
        crowd = axes.scatter(xs[~on_front, 0], ys[~on_front, 0], s=size / 4, color=grey, linewidths=0, zorder=2.5)
        crowd.set_rasterized(True)
    drawn = np.flatnonzero(on_front if crowded else np.ones_like(on_front))
    fills = [blue if on_front[i] else grey for i in drawn]
    points = axes.scatter(xs[drawn, 0], ys[drawn, 0], s=size, c=fills, edgecolors=PAPER, linewidths=edge, zorder=3)
    points.set_gid("points")
    axes.set_xlabel(axis_label(analysis, x))
    axes.set_ylabel(axis_label(analysis, y))
    axes.margins(0.08)
    if x is not Objective.ACCURACY:
        scale_costs(axes, xs)
    labels = []
    marks = [(x, y, _POINT_SIZE**0.5) for x, y in zip(xs[:, 0], ys[:, 0], strict=True)]
    for item, mark in _marks(analysis):
        at = analysis.compared.index(item)
        axes.scatter(
            xs[at, 0],
            ys[at, 0],
            s=mark.size,
            marker=mark.shape,
            facecolors=mark.color if mark.is_filled else "none",
            edgecolors=mark.color,
            zorder=4,
        )
        marks.append((xs[at, 0], ys[at, 0], mark.width_points))
        labels.append(Label(text=mark.text, x=xs[at, 0], y=ys[at, 0]))
    barred = on_front if crowded else np.ones_like(on_front)
    lines = np.vstack([_bar_lines(xs[barred], ys[barred]), _step_lines(steps)])
    return labels, Drawn(lines=lines, marks=np.array(marks))


def _bar_lines(xs: Floats, ys: Floats) -> Floats:
    """Return the bars of points given as estimate, low and high (n, 3) as lines (2 n, 4)."""
    level = np.column_stack([xs[:, 1], ys[:, 0], xs[:, 2], ys[:, 0]])
    upright = np.column_stack([xs[:, 0], ys[:, 1], xs[:, 0], ys[:, 2]])
    return np.vstack([level, upright])


def _step_lines(steps: Floats) -> Floats:
    """Return steps through corners (m, 2) as lines: level to the next corner, then upright."""
    here, there = steps[:-1], steps[1:]
    level = np.column_stack([here, there[:, 0], here[:, 1]])
    return np.vstack([level, np.column_stack([there[:, 0], here[:, 1], there])])


@in_style
def hypervolume_figure(analysis: Analysis) -> Figure:
    """Draw the hypervolume after each distinct architecture that was evaluated."""
    figure, (axes,) = new_figure(height=3.0)
    shares = 100 * analysis.hypervolume
    numbers = np.arange(1, len(shares) + 1)
    # Between two rises there is nothing but a level line.
    is_corner = np.ones(len(shares), dtype=np.bool_)
    is_corner[1:-1] = shares[1:-1] > shares[:-2]
    axes.plot(numbers[is_corner], shares[is_corner], drawstyle="steps-post", color=BLUE, gid="hypervolume")
    axes.plot(numbers[-1], shares[-1], "o", color=BLUE, markersize=5)
    axes.annotate(
        f"{shares[-1]:.1f} %",
        (numbers[-1], shares[-1]),
        xytext=(-6, -8),
        textcoords="offset points",
        ha="right",
        va="top",
    )
    axes.set_xlabel("distinct architectures evaluated")
    axes.set_ylabel("hypervolume (% of the box)")
    axes.margins(0.04, 0.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    settle(figure)
    return figure


@in_style
def flops_figure(analysis: Analysis) -> Figure | None:
    """Draw latency ratios over FLOPs with a fitted line, and below it what the line misses.

    Returns:
        The figure, or ``None`` with fewer than three timed trials of different cost.
    """
    timed = [item for item in analysis.compared if item.ratio is not None]
    fit = fit_latency(timed)
    if fit is None:
        return None
    figure, (above, below) = new_figure(height=4.8, rows=2)
    bounds = coordinates(timed, Objective.LATENCY)
    crowded = is_crowd(timed)
    size = 2 if crowded else 4
    gflops = np.repeat(fit.gflops[:, np.newaxis], 3, axis=1)
    if not crowded:
        draw_bars(above, gflops, bounds, color=BLUE, alpha=0.9, width=0.8)
    above.plot(fit.gflops, fit.ratios, "o", color=BLUE, markersize=size, gid="ratios", rasterized=crowded)
    ends = np.array([fit.gflops.min(), fit.gflops.max()])
    above.plot(ends, fit.intercept + fit.slope * ends, color=ORANGE, label="least squares")
    above.legend(loc="upper left", frameon=False)
    label = analysis.bench.label if analysis.bench is not None else ""
    above.set_ylabel(f"latency / SqueezeBERT's rule\n{label}")
    below.axhline(0, color=ORANGE)
    residuals = 100 * fit.residuals
    below.plot(fit.gflops, residuals, "o", color=BLUE, markersize=size, gid="residuals", rasterized=crowded)
    below.set_xlabel(axis_label(analysis, Objective.MACS))
    below.set_ylabel("off the line (%)")
    settle(figure)
    return figure


def fit_latency(timed: Sequence[Evidence]) -> Fit | None:
    """Fit the latency ratio of trials as a straight line in their FLOPs.

    Returns:
        The fit, in the order of ``timed``; ``None`` with fewer than three different costs.
    """
    gflops = np.array([item.trial.cost.flops / 1e9 for item in timed])
    ratios = coordinates(timed, Objective.LATENCY)[:, 0]
    if len(np.unique(gflops)) < MIN_POINTS_OF_A_LINE:
        return None
    design = np.column_stack([np.ones_like(gflops), gflops])
    (intercept, slope), *_ = np.linalg.lstsq(design, ratios)
    return Fit(
        gflops=gflops,
        ratios=ratios,
        residuals=ratios / (intercept + slope * gflops) - 1,
        intercept=float(intercept),
        slope=float(slope),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    text: str
    shape: str
    color: str
    size: int
    is_filled: bool = True

    @property
    def width_points(self) -> float:
        """Its width: a size is the area of a square, of which a diamond shows the diagonal."""
        return float(self.size**0.5 * (2**0.5 if self.shape == "D" else 1))


def _marks(analysis: Analysis) -> list[tuple[Evidence, _Mark]]:
    """What to point out, each trial once though it may be several things."""
    candidates = (
        (analysis.squeezebert, "SqueezeBERT's rule", _Mark(text="", shape="D", color=_SQUEEZEBERT_COLOR, size=70)),
        (analysis.dense, "dense teacher", _Mark(text="", shape="s", color=_DENSE_COLOR, size=70)),
        (analysis.ship, "ship", _Mark(text="", shape="o", color=INK, size=110, is_filled=False)),
        (analysis.knee, "knee", _Mark(text="", shape="o", color=INK, size=110, is_filled=False)),
    )
    names: dict[int, list[str]] = {}
    marks: dict[int, tuple[Evidence, _Mark]] = {}
    for item, name, mark in candidates:
        if item is not None:
            names.setdefault(item.trial.number, []).append(name)
            marks.setdefault(item.trial.number, (item, mark))
    return [
        (item, replace(mark, text=f"{', '.join(names[number])}: trial {number}"))
        for number, (item, mark) in marks.items()
    ]


def coordinates(items: Sequence[Evidence], objective: Objective) -> Floats:
    """Return estimate, low and high of each trial (n, 3), in the unit of the axis."""
    factor = {
        Objective.ACCURACY: 100.0,
        Objective.LATENCY: 1.0,
        Objective.MACS: 2 / 1e9,
        Objective.PARAMETERS: 1 / 1e6,
    }[objective]
    intervals = [item.interval(objective) for item in items]
    rows = [(i.estimate, i.low, i.high) if i is not None else (np.nan,) * 3 for i in intervals]
    return np.array(rows, dtype=np.float64).reshape(-1, 3) * factor


def scale_costs(axes: Axes, bounds: Floats) -> None:
    """Give costs a logarithmic axis once they differ by much, where half and double lie equally far from 1."""
    if bounds[:, 0].max() > WIDE_RATIO * bounds[:, 0].min():
        axes.set_xscale("log")
        is_wide = bounds[:, 2].max() > _MANY_DECADES * bounds[:, 1].min()
        is_medium = bounds[:, 2].max() > _SOME_DECADES * bounds[:, 1].min()
        ticks = (1,) if is_wide else (1, 2, 5) if is_medium else (1, 1.5, 2, 3, 4, 5, 7)
        axes.xaxis.set_major_locator(LogLocator(subs=ticks))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())


def draw_bars(axes: Axes, xs: Floats, ys: Floats, *, color: str, alpha: float, width: float) -> None:
    """Draw the intervals of points given as estimate, low and high (n, 3) along both axes."""
    gaps = np.full(len(xs), np.nan)
    across = (xs[:, 1], xs[:, 2]), (ys[:, 0], ys[:, 0])
    along = (xs[:, 0], xs[:, 0]), (ys[:, 1], ys[:, 2])
    # One line with gaps is a fifth of the size of a line for each bar.
    for (x_from, x_to), (y_from, y_to) in (across, along):
        x, y = np.column_stack([x_from, x_to, gaps]).ravel(), np.column_stack([y_from, y_to, gaps]).ravel()
        axes.plot(x, y, color=color, alpha=alpha, linewidth=width, zorder=2)


def step_corners(x: Floats, y: Floats, *, larger_is_better: bool, end: float) -> Floats:
    """Return the corners of the front in the plane (m, 2), by ascending ``x``, on to ``end``."""
    members = non_dominated(np.column_stack([x, -y if larger_is_better else y]))
    corners = np.column_stack([x, y])[members]
    corners = corners[np.argsort(corners[:, 0], kind="stable")]
    return np.vstack([corners, [end, corners[-1, 1]]])
