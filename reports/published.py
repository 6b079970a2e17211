"""What others published, as ratios to the BERT-base of the same source, and this run as ratios to its dense teacher.

The two are never on one axis: tasks, hardware and baselines differ. A figure
stands in the data only if it was read in the text named beside it; where a
source gives a speedup but no score of its own BERT-base, only the speedup is
shown.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import ascii_uppercase

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from device_lab.measurement import Interval
from reports import text
from reports.analysis import Analysis
from reports.evidence import Evidence
from reports.front import Floats
from reports.labels import Drawn, Label, place_labels
from reports.style import BLUE, INK, PAPER, in_style, new_figure

_MARK_POINTS = 9.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPoint:
    """A network of a paper or a README. ``score`` is ``None`` where the source gives none for BERT-base."""

    letter: str
    model: str
    speedup: float
    score: float | None
    baseline_score: float | None
    score_name: str
    hardware: str
    source: str

    @property
    def relative_latency(self) -> float:
        """Time over that of BERT-base, both by the source."""
        return 1 / self.speedup

    @property
    def relative_score(self) -> float | None:
        """Score over that of BERT-base, both by the source."""
        if self.score is None or self.baseline_score is None:
            return None
        return self.score / self.baseline_score


@cache
def published_points() -> tuple[PublishedPoint, ...]:
    """Return the points that ship with the package, in the order of their letters."""
    lines = files("reports.data").joinpath("published.csv").read_text(encoding="utf-8").splitlines()
    return tuple(
        PublishedPoint(
            letter=letter,
            model=row["model"],
            speedup=float(row["speedup"]),
            score=_number(row["score"]),
            baseline_score=_number(row["baseline_score"]),
            score_name=row["score_name"],
            hardware=row["hardware"],
            source=row["source"],
        )
        for letter, row in zip(ascii_uppercase, csv.DictReader(lines), strict=False)
    )


def relative_points(analysis: Analysis) -> tuple[tuple[Evidence, Interval, Interval], ...]:
    """Return the front's latency and score over those of the run's dense teacher; nothing where one is not known."""
    dense = analysis.dense
    if dense is None or dense.ratio is None or dense.accuracy is None or dense.accuracy.low <= 0:
        return ()
    return tuple(
        (item, _quotient(item.ratio, dense.ratio), _quotient(item.accuracy, dense.accuracy))
        for item in analysis.front
        if item is not dense and item.ratio is not None and item.accuracy is not None and item.accuracy.low > 0
    )


@in_style
def published_figure(analysis: Analysis) -> Figure | None:
    """Draw the published points beside this run's front, each side with its own baseline at (1, 100 %).

    Returns:
        The figure, or ``None`` if the run's front cannot be held against its dense teacher.
    """
    ours = relative_points(analysis)
    if not ours:
        return None
    figure, (left, right) = new_figure(width=7.6, height=3.6, columns=2)
    letters = _draw_published(left)
    estimates = np.array([[latency.estimate, 100 * score.estimate] for _, latency, score in ours])
    _draw_measured(right, ours, estimates)
    for axes, title in (
        (left, "published: others' tasks and devices"),
        (right, f"this run: {analysis.bench.label if analysis.bench else ''}"),
    ):
        axes.plot([1], [100], "s", color=INK, markersize=7, fillstyle="none")
        axes.set_title(title)
        axes.set_xlim(0, max(1.1, 1.08 * float(estimates[:, 0].max())) if axes is right else 1.1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.margins(y=0.12)
    left.set_xlabel("latency / BERT-base of the same source")
    left.set_ylabel("score / BERT-base of the same source (%)")
    right.set_xlabel("latency / this run's dense teacher")
    right.set_ylabel(f"{analysis.metric} / this run's dense teacher (%)")
    figure.set_layout_engine(None)
    figure.subplots_adjust(left=0.1, right=0.98, top=0.91, bottom=0.15, wspace=0.28)
    marks = np.array([[label.x, label.y, _MARK_POINTS] for label in (*letters, Label(text="", x=1, y=100))])
    place_labels(left, letters, avoid=Drawn(lines=np.empty((0, 4)), marks=marks))
    return figure


def published_table() -> tuple[tuple[str, ...], ...]:
    """Return letter, model, latency and score over BERT-base, what was scored, hardware and source of every point."""
    return tuple(
        (
            point.letter,
            point.model,
            f"{point.relative_latency:.2f}",
            text.MISSING if point.relative_score is None else f"{100 * point.relative_score:.1f} %",
            point.score_name or text.MISSING,
            point.hardware,
            point.source,
        )
        for point in published_points()
    )


def _draw_published(axes: Axes) -> list[Label]:
    """Draw the published points and return their letters, to be placed once the layout has settled."""
    scored = [point for point in published_points() if point.relative_score is not None]
    xs = [point.relative_latency for point in scored]
    ys = [100 * (point.relative_score or math.nan) for point in scored]
    axes.scatter(xs, ys, s=42, marker="D", facecolors=PAPER, edgecolors=INK, linewidths=1, zorder=3, gid="published")
    labels = [Label(text=point.letter, x=x, y=y) for point, x, y in zip(scored, xs, ys, strict=True)]
    unscored = [point for point in published_points() if point.relative_score is None]
    # Below each other, as two speedups may be next to the same.
    for row, point in enumerate(unscored, start=1):
        height = min(ys) - 1.0 * row
        axes.plot([point.relative_latency], [height], "|", color=INK, markersize=8)
        labels.append(Label(text=point.letter, x=point.relative_latency, y=height))
    return labels


def _draw_measured(axes: Axes, ours: tuple[tuple[Evidence, Interval, Interval], ...], estimates: Floats) -> None:
    for _, latency, score in ours:
        axes.plot([latency.low, latency.high], [100 * score.estimate] * 2, color=BLUE, linewidth=1)
        axes.plot([latency.estimate] * 2, [100 * score.low, 100 * score.high], color=BLUE, linewidth=1)
    axes.scatter(estimates[:, 0], estimates[:, 1], s=26, color=BLUE, zorder=3, gid="measured")


def _quotient(own: Interval, base: Interval) -> Interval:
    half = math.hypot(math.log(own.high / own.low), math.log(base.high / base.low)) / 2
    estimate = own.estimate / base.estimate
    return Interval(estimate=estimate, low=estimate * math.exp(-half), high=estimate * math.exp(half))


def _number(field: str) -> float | None:
    return float(field) if field else None
