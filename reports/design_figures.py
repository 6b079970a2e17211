"""Pictures of the designs themselves: what goes with what, and every design as one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nas.records import Objective
from reports import text
from reports.analysis import Analysis
from reports.evidence import Evidence
from reports.front import Floats
from reports.importances import Importance, features
from reports.style import BLUE, INK, in_style, new_figure

MAX_FEATURES = 10
OBJECTIVE_NAMES = {
    Objective.LATENCY: "latency ratio",
    Objective.MACS: "MACs",
    Objective.PARAMETERS: "parameters",
}

# Of those that are not on the front.
MAX_LINES = 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coordinate:
    """One upright line of the parallel coordinates: its name, the value of every trial (n,), and how to write one."""

    name: str
    values: Floats
    texts: tuple[str, str]


@in_style
def importances_figure(analysis: Analysis, found: Sequence[Importance]) -> Figure:
    """Draw the rank correlations of the strongest features, with their intervals: a panel for each objective."""
    found = found[:MAX_FEATURES]
    objectives = [objective for objective, _ in found[0].correlations]
    height = 0.9 + 0.28 * len(found)
    figure, panels = new_figure(width=1.6 + 2.4 * len(objectives), height=height, columns=len(objectives))
    places = np.arange(len(found))[::-1]
    for position, (objective, axes) in enumerate(zip(objectives, panels, strict=True)):
        intervals = [dict(each.correlations)[objective] for each in found]
        axes.barh(places, [interval.estimate for interval in intervals], color=BLUE, height=0.62, alpha=0.85)
        for place, interval in zip(places.tolist(), intervals, strict=True):
            axes.plot([interval.low, interval.high], [place, place], color=INK, linewidth=1)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlim(-1.05, 1.05)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["\N{MINUS SIGN}1", "", "0", "", "1"])
        axes.set_title(_name(objective, analysis))
        axes.set_yticks(places, [each.feature for each in found] if position == 0 else [""] * len(found))
        axes.set_xlabel("rank correlation")
    # Panels whose texts are known need no computed layout, which would take longer than all the drawing.
    figure.set_layout_engine(None)
    figure.subplots_adjust(
        left=1.7 / figure.get_figwidth(), right=0.98, top=1 - 0.3 / height, bottom=0.5 / height, wspace=0.08
    )
    return figure


@in_style
def parallel_figure(analysis: Analysis) -> Figure | None:
    """Draw every compared trial as a line over its sizes, groups and results; the front stands out.

    Returns:
        The figure, or ``None`` with fewer than two compared trials.
    """
    if len(analysis.compared) < 2:
        return None
    axis_list = coordinates_of(analysis)
    figure, (axes,) = new_figure(width=6.2, height=3.4)
    heights = np.column_stack([_scaled(each.values) for each in axis_list])
    places = np.arange(len(axis_list), dtype=np.float64)
    dominated = thinned(heights[~analysis.on_front])
    _draw_lines(axes, places, dominated, color=INK, alpha=0.18, width=0.7, name="dominated")
    _draw_lines(axes, places, heights[analysis.on_front], color=BLUE, alpha=0.9, width=1.5, name="on-front")
    for place, each in zip(places.tolist(), axis_list, strict=True):
        axes.plot([place, place], [0, 1], color=INK, linewidth=0.8)
        for height, content, anchor in ((-0.03, each.texts[0], "top"), (1.03, each.texts[1], "bottom")):
            axes.text(place, height, content, ha="center", va=anchor, fontsize=9, color=INK)
    axes.set_xticks(places, [each.name for each in axis_list], fontsize=9)
    axes.set_yticks([])
    axes.set_ylim(-0.14, 1.14)
    axes.margins(x=0.04)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    figure.set_layout_engine(None)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.99, bottom=0.14)
    return figure


def thinned(heights: Floats) -> Floats:
    """Return at most `MAX_LINES` of the lines (n, axes), evenly over the trials: more are one grey surface."""
    step = -(-len(heights) // MAX_LINES)
    return heights[:: max(step, 1)]


def coordinates_of(analysis: Analysis) -> list[Coordinate]:
    """Return the upright lines of `parallel_figure`, sizes first, results last; a size all have alike is left out."""
    compared = analysis.compared
    described = [features(item.trial.architecture) for item in compared]
    groups = np.array([[value for name, value in each.items() if name.startswith("groups")] for each in described])
    columns = [
        (name, np.array([each[key] for each in described]))
        for key, name in (
            ("layers", "layers"),
            ("hidden size", "hidden\nsize"),
            ("heads", "heads"),
            ("FFN width", "FFN\nwidth"),
        )
    ]
    columns.append(("groups\n(mean)", np.exp(np.log(groups).mean(axis=1))))
    found = [
        Coordinate(name=name, values=values, texts=(f"{values.min().round(2):g}", f"{values.max().round(2):g}"))
        for name, values in columns
        if len(np.unique(values)) > 1
    ]
    results = dict.fromkeys((Objective.MACS, *analysis.objectives))
    # What is paid first, what it buys last.
    ordered = sorted(results, key=lambda objective: objective is Objective.ACCURACY)
    return found + [_result(objective, compared, analysis) for objective in ordered]


def coordinate_rows(analysis: Analysis) -> tuple[list[str], list[list[str]]]:
    """Return the front's values on the upright lines: names, and a row for each model, cheapest first."""
    axis_list = coordinates_of(analysis)
    position = {item.trial.number: i for i, item in enumerate(analysis.compared)}
    header = ["trial", *(each.name.replace("\n", " ") for each in axis_list)]
    rows = [
        [str(item.trial.number), *(_short(float(each.values[position[item.trial.number]])) for each in axis_list)]
        for item in analysis.front
    ]
    return header, rows


def _result(objective: Objective, compared: Sequence[Evidence], analysis: Analysis) -> Coordinate:
    values = np.array([item.value(objective) for item in compared], dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if objective is Objective.ACCURACY:
        values = 100 * values
        texts = (f"{100 * low:.1f} %", f"{100 * high:.1f} %")
    else:
        texts = (text.count(low), text.count(high))
    if objective is Objective.LATENCY:
        texts = (f"{low:.2f}", f"{high:.2f}")
    name = _name(objective, analysis).replace(" ", "\n")
    return Coordinate(name=name, values=values, texts=texts)


def _name(objective: Objective, analysis: Analysis) -> str:
    return analysis.metric if objective is Objective.ACCURACY else OBJECTIVE_NAMES[objective]


def _short(value: float) -> str:
    return text.count(value) if value >= 1000 else f"{value:.3g}"


def _scaled(values: Floats) -> Floats:
    spread = values.max() - values.min()
    scaled: Floats = (values - values.min()) / spread if spread > 0 else np.full_like(values, 0.5)
    return scaled


def _draw_lines(
    axes: Axes, places: Floats, heights: Floats, *, color: str, alpha: float, width: float, name: str
) -> None:
    """Draw lines (n, axes) as one path with gaps, a fifth of the size of a path for each."""
    if not len(heights):
        return
    gaps = np.full((len(heights), 1), np.nan)
    xs = np.hstack([np.tile(places, (len(heights), 1)), gaps]).ravel()
    axes.plot(xs, np.hstack([heights, gaps]).ravel(), color=color, alpha=alpha, linewidth=width, gid=name)
